"""How often a client may ask: token buckets by address, by token and for all. Pure: no clock."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address
from typing import Final, Literal

Kind = Literal["offer", "request"]
"""An offer makes a connection, which costs much; any other request costs little."""

MOST_CLIENTS: Final = 10_000
"""Addresses, and tokens, that are remembered; each takes about 300 bytes."""

_IPV6_PREFIX_BITS: Final = 64  # what one customer of a provider has, at the least


@dataclass(frozen=True, slots=True)
class Rate:
    """A limit.

    Attributes:
        per_s: requests a second in the long run.
        burst: requests at once, after a rest.
    """

    per_s: float
    burst: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """The limits of a relay.

    Attributes:
        offer: of one address. A company's listeners may share one, and all come at the full hour.
        request: of one address, for all else.
        token: of one token, for anything. Listeners may share a token.
        all_offers: of all clients together.
        all_requests: of all clients together.
    """

    offer: Rate = field(default_factory=lambda: Rate(10.0, 120.0))
    request: Rate = field(default_factory=lambda: Rate(20.0, 200.0))
    token: Rate = field(default_factory=lambda: Rate(20.0, 300.0))
    all_offers: Rate = field(default_factory=lambda: Rate(30.0, 300.0))
    all_requests: Rate = field(default_factory=lambda: Rate(300.0, 1500.0))


class Bucket:
    """A token bucket: full at first, and refilled at a constant rate.

    Args:
        rate: how fast, and how much it holds.
        now: seconds on any clock that never goes back.
    """

    __slots__ = ("_at", "_level", "_rate")

    def __init__(self, rate: Rate, now: float) -> None:
        self._rate = rate
        self._level = rate.burst
        self._at = now

    def take(self, now: float) -> float:
        """Take one.

        Returns:
            0.0 where there was one; else the seconds until there will be, and nothing is taken.
        """
        grown = (now - self._at) * self._rate.per_s
        self._level = min(self._rate.burst, self._level + max(0.0, grown))
        self._at = max(self._at, now)
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self._rate.per_s


class Buckets:
    """A bucket for each client; who asked least recently is forgotten first.

    Args:
        rate: of each.
        most: clients that are remembered. Whoever is forgotten begins anew with a full bucket,
            which is why there is a limit for all clients together as well.
    """

    def __init__(self, rate: Rate, most: int = MOST_CLIENTS) -> None:
        self._rate = rate
        self._most = most
        self._buckets: OrderedDict[Hashable, Bucket] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, client: Hashable, now: float) -> float:
        """Take one from a client's bucket; see ``Bucket.take``."""
        bucket = self._buckets.get(client)
        if bucket is None:
            bucket = self._buckets[client] = Bucket(self._rate, now)
            if len(self._buckets) > self._most:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(client)
        return bucket.take(now)


class Limits:
    """Who may ask now.

    Args:
        rates: the limits.
        now: in seconds.
        most: addresses, and tokens, that are remembered.
    """

    def __init__(self, rates: Rates, now: float, most: int = MOST_CLIENTS) -> None:
        self._by_address: dict[Kind, Buckets] = {
            "offer": Buckets(rates.offer, most),
            "request": Buckets(rates.request, most),
        }
        self._all: dict[Kind, Bucket] = {
            "offer": Bucket(rates.all_offers, now),
            "request": Bucket(rates.all_requests, now),
        }
        self._by_token = Buckets(rates.token, most)

    def ask(self, kind: Kind, address: str, now: float) -> float:
        """A request came.

        A client over its own limit takes nothing from the others'.

        Args:
            kind: what it asks for.
            address: of the client; a whole /64 of IPv6 is one client.
            now: in seconds.

        Returns:
            0.0 where it is granted; else the seconds to wait.
        """
        wait_s = self._by_address[kind].take(_client(address), now)
        return wait_s or self._all[kind].take(now)

    def ask_with(self, token: str, now: float) -> float:
        """The request's token was found good; returns as ``ask`` does."""
        return self._by_token.take(token, now)

    def remembered(self) -> int:
        """How many clients and tokens are remembered."""
        return sum(map(len, self._by_address.values())) + len(self._by_token)


def _client(address: str) -> Hashable:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return parsed.ipv4_mapped or int(parsed) >> (128 - _IPV6_PREFIX_BITS)
    return parsed
