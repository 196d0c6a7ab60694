"""The control page: what it shows of a session, what it can change, and its preview."""

from __future__ import annotations

import asyncio
import errno
import json
import secrets
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Protocol

from aiohttp import web

from engine.errors import ConfigError, MediaError
from stream.web.broadcast import Broadcast
from stream.web.guard import add_headers, errors_as_sentences, guard
from stream.web.whep import Whep

EVERY_S: Final = 0.5
"""How often an open page is told the state."""

LARGEST_BODY: Final = 64 << 10  # bytes
MOST_STREAMS: Final = 16  # pages that follow the state at once

_PAGE: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/common.css": ("common.css", "text/css"),
    "/page.css": ("page.css", "text/css"),
}
_SHUTDOWN_S: Final = 1.0


class PageSession(Protocol):
    """A session as its page knows it; every call returns at once."""

    def meters(self) -> dict[str, object]:
        """The session as it is now; JSON values.

        Keys: ``fps``, ``added_delay_ms`` {``total``, ``stages`` {name: ms}}, ``skew_ms``
        (positive: sound late), ``gate`` (``real``, ``speech``, ``closed`` or None), ``frames``
        {``in``, ``out``, ``generated``, ``dropped``, ``repeated``, ``passthrough``},
        ``passthrough_reason``, ``states`` {end: {``state``: ``running`` or ``waiting``, ``text``}},
        ``uptime_s``, ``backend``, ``bundle``, ``sound_level`` and ``microphone_level`` (0..1).
        Any number may be None.
        """
        ...

    def settings(self) -> dict[str, object]:
        """What can be changed, as it is now."""
        ...

    def change(self, name: str, value: object) -> None:
        """Change ``lip_sync``, ``paused``, ``own_voice`` (bool) or ``trim_ms`` (−500..500).

        Raises:
            ConfigError: there is no such setting, or the value does not fit it.
        """
        ...

    def choose_face(self, x: float, y: float) -> None:
        """Follow the face nearest to a place, in shares 0..1 of the camera's picture.

        Raises:
            ConfigError: the place is not in the picture.
        """
        ...


class PageServer:
    """Serves the page of one session, to this computer unless told otherwise.

    Args:
        session: what the page shows and changes.
        broadcast: what it plays; its ``run`` is the caller's to start.
        host: the address to listen at.
        port: 0 takes any that is free.

    Raises:
        ConfigError: the installed aiortc does not fit.
    """

    def __init__(
        self, session: PageSession, broadcast: Broadcast, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._session = session
        self._broadcast = broadcast
        self._host, self._port = host, port
        self._whep = Whep(broadcast)
        self._files = {
            path: ((_PAGE / name).read_bytes(), kind) for path, (name, kind) in _FILES.items()
        }
        self._run_name = secrets.token_hex(8)
        self._runner: web.AppRunner | None = None
        self._streams = 0
        self._ending = asyncio.Event()

    @property
    def url(self) -> str:
        """Where the page is, once the server has started."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._port}/"

    async def start(self) -> str:
        """Begin to listen.

        Returns:
            Where the page is.

        Raises:
            MediaError: the port is taken, or can't be had.
        """
        runner = web.AppRunner(self._app(), access_log=None, shutdown_timeout=_SHUTDOWN_S)
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise MediaError(self._why_not(error)) from error
        self._runner = runner
        self._port = runner.addresses[0][1]
        return self.url

    async def run(self) -> None:
        """Serve until cancelled; starts first if that was not done.

        Raises:
            MediaError: the port is taken, or can't be had.
        """
        if self._runner is None:
            await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._ending.set()
            await self._whep.close()
            assert self._runner is not None
            await self._runner.cleanup()

    def _why_not(self, error: OSError) -> str:
        if error.errno == errno.EADDRINUSE:
            return (
                f"Port {self._port} is taken, perhaps by another lipstream; close that, or choose"
                " another port with --page-port."
            )
        return (
            f"The page can't be served at {self._host}, port {self._port}"
            f" ({error.strerror}); choose another port with --page-port."
        )

    def _app(self) -> web.Application:
        app = web.Application(
            middlewares=[errors_as_sentences, guard(self._host)], client_max_size=LARGEST_BODY
        )
        app.on_response_prepare.append(add_headers)
        for path in self._files:
            app.router.add_get(path, self._file)
        app.router.add_get("/favicon.ico", self._no_icon)
        app.router.add_get("/api/state", self._state_once)
        app.router.add_get("/api/events", self._follow)
        app.router.add_post("/api/settings", self._change)
        app.router.add_post("/api/face", self._choose_face)
        self._whep.add_routes(app)
        return app

    async def _file(self, request: web.Request) -> web.Response:
        content, kind = self._files[request.path]
        return web.Response(body=content, content_type=kind, charset="utf-8")

    async def _no_icon(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    def _state(self) -> str:
        return json.dumps(
            {
                "run": self._run_name,
                "live": self._broadcast.live,
                "settings": self._session.settings(),
                "meters": self._session.meters(),
            }
        )

    async def _state_once(self, request: web.Request) -> web.Response:
        return web.Response(text=self._state(), content_type="application/json")

    async def _follow(self, request: web.Request) -> web.StreamResponse:
        """Server-sent events: the state, at once and then every half second."""
        if self._streams >= MOST_STREAMS:
            return web.Response(
                status=503, text=f"{MOST_STREAMS} pages are open already; close one first."
            )
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._streams += 1
        try:
            await response.prepare(request)
            while not self._ending.is_set():
                await response.write(f"data: {self._state()}\n\n".encode())
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._ending.wait(), EVERY_S)
        except ConnectionError:
            pass  # the page was closed
        finally:
            self._streams -= 1
        return response

    async def _change(self, request: web.Request) -> web.Response:
        setting = await _json_object(request)
        if setting.keys() != {"name", "value"} or not isinstance(setting["name"], str):
            return web.Response(status=400, text="A setting is sent as a name and a value.")
        try:
            self._session.change(setting["name"], setting["value"])
        except ConfigError as error:
            return web.Response(status=400, text=str(error))
        return web.json_response(self._session.settings())

    async def _choose_face(self, request: web.Request) -> web.Response:
        place = await _json_object(request)
        x, y = _share(place.get("x")), _share(place.get("y"))
        if x is None or y is None:
            return web.Response(status=400, text="x and y must be numbers from 0 to 1.")
        try:
            self._session.choose_face(x, y)
        except ConfigError as error:
            return web.Response(status=400, text=str(error))
        return web.Response(status=204)


async def _json_object(request: web.Request) -> dict[str, Any]:
    if request.content_type != "application/json":
        raise web.HTTPUnsupportedMediaType(reason="Send JSON, as application/json")
    try:
        content = json.loads(await request.read())
    except (ValueError, RecursionError) as error:
        raise web.HTTPBadRequest(reason="The body is no valid JSON") from error
    if not isinstance(content, dict):
        raise web.HTTPBadRequest(reason="The body must be a JSON object")
    return content


def _share(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value <= 1 else None
