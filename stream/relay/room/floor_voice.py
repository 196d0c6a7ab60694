"""An interpreter of the whole floor: one voice for whoever speaks."""

from __future__ import annotations

from stream.core.gate import ON_AT
from stream.core.hearing import VoiceHearing
from stream.core.intake import LiveIntake
from stream.core.sound import TICK_SAMPLES, Sound
from stream.core.track import silence


class FloorVoice:
    """The sound of one floor interpreter.

    Args:
        origin_s: when its first tick begins, on the room's clock.

    Attributes:
        intake: where it comes in; None while nobody publishes it.
        muted: whether it is heard nowhere.
        speaking: whether it held speech in the last tick.
    """

    def __init__(self, origin_s: float) -> None:
        self.intake: LiveIntake | None = None
        self.muted = self.speaking = False
        self._voice = VoiceHearing(origin_s)

    def hear(self, now: float) -> Sound:
        """The sound of the tick that ends now, float32 (960, 2)."""
        sound = silence(TICK_SAMPLES)
        if self.intake is not None:
            pulled = self.intake.pull(TICK_SAMPLES, now)
            sound = sound if self.muted else pulled
        if hops := self._voice.hear(sound):
            self.speaking = hops[-1].probability >= ON_AT
        return sound
