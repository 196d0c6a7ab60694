"""One language of one speaker: who speaks it, and the line that comes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

import numpy as np

from stream.core.delay import Delay
from stream.core.intake import LiveIntake, PushedIntake
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_SAMPLES, Sound
from stream.core.track import silence
from stream.live.ends import Controls
from stream.live.face import SpeakerFace
from stream.live.line import Heard, Line, Outlets
from stream.live.painter import Painter
from stream.live.release import Release
from stream.live.sync_watch import watch_with
from stream.relay.room.crew import Crew
from stream.relay.room.line_meters import LineMeters
from stream.relay.room.workshop import Workshop
from stream.web.broadcast import MEETING, Broadcast

From = Literal["person", "process", "floor"]
"""Who speaks a language: an interpreter for this speaker, a translating process, or an interpreter
of the whole floor; the first of those that are there."""

TARGET_S: Final = 0.06
"""Mean level of the buffer between a network and the room, in seconds."""

LONGEST_SIDE: Final = 1280
"""Of the pictures that listeners get, in pixels."""

SOUNDS_AT: Final = 0.003
"""Peak from which on something sounds: minus 50 dB of full scale."""


def network_intake() -> LiveIntake:
    """A buffer for sound that comes by WebRTC."""
    return LiveIntake(SOUND_RATE, CHANNELS, target_s=TARGET_S)


class Language:
    """A speaker's language while somebody speaks it.

    Args:
        code: of the language.
        workshop: the room's.
        face: the speaker's.
        origin_s: when its first tick begins, on the room's clock.

    Attributes:
        person: the sound of this speaker's own interpreter, while there is one.
        process: the sound of a translating process, if one was ordered.
        floor: whether an interpreter of the whole floor speaks it.
        muted: whether nothing of it is heard.
        process_trouble: says what is wrong with the translating process, if anything.
        lag_s: says how long after the speaker's the words of the process are heard.
        broadcast: to its listeners.
    """

    def __init__(self, code: str, workshop: Workshop, face: SpeakerFace, origin_s: float) -> None:
        self.code = code
        self.person: LiveIntake | None = None
        self.process: PushedIntake | None = None
        self.floor = self.muted = False
        self.process_trouble: Callable[[], str | None] = lambda: None
        self.lag_s: Callable[[], float | None] = lambda: None
        self.controls = Controls()
        self.broadcast = Broadcast(LONGEST_SIDE, rates=MEETING)
        self.meters = LineMeters(workshop.metrics)
        self.sounding = False
        self._painter = Painter(workshop.bundle, workshop.make_engine)
        release = Release(
            lambda: workshop.clock() - origin_s,
            self.meters.skew.picture_left,
            self.meters.skew.sound_left,
        )
        self.line = Line(
            Outlets(
                pictures=[self.broadcast, release],
                sounds=[self.broadcast, release],
                watched=lambda: self.broadcast.viewers > 0,
            ),
            Heard(target=True, source=True),
            bundle=workshop.bundle,
            painter=self._painter,
            face=face,
            clock=workshop.clock,
            origin_s=origin_s,
            meters=self.meters,
            controls=self.controls,
            delay=Delay(workshop.delay_s),
            badge=workshop.badge,
            watch=watch_with(workshop.expert, workshop.sync_monitor),
        )
        self._crew = Crew()

    @property
    def source(self) -> From | None:
        """Who speaks it now; None where nobody does."""
        if self.person is not None:
            return "person"
        if self.process is not None:
            return "process"
        return "floor" if self.floor else None

    @property
    def trouble(self) -> str | None:
        """One sentence while it can't be heard, or its lips can't be painted."""
        watch = self.line.watch
        doubted = None if watch is None else watch.trouble
        return self.process_trouble() or self._painter.trouble or doubted

    def start(self) -> None:
        """Begin to paint and to send."""
        self._painter.begin()
        self._crew.start(self.line.run())
        self._crew.start(self.broadcast.run())

    async def end(self) -> None:
        """Let its listeners go."""
        await self._crew.end()
        await self._painter.close()

    def pull(self, now: float, floor: Sound | None) -> Sound:
        """The target sound of a tick.

        Args:
            now: room seconds.
            floor: float32 (960, 2), what an interpreter of the floor said, if it was for this
                speaker.

        Returns:
            float32 (960, 2).
        """
        sound = floor
        if self.process is not None:
            sound = self.process.pull(TICK_SAMPLES, now)  # goes by unheard while a person speaks
        if self.person is not None:
            sound = self.person.pull(TICK_SAMPLES, now)
        if sound is None or self.muted:
            sound = silence(TICK_SAMPLES)
        self.sounding = float(np.abs(sound).max()) >= SOUNDS_AT
        return sound
