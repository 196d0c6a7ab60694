"""Causal smoothing of measured positions: steady at rest, no visible lag in motion."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def _share(cutoff_hz: NDArray[np.float64] | float, step_s: float) -> NDArray[np.float64]:
    """Weight of the new value in a first-order low-pass of the given cut-off."""
    ratio = np.asarray(2 * math.pi * cutoff_hz * step_s)
    return np.asarray(ratio / (1 + ratio))


class OneEuro:
    """The one-euro filter (Casiez, Roussel, Vogel, CHI 2012) on a vector of values.

    The cut-off rises with the speed of each value, so noise is removed at rest, where it shows,
    and lag in motion, where that shows.
    """

    def __init__(
        self,
        *,
        rest_hz: float | NDArray[np.float64],
        gain: float,
        speed_hz: float = 2.0,
    ) -> None:
        """Make a filter that holds no value yet.

        Args:
            rest_hz: cut-off at rest, one for all values or one each.
            gain: how much the cut-off rises, in Hz per unit of value a second.
            speed_hz: cut-off of the speed's own estimate.
        """
        self._rest_hz = rest_hz
        self._gain = gain
        self._speed_hz = speed_hz
        self._last_s = 0.0
        self._raw: NDArray[np.float64] | None = None
        self._value = np.zeros(0)
        self._speed = np.zeros(0)

    def reset(self) -> None:
        """Forget everything: the next value is taken as it is."""
        self._raw = None

    def __call__(self, values: NDArray[np.float64], now: float) -> NDArray[np.float64]:
        """Take in the values measured at ``now`` (seconds, rising) and return them smoothed."""
        step_s = now - self._last_s
        if self._raw is None or step_s <= 0:
            self._value, self._speed = values.copy(), np.zeros_like(values)
        else:
            speed = (values - self._raw) / step_s
            self._speed = self._speed + _share(self._speed_hz, step_s) * (speed - self._speed)
            cutoff = self._rest_hz + self._gain * np.abs(self._speed)
            self._value = self._value + _share(cutoff, step_s) * (values - self._value)
        self._raw, self._last_s = values.copy(), now
        return self._value.copy()
