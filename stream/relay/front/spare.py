"""A process that stands by, so that whoever opens a room does not wait for its imports."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from stream.relay.child import Child

log = logging.getLogger(__name__)

_LONGEST_PAUSE_S: Final = 30.0  # after failures


class Spare:
    """Keeps one process ready, once it was asked to.

    Args:
        make: a process that was not started yet.
        start_s: how long it may import.
    """

    def __init__(self, make: Callable[[], Child], *, start_s: float) -> None:
        self._make = make
        self._start_s = start_s
        self._child: Child | None = None
        self._making: asyncio.Task[Child | None] | None = None
        self._hurry = asyncio.Event()
        self._failures = 0
        self._closed = False
        self._beginning: set[Child] = set()
        self._ending: set[asyncio.Task[int | None]] = set()

    @property
    def is_ready(self) -> bool:
        """Whether a process stands by."""
        return self._child is not None

    def prepare(self, pause_s: float) -> None:
        """Have a process ready, unless there is one or will be soon.

        Args:
            pause_s: until it is started, so that it does not slow down what begins just now.
        """
        if self._child is None and self._making is None and not self._closed:
            pause_s = max(pause_s, min(2.0 ** min(self._failures, 8) - 1.0, _LONGEST_PAUSE_S))
            self._hurry = asyncio.Event()
            self._making = asyncio.get_running_loop().create_task(self._stand_by(pause_s))

    async def take(self) -> Child | None:
        """A process that has imported all; None where it can't be had."""
        if self._child is not None:
            child, self._child = self._child, None
            child.on_end = lambda: None
            return child
        if self._making is not None:
            making, self._making = self._making, None
            self._hurry.set()
            made = await making
            if made is not None:
                return made
        return await self._begin()

    def kill(self) -> None:
        """End all processes at once."""
        for child in (self._child, *self._beginning):
            if child is not None:
                child.kill()

    async def close(self) -> None:
        """End what stands by, or is about to."""
        self._closed = True
        self.kill()
        if self._making is not None:
            making, self._making = self._making, None
            making.cancel()
            await asyncio.wait([making])
        if self._child is not None:
            child, self._child = self._child, None
            await child.end()
        if self._ending:
            await asyncio.wait(self._ending)

    async def _stand_by(self, pause_s: float) -> Child | None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), pause_s)
        child = await self._begin()
        if self._hurry.is_set():
            return child  # somebody waits for it
        self._making = None
        if child is None:
            self.prepare(0.0)
        else:
            child.on_end = lambda: self._lost(child)
            self._child = child
        return child

    def _lost(self, child: Child) -> None:
        if child is self._child:
            log.warning("the process that stood by for a room ended")
            self._child = None
            self._failures += 1
            self._end(child)
            self.prepare(0.0)

    async def _begin(self) -> Child | None:
        """A process that has imported all; None where that fails or takes too long."""
        child = self._make()
        self._beginning.add(child)
        here = False
        try:
            with contextlib.suppress(TimeoutError, OSError):
                async with asyncio.timeout(self._start_s):
                    await child.start()
                    here = await child.here()
        finally:
            self._beginning.discard(child)
            if not here:
                self._end(child)
        if here:
            self._failures = 0
            return child
        log.error("a process for a room could not be started")
        self._failures += 1
        return None

    def _end(self, child: Child) -> None:
        child.kill()
        task = asyncio.get_running_loop().create_task(child.end())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)
