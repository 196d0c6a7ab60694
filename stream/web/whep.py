"""WHEP (draft-ietf-wish-whep): a viewer posts an offer and gets picture and sound by WebRTC."""

from __future__ import annotations

import asyncio
import logging
import secrets
from dataclasses import dataclass, field
from typing import Final

from aiohttp import web
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpCodecCapability,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.exceptions import OperationError

from stream.web.bit_rate import set_bit_rate
from stream.web.broadcast import Broadcast, Which
from stream.web.offer import LARGEST_OFFER, Offer, OfferError, read_offer
from stream.web.tracks import PictureTrack, SoundTrackOut

log = logging.getLogger(__name__)

MOST_VIEWERS: Final = 8
SDP: Final = "application/sdp"

_ANSWER_S: Final = 5.0  # to make an answer
_CONNECT_S: Final = 15.0  # from the answer to a connection; DTLS repeats lost packets slowly
_CLOSE_S: Final = 3.0
_SOURCE_RETRY_S: Final = 1
_ROOM_RETRY_S: Final = 5


@dataclass(eq=False)
class _Viewer:
    """One viewer's connection."""

    connection: RTCPeerConnection
    tracks: list[PictureTrack | SoundTrackOut] = field(default_factory=list)
    connected: asyncio.Event = field(default_factory=asyncio.Event)
    watchdog: asyncio.Task[None] | None = None


