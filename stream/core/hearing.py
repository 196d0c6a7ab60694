"""What the generator and the gate learn from sound, tick by tick."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.mel import (
    SAMPLE_RATE,
    SILENCE,
    MelSettings,
    MelStream,
    WindowPlacement,
    cut_windows,
)
from engine.resample import Resampler, to_mono
from stream.core.sound import CHANNELS, SOUND_RATE, Sound
from stream.core.voice import Hop, VoiceActivity

_KEPT_S: Final = 6.0  # of mel columns: more than the longest delay


class Hearing:
    """The 16 kHz copy of the target sound, and its mel columns of the last seconds.

    Args:
        settings: the bundle's.
        placement: the bundle's.
    """

    def __init__(self, settings: MelSettings, placement: WindowPlacement) -> None:
        self._placement = placement
        self._resampler = Resampler(SOUND_RATE, settings.sample_rate)
        self._stream = MelStream(settings)
        self._kept = np.zeros((settings.bands, 0), np.float32)
        self._most = round(_KEPT_S * settings.sample_rate / settings.hop)
        self.columns = 0
        """Mel columns so far, counted from the session's start."""

    def hear(self, block: Sound) -> NDArray[np.float32]:
        """Take the next target sound.

        Args:
            block: float32 (n, 2) at 48 kHz.

        Returns:
            float32 (m,), what it gave of the mono copy at the bundle's rate.
        """
        mono = self._resampler.push(to_mono(block))
        fresh = self._stream.push(mono)
        if fresh.shape[1]:
            self.columns += fresh.shape[1]
            self._kept = np.concatenate([self._kept, fresh], axis=1)[:, -self._most :]
        return mono

    def windows(self, pts: Sequence[float], amounts: Sequence[float]) -> NDArray[np.float32]:
        """The mel windows of pictures.

        Args:
            pts: session seconds of each.
            amounts: how much each hears of the sound, 0..1; at 0 it hears silence.

        Returns:
            float32 (n, 1, bands, columns of a window).
        """
        first = self.columns - self._kept.shape[1]
        starts = [self._placement.first_column(time) - first for time in pts]
        windows = cut_windows(self._kept, starts, self._placement.columns)
        share = np.asarray(amounts, np.float32).reshape(-1, 1, 1, 1)
        return np.asarray(SILENCE + share * (windows - SILENCE), dtype=np.float32)


class VoiceHearing:
    """Where a speaker's own voice sounds.

    Args:
        at_s: the time of the first sample that is heard.

    Attributes:
        mono: float32 (m,), the 16 kHz copy of what was heard last.

    Raises:
        ConfigError: the package that brings the network is missing.
    """

    def __init__(self, at_s: float = 0.0) -> None:
        self._copy = Resampler(SOUND_RATE, SAMPLE_RATE, CHANNELS)
        self._activity = VoiceActivity()
        self._activity.reset(at_s)
        self.mono: NDArray[np.float32] = np.zeros(0, np.float32)

    def hear(self, block: Sound) -> list[Hop]:
        """Take the next sound, float32 (n, 2) at 48 kHz; the hops that it completes."""
        self.mono = self._copy.push(block)
        return self._activity.push(self.mono)
