"""STUN and TURN servers for clients, with credentials that soon end (coturn's ``use-auth-secret``).

The username is when it ends, in Unix seconds, and something random; the password is its HMAC-SHA1
under the secret that relay and TURN server share.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from engine.errors import ConfigError
from stream.relay.front.access import utc_now

_URL: Final = re.compile(
    r"(?P<scheme>stuns?|turns?):(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?"
    r"(?P<transport>\?transport=(?:udp|tcp))?"
)
_LEAST: Final = timedelta(minutes=1)
_LONGEST: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client tells a TURN server."""

    username: str
    password: str


class IceServers:
    """The servers that a client may use.

    Args:
        urls: ``stun:host[:port]``, ``turn:host[:port][?transport=udp|tcp]``, or ``turns:…``.
        secret: shared with the TURN servers (coturn's ``static-auth-secret``); None where there is
            none of these.
        lifetime: of the credentials. A relayed connection that was made outlives them.
        now: the wall clock.

    Raises:
        ConfigError: a URL is malformed, a TURN server has no secret, or the lifetime is not from a
            minute to a day.
    """

    def __init__(
        self,
        urls: Sequence[str],
        secret: str | None = None,
        *,
        lifetime: timedelta = timedelta(hours=1),
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        for url in urls:
            found = _URL.fullmatch(url)
            if found is None or (found["scheme"].startswith("stun") and found["transport"]):
                raise ConfigError(
                    f"{url!r} is no ICE server; write stun:host:port or"
                    " turn:host:port?transport=udp."
                )
        if not secret and any(url.startswith("turn") for url in urls):
            raise ConfigError(
                "A TURN server needs the secret that it shares with the relay; set it, or leave"
                " the TURN server out."
            )
        if not _LEAST <= lifetime <= _LONGEST:
            raise ConfigError("Credentials for TURN live from a minute to a day.")
        self._urls = tuple(urls)
        self._secret = secret or ""
        self._lifetime = lifetime
        self._now = now

    def credentials(self) -> Credentials:
        """New ones."""
        ends = int((self._now() + self._lifetime).timestamp())
        username = f"{ends}:{secrets.token_hex(8)}"
        digest = hmac.digest(self._secret.encode(), username.encode(), "sha1")
        return Credentials(username, base64.b64encode(digest).decode("ascii"))

    def entries(self) -> list[dict[str, str]]:
        """``iceServers`` of a browser's ``RTCPeerConnection``, with new credentials."""
        made = self.credentials()
        key = {"username": made.username, "credential": made.password}
        return [{"urls": url, **(key if url.startswith("turn") else {})} for url in self._urls]

    def links(self) -> list[str]:
        """Values of ``Link`` headers (RFC 9725, section 4.6), with new credentials."""
        made = self.credentials()
        key = (
            f'; username="{made.username}"; credential="{made.password}"'
            '; credential-type="password"'
        )
        return [
            f'<{url}>; rel="ice-server"' + (key if url.startswith("turn") else "")
            for url in self._urls
        ]
