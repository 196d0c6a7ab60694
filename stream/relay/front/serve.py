"""The relay: front, rooms and engine, from the first line it prints to its exit."""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Protocol

from aiohttp import web

from engine.bundle import load_bundle
from engine.errors import ConfigError
from stream.lip_experts import with_expert
from stream.relay.child import ROOM_MAIN
from stream.relay.config import RelaySettings
from stream.relay.engine.process import make_generator
from stream.relay.engine.supervisor import EngineSupervisor
from stream.relay.front.access import Access
from stream.relay.front.app import FrontSettings, create_app
from stream.relay.front.exposition import Exposition, Facts, FrontMetrics
from stream.relay.front.http_server import FrontRunner
from stream.relay.front.rooms import Rooms
from stream.relay.front.stopping import Stopping
from stream.relay.front.tls import tls_context
from stream.relay.front.turn import IceServers
from stream.relay.logs import set_up_logs

log = logging.getLogger(__name__)

_LAG_EVERY_S: Final = 0.1
_RETRY_S: Final = 5  # for whoever looks at /healthz


class Engine(Protocol):
    """The engine's supervisor, as the relay knows it."""

    address: str
    authkey: bytes
    restarts: int

    @property
    def alive(self) -> bool:
        """Whether rooms can connect to an engine."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return its figures."""
        ...

    async def start(self) -> None:
        """Start it; returns when it is warm."""
        ...

    async def close(self) -> None:
        """End it."""
        ...


async def serve(settings: RelaySettings, say: Callable[[str], None]) -> None:
    """Run a relay until it is told to stop.

    Args:
        settings: what the operator has set.
        say: takes a line for the operator.

    Raises:
        LipstreamError: it can't be begun, with what to do about it.
    """
    settings.check_access()
    handler = set_up_logs(settings.chosen_log_format(), process="front")
    engine = EngineSupervisor(
        settings.bundle_folder,
        threads=settings.threads,
        slots=settings.most_lines,
        make=partial(
            make_generator, backend=settings.backend, backends_off=tuple(settings.backends_off)
        ),
    )
    try:
        await Relay(settings, engine, say).run()
    finally:
        handler.flush()


