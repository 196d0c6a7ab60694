"""Ctrl-C and SIGTERM reach all processes of a relay, but only the front process answers them."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from multiprocessing import resource_tracker
from typing import Final

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def ignore_stop_signals() -> None:
    """Leave the end of this process to its parent; for a process started in the next function."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def signals_held_back() -> Iterator[None]:
    """Let a process that is started here get these only when it has chosen to ignore them."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # it would be started with the process, and let go of them
    held = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
