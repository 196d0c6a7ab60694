"""The added delay of a session: fixed, unless chunks keep coming late or very early."""

import math
from collections import deque
from typing import Final

from stream.core.sound import TICK_S

START_S: Final = 0.4
LEAST_S: Final = 0.3
MOST_S: Final = 1.0

_REMEMBERED = 150  # chunks: half a minute of speech
_ENOUGH = 25  # chunks, five seconds, before the first change
_QUANTILE = 0.99
_MARGIN_S = 0.02  # between a chunk's end and the first of its pictures leaving
_SPARE_S = 0.12  # as long as this much more is left over, the delay may shrink
_RISE_TICKS, _FALL_TICKS = 2, 1


class Delay:
    """Decides how long pictures and sound are held; in whole ticks of 20 ms.

    Args:
        start_s: the delay to begin with.
        adapt: whether it may change at all.
        least_s: it never shrinks below.
    """

    def __init__(
        self, start_s: float = START_S, *, adapt: bool = True, least_s: float = LEAST_S
    ) -> None:
        self.ticks = math.ceil(start_s / TICK_S - 1e-6)
        self._adapt = adapt
        self._least_s = least_s
        self._needed: deque[float] = deque(maxlen=_REMEMBERED)

    @property
    def seconds(self) -> float:
        """The delay now."""
        return self.ticks * TICK_S

    def painted(self, needed_s: float) -> None:
        """A chunk was painted this long after its first picture was taken."""
        self._needed.append(needed_s)

    def arrived(self, after_s: float) -> None:
        """A picture that is not to be painted was there this long after it was taken."""
        self._needed.append(after_s)

    def change(self) -> int:
        """Move by one small step if it is due; to be asked only while nothing sounds.

        Returns:
            By how many ticks the delay has just grown; negative where it shrank.
        """
        if not self._adapt or len(self._needed) < _ENOUGH:
            return 0
        ordered = sorted(self._needed)
        needed_s = ordered[min(int(_QUANTILE * len(ordered)), len(ordered) - 1)] + _MARGIN_S
        step = 0
        if needed_s > self.seconds and self.seconds < MOST_S:
            step = _RISE_TICKS
        elif (
            len(self._needed) == _REMEMBERED
            and needed_s + _SPARE_S < self.seconds
            and self.seconds > self._least_s
        ):
            step = -_FALL_TICKS
        if step:
            self.ticks += step
            self._needed.clear()
        return step
