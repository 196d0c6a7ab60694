"""Keeps the process's memory flat while pictures come and go by the million bytes."""

import ctypes
import sys
from contextlib import suppress
from typing import Final

# glibc's mallopt: from this size on an array has pages of its own, which go back when it is freed.
# Left alone, the limit rises with what is freed, and pictures of several threads scatter the heap.
_M_MMAP_THRESHOLD: Final = -3
_MMAP_THRESHOLD: Final = 256 << 10  # bytes: below a 640 × 480 picture
_M_ARENA_MAX: Final = -8
_ARENAS: Final = 2


def keep_flat() -> None:
    """Tell the C library's allocator; nothing where it is not glibc's."""
    if sys.platform != "linux":
        return
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD)
        mallopt(_M_ARENA_MAX, _ARENAS)
