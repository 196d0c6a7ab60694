"""Where the engine process works: one thread owns the generator, and all requests wait for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineFullError
from engine.generator import Chunk
from stream.core.gather import Gather

_Result = TypeVar("_Result")
_Rows = NDArray[np.uint8]


class SlotEngine(Protocol):
    """What the process runs; :class:`engine.generator.Generator` does."""

    def open(self, identity: _Rows) -> int: ...  # noqa: D102

    def replace_identity(self, slot: int, identity: _Rows) -> None: ...  # noqa: D102

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, _Rows]: ...  # noqa: D102

    def close(self, slot: int) -> None: ...  # noqa: D102


class _Job:
    """Something for the generator's thread, and what comes of it."""

    def __init__(self, do: Callable[[], None]) -> None:
        self.do = do
        self._done = threading.Event()
        self._error: Exception | None = None

    def finish(self, error: Exception | None = None) -> None:
        self._error = error
        self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self._error is not None:
            raise self._error


class _Painting(_Job):
    """A request for rows."""

    def __init__(self, chunks: Mapping[int, Chunk]) -> None:
        super().__init__(lambda: None)
        self.chunks = chunks
        self.rows: dict[int, _Rows] = {}


class Workbench:
    """The generator and what waits for it. Its methods may be called from any thread but ``run``.

    What waits is bounded by the clients: each has one request under way.

    Args:
        engine: the generator, used by the thread of :meth:`run` alone.
        slots: sessions at the same time.
        most_frames: of one batch.
    """

    def __init__(self, engine: SlotEngine, *, slots: int, most_frames: int) -> None:
        self._engine = engine
        self.slots = slots
        self._gather = Gather(most_frames=most_frames)
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._paintings: dict[int, tuple[_Painting, float]] = {}
        self._asked = 0
        self._taken = 0  # slots, also those that are being opened
        self._started = self._ended = 0  # pieces of work, to see one that never ends
        self._counts = {"steps": 0, "chunks": 0, "frames": 0, "late": 0, "failed": 0, "full": 0}
        self._step_s = self._slowest_s = 0.0

    def open(self, identity: _Rows) -> int:
        """Take a slot.

        Raises:
            EngineFullError: at once, if none is free.
            EngineError: the generator failed.
        """
        with self._changed:
            if self._taken >= self.slots:
                self._counts["full"] += 1
                raise EngineFullError(
                    f"All {self.slots} places for lip-sync are taken; try again in 10 seconds,"
                    " or let another language end."
                )
            self._taken += 1
        try:
            return self._do(lambda: self._engine.open(identity))
        except BaseException:
            with self._changed:
                self._taken -= 1
            raise

    def replace_identity(self, slot: int, identity: _Rows) -> None:
        """Give a slot another identity reference.

        Raises:
            EngineError: the generator failed.
        """
        self._do(lambda: self._engine.replace_identity(slot, identity))

    def close(self, slot: int) -> None:
        """Free a slot.

        Raises:
            EngineError: the generator failed.
        """
        try:
            self._do(lambda: self._engine.close(slot))
        finally:
            with self._changed:
                self._gather.forget(slot)
                self._taken -= 1

    def step(self, chunks: Mapping[int, Chunk], deadline_s: float) -> dict[int, _Rows]:
        """Paint chunks, together with those of others.

        Args:
            chunks: slot to chunk.
            deadline_s: in how many seconds the rows are needed.

        Raises:
            EngineError: the generator failed.
        """
        painting = _Painting(chunks)
        with self._changed:
            now = time.monotonic()
            key, self._asked = self._asked, self._asked + 1
            self._paintings[key] = painting, now + deadline_s
            frames = sum(len(chunk.pose) for chunk in chunks.values())
            self._gather.ask(key, chunks, frames=frames, deadline_s=now + deadline_s, now=now)
            self._changed.notify()
        painting.wait()
        return painting.rows

    def facts(self) -> dict[str, object]:
        """Return the figures since the start.

        ``working`` is the number of the piece of work under way, or null: one that stays the same
        hangs.
        """
        started = self._started
        return {
            "working": started if started != self._ended else None,
            "slots": self.slots,
            "open_slots": self._taken,
            **self._counts,
            "step_seconds": round(self._step_s, 6),
            "slowest_step_seconds": round(self._slowest_s, 6),
        }

    def run(self) -> None:
        """Work for ever."""
        while True:
            with self._changed:
                while not self._jobs:
                    wait_s = self._gather.wait_s(time.monotonic())
                    if wait_s == 0:
                        break
                    self._changed.wait(wait_s)
                job = self._jobs.popleft() if self._jobs else None
                batch = [] if job else [self._paintings.pop(key) for key in self._gather.take()]
                self._started += 1
            if job is not None:
                _finish(job)
            else:
                self._paint([painting for painting, _ in batch])
                now = time.monotonic()
                self._counts["late"] += sum(deadline_s < now for _, deadline_s in batch)
            self._ended = self._started

    def _do(self, work: Callable[[], _Result]) -> _Result:
        results: list[_Result] = []
        job = _Job(lambda: results.append(work()))
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        job.wait()
        return results[0]

    def _paint(self, batch: list[_Painting]) -> None:
        chunks = {slot: chunk for painting in batch for slot, chunk in painting.chunks.items()}
        start_s = time.monotonic()
        try:
            rows = self._engine.step(chunks)
            for painting in batch:
                painting.rows = {slot: rows[slot] for slot in painting.chunks}
        except Exception as error:
            if len(batch) > 1:  # what one brought about is not the others' failure
                for painting in batch:
                    self._paint([painting])
                return
            self._counts["failed"] += 1
            batch[0].finish(error)
            return
        took_s = time.monotonic() - start_s
        self._step_s += took_s
        self._slowest_s = max(self._slowest_s, took_s)
        self._counts["steps"] += 1
        self._counts["chunks"] += len(chunks)
        self._counts["frames"] += sum(len(chunk.pose) for chunk in chunks.values())
        for painting in batch:
            painting.finish()


def _finish(job: _Job) -> None:
    try:
        job.do()
    except Exception as error:
        job.finish(error)
    else:
        job.finish()
