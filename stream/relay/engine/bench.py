"""Where the engine process works: one thread owns the generator, and all requests wait for it."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError, EngineFullError
from engine.generator import Chunk
from stream.core.admission import Refused, SlotAdmission
from stream.core.scheduler import Scheduler
from stream.core.step_times import StepTimes

_LOOK_S: Final = 0.05  # between looks at whether a client still waits
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

    def wait(self, timeout_s: float | None = None) -> bool:
        """Whether it is done."""
        done = self._done.wait(timeout_s)
        if self._error is not None:
            raise self._error
        return done


class _Painting(_Job):
    """A request for rows."""

    def __init__(self, chunks: Mapping[int, Chunk], deadline_s: float) -> None:
        super().__init__(lambda: None)
        self.chunks = chunks
        self.deadline_s = deadline_s
        self.frames = sum(len(chunk.pose) for chunk in chunks.values())
        self.rows: dict[int, _Rows] = {}


class Workbench:
    """The generator and what waits for it. Its methods may be called from any thread but ``run``.

    Who is let in, when the generator starts and for whom is decided in :mod:`stream.core.admission`
    and :mod:`stream.core.scheduler`. What waits is bounded: each slot has one request under way.

    Args:
        engine: the generator, used by the thread of :meth:`run` alone.
        times: of its steps, for each size of a batch.
        slots: sessions at the same time.
        fps: frames a second of the bundle.
        k: frames of a chunk.
    """

    def __init__(
        self, engine: SlotEngine, times: StepTimes, *, slots: int, fps: float, k: int
    ) -> None:
        self._engine = engine
        self.slots = slots
        self._times = times
        self._scheduler = Scheduler(times, fps=fps)
        self._admission = SlotAdmission(times, slots=slots, fps=fps, k=k)
        self._changed = threading.Condition()
        self._jobs: deque[_Job] = deque()
        self._paintings: dict[int, _Painting] = {}
        self._asked = 0
        self._started = self._ended = 0  # pieces of work, to see one that never ends
        self._counts = {"steps": 0, "chunks": 0, "frames": 0, "late": 0, "failed": 0, "shed": 0}
        self._step_s = self._slowest_s = 0.0

    def open(self, identity: _Rows) -> int:
        """Take a slot.

        Raises:
            EngineFullError: at once, if none is free or the device has no time for another.
            EngineError: the generator failed.
        """
        with self._changed:
            refused = self._admission.admit(time.monotonic())
            if refused is not None:
                raise self._full(refused)
        try:
            return self._do(lambda: self._open(identity))
        except BaseException:
            with self._changed:
                self._admission.failed()
            raise

    def replace_identity(self, slot: int, identity: _Rows) -> None:
        """Give a slot another identity reference.

        Raises:
            EngineError: the generator failed.
        """
        self._do(lambda: self._engine.replace_identity(slot, identity))

    def close(self, slot: int) -> None:
        """Free a slot. A request of it that waits fails; nothing of it is left behind.

        Raises:
            EngineError: the generator failed.
        """
        with self._changed:
            lost = self._forget(slot)
        for painting in lost:
            painting.finish(EngineError("The slot was closed.", retryable=True))
        self._do(lambda: self._close(slot))

    def step(
        self,
        chunks: Mapping[int, Chunk],
        deadline_s: float,
        wanted: Callable[[], bool] = lambda: True,
    ) -> dict[int, _Rows]:
        """Paint chunks, together with those of others.

        Args:
            chunks: slot to chunk.
            deadline_s: in how many seconds the rows are needed.
            wanted: whether anybody still waits for them; asked now and then, in this thread.

        Raises:
            EngineError: the generator failed, or has too much to do to be in time, or a slot is
                not open or has a request under way.
        """
        painting = _Painting(chunks, time.monotonic() + deadline_s)
        with self._changed:
            key = self._ask(painting)
            self._changed.notify()
        while not painting.wait(_LOOK_S):
            if not wanted():
                with self._changed:
                    self._scheduler.withdraw(key)
                    self._paintings.pop(key, None)
                raise EngineError("Nobody waits for this chunk any more.", retryable=True)
        return painting.rows

    def facts(self) -> dict[str, object]:
        """Return the figures since the start, JSON types.

        ``working`` is the number of the piece of work under way, or null: one that stays the same
        hangs. ``load`` is the share of the device's time that was asked for lately, ``reserved``
        what all open slots may ask for, ``capacity`` how many sessions the device holds at the
        measured step times, ``size_seconds``. ``waiting`` requests wait now. ``refused`` counts
        sessions, ``late`` chunks painted too late, ``shed`` chunks that were not painted at all.
        """
        started = self._started
        with self._changed:
            admission, now = self._admission, time.monotonic()
            steps = self._counts["steps"]
            return {
                "working": started if started != self._ended else None,
                "slots": self.slots,
                "open_slots": admission.open_slots,
                "capacity": admission.capacity(),
                "load": round(admission.load(now), 4),
                "reserved": round(admission.reserved(), 4),
                "overloaded": admission.overloaded,
                "waiting": len(self._scheduler),
                "refused": admission.refused,
                **self._counts,
                "mean_batch_frames": round(self._counts["frames"] / steps, 2) if steps else 0.0,
                "step_seconds": round(self._step_s, 6),
                "slowest_step_seconds": round(self._slowest_s, 6),
                "size_seconds": {
                    str(size): round(seconds, 6) for size, seconds in self._times.measured().items()
                },
            }

    def run(self) -> None:
        """Work for ever."""
        while True:
            shed: list[_Painting] = []
            batch: list[_Painting] = []
            with self._changed:
                while not self._jobs:
                    wait_s = self._scheduler.wait_s(time.monotonic())
                    if wait_s == 0:
                        break
                    self._changed.wait(wait_s)
                job = self._jobs.popleft() if self._jobs else None
                if job is None:
                    batch, shed = self._take()
                self._started += 1
            if job is not None:
                _finish(job)
            for painting in shed:
                painting.finish(
                    EngineError(
                        "The engine has too much to do; this chunk would be too late.",
                        retryable=True,
                    )
                )
            if batch:
                self._paint(batch)
            self._ended = self._started

    def _do(self, work: Callable[[], _Result]) -> _Result:
        results: list[_Result] = []
        job = _Job(lambda: results.append(work()))
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        job.wait()
        return results[0]

    # What a slot's number stands for changes in the generator's thread alone: it may be given away
    # again before the thread that freed it goes on.
    def _open(self, identity: _Rows) -> int:
        slot = self._engine.open(identity)
        with self._changed:
            self._admission.opened(slot)
        return slot

    def _close(self, slot: int) -> None:
        try:
            self._engine.close(slot)
        finally:
            with self._changed:
                self._forget(slot)
                self._admission.closed(slot)

    def _forget(self, slot: int) -> list[_Painting]:
        return [self._paintings.pop(key) for key in self._scheduler.forget(slot)]

    def _ask(self, painting: _Painting) -> int:
        now = time.monotonic()
        for slot in painting.chunks:
            if not self._admission.is_open(slot):
                raise EngineError(f"Slot {slot} is not open.")
        key, self._asked = self._asked, self._asked + 1
        try:
            self._scheduler.ask(
                key,
                painting.chunks,
                frames=painting.frames,
                deadline_s=painting.deadline_s,
                now=now,
            )
        except ValueError as error:
            raise EngineError(f"The chunk can't be taken: {error}.", retryable=True) from error
        self._paintings[key] = painting
        for slot, chunk in painting.chunks.items():
            self._admission.asked(slot, len(chunk.pose), now)
        return key

    def _take(self) -> tuple[list[_Painting], list[_Painting]]:
        now = time.monotonic()
        taken = self._scheduler.take(now, overloaded=self._admission.overloaded)
        batch = [self._paintings.pop(key) for key in taken.painted]
        shed = [self._paintings.pop(key) for key in taken.shed]
        if shed:
            chunks = sum(len(painting.chunks) for painting in shed)
            self._counts["shed"] += chunks
            self._admission.answered(chunks, chunks, now)
        return batch, shed

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
            with self._changed:
                self._counts["failed"] += 1
            batch[0].finish(error)
            return
        end_s = time.monotonic()
        with self._changed:
            self._count(batch, end_s - start_s, end_s)
        for painting in batch:
            painting.finish()

    def _count(self, batch: list[_Painting], took_s: float, now: float) -> None:
        frames = sum(painting.frames for painting in batch)
        chunks = sum(len(painting.chunks) for painting in batch)
        late = sum(len(painting.chunks) for painting in batch if painting.deadline_s < now)
        self._times.learn(frames, took_s, now)
        self._admission.answered(chunks, late, now)
        self._step_s += took_s
        self._slowest_s = max(self._slowest_s, took_s)
        self._counts["steps"] += 1
        self._counts["chunks"] += chunks
        self._counts["frames"] += frames
        self._counts["late"] += late

    def _full(self, refused: Refused) -> EngineFullError:
        seconds = math.ceil(refused.retry_after_s)
        why = {
            "slots": f"All {self.slots} places for lip-sync are taken",
            "load": "The engine's device has no time for lip-sync in another language",
            "overload": "The engine's device has too much to do",
        }[refused.reason]
        return EngineFullError(
            f"{why}; try again in {seconds} seconds, or let another language end.",
            retry_after_s=float(seconds),
        )


def _finish(job: _Job) -> None:
    try:
        job.do()
    except Exception as error:
        job.finish(error)
    else:
        job.finish()
