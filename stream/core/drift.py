"""Two clocks that do not agree: a rate that can be nudged, and what decides by how much."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.resample import to_mono
from stream.core.sound import CHANNELS, SOUND_RATE, Sound, as_sound
from stream.core.track import silence

MOST_PPM: Final = 1000.0
"""Largest correction: 1.7 cents; five are heard at best."""

SLEW_PPM_PER_S: Final = 200.0
"""Fastest change of the correction: 0.35 cents a second."""

LOWEST_RATE: Final = 4_000
HIGHEST_RATE: Final = 384_000

# A critically damped loop. A clock that is off by 200 ppm moves the level by
# 200e-6 / (e · 0.05) = 1.5 ms before the loop has learned it.
_SPEED = 0.05  # rad/s
_PROPORTIONAL, _INTEGRAL = 2 * _SPEED, _SPEED**2  # 1/s and 1/s²
_LONGEST_S = 0.5  # that one report can stand for
_FILTER_S = 2.0  # far above the rhythm of packets, far below 1 / _SPEED

_HEADROOM = 1.01  # soxr must know the highest ratio at the start; at the very edge it distorts
_PROBE_S = 0.2


class DriftServo:
    """Keeps the level of a buffer at a target by the rate at which it is filled.

    Packets come and go in steps, so what is controlled is the level's mean over time: report the
    level at every step, just before it. Then the phase of the packets does not matter.

    Args:
        target_s: the level wanted, in seconds.
        most_ppm: the largest correction.

    Attributes:
        target_s: may be changed at any time.
    """

    def __init__(self, target_s: float, *, most_ppm: float = MOST_PPM) -> None:
        self.target_s = target_s
        self._most = most_ppm * 1e-6
        self.reset()

    def reset(self) -> None:
        """Forget everything: another clock follows."""
        self._level_s = self.target_s
        self._seen: float | None = None
        self._learned = 0.0  # how much faster the source is
        self._excess = 0.0  # ratio − 1

    @property
    def level_s(self) -> float:
        """The level's mean over the last seconds."""
        return self._level_s

    @property
    def ppm(self) -> float:
        """The correction now; positive where the source is fast."""
        return self._excess * 1e6

    def start(self, level_s: float, now: float) -> None:
        """The level begins anew here, after a cut or a pause; what was learned is kept."""
        self._level_s, self._seen = level_s, now

    def update(self, level_s: float, now: float) -> float:
        """Learn from the level that held since the last call.

        Args:
            level_s: seconds of sound in the buffer, before it changes at ``now``.
            now: session seconds; a step back counts as no time.

        Returns:
            How many seconds of the source's sound to take for one of the session's, close to 1.
        """
        elapsed = 0.0 if self._seen is None else min(max(now - self._seen, 0.0), _LONGEST_S)
        self._seen = now if self._seen is None else max(now, self._seen)
        if elapsed:
            share = 1 - math.exp(-elapsed / _FILTER_S)
            self._level_s += share * (level_s - self._level_s)
            error = self._level_s - self.target_s
            wanted = self._learned + _PROPORTIONAL * error
            if abs(wanted) < self._most or wanted * error < 0:  # does not wind up at the bound
                learned = self._learned + _INTEGRAL * error * elapsed
                self._learned = min(max(learned, -self._most), self._most)
            wanted = min(max(wanted, -self._most), self._most)
            step = SLEW_PPM_PER_S * 1e-6 * elapsed
            self._excess += min(max(wanted - self._excess, -step), step)
        return 1 + self._excess


class VariableRate:
    """A sound that arrives in packets, converted to the session's form at a rate that can vary.

    Any packets give the same sound. It is soxr's variable-rate mode: artefacts below −95 dB, even
    output (no lumps), and 240 samples of the source held back up to 48 kHz.

    Args:
        rate: nominal rate of the source in Hz.
        channels: 1, or more, which are treated as in :func:`as_sound`.

    Raises:
        ValueError: no channel, or a rate that no sound has.
    """

    def __init__(self, rate: int, channels: int) -> None:
        if channels < 1 or not LOWEST_RATE <= rate <= HIGHEST_RATE:
            raise ValueError(
                f"sound needs a channel and {LOWEST_RATE} to {HIGHEST_RATE} Hz,"
                f" not {channels} at {rate} Hz"
            )
        self._rate, self.channels = rate, channels
        self._stream = self._fresh()

    @cached_property
    def delay_s(self) -> float:
        """Seconds of sound that are held back."""
        probe = np.zeros((round(_PROBE_S * self._rate), min(self.channels, 2)), np.float32)
        given = len(self._fresh().resample_chunk(probe))
        return len(probe) / self._rate - given / SOUND_RATE

    def reset(self) -> None:
        """Another sound follows."""
        self._stream = self._fresh()

    def set_ratio(self, ratio: float) -> None:
        """How much faster than nominal the source is, 0.99 to 1.01; for what is pushed next."""
        self._stream.set_io_ratio(self._rate * ratio, SOUND_RATE, 0)

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16]) -> Sound:
        """Take the next samples and give what they complete.

        Args:
            samples: (n,) or (n, channels), floats in [−1, 1] or int16, any n. NaN is silence.

        Returns:
            float32 (m, 2) at 48 kHz, in [−1, 1].

        Raises:
            ValueError: another number of channels or kind of number.
        """
        found = samples.shape[1] if samples.ndim == 2 else 1
        if found != self.channels:
            raise ValueError(f"samples have {found} channels, not {self.channels}")
        if not len(samples):
            return silence(0)
        values = to_mono(samples)[:, None] if self.channels == 1 else as_sound(samples)
        return self._convert(values, last=False)

    def finish(self) -> Sound:
        """What was held back, float32 (m, 2); then :meth:`reset` before more is pushed."""
        return self._convert(np.zeros((0, min(self.channels, 2)), np.float32), last=True)

    def _convert(self, values: NDArray[np.float32], *, last: bool) -> Sound:
        values = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=-1.0)
        converted: NDArray[np.float32] = self._stream.resample_chunk(values, last=last)
        return np.repeat(np.clip(converted, -1, 1), CHANNELS // converted.shape[1], axis=1)

    def _fresh(self) -> soxr.ResampleStream:
        channels = min(self.channels, 2)
        stream = soxr.ResampleStream(
            self._rate * _HEADROOM, SOUND_RATE, channels, dtype="float32", vr=True
        )
        stream.set_io_ratio(self._rate, SOUND_RATE, 0)
        return stream
