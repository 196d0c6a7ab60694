"""The form in which a session holds what is heard: 48 kHz, two channels, in ticks of 20 ms."""

from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

SOUND_RATE: Final = 48_000  # Hz
CHANNELS: Final = 2
TICK_S: Final = 0.02  # WebRTC's packet: longer ones are played at the wrong speed by aiortc
TICK_SAMPLES: Final = 960

Sound: TypeAlias = NDArray[np.float32]
"""float32 (n, 2), from -1 to 1, at 48 kHz."""


class Intake(Protocol):
    """Where a session's sound comes from."""

    def pull(self, count: int, now: float) -> Sound:
        """The next samples.

        Args:
            count: how many, at 48 kHz.
            now: session seconds, rising from call to call.

        Returns:
            float32 (count, 2), always that many: silence where there is nothing.
        """
        ...


def as_sound(samples: NDArray[np.float32] | NDArray[np.int16]) -> Sound:
    """Samples in the session's form; the rate is the caller's matter.

    Args:
        samples: (n,) or (n, channels), floats in [−1, 1] or int16. One channel is doubled; of more
            than two the mean is taken for both.

    Returns:
        float32 (n, 2).

    Raises:
        ValueError: another shape or kind of number.
    """
    if samples.ndim not in (1, 2):
        raise ValueError(f"samples must be (n,) or (n, channels), not of shape {samples.shape}")
    if samples.dtype == np.int16:
        samples = samples.astype(np.float32) / np.float32(32768)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise ValueError(f"samples must be floats or int16, not {samples.dtype}")
    columns = (samples[:, None] if samples.ndim == 1 else samples).astype(np.float32)
    if columns.shape[1] != CHANNELS:
        columns = columns.mean(axis=1, keepdims=True)
    return np.repeat(columns, CHANNELS // columns.shape[1], axis=1)
