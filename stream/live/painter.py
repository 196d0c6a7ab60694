"""The generator in a thread of its own, watched: whatever it does, the session goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.errors import EngineError, LipstreamError
from engine.generator import Chunk
from stream.live.worker import Worker

log = logging.getLogger(__name__)

STALL_S: Final = 2.0
"""A call that takes longer is given up, with the thread that runs it."""

# Pauses before it is started again, longer each time until a chunk was painted: every generator
# that hangs keeps its thread.
_RETRY_S: Final = (0.2, 1.0, 5.0, 30.0)
_Result = TypeVar("_Result")


class PaintEngine(Protocol):
    """What a generator offers; :class:`engine.generator.Generator` does."""

    def open(self, identity: NDArray[np.uint8]) -> int: ...  # noqa: D102

    def replace_identity(self, slot: int, identity: NDArray[np.uint8]) -> None: ...  # noqa: D102

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, NDArray[np.uint8]]: ...  # noqa: D102

    def close(self, slot: int) -> None: ...  # noqa: D102


class Painter:
    """Paints the chunks of one session.

    Args:
        bundle: the generator's.
        make: loads the generator; called in the painter's thread, again after it broke.
        stall_s: how long a call may take.
        pause: waits so many seconds before another attempt to start the generator.

    Attributes:
        trouble: one sentence while the generator does not work, else None.
        restarts: how often it was started again.
    """

    def __init__(
        self,
        bundle: Bundle,
        make: Callable[[], PaintEngine],
        *,
        stall_s: float = STALL_S,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._bundle = bundle
        self._make = make
        self._stall_s = stall_s
        self._pause = pause
        self._worker = Worker("painter")
        self._engine: PaintEngine | None = None
        self._slot: int | None = None
        self._identity: NDArray[np.uint8] | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._failures = 0  # since the last chunk
        self._spare = 0
        self.trouble: str | None = None
        self.restarts = 0

    @property
    def ready(self) -> bool:
        """Whether a chunk can be painted: the generator runs and knows the person."""
        return self._engine is not None and self._slot is not None

    @property
    def broken(self) -> bool:
        """Whether the generator is being started again; it takes the last identity by itself."""
        return self._engine is None

    async def start(self) -> None:
        """Load the generator and paint once with each number of frames, which is slow at first.

        Raises:
            LipstreamError: it can't be loaded.
        """
        self._engine = await self._worker.do(self._load)

    def begin(self) -> None:
        """Load the generator meanwhile, and again for as long as that fails."""
        work = self._load_until_it_works(rest_first=False)
        self._restarting = asyncio.get_running_loop().create_task(work)

    async def set_identity(self, crop: NDArray[np.uint8]) -> bool:
        """Take another identity reference, uint8 (S, S, 3); False where the generator failed."""
        self._identity = crop
        return await self._try(self._open)

    async def paint(self, chunk: Chunk) -> NDArray[np.uint8] | None:
        """Paint a chunk.

        Returns:
            uint8 (k, R, S, 3), the bundle's output rows; None where the generator failed.
        """
        painted: list[NDArray[np.uint8]] = []
        engine, slot = self._engine, self._slot
        if engine is None or slot is None:
            return None
        first, end = self._bundle.rows
        side = self._bundle.resolution
        shape = (len(chunk.pose), end - first, side, 3)

        def step() -> None:
            rows = engine.step({slot: chunk})[slot]
            if rows.shape != shape or rows.dtype != np.uint8:
                raise EngineError(
                    f"The generator painted {rows.dtype} {rows.shape} instead of uint8 {shape};"
                    " use another bundle.",
                    retryable=True,
                )
            painted.append(rows)

        if not await self._try(step):
            return None
        self._failures = 0
        return painted[0]

    async def close(self) -> None:
        """Give the slot back and end the thread, unless it hangs."""
        if self._restarting is not None:
            self._restarting.cancel()
        engine, self._engine = self._engine, None
        if engine is not None:
            with suppress(TimeoutError, LipstreamError):
                closing = self._worker.do(lambda: engine.close(self._spare))
                await asyncio.wait_for(closing, self._stall_s)
        await self._worker.end()

    async def _try(self, job: Callable[[], None]) -> bool:
        if self._engine is None:
            return False
        try:
            await asyncio.wait_for(self._worker.do(job), self._stall_s)
        except TimeoutError:
            log.warning("the generator did not answer in time and is started again")
            self._worker.leave()
            self._worker = Worker("painter")
            self._break("The generator does not answer and is being started again.")
        except EngineError as error:
            log.warning("the generator failed: %s", error)
            if error.retryable:
                self.trouble = str(error)
            else:
                self._break(str(error))
        except Exception:
            log.exception("the generator failed")
            self._break("The generator failed and is being started again.")
        else:
            self.trouble = None
            return True
        return False

    def _break(self, trouble: str) -> None:
        self.trouble = trouble
        self._engine, self._slot = None, None
        self._restarting = asyncio.get_running_loop().create_task(self._load_until_it_works())

    async def _load_until_it_works(self, *, rest_first: bool = True) -> None:
        while True:
            if rest_first:
                await self._pause(_RETRY_S[min(self._failures, len(_RETRY_S) - 1)])
                self._failures += 1
                self.restarts += 1
            rest_first = True
            try:
                self._engine = await self._worker.do(self._load)
            except LipstreamError as error:
                self.trouble = str(error)
                continue
            except Exception:
                log.exception("the generator can't be started")
                continue
            if self._identity is None or await self._try(self._open):
                self.trouble = None
            return

    def _load(self) -> PaintEngine:
        bundle, side = self._bundle, self._bundle.resolution
        engine = self._make()
        slot = engine.open(np.zeros((side, side, 3), np.uint8))
        window = (1, bundle.mel.bands, bundle.placement.columns)
        for count in range(1, bundle.k + 1):
            mel = np.zeros((count, *window), np.float32)
            pose = np.zeros((count, side, side, 3), np.uint8)
            engine.step({slot: Chunk(mel=mel, pose=pose)})
        self._spare = slot
        return engine

    def _open(self) -> None:
        assert self._engine is not None
        assert self._identity is not None
        # The slot that the first steps took becomes the session's.
        self._engine.replace_identity(self._spare, self._identity)
        self._slot = self._spare
