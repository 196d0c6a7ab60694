"""Starts the engine process, watches it, and puts another in its place when it dies or hangs."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import json
import logging
import multiprocessing
import secrets
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from engine.bundle import Bundle
from engine.errors import BundleError, ConfigError, EngineError, LipstreamError
from stream.relay.engine.bench import SlotEngine
from stream.relay.engine.process import SERVE, make_generator, run_engine
from stream.relay.signals import signals_held_back

log = logging.getLogger(__name__)

BEAT_S: Final = 0.5
HUNG_BEATS: Final = 4
"""Heartbeats without an answer, or during one piece of work, after which an engine hangs: 2 s.
They are counted, not timed: after a pause of the whole machine nobody is late."""
SETTLE_S: Final = 5.0
"""From a replacement to the start of the next that stands by: loading takes a core, which the rooms
that lost their engine need more."""

# Pauses before it is started again, longer each time until one lived for a minute.
_PAUSES_S: Final = (0.0, 0.2, 1.0, 5.0, 30.0)
_STEADY_S: Final = 60.0
_LOAD_S: Final = 60.0  # for loading a bundle
_SERVE_S: Final = 2.0  # for a loaded engine to open its address
_END_S: Final = 2.0  # for a killed process to be gone
_KINDS: Final = {kind.__name__: kind for kind in (BundleError, ConfigError, EngineError)}


class EngineSupervisor:
    """The engine of a relay, for as long as the relay lives.

    Beside the process that paints, another stands by, loaded and warm: loading takes longer than
    listeners should wait.

    Args:
        bundle_folder: the bundle to run.
        threads: processor threads of the generator, from 1.
        slots: sessions at the same time, from 1.
        most_frames: of one batch; eight times the bundle's k where it is left out.
        standby: whether a process stands by; it takes as much memory as the one that paints.
        make: loads the generator, in the process; a function of a module, and so are its parts.
        beat_s: seconds between heartbeats.

    Attributes:
        address: where rooms connect; the same for every process.
        authkey: what they prove; the same for every process.
        restarts: how often another process took over.
        trouble: one sentence while there is no engine, else None.
    """

    def __init__(
        self,
        bundle_folder: Path,
        *,
        threads: int,
        slots: int,
        most_frames: int | None = None,
        standby: bool = True,
        make: Callable[[Bundle, int, int], SlotEngine] = make_generator,
        beat_s: float = BEAT_S,
    ) -> None:
        self._arguments = (bundle_folder, threads, slots, most_frames, make)
        self._wants_standby = standby
        self._beat_s = beat_s
        self._folder = Path(tempfile.gettempdir()) / f"lipstream-{secrets.token_hex(8)}"
        self.address = (
            rf"\\.\pipe\{self._folder.name}"
            if sys.platform == "win32"
            else str(self._folder / "engine")
        )
        self.authkey = secrets.token_bytes(32)
        self.restarts = 0
        self.trouble: str | None = None
        self._active: _Child | None = None
        self._standby: _Child | None = None
        self._standby_from_s = 0.0
        self._failures = 0
        self._children: set[_Child] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether there is an engine that rooms can connect to."""
        return self._active is not None

    async def start(self) -> None:
        """Start the engine; returns when it is warm and can be connected to.

        Raises:
            LipstreamError: it can't be started.
        """
        self._folder.mkdir(mode=0o700)
        atexit.register(self._clean_up)  # a relay that fails must not wait for its engine
        try:
            child = await self._spawn()
            await self._serve(child)
        except BaseException:
            await self.close()
            raise
        self._task = asyncio.get_running_loop().create_task(self._supervise(child))

    def facts(self) -> dict[str, Any]:
        """Return the figures of the engine, JSON types.

        ``alive``, ``restarts``, ``pid`` and ``standby`` (whether one is ready) always; what
        :meth:`stream.relay.engine.bench.Workbench.facts` counts since the process started, as the
        last heartbeat told it.
        """
        active, standby = self._active, self._standby
        return {
            "alive": self.alive,
            "restarts": self.restarts,
            "pid": active.pid if active else None,
            "standby": standby is not None and standby.is_ready,
            **(active.facts if active else {}),
        }

    async def close(self) -> None:
        """End the engine. Rooms lose it at once."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._active = self._standby = None
        for child in [*self._children]:
            await self._end(child)
        atexit.unregister(self._clean_up)
        await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def _supervise(self, child: _Child) -> None:
        while True:
            await self._watch(child)
            self._active = None
            self.trouble = "The engine ended and is being started again."
            log.warning("the engine ended and is started again")
            lived = time.monotonic() - child.served_s > _STEADY_S
            self._failures = 0 if lived else self._failures + 1
            await self._end(child)
            child = await self._replace()
            self.restarts += 1

    async def _watch(self, child: _Child) -> None:
        """Return when an engine is gone; one that hangs is killed."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(child.gone.wait(), self._beat_s)
            if child.gone.is_set():
                return
            if child.hangs:
                log.warning("the engine hangs and is killed")
                child.process.kill()
            child.beat()
            await self._keep_standby()

    async def _keep_standby(self) -> None:
        now = time.monotonic()
        if self._standby is not None and self._standby.gone.is_set():
            log.warning("the engine that stands by ended")
            self._standby_from_s = now + _PAUSES_S[-1]
            gone, self._standby = self._standby, None
            await self._end(gone)
        if self._wants_standby and self._standby is None and now >= self._standby_from_s:
            self._standby = await self._spawn()

    async def _replace(self) -> _Child:
        """Return another engine that serves."""
        while True:
            # The first failure in a minute is made good at once.
            pause = max(self._failures - 1, 0)
            await asyncio.sleep(_PAUSES_S[min(pause, len(_PAUSES_S) - 1)])
            child, self._standby = self._standby, None
            if child is None or child.gone.is_set():
                child = await self._spawn()
            try:
                await self._serve(child)
            except LipstreamError as error:
                log.warning("the engine can't be started: %s", error)
                self.trouble = str(error)
                self._failures += 1
                await self._end(child)
            else:
                self._standby_from_s = time.monotonic() + SETTLE_S
                return child

    async def _serve(self, child: _Child) -> None:
        """Let a process open the address.

        Raises:
            LipstreamError: it can't.
        """
        await child.until(child.ready, _LOAD_S)
        child.serve()
        await child.until(child.serving, _SERVE_S)
        self.trouble = None
        self._active = child

    async def _spawn(self) -> _Child:
        process, pipe = await asyncio.to_thread(self._launch)
        child = _Child(process, pipe)
        self._children.add(child)
        return child

    def _launch(self) -> tuple[SpawnProcess, Connection]:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(
            target=run_engine,
            args=(theirs, self.address, self.authkey, *self._arguments),
            name="lipstream engine",
            daemon=True,
        )
        with theirs, signals_held_back():
            process.start()
        return process, ours

    async def _end(self, child: _Child) -> None:
        self._children.discard(child)
        child.process.kill()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(child.gone.wait(), _END_S)
        await asyncio.to_thread(child.process.join, _END_S)

    def _clean_up(self) -> None:
        for child in self._children:
            child.process.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Child:
    """An engine process as its parent sees it.

    Attributes:
        process: it.
        gone: set when it has ended.
        ready: done when it is loaded.
        serving: done when it can be connected to.
        served_s: when that was.
        facts: its figures at the last heartbeat.
    """

    def __init__(self, process: SpawnProcess, pipe: Connection) -> None:
        self.process = process
        self._pipe = pipe
        self._loop = asyncio.get_running_loop()
        self.gone = asyncio.Event()
        self.ready: asyncio.Future[None] = self._loop.create_future()
        self.serving: asyncio.Future[None] = self._loop.create_future()
        self.served_s = time.monotonic()
        self.facts: dict[str, Any] = {}
        self._beats = self._answered = self._same_work = 0
        threading.Thread(target=self._read, name="engine pipe", daemon=True).start()

    @property
    def pid(self) -> int | None:
        return self.process.pid

    @property
    def is_ready(self) -> bool:
        return self.ready.done() and not self.gone.is_set()

    @property
    def hangs(self) -> bool:
        return self._beats - self._answered >= HUNG_BEATS or self._same_work >= HUNG_BEATS

    def serve(self) -> None:
        self._say(SERVE)

    def beat(self) -> None:
        self._beats += 1
        self._say(str(self._beats).encode())

    async def until(self, step: asyncio.Future[None], timeout_s: float) -> None:
        """Wait for a step of the start.

        Raises:
            LipstreamError: it failed, or takes too long.
        """
        try:
            await asyncio.wait_for(asyncio.shield(step), timeout_s)
        except TimeoutError:
            raise EngineError(
                f"The engine was not ready in {timeout_s:.0f} s; use a smaller bundle or a faster"
                " machine."
            ) from None

    def _say(self, word: bytes) -> None:
        # Never waits: so few short words fit into the pipe's memory, read or not.
        with contextlib.suppress(OSError):
            self._pipe.send_bytes(word)

    def _read(self) -> None:
        with self._pipe, contextlib.suppress(EOFError, OSError):
            while True:
                self._tell(self._take, json.loads(self._pipe.recv_bytes()))
        self._tell(self._lose)

    def _tell(self, call: Callable[..., None], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(call, *arguments)

    def _take(self, message: dict[str, Any]) -> None:
        if "failed" in message:
            self._fail(_KINDS.get(message["kind"], EngineError)(message["failed"]))
        elif "ready" in message and not self.ready.done():
            self.ready.set_result(None)
        elif "serving" in message and not self.serving.done():
            self.served_s = time.monotonic()
            self.serving.set_result(None)
        elif "beat" in message:
            self._answered, facts = message["beat"], message["facts"]
            working = facts.get("working")
            same = working is not None and working == self.facts.get("working")
            self._same_work = self._same_work + 1 if same else 0
            self.facts = facts

    def _lose(self) -> None:
        self._fail(EngineError("The engine ended while it started; its own messages say why."))
        self.gone.set()

    def _fail(self, error: LipstreamError) -> None:
        for step in (self.ready, self.serving):
            if not step.done():
                step.set_exception(error)
                step.exception()  # nobody may wait for it
