"""A relay of one's own for the page's tests: its files, a state, and media that are made up."""

from __future__ import annotations

import asyncio
import json
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import numpy as np
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from stream.web import guard
from tests.stream.browser import picture

PAGE: Final = Path(__file__).parents[3] / "stream" / "relay" / "page"
COMMON: Final = Path(__file__).parents[3] / "stream" / "web" / "page"
KINDS: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
PICTURES_A_SECOND: Final = 15
LEVEL: Final = 0.2  # of every tone
HERTZ: Final = {"original": 440.0, "synced": 880.0}

Json = dict[str, Any]


def language(code: str, **change: Any) -> Json:
    """A line of a speaker, as the state tells it."""
    return {
        "code": code,
        "live": True,
        "from": "person",
        "sounding": True,
        "muted": False,
        "listeners": 2,
        "fps": 25.0,
        "added_delay_ms": 412,
        "skew_ms": 12,
        "gate": "speech",
        "modified": True,
        "passthrough_reason": None,
        **change,
    }


def speaker(name: str, *languages: Json, **change: Any) -> Json:
    """A speaker, as the state tells it."""
    return {
        "name": name,
        "live": True,
        "speaking": False,
        "muted": False,
        "lip_sync": True,
        "trouble": None,
        "original": {"listeners": 3, "fps": 25.0},
        "languages": list(languages),
        **change,
    }


class Picture(MediaStreamTrack):
    """A disc that goes around; grey where it is an original."""

    kind = "video"

    def __init__(self, relay: FakeRelay, grey: bool) -> None:
        super().__init__()
        pictures = [picture(2 * math.pi / 3 * n / 30) for n in range(30)]
        if grey:
            pictures = [
                np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8)
                for p in pictures
            ]
        self._frames = [VideoFrame.from_ndarray(p).reformat(format="yuv420p") for p in pictures]
        self._relay = relay
        self._number = 0
        self._begin = time.monotonic()

    async def recv(self) -> VideoFrame:
        self._number += 1
        due = self._begin + self._number / PICTURES_A_SECOND
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        while self._relay.frozen:
            await asyncio.sleep(0.05)
        if self.readyState != "live":
            raise MediaStreamError
        frame = VideoFrame.from_ndarray(
            self._frames[self._number % len(self._frames)].to_ndarray(), format="yuv420p"
        )
        frame.pts = self._number * 90_000 // PICTURES_A_SECOND
        frame.time_base = Fraction(1, 90_000)
        return frame


class Tone(MediaStreamTrack):
    """A tone that never ends."""

    kind = "audio"

    def __init__(self, hertz: float) -> None:
        super().__init__()
        self._hertz = hertz
        self._number = 0
        self._begin = time.monotonic()

    async def recv(self) -> AudioFrame:
        due = self._begin + self._number / 50
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        if self.readyState != "live":
            raise MediaStreamError
        at = (self._number * 960 + np.arange(960)) / 48_000
        wave = (LEVEL * math.sqrt(2) * 32767 * np.sin(2 * math.pi * self._hertz * at)).astype("<i2")
        frame = AudioFrame(format="s16", layout="stereo", samples=960)
        frame.planes[0].update(np.repeat(wave, 2).tobytes())
        frame.sample_rate, frame.time_base = 48_000, Fraction(1, 48_000)
        frame.pts = self._number * 960
        self._number += 1
        return frame


