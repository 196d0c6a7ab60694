"""WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep): media sessions, begun and ended by HTTP.

The offer is checked here and answered by the room. There is no ICE restart, which is refused with
422 and leaves the session as it was; candidates may be trickled.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from aiohttp import web
from aiohttp.typedefs import Handler

from stream.relay.front.access import Act
from stream.relay.front.admission import Admission
from stream.relay.front.fragment import read_fragment
from stream.relay.front.request import read_body, token_of
from stream.relay.front.turn import IceServers
from stream.relay.names import FLOOR, LANGUAGE, NAME, NO_ROOMS, language_tag
from stream.relay.refusal import Refusal
from stream.web.offer import LARGEST_OFFER, Offer, OfferError, read_offer

if TYPE_CHECKING:
    from stream.relay.front.app import Rooms

log = logging.getLogger(__name__)

Protocol = Literal["whip", "whep"]

SDP: Final = "application/sdp"
FRAGMENT: Final = "application/trickle-ice-sdpfrag"

_ENDPOINT: Final = {"Allow": "GET, HEAD, OPTIONS, POST", "Accept-Post": SDP}
_SESSION: Final = {"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH", "Accept-Patch": FRAGMENT}
_ANSWER_S: Final = 30.0  # the first offer starts the room's process
_END_S: Final = 5.0
_MOST_WAITING: Final = 64
_RETRY_S: Final = 5
_NO_SESSION: Final = "There is no such session; it may have ended already."


@dataclass(frozen=True, slots=True)
class _Place:
    """What an endpoint's URL names; ``language`` None is the original."""

    room: str
    speaker: str
    language: str | None


@dataclass(frozen=True, slots=True)
class _Session:
    room: str
    etag: str
    offer: Offer


