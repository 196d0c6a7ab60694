"""Keeps the process's memory flat while pictures of several threads, and peers, come and go."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

_M_ARENA_MAX: Final = -8  # of glibc's mallopt
_ARENAS: Final = 2


def keep_flat() -> None:
    """Let all threads share two heaps; nothing where the C library is not glibc.

    By itself glibc gives each thread a heap of its own. A picture is made in one thread and freed
    in another, so each heap keeps the most that it ever held.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, _ARENAS)


def give_back() -> None:
    """Give the system what is free within the heaps; nothing where the C library is not glibc.

    Takes some milliseconds; other threads run meanwhile.
    """
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
