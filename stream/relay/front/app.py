"""The relay's HTTP side: WHIP and WHEP, the page, and what the page asks. It handles no media."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from engine.errors import ConfigError
from stream.relay.config import is_loopback
from stream.relay.front.access import Access
from stream.relay.front.admission import Admission
from stream.relay.front.api import Api
from stream.relay.front.limits import Limits, Rates
from stream.relay.front.page_files import PageFiles
from stream.relay.front.request import hang_up_on_unread
from stream.relay.front.turn import IceServers
from stream.relay.front.whip_whep import WhipWhep
from stream.relay.refusal import Refusal
from stream.web.guard import HEADERS, errors_as_sentences, guard

_HEADERS: Final = HEADERS | {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self'; img-src 'self' data: blob:;"
    " media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
    " object-src 'none'",
    "Permissions-Policy": "camera=(self), microphone=(self), geolocation=()",
    "X-Robots-Tag": "noindex",
}
_HSTS: Final = "max-age=31536000"

_SHARED: Final = ("/whip/", "/whep/", "/resource/")  # for pages of any site, with a token
_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Patch, Accept-Post, ETag, Link, Location, Retry-After",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "DELETE, GET, HEAD, OPTIONS, PATCH, POST",
    "Access-Control-Allow-Headers": "Authorization, Content-Type, If-Match",
    "Access-Control-Max-Age": "7200",
}


class Rooms(Protocol):
    """The rooms of a relay, as its HTTP side knows them.

    Attributes:
        draining: whether no new sessions are taken any more.
    """

    draining: bool

    async def ask(
        self, room: str, do: str, *, start: bool = False, **fields: Any
    ) -> dict[str, Any]:
        """Have a room do something.

        Args:
            room: its name.
            do: ``publish``, ``listen``, ``candidates``, ``end`` or ``admin``.
            start: whether the room is begun where there is none.
            **fields: what the request says; JSON values.

        Returns:
            The reply; JSON values.

        Raises:
            Refusal: it won't, or there is no such room.
        """
        ...

    def state(self, room: str) -> dict[str, Any] | None:
        """A room as it last told; None where there is none. Another object after each news."""
        ...

    def on_ended(self, told: Callable[[str], None]) -> None:
        """Have a function called with each resource whose peer is gone by itself."""
        ...


@dataclass(frozen=True, kw_only=True, slots=True)
class FrontSettings:
    """What an operator can set of the HTTP side.

    Attributes:
        host: the name or address that the server is bound to.
        trust_proxy: whether all requests come through a proxy of our own, which names its clients
            in ``X-Forwarded-For``.
        allowed_origins: sites, such as ``https://example.org``, whose pages may use WHIP and WHEP
            although the relay has no secret. With a secret those of any site may.
        allow_loopback: whether clients' candidates on this computer are let through.
        most_sessions: WHIP's and WHEP's together, at once.
        rates: how often clients may ask.
    """

    host: str = "127.0.0.1"
    trust_proxy: bool = False
    allowed_origins: frozenset[str] = frozenset()
    allow_loopback: bool = False
    most_sessions: int = 1000
    rates: Rates = field(default_factory=Rates)


@dataclass(frozen=True, slots=True)
class FrontCounts:
    """How many there are now.

    Attributes:
        sessions: of WHIP and WHEP.
        followers: pages that follow a room's state.
        clients: addresses and tokens whose requests are counted.
    """

    sessions: int
    followers: int
    clients: int


class FrontFacts:
    """What the HTTP side can tell of itself: ``app[FACTS].counts()``."""

    def __init__(self, sessions: Sized, followers: Sized, limits: Limits) -> None:
        self._sessions, self._followers, self._limits = sessions, followers, limits

    def counts(self) -> FrontCounts:
        """How many there are now."""
        clients = self._limits.remembered()
        return FrontCounts(len(self._sessions), len(self._followers), clients)


FACTS: Final = web.AppKey("facts", FrontFacts)


def create_app(
    rooms: Rooms,
    access: Access,
    settings: FrontSettings,
    *,
    ice_servers: IceServers | None = None,
    extra_routes: Sequence[web.RouteDef] = (),
    redirect: Callable[[str], str | None] = lambda room: None,
    counted: Callable[[int], None] = lambda status: None,
    page: PageFiles | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> web.Application:
    """The HTTP side.

    Args:
        rooms: who answers.
        access: the tokens.
        settings: what the operator has set.
        ice_servers: STUN and TURN servers that clients are told of; none where None.
        extra_routes: for fixed paths, such as ``/healthz``.
        redirect: for a room, the base URL of the relay that has it; None for this one.
        counted: called with the status of each answer to an offer.
        page: the page's files; those of the package where None.
        clock: seconds on a clock that never goes back.

    Returns:
        An app to be run by ``FrontRunner``.

    Raises:
        ConfigError: without a secret the relay would be open to other computers.
    """
    local = is_loopback(settings.host)
    if access.is_open and (not local or settings.trust_proxy):
        raise ConfigError(
            "A relay that other computers can reach needs a secret; set one, or let it listen at"
            " 127.0.0.1 without a proxy."
        )
    limits = Limits(settings.rates, clock())
    admission = Admission(access, limits, clock, trust_proxy=settings.trust_proxy)
    ice_servers = ice_servers or IceServers(())
    app = web.Application(
        middlewares=[
            _hang_up,
            errors_as_sentences,
            _refusals,
            guard(
                settings.host,
                check_host=local and not settings.trust_proxy,
                check_origin=access.is_open,
                allowed_origins=settings.allowed_origins,
            ),
            _throttle(admission),
        ]
    )
    whip_whep = WhipWhep(
        rooms,
        admission,
        ice_servers,
        allow_loopback=settings.allow_loopback,
        most_sessions=settings.most_sessions,
        redirect=redirect,
        counted=counted,
    )
    api = Api(rooms, admission, ice_servers)
    app.add_routes(extra_routes)
    whip_whep.add_routes(app)
    api.add_routes(app)
    (page or PageFiles()).add_routes(app)
    app.on_response_prepare.append(_headers(access.is_open, settings.allowed_origins, local))
    app[FACTS] = FrontFacts(whip_whep, api, limits)
    return app


@web.middleware
async def _hang_up(request: web.Request, handler: Handler) -> web.StreamResponse:
    response = await handler(request)
    if response.status >= 300:
        await hang_up_on_unread(request, response)
    return response


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        response = web.Response(status=refusal.status, text=refusal.text)
        if refusal.retry_after_s is not None:
            response.headers["Retry-After"] = str(max(1, math.ceil(refusal.retry_after_s)))
        if refusal.status == 401:
            response.headers["WWW-Authenticate"] = "Bearer"
        return response


def _throttle(admission: Admission) -> Middleware:
    @web.middleware
    async def throttle(request: web.Request, handler: Handler) -> web.StreamResponse:
        admission.throttle(request)
        return await handler(request)

    return throttle


def _headers(
    is_open: bool, allowed_origins: frozenset[str], local: bool
) -> Callable[[web.Request, web.StreamResponse], Any]:
    async def add(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(_HEADERS)
        if request.secure and not local:
            response.headers["Strict-Transport-Security"] = _HSTS
        if not request.path.startswith(_SHARED):
            return
        origin = request.headers.get("Origin")
        if is_open:
            response.headers["Vary"] = "Origin"
            if origin not in allowed_origins:
                return
        response.headers.update(_CORS)
        if is_open and origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers.update(_PREFLIGHT)

    return add
