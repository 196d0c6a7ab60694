"""What the page asks: the ICE servers, a room's state as it changes, and the host's actions."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from stream.relay.front.access import Grant
from stream.relay.front.admission import Admission
from stream.relay.front.request import read_json
from stream.relay.front.turn import IceServers
from stream.relay.names import FLOOR, NAME, NO_ROOMS, is_speaker, language_tag
from stream.relay.refusal import Refusal

if TYPE_CHECKING:
    from stream.relay.front.app import Rooms

ACTIONS: Final = ("mute", "unmute", "remove", "lip_sync_on", "lip_sync_off", "end")

EVERY_S: Final = 0.5
"""How often followers of a room are told what changed."""

KEEP_S: Final = 4.0
"""After this long they are told although nothing did, so that they know that we are there."""

MOST_STREAMS: Final = 1000
MOST_STREAMS_OF_ROOM: Final = 300
MOST_STREAMS_OF_ADDRESS: Final = 100

_WRITE_S: Final = 10.0  # a follower that takes nothing for so long is gone
_ADMIN_S: Final = 10.0
_RETRY_S: Final = 5
_INSIDE: Final = frozenset({"metrics"})  # of a room's state, what is not for its followers
_ENDED: Final = "The host has ended this room."


@dataclass(eq=False, slots=True)
class _Stream:
    """Somebody who follows a room."""

    room: str
    address: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False


class Api:
    """The page's requests.

    Args:
        rooms: who answers.
        admission: who may ask.
        ice_servers: what the page is told of.
    """

    def __init__(self, rooms: Rooms, admission: Admission, ice_servers: IceServers) -> None:
        self._rooms = rooms
        self._admission = admission
        self._ice_servers = ice_servers
        self._streams: set[_Stream] = set()
        self._texts: dict[str, tuple[dict[str, Any] | None, str]] = {}
        self._closing = False

    def __len__(self) -> int:
        """How many follow a room."""
        return len(self._streams)

    def add_routes(self, app: web.Application) -> None:
        """Serve the requests."""
        app.router.add_get("/api/config", self._config)
        app.router.add_get(f"/api/rooms/{{room:{NAME}}}/state", self._state)
        app.router.add_get(f"/api/rooms/{{room:{NAME}}}/events", self._follow, allow_head=False)
        app.router.add_post(f"/api/rooms/{{room:{NAME}}}/admin", self._admin)
        app.on_shutdown.append(self._close)

    async def _config(self, request: web.Request) -> web.Response:
        self._admission.identify(request)
        auth = self._admission.needs_token
        return web.json_response({"auth": auth, "ice_servers": self._ice_servers.entries()})

    async def _state(self, request: web.Request) -> web.Response:
        room = _room(request)
        self._admission.let_in(request, room, None)
        return web.Response(text=self._text(room), content_type="application/json")

    async def _admin(self, request: web.Request) -> web.Response:
        room = _room(request)
        grant = self._admission.identify(request)
        if "admin" not in grant.acts:
            grant.check(room, "admin")
        wish = await read_json(request)
        action = wish.get("action")
        speaker, language = _whom(wish)
        grant.check(room, "admin", speaker, language)
        try:
            async with asyncio.timeout(_ADMIN_S):
                reply = await self._rooms.ask(
                    room, "admin", action=action, speaker=speaker, language=language
                )
        except TimeoutError:
            raise Refusal(503, "The room is too busy to answer.", _RETRY_S) from None
        if action == "end":
            for stream in self._streams:
                if stream.room == room:
                    stream.ended = True
                    stream.wake.set()
        return web.json_response(reply)

    # Followers

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the state at once, and then as it changes."""
        room = _room(request)
        grant = self._admission.let_in(request, room, None)
        stream = _Stream(room, self._admission.address(request))
        self._make_room(stream)
        self._streams.add(stream)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        # Proxies that buffer would hold the events back.
        response.headers["X-Accel-Buffering"] = "no"
        try:
            await response.prepare(request)
            await self._tell(stream, grant, response)
        except (ConnectionError, TimeoutError):
            pass  # the page was closed, or takes nothing any more
        finally:
            self._streams.discard(stream)
            if not any(other.room == room for other in self._streams):
                self._texts.pop(room, None)
        return response

    def _make_room(self, stream: _Stream) -> None:
        rooms = Counter(other.room for other in self._streams)
        addresses = Counter(other.address for other in self._streams)
        if (
            self._closing
            or len(self._streams) >= MOST_STREAMS
            or rooms[stream.room] >= MOST_STREAMS_OF_ROOM
            or addresses[stream.address] >= MOST_STREAMS_OF_ADDRESS
        ):
            raise Refusal(503, "Too many pages follow this room; try again later.", _RETRY_S)

    async def _tell(self, stream: _Stream, grant: Grant, response: web.StreamResponse) -> None:
        loop = asyncio.get_running_loop()
        told, told_at = "", 0.0
        while not self._closing and not self._admission.has_ended(grant):
            if stream.ended:
                await response.write(f"event: ended\ndata: {_ENDED}\n\n".encode())
                return
            text = self._text(stream.room)
            if text != told or loop.time() - told_at >= KEEP_S:
                async with asyncio.timeout(_WRITE_S):
                    await response.write(f"data: {text}\n\n".encode())
                told, told_at = text, loop.time()
            try:
                async with asyncio.timeout(EVERY_S):
                    await stream.wake.wait()
            except TimeoutError:
                pass

    def _text(self, room: str) -> str:
        """The room's state as JSON; made once for all who follow it."""
        state = self._rooms.state(room)
        known = self._texts.get(room)
        if known is not None and known[0] is state:
            return known[1]
        shown = state or {
            "room": room,
            "speakers": [],
            "floor": {"speaking": None, "languages": []},
        }
        text = json.dumps({key: shown[key] for key in shown.keys() - _INSIDE})
        if any(stream.room == room for stream in self._streams):
            self._texts[room] = (state, text)
        return text

    async def _close(self, app: web.Application) -> None:
        self._closing = True
        for stream in self._streams:
            stream.wake.set()


def _room(request: web.Request) -> str:
    room = request.match_info["room"]
    if room in NO_ROOMS:
        raise Refusal(404, "No room can have this name.")
    return room


def _whom(wish: dict[str, Any]) -> tuple[str | None, str | None]:
    """The speaker and the language of a host's wish.

    Raises:
        Refusal: the wish is malformed (400).
    """
    if not wish.keys() <= {"action", "speaker", "language"} or wish.get("action") not in ACTIONS:
        raise Refusal(
            400, f"Send an action, one of {', '.join(ACTIONS)}, and perhaps speaker and language."
        )
    speaker, language = wish.get("speaker"), wish.get("language")
    if speaker is not None and speaker != FLOOR and not is_speaker(speaker):
        raise Refusal(400, "The speaker has to be a speaker's name, or null.")
    if language is not None and language_tag(language) is None:
        raise Refusal(400, "The language has to be a tag such as de or pt-BR, or null.")
    return speaker, language_tag(language)