class WhipWhep:
    """The endpoints, and the sessions that were begun at them.

    Args:
        rooms: who answers.
        admission: who may ask.
        ice_servers: what clients are told of.
        allow_loopback: whether candidates on this computer are let through.
        most_sessions: at once.
        redirect: for a room, the base URL of the relay that has it; None for this one.
        counted: called with the status of each answer to an offer.
    """

    def __init__(
        self,
        rooms: Rooms,
        admission: Admission,
        ice_servers: IceServers,
        *,
        allow_loopback: bool,
        most_sessions: int,
        redirect: Callable[[str], str | None],
        counted: Callable[[int], None],
    ) -> None:
        self._rooms = rooms
        self._admission = admission
        self._ice_servers = ice_servers
        self._allow_loopback = allow_loopback
        self._most_sessions = most_sessions
        self._redirect = redirect
        self._counted = counted
        self._sessions: dict[str, _Session] = {}
        self._waiting: set[str] = set()  # sessions whose offer the room has not answered yet
        rooms.on_ended(self._forget)

    def __len__(self) -> int:
        return len(self._sessions)

    def add_routes(self, app: web.Application) -> None:
        """Serve the endpoints and the sessions' URLs."""
        place = f"{{room:{NAME}}}/{{speaker:{NAME}}}"
        for protocol in ("whip", "whep"):
            for path in (f"/{protocol}/{place}", f"/{protocol}/{place}/{{language:{LANGUAGE}}}"):
                self._add_endpoint(app, protocol, path)
        session = app.router.add_resource("/resource/{name:[A-Za-z0-9_-]{1,64}}")
        session.add_route("PATCH", self._patch)
        session.add_route("DELETE", self._end)
        session.add_route("GET", self._exists)
        session.add_route("HEAD", self._exists)
        session.add_route("OPTIONS", _options(_SESSION))

    def _add_endpoint(self, app: web.Application, protocol: Protocol, path: str) -> None:
        async def post(request: web.Request) -> web.Response:
            try:
                response = await self._begin(request, protocol)
            except Refusal as refusal:
                self._counted(refusal.status)
                raise
            self._counted(response.status)
            return response

        async def get(request: web.Request) -> web.Response:
            self._let_in(request, protocol)
            if request.method == "HEAD":
                return web.Response(headers={"Content-Type": SDP})
            return web.Response(status=204)

        endpoint = app.router.add_resource(path)
        endpoint.add_route("POST", post)
        endpoint.add_route("GET", get)
        endpoint.add_route("HEAD", get)
        endpoint.add_route("OPTIONS", _options(_ENDPOINT))

    # Endpoints

    def _let_in(self, request: web.Request, protocol: Protocol) -> _Place:
        place = _place(request, protocol)
        act: Act = "listen"
        if protocol == "whip":
            act = "publish-speaker" if place.language is None else "publish-language"
        self._admission.let_in(request, place.room, act, place.speaker, place.language)
        return place

    async def _begin(self, request: web.Request, protocol: Protocol) -> web.Response:
        elsewhere = self._redirect(_place(request, protocol).room)
        if elsewhere is not None:
            location = elsewhere.rstrip("/") + request.path_qs
            return web.Response(status=307, headers={"Location": location})
        place = self._let_in(request, protocol)
        if request.content_type != SDP:
            raise Refusal(415, f"Post an offer with the content type {SDP}.")
        if self._rooms.draining:
            raise Refusal(503, "This relay is about to stop; try again later.", _RETRY_S)
        offer = self._read(await read_body(request, LARGEST_OFFER), protocol, place)
        self._make_room()
        name = secrets.token_urlsafe(24)
        etag = secrets.token_urlsafe(12)
        self._sessions[name] = _Session(place.room, etag, offer)
        try:
            answer = await self._ask(name, protocol, place, offer)
        except BaseException:
            self._forget(name)
            raise
        if name not in self._sessions:
            raise Refusal(503, "The session ended while it was begun; try again.", 1)
        token, in_url = token_of(request)
        query = f"?token={token}" if in_url and self._admission.needs_token else ""
        response = web.Response(status=201, body=answer.encode(), content_type=SDP)
        response.headers["Location"] = f"/resource/{name}{query}"
        response.headers["ETag"] = f'"{etag}"'
        for link in self._ice_servers.links():
            response.headers.add("Link", link)
        return response

    def _read(self, body: bytes, protocol: Protocol, place: _Place) -> Offer:
        interprets = protocol == "whip" and place.language is not None
        try:
            return read_offer(
                body,
                "publisher" if protocol == "whip" else "viewer",
                kinds=("audio",) if interprets else ("audio", "video"),
                keep_addresses=True,
                allow_loopback=self._allow_loopback,
            )
        except OfferError as error:
            raise Refusal(error.status, str(error)) from error

    def _make_room(self) -> None:
        if len(self._sessions) >= self._most_sessions:
            # A room whose process died can't tell of its sessions' end.
            for name, session in [*self._sessions.items()]:
                if name not in self._waiting and self._rooms.state(session.room) is None:
                    self._forget(name)
        if len(self._sessions) >= self._most_sessions or len(self._waiting) >= _MOST_WAITING:
            raise Refusal(503, "This relay is full; try again later.", _RETRY_S)

    async def _ask(self, name: str, protocol: Protocol, place: _Place, offer: Offer) -> str:
        publishes = protocol == "whip"
        self._waiting.add(name)
        try:
            async with asyncio.timeout(_ANSWER_S):
                reply = await self._rooms.ask(
                    place.room,
                    "publish" if publishes else "listen",
                    start=publishes,
                    speaker=place.speaker,
                    language=place.language,
                    offer=offer.sdp,
                    resource=name,
                )
        except TimeoutError:
            log.warning("a room did not answer an offer in time")
            raise Refusal(503, "The room is too busy to answer.", _RETRY_S) from None
        finally:
            self._waiting.discard(name)
        return str(reply["answer"])

    # Sessions

    def _forget(self, name: str) -> None:
        self._sessions.pop(name, None)

    def _find(self, request: web.Request) -> tuple[str, _Session]:
        grant = self._admission.identify(request)
        name = request.match_info["name"]
        session = self._sessions.get(name)
        if session is None:
            raise Refusal(404, _NO_SESSION)
        grant.check(session.room, None)
        return name, session

    async def _exists(self, request: web.Request) -> web.Response:
        self._find(request)
        return web.Response(status=204)

    async def _end(self, request: web.Request) -> web.Response:
        name, session = self._find(request)
        self._forget(name)
        with suppress(Refusal, TimeoutError):  # the room has ended it already
            async with asyncio.timeout(_END_S):
                await self._rooms.ask(session.room, "end", resource=name)
        return web.Response()

    async def _patch(self, request: web.Request) -> web.Response:
        name, session = self._find(request)
        if request.content_type != FRAGMENT:
            raise Refusal(415, f"Patch with the content type {FRAGMENT}.")
        tags = request.if_match
        if tags is None:
            raise Refusal(428, "Send the session's ETag as If-Match.")
        restarts = any(tag.value == "*" for tag in tags)
        if not restarts and not any(tag.value == session.etag and not tag.is_weak for tag in tags):
            raise Refusal(412, "The session has another ETag.")
        fragment = read_fragment(
            await read_body(request, LARGEST_OFFER),
            mid=session.offer.mid,
            mids=session.offer.mids,
            ufrag=session.offer.ufrag,
            allow_loopback=self._allow_loopback,
        )
        if restarts or fragment.restarts:
            raise Refusal(422, "ICE restarts are not supported: post a new offer.")
        if fragment.candidates:
            try:
                async with asyncio.timeout(_END_S):
                    await self._rooms.ask(
                        session.room,
                        "candidates",
                        resource=name,
                        mid=session.offer.mid,
                        lines=[*fragment.candidates],
                    )
            except TimeoutError:
                raise Refusal(503, "The room is too busy to answer.", _RETRY_S) from None
            except Refusal as refusal:
                if refusal.status == 404:
                    self._forget(name)
                raise
        return web.Response(status=204)


def _place(request: web.Request, protocol: Protocol) -> _Place:
    room, speaker = request.match_info["room"], request.match_info["speaker"]
    language = language_tag(request.match_info.get("language"))
    if room in NO_ROOMS:
        raise Refusal(404, "No room can have this name.")
    if speaker == FLOOR and (protocol == "whep" or language is None):
        raise Refusal(404, "The floor is for interpreters: listen to a speaker instead.")
    return _Place(room, speaker, language)


def _options(headers: dict[str, str]) -> Handler:
    async def options(request: web.Request) -> web.Response:
        return web.Response(headers=headers)

    return options
