"""Quantiles of any number of values, in memory that does not grow."""

import math

import numpy as np


class Quantiles:
    """Counts values in bins of one width, from ``low`` to ``high``.

    Args:
        low: the least value that is told apart.
        high: the largest one.
        step: width of a bin: quantiles of values from low to high are this exact. A quantile that
            lies beyond is the least or the largest value of all.

    Raises:
        ValueError: there would be no bin.
    """

    def __init__(self, low: float, high: float, step: float) -> None:
        if not (step > 0 and high > low):
            raise ValueError(f"no bins of {step} between {low} and {high}")
        self._low, self._step = low, step
        self._bins = np.zeros(math.ceil((high - low) / step - 1e-9) + 2, np.int64)  # ends: beyond
        self._count = 0
        self._least, self._most = math.inf, -math.inf

    @property
    def count(self) -> int:
        """Values so far; those that are not finite do not count."""
        return self._count

    @property
    def max(self) -> float | None:
        """The largest value, exactly; None where there is none."""
        return self._most if self._count else None

    def add(self, value: float) -> None:
        """Take a value; one that is not finite is left out."""
        if not math.isfinite(value):
            return
        place = math.floor((value - self._low) / self._step) + 1
        self._bins[min(max(place, 0), len(self._bins) - 1)] += 1
        self._count += 1
        self._least = min(self._least, value)
        self._most = max(self._most, value)

    def quantile(self, q: float) -> float | None:
        """The least value that a share ``q`` of all values does not exceed.

        Args:
            q: 0..1.

        Returns:
            Off by at most ``step``; None where there is no value.

        Raises:
            ValueError: q is beyond 0..1.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"a quantile is 0..1, not {q}")
        if not self._count:
            return None
        rank = max(1, math.ceil(q * self._count - 1e-9))
        place = int(np.searchsorted(np.cumsum(self._bins), rank))
        if place == 0:
            return self._least
        if place == len(self._bins) - 1:
            return self._most
        middle = self._low + (place - 0.5) * self._step
        return min(max(middle, self._least), self._most)

    def reset(self) -> None:
        """Forget every value."""
        self._bins[:] = 0
        self._count = 0
        self._least, self._most = math.inf, -math.inf
