"""How the relay is told to stop: once to drain, once more to end at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Iterator
from types import FrameType

from stream.relay.signals import STOP_SIGNALS

log = logging.getLogger(__name__)


class Stopping:
    """Counts the signals.

    Attributes:
        asked: set by the first one.
        insisted: set by the second one.
    """

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self.insisted = asyncio.Event()

    def signal(self) -> None:
        """One came."""
        (self.insisted if self.asked.is_set() else self.asked).set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM come here; to be called on the loop, in the main thread."""
        loop = asyncio.get_running_loop()
        before = {number: signal.getsignal(number) for number in STOP_SIGNALS}

        def take(number: int, frame: FrameType | None) -> None:
            # Python calls this between any two instructions of the main thread.
            loop.call_soon_threadsafe(self.signal)

        for number in STOP_SIGNALS:
            try:
                loop.add_signal_handler(number, self.signal)
            except NotImplementedError:  # Windows
                signal.signal(number, take)
        try:
            yield
        finally:
            for number, handler in before.items():
                with contextlib.suppress(NotImplementedError):
                    loop.remove_signal_handler(number)
                signal.signal(number, handler)
