"""WHEP (draft-ietf-wish-whep): a viewer posts an offer and gets picture and sound by WebRTC."""

from __future__ import annotations

import secrets
from typing import Final

from aiohttp import web

from stream.web.broadcast import Broadcast
from stream.web.offer import LARGEST_OFFER, OfferError, read_offer
from stream.web.peers import Peers, PeersFullError
from stream.web.picture_stream import Which
from stream.web.viewer import Viewer, check_aiortc

MOST_VIEWERS: Final = 8
SDP: Final = "application/sdp"

_SOURCE_RETRY_S: Final = 1
_ROOM_RETRY_S: Final = 5


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
        check_aiortc()
        self._broadcast = broadcast
        self._prefix = prefix
        self._most_viewers = most_viewers
        self._peers = Peers(most=most_viewers)

    @property
    def viewers(self) -> int:
        """How many there are, those included that are being connected."""
        return len(self._peers)

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
        await self._peers.close()

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
        name = secrets.token_urlsafe(24)
        viewer = Viewer(self._broadcast, which, offer.kinds)
        try:
            answer = await self._peers.answer(name, offer.sdp, viewer)
        except PeersFullError:
            return _refusal(
                503,
                f"All {self._most_viewers} places for viewers are taken; close another page first.",
                _ROOM_RETRY_S,
            )
        except OfferError as error:
            return _refusal(
                error.status, str(error), _ROOM_RETRY_S if error.status == 503 else None
            )
        return web.Response(
            status=201,
            body=answer.encode("ascii"),
            headers={"Content-Type": SDP, "Location": f"{self._prefix}/{which}/{name}"},
        )

    async def _end(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if not self._peers.end(name):
            return _refusal(404, "There is no such session; it may have ended already.")
        return web.Response()

    async def _session_exists(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._peers:
            return _refusal(404, "There is no such session; it may have ended already.")
        return web.Response(status=204)

    async def _session_options(self, request: web.Request) -> web.Response:
        return web.Response(status=204, headers={"Allow": "DELETE, GET, HEAD, OPTIONS, PATCH"})

    async def _no_patch(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in self._peers:
            return _refusal(404, "There is no such session; it may have ended already.")
        return _refusal(422, "Neither trickle nor restart is supported: post a new offer.")


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
