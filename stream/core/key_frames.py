"""When an encoder makes a key frame: on request, but not for every request."""

from __future__ import annotations

import math
from typing import Final

LEAST_APART_S: Final = 1.0
"""A key frame takes the bits of about ten others, and one serves all viewers: those who ask in
between wait."""


class KeyFrames:
    """The key frames of one encoder. The first picture is one.

    Args:
        least_apart_s: from one to the next, in seconds.
    """

    def __init__(self, least_apart_s: float = LEAST_APART_S) -> None:
        self._least_apart_s = least_apart_s
        self._wanted = True
        self._last = -math.inf

    def ask(self) -> None:
        """Want one as soon as it may be; any number of requests is one."""
        self._wanted = True

    def due(self, now: float) -> bool:
        """Whether the picture that is encoded now has to be one; if so, it counts as made.

        Args:
            now: monotonic seconds.
        """
        if not self._wanted or now - self._last < self._least_apart_s:
            return False
        self._wanted = False
        self._last = now
        return True
