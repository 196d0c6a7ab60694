"""A thread that does one job after the other for an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar

END_S: Final = 1.0
"""How long the end of a session waits for a thread."""

_Result = TypeVar("_Result")
_Job = Callable[[], None]


class Worker:
    """One daemon thread: it can be left behind while a job hangs, and never holds up the exit.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        # Bounded by its users: each waits for its job before it gives the next.
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    async def do(self, job: Callable[[], _Result]) -> _Result:
        """Run a job in the thread and wait for it.

        A caller that is cancelled leaves the job running; its result is dropped.

        Raises:
            Exception: whatever the job raised.
        """
        loop = asyncio.get_running_loop()
        done: asyncio.Future[_Result] = loop.create_future()

        def finish(result: _Result | None, error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(result)  # type: ignore[arg-type]
            else:
                done.set_exception(error)

        def run() -> None:
            result: _Result | None = None
            failure: BaseException | None = None
            try:
                result = job()
            except Exception as error:
                failure = error
            if not loop.is_closed():
                loop.call_soon_threadsafe(finish, result, failure)

        self._jobs.put(run)
        return await done

    def leave(self) -> None:
        """Let the thread end after the job it has."""
        self._jobs.put(None)

    async def end(self) -> None:
        """Let the thread end, and wait a moment for it: native code must not outlive Python."""
        self.leave()
        await asyncio.to_thread(self._thread.join, END_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