class Whep:
    """The viewers of a broadcast.

    Args:
        broadcast: what they see and hear.
        prefix: of the paths: offers go to ``<prefix>/output`` and ``<prefix>/camera``.
        most_viewers: at once.

    Raises:
        ConfigError: the installed aiortc does not fit.
    """

    def __init__(
        self, broadcast: Broadcast, *, prefix: str = "/whep", most_viewers: int = MOST_VIEWERS
    ) -> None:
        set_bit_rate()
        self._broadcast = broadcast
        self._prefix = prefix
        self._most_viewers = most_viewers
        self._viewers: dict[str, _Viewer] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many there are, those included that are being connected."""
        return len(self._viewers)

    def add_routes(self, app: web.Application) -> None:
        """Serve the endpoints and the sessions' URLs."""
        for which in ("output", "camera"):
            self._add_endpoint(app, which)
        path = f"{self._prefix}/{{which:output|camera}}/{{name}}"
        app.router.add_route("DELETE", path, self._end)
        app.router.add_route("PATCH", path, self._no_patch)
        app.router.add_route("OPTIONS", path, self._session_options)
        app.router.add_route("GET", path, self._session_exists)
        app.router.add_route("HEAD", path, self._session_exists)

    async def close(self) -> None:
        """End all viewers' sessions; new ones are refused."""
        self._closed = True
        for name in [*self._viewers]:
            self._remove(name)
        if self._closing:
            await asyncio.wait(self._closing, timeout=_CLOSE_S)

    def _add_endpoint(self, app: web.Application, which: Which) -> None:
        async def post(request: web.Request) -> web.Response:
            return await self._begin(request, which)

        path = f"{self._prefix}/{which}"
        app.router.add_route("POST", path, post)
        app.router.add_route("OPTIONS", path, _endpoint_options)
        app.router.add_route("GET", path, _nothing)
        app.router.add_route("HEAD", path, _sdp_is_here)

    # Requests

    async def _begin(self, request: web.Request, which: Which) -> web.Response:
        if request.content_type != SDP:
            return _refusal(415, f"Post an offer with the content type {SDP}.")
        if (request.content_length or 0) > LARGEST_OFFER:
            return _refusal(413, f"The offer is larger than {LARGEST_OFFER >> 10} kB.")
        try:
            offer = read_offer(await request.read())
        except OfferError as error:
            return _refusal(error.status, str(error))
        if not self._broadcast.live:
            return _refusal(409, "There is no picture yet; try again soon.", _SOURCE_RETRY_S)
        if self._closed or len(self._viewers) >= self._most_viewers:
            return _refusal(
                503,
                f"All {self._most_viewers} places for viewers are taken; close another page first.",
                _ROOM_RETRY_S,
            )
        name = secrets.token_urlsafe(24)
        viewer = _Viewer(RTCPeerConnection(RTCConfiguration(iceServers=[])))
        self._viewers[name] = viewer
        try:
            answer = await asyncio.wait_for(self._answer(viewer, offer, which), _ANSWER_S)
        except OfferError as error:
            self._remove(name)
            return _refusal(error.status, str(error))
        except TimeoutError:
            self._remove(name)
            return _refusal(503, "This computer is too busy to answer.", _ROOM_RETRY_S)
        except asyncio.CancelledError:
            self._remove(name)
            raise
        self._watch(name, viewer)
        return web.Response(
            status=201,
            body=answer.encode("ascii"),
            headers={"Content-Type": SDP, "Location": f"{self._prefix}/{which}/{name}"},
        )

    async def _end(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self._viewers:
            return _refusal(404, "There is no such session; it may have ended already.")
        self._remove(name)
        return web.Response()

    async def _session_exists(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._viewers:
            return _refusal(404, "There is no such session; it may have ended already.")
        return web.Response(status=204)

    async def _session_options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH"})

    async def _no_patch(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._viewers:
            return _refusal(404, "There is no such session; it may have ended already.")
        return _refusal(422, "Neither trickle nor restart is supported: post a new offer.")

    # Connections

    async def _answer(self, viewer: _Viewer, offer: Offer, which: Which) -> str:
        connection = viewer.connection
        try:
            for kind in offer.kinds:
                track = (
                    PictureTrack(self._broadcast, which)
                    if kind == "video"
                    else SoundTrackOut(self._broadcast)
                )
                viewer.tracks.append(track)
                transceiver = connection.addTransceiver(track, "sendonly")
                if kind == "video":
                    transceiver.setCodecPreferences(_video_codecs())
            await connection.setRemoteDescription(RTCSessionDescription(offer.sdp, "offer"))
            await connection.setLocalDescription(await connection.createAnswer())
            return str(connection.localDescription.sdp)
        except OperationError as error:
            raise OfferError(422, "Offer video as VP8 or H.264, and audio as Opus.") from error
        except Exception as error:
            # aiortc's parser meets what it does not expect with any kind of error.
            log.info("an offer was refused", exc_info=True)
            raise OfferError(400, "The offer can't be answered: it is malformed.") from error

    def _watch(self, name: str, viewer: _Viewer) -> None:
        """Remove the viewer when its connection fails, ends, or does not come about."""
        connection = viewer.connection

        def changed() -> None:
            if connection.connectionState == "connected":
                viewer.connected.set()
            elif connection.connectionState in ("failed", "closed"):
                self._remove(name)

        async def overdue() -> None:
            try:
                await asyncio.wait_for(viewer.connected.wait(), _CONNECT_S)
            except TimeoutError:
                log.info("a viewer did not connect")
                self._remove(name)

        connection.on("connectionstatechange", changed)
        viewer.watchdog = asyncio.create_task(overdue())
        changed()

    def _remove(self, name: str) -> None:
        viewer = self._viewers.pop(name, None)
        if viewer is None:
            return
        if viewer.watchdog is not None and viewer.watchdog is not asyncio.current_task():
            viewer.watchdog.cancel()
        for track in viewer.tracks:
            track.stop()
        task = asyncio.create_task(_close(viewer.connection))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _video_codecs() -> list[RTCRtpCodecCapability]:
    """VP8 first: it takes a third of the time of H.264."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    return sorted(codecs, key=lambda codec: bool(codec.mimeType != "video/VP8"))


async def _close(connection: RTCPeerConnection) -> None:
    try:
        await asyncio.wait_for(connection.close(), _CLOSE_S)
    except (TimeoutError, AttributeError, ConnectionError):
        # AttributeError: aiortc's transports of a connection that got stuck half way.
        log.warning("a viewer's connection did not close cleanly", exc_info=True)


async def _endpoint_options(request: web.Request) -> web.Response:
    headers = {"Allow": "POST, GET, HEAD, OPTIONS", "Accept-Post": SDP}
    return web.Response(status=204, headers=headers)


async def _nothing(request: web.Request) -> web.Response:
    return web.Response(status=204)


async def _sdp_is_here(request: web.Request) -> web.Response:
    return web.Response(headers={"Content-Type": SDP})


def _refusal(status: int, sentence: str, retry_after_s: int | None = None) -> web.Response:
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.Response(status=status, text=sentence, headers=headers)