@dataclass(eq=False)
class Peer:
    """One connection.

    Attributes:
        path: where it was asked for, without the room.
        sections: the kinds of media in its offer.
        frames: received so far, by kind.
        loudest: the largest RMS of 20 ms since this was set to 0.
    """

    connection: RTCPeerConnection
    path: str
    sections: list[str]
    frames: dict[str, int] = field(default_factory=lambda: {"audio": 0, "video": 0})
    loudest: float = 0.0
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def read(self, track: MediaStreamTrack) -> None:
        with suppress(MediaStreamError):
            while True:
                frame = await track.recv()
                self.frames[track.kind] += 1
                if isinstance(frame, AudioFrame):
                    samples = frame.to_ndarray().astype(np.float64) / 32768
                    self.loudest = max(self.loudest, float(np.sqrt(np.mean(samples**2))))

    async def close(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.connection.close()


class FakeRelay:
    """Answers the page as the relay does, and remembers what it was asked.

    Attributes:
        speakers: of the state; tests change them as they like.
        floor: of the state.
        token: what has to be shown; None: nothing.
        refuse: a status, a sentence and headers for the next offers; None: they are answered.
        frozen: no further picture leaves.
        admin: the requests of hosts.
        offers: paths that offers were posted to.
        deleted: how many sessions were ended by the page.
    """

    def __init__(self, *speakers: Json, token: str | None = None) -> None:
        self.speakers = list(speakers)
        self.floor: Json = {"speaking": None, "languages": []}
        self.token = token
        self.refuse: tuple[int, str, dict[str, str]] | None = None
        self.frozen = False
        self.admin: list[Json] = []
        self.offers: list[str] = []
        self.deleted = 0
        self.peers: dict[str, Peer] = {}
        self.url = ""
        self.rooms: set[str] = set()
        self._ended: asyncio.Event = asyncio.Event()
        self._leaving: asyncio.Event = asyncio.Event()

    # What tests look at

    def peer(self, path: str) -> Peer | None:
        """The newest connection of a path."""
        found = [peer for peer in self.peers.values() if peer.path == path]
        return found[-1] if found else None

    def find(self, name: str) -> Json:
        return next(one for one in self.speakers if one["name"] == name)

    async def cut(self) -> None:
        """Lose all connections, without a word to the page."""
        peers, self.peers = [*self.peers.values()], {}
        await asyncio.gather(*(peer.close() for peer in peers))

    def end(self) -> None:
        self._ended.set()

    # The server

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._guard])
        app.on_response_prepare.append(_headers)
        add = app.router.add_route
        add("GET", "/", self._index)
        add("GET", "/favicon.ico", self._nothing)
        add("GET", "/{name:[a-z]+[.][a-z]+}", self._file)
        add("GET", "/api/config", self._config)
        add("GET", "/api/rooms/{room}/state", self._state_once)
        add("GET", "/api/rooms/{room}/events", self._events)
        add("POST", "/api/rooms/{room}/admin", self._admin)
        add("POST", "/{kind:whip|whep}/{room}/{path:.*}", self._offer)
        add("DELETE", "/resource/{name}", self._delete)
        add("PATCH", "/resource/{name}", self._nothing)
        add("GET", "/{room}", self._index)
        return app

    async def close(self) -> None:
        self._leaving.set()
        await self.cut()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        free = not request.path.startswith(("/api/rooms/", "/whip/", "/whep/"))
        shown = request.headers.get("Authorization") == f"Bearer {self.token}"
        shown = shown or request.query.get("token") == self.token
        if self.token is not None and not free and not shown:
            return web.Response(status=401, text="This room needs a key.")
        response: web.StreamResponse = await handler(request)
        return response

    async def _index(self, request: web.Request) -> web.Response:
        return _file(PAGE / "index.html")

    async def _file(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        return _file((COMMON if name == "common.css" else PAGE) / name)

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _config(self, request: web.Request) -> web.Response:
        return web.json_response({"ice_servers": [], "auth": self.token is not None})

    def _state(self, room: str) -> str:
        return json.dumps(
            {"room": room, "speakers": self.speakers, "floor": self.floor, "loop_lag_ms": 1.0}
        )

    async def _state_once(self, request: web.Request) -> web.Response:
        text = self._state(request.match_info["room"])
        return web.Response(text=text, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        room = request.match_info["room"]
        self.rooms.add(room)
        with suppress(ConnectionError):
            await response.prepare(request)
            while not self._leaving.is_set():
                if self._ended.is_set():
                    await response.write(b"event: ended\ndata: The host has ended this room.\n\n")
                    break
                await response.write(f"data: {self._state(room)}\n\n".encode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._leaving.wait(), 0.2)
        return response

    async def _admin(self, request: web.Request) -> web.Response:
        asked: Json = await request.json()
        self.admin.append(asked)
        action = asked["action"]
        if action in ("mute", "unmute") and asked["language"] is None:
            self.find(asked["speaker"])["muted"] = action == "mute"
        if action.startswith("lip_sync"):
            self.find(asked["speaker"])["lip_sync"] = action == "lip_sync_on"
        if action == "end":
            self.end()
        return web.json_response({})

    async def _delete(self, request: web.Request) -> web.Response:
        peer = self.peers.pop(request.match_info["name"], None)
        if peer is None:
            return web.Response(status=404, text="There is no such session.")
        self.deleted += 1
        await peer.close()
        return web.Response()

    async def _offer(self, request: web.Request) -> web.Response:
        kind, path = request.match_info["kind"], request.match_info["path"]
        self.offers.append(f"{kind}/{path}")
        if self.refuse is not None:
            status, text, headers = self.refuse
            return web.Response(status=status, text=text, headers=headers)
        sdp = await request.text()
        sections = [line[2:].split(" ")[0] for line in sdp.splitlines() if line.startswith("m=")]
        connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        peer = Peer(connection, f"{kind}/{path}", sections)
        if kind == "whep":
            self._send(peer, synced="/" in path)
        else:
            connection.on(
                "track",
                lambda track: peer.tasks.append(asyncio.create_task(peer.read(track))),
            )
        await connection.setRemoteDescription(RTCSessionDescription(sdp, "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        name = secrets.token_urlsafe(12)
        self.peers[name] = peer
        return web.Response(
            status=201,
            text=connection.localDescription.sdp,
            content_type="application/sdp",
            headers={"Location": f"/resource/{name}", "ETag": '"1"'},
        )

    def _send(self, peer: Peer, synced: bool) -> None:
        for section in peer.sections:
            track: MediaStreamTrack
            if section == "video":
                track = Picture(self, grey=not synced)
            else:
                track = Tone(HERTZ["synced" if synced else "original"])
            peer.connection.addTransceiver(track, "sendonly")


def _file(path: Path) -> web.Response:
    if not path.is_file():
        return web.Response(status=404, text="There is nothing here.")
    kind = KINDS[path.suffix]
    return web.Response(body=path.read_bytes(), content_type=kind, charset="utf-8")


async def _headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers.update(guard.HEADERS)
    allowed = ("camera", "microphone", "fullscreen", "screen-wake-lock", "autoplay")
    response.headers["Permissions-Policy"] = ", ".join(f"{name}=(self)" for name in allowed)


@asynccontextmanager
async def serving(relay: FakeRelay) -> AsyncIterator[FakeRelay]:
    """The relay at an address of its own."""
    runner = web.AppRunner(relay.app(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    relay.url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    try:
        yield relay
    finally:
        await relay.close()
        await runner.cleanup()
