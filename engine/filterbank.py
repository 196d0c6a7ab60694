"""The lip expert's hearing: log filterbanks as AV-HuBERT takes them, offline and as a stream.

16 kHz samples at the scale of 16-bit integers → 26 log energies every 10 ms (pre-emphasis 0.97,
25 ms without a window function, 512-point FFT, triangles between 0 and 8 kHz on the HTK mel
scale) → four steps in one row of 104 values, 25 rows a second → each row normalised by itself.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.mel import SAMPLE_RATE

FPS: Final = 25
STEP: Final = 160  # samples: 10 ms
WINDOW: Final = 400  # samples: 25 ms
BANDS: Final = 26
STACKED: Final = 4  # steps in a row
ROW_SAMPLES: Final = STEP * STACKED  # 640 samples: one row for a frame at 25 a second
ROW_TAIL: Final = WINDOW - STEP  # 240 samples that a row's last window reaches beyond its own
VALUES: Final = BANDS * STACKED  # 104

_FFT: Final = 512
_EMPHASIS: Final = 0.97
_SCALE: Final = 32_768.0  # the last row's missing step is 0, so the samples' scale is heard
_EPS: Final = 1e-5


@cache
def _triangles() -> NDArray[np.float64]:
    """Weights (26, 257) of the bands; HTK's mel scale, edges on whole bins."""
    top = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, BANDS + 2) / 2595) - 1)
    bins = np.floor((_FFT + 1) * edges / SAMPLE_RATE)
    weights = np.zeros((BANDS, _FFT // 2 + 1))
    for band in range(BANDS):
        left, middle, right = bins[band : band + 3]
        rising, falling = np.arange(left, middle), np.arange(middle, right)
        weights[band, rising.astype(int)] = (rising - left) / (middle - left)
        weights[band, falling.astype(int)] = (right - falling) / (right - middle)
    return weights


def _power(emphasised: NDArray[np.float64]) -> NDArray[np.float64]:
    """Power spectra (n, 257) of windows (n, 400)."""
    return np.square(np.abs(np.fft.rfft(emphasised, _FFT))) / _FFT


def _log(energies: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.log(np.where(energies == 0, np.finfo(np.float64).eps, energies))


def log_bands(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log energies (n, 26) of power spectra (n, 257)."""
    return _log(power @ _triangles().T)


def log_energy(power: NDArray[np.float64]) -> NDArray[np.float64]:
    """Log energies (n,) of whole power spectra (n, 257)."""
    return _log(power.sum(axis=1))


def _energies(emphasised: NDArray[np.float64]) -> NDArray[np.float32]:
    """Log energies (n, 26) of windows (n, 400)."""
    return log_bands(_power(emphasised)).astype(np.float32)


def _emphasised(samples: NDArray[np.float64], before: float | None) -> NDArray[np.float64]:
    """Pre-emphasis; the very first sample of a sound stays as it is."""
    first = samples[:1] if before is None else samples[:1] - _EMPHASIS * before
    return np.concatenate([first, samples[1:] - _EMPHASIS * samples[:-1]])


def log_filterbank(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Log energies of a whole sound, one row every 10 ms, the last window padded with zeros.

    Args:
        samples: float (n,), mono at 16 kHz in [−1, 1].

    Returns:
        float32 (m, 26), m = 1 + ceil((n − 400) / 160), at least 1.
    """
    return log_bands(power_spectra(samples)).astype(np.float32)


def power_spectra(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Power of a whole sound, one row every 10 ms, the last window padded with zeros.

    Args:
        samples: float (n,), mono at 16 kHz in [−1, 1].

    Returns:
        float64 (m, 257), m = 1 + ceil((n − 400) / 160), at least 1.
    """
    scaled = np.asarray(samples, np.float64) * _SCALE
    count = 1 if len(scaled) <= WINDOW else 1 + -(-(len(scaled) - WINDOW) // STEP)
    sound = _emphasised(scaled, None)
    padded = np.pad(sound, (0, max(0, (count - 1) * STEP + WINDOW - len(sound))))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP][:count]
    return _power(windows)


def stack(energies: NDArray[np.float32], rows: int | None = None) -> NDArray[np.float32]:
    """Four steps in a row, each row normalised: what the network takes.

    Args:
        energies: float32 (m, 26).
        rows: wanted; missing ones are zeros before they are normalised, more are cut off. By
            default as many as there are, the last filled up with zeros.

    Returns:
        float32 (rows, 104), mean 0 and variance 1 in each row.
    """
    whole = np.pad(energies, ((0, -len(energies) % STACKED), (0, 0))).reshape(-1, VALUES)
    if rows is not None:
        whole = np.pad(whole, ((0, max(0, rows - len(whole))), (0, 0)))[:rows]
    return normalise(whole)


def normalise(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Each row (n, 104) to mean 0 and variance 1."""
    mean = rows.mean(axis=1, keepdims=True)
    deviation = np.sqrt(rows.var(axis=1, keepdims=True) + _EPS)
    return np.asarray((rows - mean) / deviation, np.float32)


def audio_features(samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """What the lip expert hears of a clip, float32 (frames, 104); see :func:`stack`."""
    return stack(log_filterbank(samples), frames)


class FilterbankStream:
    """The same rows for a sound that arrives in packets, without end.

    Row i needs ``ROW_TAIL`` samples after its own; all rows but a finished clip's last are those of
    :func:`audio_features`, to the rounding of sums.
    """

    def __init__(self) -> None:
        self._sound = np.zeros(0)
        self._before: float | None = None
        self._steps = np.zeros((0, BANDS), np.float32)

    def push(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Take the next samples, float32 (n,), any n.

        Returns:
            float32 (m, 104), the rows that they complete.
        """
        if len(samples):
            scaled = np.asarray(samples, np.float64) * _SCALE
            self._sound = np.concatenate([self._sound, _emphasised(scaled, self._before)])
            self._before = float(scaled[-1])
        count = max(0, (len(self._sound) - WINDOW) // STEP + 1)
        if count:
            windows = np.lib.stride_tricks.sliding_window_view(self._sound, WINDOW)[::STEP]
            self._steps = np.concatenate([self._steps, _energies(windows[:count])])
            self._sound = self._sound[count * STEP :]
        whole = len(self._steps) // STACKED * STACKED
        rows, self._steps = self._steps[:whole], self._steps[whole:]
        return normalise(rows.reshape(-1, VALUES))
