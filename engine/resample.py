"""Sample rate conversion to mono, whole or as a stream (SoX resampler, high quality)."""

from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray


def to_mono(samples: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
    """The mean of the channels, integers scaled to [−1, 1).

    Args:
        samples: (n,) or (n, channels); floats in [−1, 1] or int16.

    Returns:
        float32 (n,).

    Raises:
        ValueError: another shape or kind of number.
    """
    if samples.ndim not in (1, 2):
        raise ValueError(f"samples must be (n,) or (n, channels), not of shape {samples.shape}")
    if samples.dtype == np.int16:
        scale = np.float32(1 / 32768)
    elif np.issubdtype(samples.dtype, np.floating):
        scale = np.float32(1)
    else:
        raise ValueError(f"samples must be floats or int16, not {samples.dtype}")
    mono = samples if samples.ndim == 1 else samples.mean(axis=1, dtype=np.float32)
    return mono.astype(np.float32) * scale


class Resampler:
    """Converts a sound that arrives in packets to mono at another rate.

    Whatever the packets' sizes, the joined output is that of :func:`resample` for the whole
    sound; its length is N · out_rate / in_rate. At equal rates samples pass at once; otherwise
    the filter holds back some milliseconds until :meth:`finish`.

    Args:
        in_rate: Hz of what is pushed.
        out_rate: Hz of what comes out.
        channels: channels of what is pushed.

    Raises:
        ValueError: a rate or a channel count below 1.
    """

    def __init__(self, in_rate: int, out_rate: int, channels: int = 1) -> None:
        if min(in_rate, out_rate, channels) < 1:
            raise ValueError("rates and channels must be at least 1")
        self._channels = channels
        self._finished = False
        self._stream: soxr.ResampleStream | None = None
        if in_rate != out_rate:
            self._stream = soxr.ResampleStream(in_rate, out_rate, 1, dtype="float32")

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16]) -> NDArray[np.float32]:
        """Takes the next samples and gives what they complete.

        Args:
            samples: (n, channels), or (n,) for one channel; floats in [−1, 1] or int16; any n.

        Returns:
            float32 mono (m,).

        Raises:
            ValueError: samples of another shape or kind, or the stream is finished.
        """
        if self._finished:
            raise ValueError("the resampler is finished; start a new one")
        found = samples.shape[1] if samples.ndim == 2 else 1
        if found != self._channels:
            raise ValueError(f"samples have {found} channels, the resampler {self._channels}")
        return self._convert(to_mono(samples), last=False)

    def finish(self) -> NDArray[np.float32]:
        """Ends the sound and gives the rest, float32 mono (m,).

        Raises:
            ValueError: the stream is already finished.
        """
        if self._finished:
            raise ValueError("the resampler is finished; start a new one")
        self._finished = True
        return self._convert(np.zeros(0, np.float32), last=True)

    def _convert(self, mono: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._stream is None or (not mono.size and not last):
            return mono
        converted: NDArray[np.float32] = self._stream.resample_chunk(mono, last=last)
        return converted


def resample(
    samples: NDArray[np.float32] | NDArray[np.int16], in_rate: int, out_rate: int
) -> NDArray[np.float32]:
    """A whole sound, mixed to mono, at another rate.

    Args:
        samples: (N,) or (N, channels); floats in [−1, 1] or int16.
        in_rate: Hz of ``samples``.
        out_rate: Hz of the result.

    Returns:
        float32 mono (N · out_rate / in_rate,).

    Raises:
        ValueError: samples of another shape or kind, or a rate below 1.
    """
    converter = Resampler(in_rate, out_rate, samples.shape[1] if samples.ndim == 2 else 1)
    parts: Sequence[NDArray[np.float32]] = converter.push(samples), converter.finish()
    return np.concatenate(parts)
