"""How long the generator takes for a batch, by its size: a moving estimate of what was measured.

Engines of fixed shapes fill a batch up to the next of their sizes, so a batch costs what that size
costs. Pure: it reads no clock.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

WEIGHT: Final = 0.2
"""Of a new measurement in the estimate."""
MOST_GROWTH: Final = 4.0
"""A step that took longer counts as so many times the estimate: it was most likely a pause of the
machine. Where it was not, the next few steps say the same."""
STALE_S: Final = 10.0
"""The estimate of a size that was not run for so long follows those that are run: the device
became faster or slower as a whole."""


class StepTimes:
    """Seconds of a step for each size of a batch.

    Args:
        measured: frames of a batch, from 1, to the seconds that a step of it takes; at least one.
        now: when they were measured, seconds of a monotonic clock.

    Raises:
        ValueError: there is none, or one is no time.
    """

    def __init__(self, measured: Mapping[int, float], *, now: float = 0.0) -> None:
        if not measured or min(measured) < 1 or not all(0 < s < 3600 for s in measured.values()):
            raise ValueError(f"step times must be seconds for sizes from 1, not {dict(measured)}")
        self.sizes = tuple(sorted(measured))
        self._seconds = {size: measured[size] for size in self.sizes}
        self._run_s = dict.fromkeys(self.sizes, now)

    @property
    def largest(self) -> int:
        """Frames of the largest batch."""
        return self.sizes[-1]

    def measured(self) -> dict[int, float]:
        """Return the estimate of each size."""
        return dict(self._seconds)

    def seconds(self, frames: int) -> float:
        """Return how long a batch of so many frames takes, from 1; several steps if need be."""
        steps, rest = divmod(frames, self.largest)
        return steps * self._seconds[self.largest] + (
            self._seconds[self._size(rest)] if rest else 0
        )

    def learn(self, frames: int, seconds: float, now: float) -> None:
        """Take a measurement.

        Args:
            frames: of the batch; one that is larger than all sizes says nothing.
            seconds: that its step took.
            now: when it ended.
        """
        if frames > self.largest:
            return
        size = self._size(frames)
        known = self._seconds[size]
        if frames < size and seconds < known:  # engines of free shapes take less for less
            return
        self._run_s[size] = now
        change = 1 + WEIGHT * (min(max(seconds, 1e-6) / known, MOST_GROWTH) - 1)
        for each in self.sizes:
            if each == size or now - self._run_s[each] > STALE_S:
                self._seconds[each] *= change

    def _size(self, frames: int) -> int:
        return self.sizes[bisect_left(self.sizes, frames)]
