"""Whether a request is let in: not too often, and with a token that allows it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from aiohttp import web

from stream.relay.front.access import Access, Act, Grant
from stream.relay.front.limits import Kind, Limits
from stream.relay.front.request import address_of, token_of
from stream.relay.refusal import Refusal

_CHANGES: Final = frozenset({"POST", "PATCH", "DELETE"})
_OFFERS: Final = ("/whip/", "/whep/")
_COUNTED: Final = ("/api/", "/resource/")


class Admission:
    """The relay's doorman.

    Args:
        access: the tokens.
        limits: how often.
        clock: seconds, for the limits.
        trust_proxy: see ``address_of``.
    """

    def __init__(
        self, access: Access, limits: Limits, clock: Callable[[], float], *, trust_proxy: bool
    ) -> None:
        self._access = access
        self._limits = limits
        self._clock = clock
        self._trust_proxy = trust_proxy

    def throttle(self, request: web.Request) -> None:
        """Count a request that costs something.

        Raises:
            Refusal: there were too many (429).
        """
        kind: Kind = "request"
        if request.method == "POST" and request.path.startswith(_OFFERS):
            kind = "offer"
        elif request.method not in _CHANGES and not request.path.startswith(_COUNTED):
            return
        _or_wait(self._limits.ask(kind, self.address(request), self._clock()))

    def let_in(
        self,
        request: web.Request,
        room: str,
        act: Act | None,
        speaker: str | None = None,
        language: str | None = None,
    ) -> Grant:
        """See that a request's token allows something; see ``Grant.check``.

        Raises:
            Refusal: it does not (401, 403), or is used too often (429).
        """
        grant = self.identify(request)
        grant.check(room, act, speaker, language)
        return grant

    def identify(self, request: web.Request) -> Grant:
        """What a request's token allows.

        Raises:
            Refusal: it has no valid one (401), or uses it too often (429).
        """
        grant = self._access.read(token_of(request)[0])
        if grant.key is not None:
            _or_wait(self._limits.ask_with(grant.key, self._clock()))
        return grant

    def has_ended(self, grant: Grant) -> bool:
        """Whether a grant's time is over."""
        return self._access.has_ended(grant)

    @property
    def needs_token(self) -> bool:
        """Whether requests need a token."""
        return not self._access.is_open

    def address(self, request: web.Request) -> str:
        """The client's address."""
        return address_of(request, trust_proxy=self._trust_proxy)


def _or_wait(wait_s: float) -> None:
    if wait_s > 0.0:
        seconds = math.ceil(wait_s)
        raise Refusal(429, f"Too many requests; try again in {seconds} s.", seconds)
