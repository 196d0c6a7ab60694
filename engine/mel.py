"""Mel spectrograms as Wav2Lip's networks hear them, whole or as a stream, and where windows lie.

16 kHz mono in, 80 columns a second out. Pre-emphasis, centred STFT (periodic Hann, reflected at
both ends), magnitude, Slaney mel bands, decibels, and a linear map of [−100, 0] dB (relative to
the reference level) to [−4, 4].
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, sparse

from engine.errors import BundleError

SAMPLE_RATE = 16_000  # Hz
HOP = 200  # samples from one column to the next: 12.5 ms
WINDOW = 800  # samples under one column: 50 ms
BANDS = 80
COLUMNS = 16  # columns the generator sees for one frame: 200 ms
SILENCE = -4.0  # the value of every band where nothing sounds

COLUMNS_PER_S, _REMAINDER = divmod(SAMPLE_RATE, HOP)
if _REMAINDER:
    raise AssertionError("HOP must divide SAMPLE_RATE: columns are counted as whole numbers")

_BLOCK = 256  # columns transformed at once: bounds the memory of long recordings
_EPSILON = 1e-6  # columns; far above the noise of float seconds, far below any real distance


@dataclass(frozen=True, kw_only=True, slots=True)
class MelSettings:
    """How samples become columns; the defaults are Wav2Lip's.

    Attributes:
        sample_rate: Hz.
        n_fft: samples under one column, even.
        hop: samples from one column to the next, less than half of ``n_fft``.
        bands: mel bands, the height of a column.
        fmin_hz: lower edge of the lowest band.
        fmax_hz: upper edge of the highest band.
        pre_emphasis: share of the previous sample that is taken off each sample.
        min_level_db: level that maps to ``−max_abs``, relative to ``ref_level_db``.
        ref_level_db: level that maps to ``max_abs``.
        max_abs: bound of the output.

    Raises:
        ValueError: values that fit no transform.
    """

    sample_rate: int = SAMPLE_RATE
    n_fft: int = WINDOW
    hop: int = HOP
    bands: int = BANDS
    fmin_hz: float = 55.0
    fmax_hz: float = 7600.0
    pre_emphasis: float = 0.97
    min_level_db: float = -100.0
    ref_level_db: float = 20.0
    max_abs: float = 4.0

    def __post_init__(self) -> None:
        if self.n_fft % 2 or not 0 < self.hop < self.n_fft // 2:
            raise ValueError("n_fft must be even and more than twice the hop")
        if self.bands < 1 or not 0 <= self.fmin_hz < self.fmax_hz <= self.sample_rate / 2:
            raise ValueError("the bands must lie between 0 Hz and half the sample rate")
        if self.min_level_db >= 0 or self.max_abs <= 0:
            raise ValueError("min_level_db must be negative and max_abs positive")

    def to_dict(self) -> dict[str, float]:
        """The settings as JSON can hold them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The settings that a bundle's description holds.

        Raises:
            BundleError: a field is missing, unknown or not a fitting number.
        """
        return cls(**_checked_fields(cls, values, "audio feature settings"))


DEFAULT_SETTINGS = MelSettings()


@dataclass(frozen=True, slots=True)
class WindowPlacement:
    """Which mel columns belong to a frame.

    The exact place is ``(time_s + start_s) · COLUMNS_PER_S``. ``"nearest"`` takes the nearest
    whole column, halves up; ``"floor"`` the column at or before it. Both first add 1e-6 of a
    column, so that 0.35 s · 80, which is 27.999… in floats, is column 28.

    Attributes:
        start_s: where the window starts, in seconds relative to the frame's time.
        columns: width of the window.
        rounding: how a place between two columns becomes a column.
    """

    start_s: float
    columns: int = COLUMNS
    rounding: Literal["nearest", "floor"] = "nearest"

    def __post_init__(self) -> None:
        if not math.isfinite(self.start_s) or self.columns < 1:
            raise ValueError("a window needs a finite start and at least one column")
        if self.rounding not in ("nearest", "floor"):
            raise ValueError(f"rounding is 'nearest' or 'floor', not {self.rounding!r}")

    def first_column(self, time_s: float) -> int:
        """The first column (negative before the sound's start) of the frame at ``time_s``."""
        place = (time_s + self.start_s) * COLUMNS_PER_S + _EPSILON
        return math.floor(place + 0.5 if self.rounding == "nearest" else place)

    @property
    def lookahead_s(self) -> float:
        """Seconds of sound after a frame's time that its window may need, at most; never below 0.

        Counts half an STFT window after the last column's centre and, for ``"nearest"``, the half
        column by which the window can move on.
        """
        slack = 0.5 if self.rounding == "nearest" else 0.0
        last = self.start_s + (self.columns - 1 + slack) / COLUMNS_PER_S
        return max(0.0, last + WINDOW / 2 / SAMPLE_RATE)

    def to_dict(self) -> dict[str, float | str]:
        """The placement as JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> Self:
        """The placement that a bundle's description holds.

        Raises:
            BundleError: a field is missing, unknown or of the wrong kind.
        """
        return cls(**_checked_fields(cls, values, "mel window placement"))


class MelStream:
    """Columns of a sound that arrives in packets.

    Whatever the packets' sizes, the columns are those that :func:`log_mel` gives for the whole
    sound. A column leaves once half an STFT window after its centre has arrived (the very first
    one needs one sample more). The state is less than one STFT window of samples.
    """

    def __init__(self, settings: MelSettings = DEFAULT_SETTINGS) -> None:
        self._settings = settings
        self._half = settings.n_fft // 2
        self._previous = 0.0  # last raw sample, for the pre-emphasis
        self._received = 0  # samples
        self._columns = 0  # given out so far
        self._kept = np.zeros(0)  # emphasised samples from the start of the next column on
        self._reflected = False  # whether the reflection before sample 0 is in place
        self._finished = False

    def push(self, samples: ArrayLike) -> NDArray[np.float32]:
        """Takes the next samples and gives the columns that they complete.

        Args:
            samples: (N,) numbers in [−1, 1], any N.

        Returns:
            float32 (bands, n), n ≥ 0, in [−max_abs, max_abs].

        Raises:
            ValueError: the samples are not one row, or the stream is finished.
        """
        if self._finished:
            raise ValueError("the mel stream is finished; start a new one")
        values = np.asarray(samples, dtype=np.float64)
        if values.ndim != 1:
            raise ValueError(f"samples must be one row (N,), not of shape {values.shape}")
        self._append(values)
        self._received += values.size
        if not self._reflected:
            return np.zeros((self._settings.bands, 0), np.float32)
        ready = (self._kept.size - self._settings.n_fft) // self._settings.hop + 1
        return self._give(max(0, ready))

    def finish(self) -> NDArray[np.float32]:
        """Ends the sound and gives the columns still due: 1 + N // hop in all.

        Returns:
            float32 (bands, n).

        Raises:
            ValueError: the stream is already finished.
        """
        if self._finished:
            raise ValueError("the mel stream is finished; start a new one")
        self._finished = True
        if not self._reflected:
            self._append(np.zeros(self._half + 1 - self._received))
        self._kept = np.concatenate([self._kept, self._kept[-2 : -2 - self._half : -1]])
        return self._give(1 + self._received // self._settings.hop - self._columns)

    def _append(self, values: NDArray[np.float64]) -> None:
        if not values.size:
            return
        before = np.concatenate([[self._previous], values[:-1]])
        emphasised = values - self._settings.pre_emphasis * before
        self._previous = float(values[-1])
        self._kept = np.concatenate([self._kept, emphasised])
        if not self._reflected and self._kept.size > self._half:
            self._kept = np.concatenate([self._kept[self._half : 0 : -1], self._kept])
            self._reflected = True

    def _give(self, count: int) -> NDArray[np.float32]:
        columns = _columns(self._kept, count, self._settings)
        self._kept = self._kept[count * self._settings.hop :].copy()
        self._columns += count
        return columns


def log_mel(samples: ArrayLike, settings: MelSettings = DEFAULT_SETTINGS) -> NDArray[np.float32]:
    """The normalised log-mel spectrogram of a whole sound.

    Column c is centred on sample ``c · hop``. A sound of at most half an STFT window is too short
    to be reflected and counts as followed by silence.

    Args:
        samples: (N,) numbers in [−1, 1] at the settings' sample rate, any N.
        settings: the transform.

    Returns:
        float32 (bands, 1 + N // hop) in [−max_abs, max_abs].

    Raises:
        ValueError: the samples are not one row.
    """
    stream = MelStream(settings)
    return np.concatenate([stream.push(samples), stream.finish()], axis=1)


def cut_windows(
    mel: NDArray[np.float32], first_columns: Sequence[int] | NDArray[np.int_], width: int = COLUMNS
) -> NDArray[np.float32]:
    """The mel windows that start at the given columns.

    Args:
        mel: float32 (bands, columns).
        first_columns: n whole numbers; columns before 0 or after the end are silence.
        width: columns of one window.

    Returns:
        float32 (n, 1, bands, width).
    """
    starts = np.asarray(first_columns, dtype=np.int64).reshape(-1, 1)
    index = starts + np.arange(width)  # (n, width)
    windows = np.full((len(starts), 1, len(mel), width), SILENCE, np.float32)
    row, place = np.nonzero((index >= 0) & (index < mel.shape[1]))
    windows[row, 0, :, place] = mel[:, index[row, place]].T
    return windows


def _columns(padded: NDArray[np.float64], count: int, settings: MelSettings) -> NDArray[np.float32]:
    """The first ``count`` columns of emphasised samples; column c covers [c·hop, c·hop + n_fft)."""
    result = np.empty((settings.bands, count), np.float32)
    if not count:
        return result
    window, basis = _transform(settings)
    frames = np.lib.stride_tricks.sliding_window_view(padded, settings.n_fft)[:: settings.hop]
    floor = 10.0 ** (settings.min_level_db / 20)
    scale = 2 * settings.max_abs / -settings.min_level_db
    for start in range(0, count, _BLOCK):
        stop = min(start + _BLOCK, count)
        spectrum = fft.rfft(frames[start:stop] * window, axis=1)  # (n, n_fft / 2 + 1)
        # A sparse product adds the bins of a column in one order however many columns there are,
        # which a BLAS product does not: this keeps stream and whole identical to the last bit.
        bands = basis @ np.ascontiguousarray(np.abs(spectrum).T)  # (bands, n)
        level_db = 20 * np.log10(np.maximum(floor, bands)) - settings.ref_level_db
        normal = (level_db - settings.min_level_db) * scale - settings.max_abs
        result[:, start:stop] = np.clip(normal, -settings.max_abs, settings.max_abs)
    return result


@lru_cache(maxsize=8)
def _transform(settings: MelSettings) -> tuple[NDArray[np.float64], Any]:
    """The periodic Hann window (n_fft,) and the sparse mel basis (bands, n_fft / 2 + 1)."""
    phase = 2 * np.pi * np.arange(settings.n_fft) / settings.n_fft
    return 0.5 - 0.5 * np.cos(phase), sparse.csr_array(mel_basis(settings))


def mel_basis(settings: MelSettings = DEFAULT_SETTINGS) -> NDArray[np.float64]:
    """Triangular mel bands over the FFT bins: Slaney's scale, each band of unit area in Hz.

    Returns:
        float64 (bands, n_fft / 2 + 1), weights ≥ 0.
    """
    ends = _hz_to_mel(settings.fmin_hz), _hz_to_mel(settings.fmax_hz)
    edges = _mel_to_hz(np.linspace(*ends, settings.bands + 2))
    bins = np.arange(settings.n_fft // 2 + 1) * (settings.sample_rate / settings.n_fft)
    low, centre, high = (edges[i : i + settings.bands, None] for i in range(3))
    rising = (bins - low) / (centre - low)
    falling = (high - bins) / (high - centre)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    basis: NDArray[np.float64] = triangles * (2 / (high - low))
    return basis


# Slaney's scale (Auditory Toolbox): linear up to 1 kHz, logarithmic above.
_HZ_PER_MEL = 200 / 3
_KNEE_HZ = 1000.0
_KNEE_MEL = _KNEE_HZ / _HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


def _hz_to_mel(hz: float) -> float:
    if hz < _KNEE_HZ:
        return hz / _HZ_PER_MEL
    return _KNEE_MEL + math.log(hz / _KNEE_HZ) / _LOG_STEP


def _mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    above = _KNEE_HZ * np.exp(_LOG_STEP * (mel - _KNEE_MEL))
    return np.where(mel < _KNEE_MEL, mel * _HZ_PER_MEL, above)


_ACCEPTED: dict[Any, tuple[type, ...]] = {int: (int,), float: (int, float)}


def _checked_fields(cls: type, values: Mapping[str, object], what: str) -> dict[str, Any]:
    """``values`` once they name every field of ``cls``, nothing else, and fit its types."""
    remedy = "export the bundle again with this version"
    types: dict[str, Any] = {field.name: field.type for field in fields(cls)}
    if missing := types.keys() - values.keys():
        raise BundleError(f"The bundle's {what} lack {min(missing)!r}; {remedy}.")
    if unknown := values.keys() - types.keys():
        raise BundleError(f"The bundle's {what} hold an unknown {min(unknown)!r}; {remedy}.")
    for name, kind in types.items():
        value = values[name]
        accepted = _ACCEPTED.get(kind, (str,))
        if isinstance(value, bool) or not isinstance(value, accepted):
            raise BundleError(f"The bundle's {what} hold {name} = {value!r}; {remedy}.")
    try:
        cls(**values)
    except ValueError as error:
        raise BundleError(f"The bundle's {what} do not fit ({error}); {remedy}.") from error
    return dict(values)
