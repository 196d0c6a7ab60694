"""The engine process: the generator of one device, for all rooms.

The main thread owns the generator (:mod:`stream.relay.engine.bench`), a thread for each connection
serves a room's line (:mod:`stream.relay.engine.clients`), and one listens to the parent: when the
parent is gone, so is this process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, Listener
from pathlib import Path
from typing import Final

import numpy as np

from engine.backends.fallback import open_generator
from engine.bundle import Bundle, load_bundle
from engine.errors import EngineError, LipstreamError
from engine.generator import FP32, Chunk
from stream.core.step_times import StepTimes
from stream.relay.engine.bench import SlotEngine, Workbench
from stream.relay.engine.clients import Door
from stream.relay.engine.wire import MAX_MESSAGE

SERVE: Final = b"serve"
"""The parent's word that opens the address; any other is the number of a heartbeat."""

BATCHES: Final = (1, 2, 4, 8)
"""Chunks of the batches that engines of fixed shapes are built for."""

_MEASURED: Final = 3  # steps of a size
_BACKLOG: Final = 64  # connections that wait to be taken: after a failure all rooms come at once


def make_generator(
    bundle: Bundle,
    threads: int,
    slots: int,
    *,
    backend: str = str(FP32),
    backends_off: Sequence[str] = (),
) -> SlotEngine:
    """Load the generator of a bundle.

    Raises:
        LipstreamError: it can't be loaded.
    """
    return open_generator(bundle, backend, backends_off, threads=threads, slots=slots)


def run_engine(
    parent: Connection,
    address: str,
    authkey: bytes,
    bundle_folder: Path,
    threads: int,
    slots: int,
    most_frames: int | None,
    make: Callable[[Bundle, int, int], SlotEngine],
) -> None:
    """Be the engine process; never returns while the parent lives.

    The parent reads JSON: ``{"ready": true}`` when the generator is loaded and warm, or
    ``{"failed": sentence, "kind": class}``; ``{"serving": true}`` when the address is open, which
    the word ``serve`` asks for; and to each heartbeat ``{"beat": its number, "facts": figures}``.

    Args:
        parent: the pipe to the parent; its end is this process's end.
        address: where rooms connect.
        authkey: what they prove.
        bundle_folder: the bundle.
        threads: processor threads of the generator.
        slots: sessions at the same time.
        most_frames: of one batch; eight times the bundle's k where it is None.
        make: loads the generator.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent decides
        signal.signal(ignored, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):  # the parent held them back until here
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGINT, signal.SIGTERM))
    line = _ParentLine(parent, address)
    try:
        bundle = load_bundle(bundle_folder)
        engine = make(bundle, threads, slots)
        most = BATCHES[-1] * bundle.k if most_frames is None else most_frames
        times = _warm_up(engine, bundle, min(most, slots * bundle.k))
    except LipstreamError as error:
        line.tell({"failed": str(error), "kind": type(error).__name__})
        return
    bench = Workbench(engine, times, slots=slots, fps=bundle.fps, k=bundle.k)
    line.work = bench
    line.tell({"ready": True})
    line.wanted.wait()
    try:
        if sys.platform != "win32":
            Path(address).unlink(missing_ok=True)  # a killed engine leaves its socket
        listener = Listener(address, backlog=_BACKLOG)
    except OSError as error:
        sentence = f"The engine can't open {address}: {error.strerror}; restart the relay."
        line.tell({"failed": sentence, "kind": EngineError.__name__})
        return
    door = Door(listener, bench, bundle, authkey)
    threading.Thread(target=door.receive, name="door", daemon=True).start()
    line.tell({"serving": True})
    bench.run()


def _warm_up(engine: SlotEngine, bundle: Bundle, most_frames: int) -> StepTimes:
    """Paint once with each number of frames that a batch often has, which is slow at first.

    Returns:
        What a step of each size takes: the shortest of a few, as other processes disturb. It ends
        with the first that takes longer than half a chunk lasts: no larger one would be of use.
    """
    k, side, measured = bundle.k, bundle.resolution, dict[int, float]()
    slots: list[int] = []

    def step_s(count: int) -> float:
        while len(slots) * k < count:
            slots.append(engine.open(np.zeros((side, side, 3), np.uint8)))
        chunks = {slot: _blank(bundle, min(k, count - k * n)) for n, slot in enumerate(slots)}
        start_s = time.perf_counter()
        engine.step(chunks)
        return max(time.perf_counter() - start_s, 1e-6)

    for count in range(1, k):
        step_s(count)
    for chunks in range(1, max(most_frames // k, 1) + 1):
        step_s(chunks * k)
        if chunks in BATCHES:
            measured[chunks * k] = min(step_s(chunks * k) for _ in range(_MEASURED))
            if 2 * measured[chunks * k] > k / bundle.fps:
                break
    for slot in slots:
        engine.close(slot)
    return StepTimes(measured, now=time.monotonic())


def _blank(bundle: Bundle, count: int) -> Chunk:
    side = bundle.resolution
    mel = np.zeros((count, 1, bundle.mel.bands, bundle.placement.columns), np.float32)
    return Chunk(mel=mel, pose=np.zeros((count, side, side, 3), np.uint8))


class _ParentLine:
    """The pipe to the parent, in a thread of its own."""

    def __init__(self, pipe: Connection, address: str) -> None:
        self._pipe = pipe
        self._address = address
        self._telling = threading.Lock()
        self.wanted = threading.Event()
        self.work: Workbench | None = None
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    def tell(self, message: Mapping[str, object]) -> None:
        with self._telling, contextlib.suppress(OSError):  # gone: the thread ends the process
            self._pipe.send_bytes(json.dumps(message).encode())

    def _listen(self) -> None:
        try:
            while True:
                word = self._pipe.recv_bytes(MAX_MESSAGE)
                if word == SERVE:
                    self.wanted.set()
                else:
                    facts = self.work.facts() if self.work else {}
                    self.tell({"beat": int(word), "facts": facts})
        except (EOFError, OSError):
            if sys.platform != "win32" and self.wanted.is_set():
                # A parent that was killed has left them to the one that serves.
                with contextlib.suppress(OSError):
                    Path(self._address).unlink()
                    Path(self._address).parent.rmdir()
            # At once, from any thread: the generator may hang in native code.
            os._exit(0)