class Relay:
    """A relay.

    Args:
        settings: what the operator has set; access is checked.
        engine: not started.
        say: takes a line for the operator.
        room_main: what a room's process runs.

    Attributes:
        url: where the page is, once it is there.
        stopping: how it is told to stop.

    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        settings: RelaySettings,
        engine: Engine,
        say: Callable[[str], None],
        *,
        room_main: str = ROOM_MAIN,
    ) -> None:
        self._settings = settings
        self._engine = engine
        self._say = say
        self._tls = (
            None if settings.tls_cert is None else tls_context(settings.tls_cert, settings.tls_key)
        )
        self._rooms = Rooms(
            self._options,
            most_rooms=settings.most_rooms,
            memory_mb=settings.room_memory_mb,
            main=room_main,
            log_format=settings.chosen_log_format(),
        )
        self._rooms.open = False
        self._metrics = FrontMetrics()
        self._exposition = Exposition(self._rooms, self._metrics, self._facts)
        self._app = create_app(
            self._rooms,
            Access(settings.secret or None),
            FrontSettings(
                host=settings.host,
                trust_proxy=settings.trust_proxy,
                allowed_origins=frozenset(settings.allowed_origins),
                allow_loopback=settings.loopback_candidates,
                most_sessions=settings.most_rooms * settings.most_listeners_per_room,
            ),
            ice_servers=IceServers(settings.ice_urls, settings.turn_secret or None),
            extra_routes=[
                web.get("/healthz", self._healthz),
                web.get("/metrics", self._metrics_page),
            ],
            counted=self._metrics.answered,
        )
        self.url = ""
        self.stopping = Stopping()

    async def run(self) -> None:
        """Serve until told to stop, and some time longer for those who are there.

        Raises:
            LipstreamError: it can't be begun.
        """
        runner = FrontRunner(self._app)
        with self.stopping.listening():
            try:
                await self._serve(runner)
            finally:
                await self._end(runner)

    async def _end(self, runner: web.AppRunner) -> None:
        async def kill() -> None:
            await self.stopping.insisted.wait()
            self._rooms.kill_all()

        killing = asyncio.get_running_loop().create_task(kill())
        try:
            await self._rooms.close()
            await self._engine.close()
            await runner.cleanup()
        finally:
            killing.cancel()

    async def _serve(self, runner: web.AppRunner) -> None:
        settings = self._settings
        folder = settings.expert_folder
        if folder is not None and settings.sync_monitor != "off":  # else every room fails on it
            await asyncio.to_thread(lambda: with_expert(load_bundle(folder)))
        await self._listen(runner)
        measuring = asyncio.get_running_loop().create_task(self._measure_lag())
        starting = asyncio.get_running_loop().create_task(self._start())
        told = asyncio.get_running_loop().create_task(self.stopping.asked.wait())
        try:
            await asyncio.wait([starting, told], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
            await told
            await self._drain()
        finally:
            for task in (measuring, starting, told):
                task.cancel()
            await asyncio.wait([measuring, starting, told])

    async def _listen(self, runner: web.AppRunner) -> None:
        host, port = self._settings.host.strip("[]"), self._settings.port
        await runner.setup()
        try:
            await web.TCPSite(runner, host, port, ssl_context=self._tls).start()
        except OSError as error:
            raise ConfigError(_why_not(error, host, port)) from error
        scheme = "http" if self._tls is None else "https"
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{shown}:{runner.addresses[0][1]}/"

    async def _start(self) -> None:
        """Start all else, while the port is open and says so."""
        await self._engine.start()
        self._rooms.start()
        self._rooms.open = True
        for sentence in self._settings.warnings():
            self._say(f"Warning: {sentence}")
        if not self._settings.secret:
            self._say("Without a secret everybody on this computer may do everything.")
        self._say(f"The page: {self.url}")
        self._say("Ctrl-C stops the relay, once more at once.")
        log.info("the relay began", extra={"port": int(self.url.rsplit(":", 1)[1].rstrip("/"))})

    async def _drain(self) -> None:
        """Let those go on for a while who are there."""
        self._rooms.drain()
        facts = {"rooms": len(self._rooms), "listeners": self._rooms.listeners}
        log.info("the relay drains", extra=facts)
        if self._rooms.listeners:
            self._say(
                f"Stopping when the last of {self._rooms.listeners} listeners has left, at most"
                f" in {self._settings.drain_s:.0f} s; Ctrl-C once more stops at once."
            )
        left = asyncio.get_running_loop().create_task(self._rooms.left())
        insisted = asyncio.get_running_loop().create_task(self.stopping.insisted.wait())
        try:
            await asyncio.wait(
                [left, insisted],
                timeout=self._settings.drain_s,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            left.cancel()
            insisted.cancel()
        log.info("the relay ends", extra={"listeners": self._rooms.listeners})

    async def _measure_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_EVERY_S
            await asyncio.sleep(_LAG_EVERY_S)
            self._metrics.loop_lag(max(0.0, loop.time() - due))

    # What others are told

    def _options(self, room: str) -> dict[str, Any]:
        """``stream.relay.room.process.RoomOptions``, which is not imported here: it loads much."""
        settings = self._settings
        return {
            "bundle_folder": str(settings.bundle_folder.absolute()),
            "engine_address": self._engine.address,
            "engine_key": self._engine.authkey.hex(),
            "delay_s": settings.delay_ms / 1000,
            "badge": settings.badge,
            "sync_monitor": settings.sync_monitor,
            "expert_folder": (
                None if settings.expert_folder is None else str(settings.expert_folder.absolute())
            ),
            "most_peers": settings.most_listeners_per_room,
            "translators": [
                [one.room, one.speaker, one.language, one.url]
                for one in settings.parsed_translators()
            ],
        }

    def _facts(self) -> Facts:
        memory_mb = self._rooms.memory_mb
        return Facts(
            rooms=len(self._rooms),
            most_rooms=self._rooms.most_rooms,
            draining=self._rooms.draining,
            memory_bytes=None if memory_mb is None else memory_mb * 1e6,
            endings=self._rooms.endings,
            engine_alive=self._engine.alive,
            engine_restarts=self._engine.restarts,
            engine=self._engine.facts(),
        )

    async def _healthz(self, request: web.Request) -> web.Response:
        status = "ok"
        if not self._rooms.open:
            status = "starting"
        if self._rooms.draining:
            status = "draining"
        engine = {"alive": self._engine.alive, "restarts": self._engine.restarts}
        response = web.json_response(
            {"status": status, **self._rooms.facts(), "engine": engine},
            status=200 if status == "ok" else 503,
        )
        if status != "ok":
            response.headers["Retry-After"] = str(_RETRY_S)
        return response

    async def _metrics_page(self, request: web.Request) -> web.Response:
        body, kind = self._exposition.page(request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": kind})


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} is taken, perhaps by another relay; choose another with --port."
    if error.errno == errno.EACCES:
        return f"Port {port} is for the system only; choose one above 1023 with --port."
    return f"The relay can't listen at {host}, port {port}; choose another address with --host."
