"""Where a sound holds speech: Silero's network, 32 ms at a time."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.voice_network import HOP_S, HOP_SAMPLES, VoiceNetwork

SILENT_PEAK: Final = 10 ** (-70 / 20)
"""Below this nothing is heard; a microphone's own noise is louder."""

# The network hears this many hops of a silence, about a second; then it is left out and keeps its
# state. Left out sooner, it takes noise for speech more readily; emptied by a reset instead, it
# misses whole words of quiet speech.
_SETTLE_HOPS: Final = 32


class Hop(NamedTuple):
    """What was heard in one hop; the arguments of ``Gate.heard_target`` in their order.

    Attributes:
        end_s: its end, in seconds since the first sample.
        length_s: its length in seconds.
        probability: of speech, 0..1.
    """

    end_s: float
    length_s: float
    probability: float


class VoiceActivity:
    """Says how probably each hop of a sound is speech.

    Silence beyond a second takes next to no time.
    An instance belongs to one sound and one thread.

    Raises:
        ConfigError: the package that brings the network is not installed.
    """

    def __init__(self) -> None:
        self._network = VoiceNetwork()
        self.reset()

    def reset(self, at_s: float = 0.0) -> None:
        """Forget what was heard; the next sample's time is ``at_s``."""
        self._network.reset()
        self._rest: NDArray[np.float32] = np.zeros(0, np.float32)
        self._start_s = at_s
        self._hops = 0
        self._silent = 0  # in a row

    def push(self, samples: NDArray[np.float32]) -> list[Hop]:
        """Take the next samples.

        Args:
            samples: float32 (n,), mono at 16 kHz in [−1, 1], any n; what is no number is silence.

        Returns:
            The hops that they complete, in order.

        Raises:
            ValueError: the samples are not one row.
        """
        if samples.ndim != 1:
            raise ValueError(f"samples must be one row (n,), not of shape {samples.shape}")
        clean = np.clip(np.nan_to_num(samples), -1.0, 1.0).astype(np.float32)
        sound = np.concatenate([self._rest, clean])
        whole = len(sound) // HOP_SAMPLES
        self._rest = sound[whole * HOP_SAMPLES :].copy()
        return [self._heard(hop) for hop in sound[: whole * HOP_SAMPLES].reshape(-1, HOP_SAMPLES)]

    def _heard(self, hop: NDArray[np.float32]) -> Hop:
        self._hops += 1
        return Hop(self._start_s + self._hops * HOP_S, HOP_S, self._probability(hop))

    def _probability(self, hop: NDArray[np.float32]) -> float:
        if float(np.abs(hop).max()) >= SILENT_PEAK:
            self._silent = 0
        elif self._silent == _SETTLE_HOPS:
            return 0.0
        else:
            self._silent += 1
        return self._network.probability(hop)
