"""What is heard at a sink: the target sound, and the speaker's own voice where wanted, delayed."""

from __future__ import annotations

from typing import Final

import numpy as np

from stream.core.delay import Delay
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.core.track import SoundTrack

QUIET_LEVEL: Final = 0.003
"""Peak below which nothing sounds: minus 50 dB of full scale."""

_RISE = np.linspace(0, 1, TICK_SAMPLES, endpoint=False, dtype=np.float32)[:, None]


class SoundPump:
    """Takes the sound of each tick and gives each sink the block that is due there.

    A block whose place changes against the last one (another delay, trim or lead) is cross-faded,
    so that nothing clicks.

    Args:
        delay: the session's.
        own_voice: whether the speaker's own voice is heard.

    Attributes:
        own_voice: may be switched at any time; it fades within a tick.
        trim_s: how much later than the picture the sound leaves, ≥ 0.
    """

    def __init__(self, delay: Delay, *, own_voice: bool) -> None:
        self._delay = delay
        self._target, self._voice = SoundTrack(), SoundTrack()
        self.own_voice = own_voice
        self.trim_s = 0.0
        self._gains = (float(own_voice), float(own_voice))  # at the tick's start and end
        self._places: dict[object, int] = {}  # sink → samples that it lies behind the newest

    def take(self, target: Sound, voice: Sound) -> None:
        """The sound that came in during the tick that ends now.

        Args:
            target: float32 (960, 2).
            voice: float32 (960, 2), the speaker's.
        """
        self._target.append(target)
        self._voice.append(voice)
        self._gains = (self._gains[1], float(self.own_voice))

    def quiet(self) -> bool:
        """Whether nothing sounds around what leaves now, as far as the delay may change."""
        around = 2 * TICK_SAMPLES
        start = self._target.end - self._behind(0.0) - around
        return (
            self._target.level(start, 2 * around) < QUIET_LEVEL
            and self._gains[1] * self._voice.level(start, 2 * around) < QUIET_LEVEL
        )

    def give(self, sink: object, lead_s: float) -> tuple[Sound, float]:
        """The block that a sink gets in this tick; to be asked once a tick for each sink.

        Args:
            sink: anything hashable that stands for it.
            lead_s: how long before it is due the sink wants the sound, in seconds.

        Returns:
            float32 (960, 2), and when its first sample came in, in session seconds.
        """
        behind = self._behind(lead_s)
        before = self._places.get(sink, behind)
        self._places[sink] = behind
        start = self._target.end - behind
        block = self._mixed(start)
        if before != behind:
            old = self._mixed(self._target.end - before)
            block = (old + _RISE * (block - old)).astype(np.float32)
        return block, start / SOUND_RATE

    def leaving(self) -> Sound:
        """The target alone that leaves in this tick, float32 (960, 2)."""
        return self._target.read(self._target.end - self._behind(0.0), TICK_SAMPLES)

    def forget(self, sink: object) -> None:
        """A sink is gone."""
        self._places.pop(sink, None)

    def _behind(self, lead_s: float) -> int:
        """Samples from the newest sound back to the block; at least the block must be there."""
        held_s = self._delay.seconds + self.trim_s - lead_s
        return max(round(held_s / TICK_S * TICK_SAMPLES), TICK_SAMPLES)

    def _mixed(self, start: int) -> Sound:
        block = self._target.read(start, TICK_SAMPLES)
        first, last = self._gains
        if first == last == 0.0:
            return block
        gain = first + _RISE * np.float32(last - first)
        voice = self._voice.read(start, TICK_SAMPLES)
        return np.clip(block + gain * voice, -1, 1).astype(np.float32)
