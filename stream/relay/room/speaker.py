"""A speaker in a room: the camera and voice that come in, and the lines that go out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.core.delay import Delay
from stream.core.gate import ON_AT
from stream.core.hearing import VoiceHearing
from stream.core.intake import LiveIntake
from stream.core.meters import Meters
from stream.core.sound import TICK_SAMPLES, Sound
from stream.core.track import silence
from stream.live.ends import Controls
from stream.live.eye import Eye, Seen
from stream.live.face import SpeakerFace
from stream.live.line import Heard, Line, Outlets
from stream.live.remote_camera import RemoteCamera
from stream.live.worker import Worker
from stream.relay.room.crew import Crew
from stream.relay.room.language import LONGEST_SIDE, Language
from stream.relay.room.workshop import Workshop
from stream.web.broadcast import MEETING, Broadcast

ORIGINAL_DELAY_S: Final = 0.2
"""Added delay of the original to begin with: a picture and its sound wait for each other."""
_LEAST_DELAY_S: Final = 0.1


class RoomSpeaker:
    """A speaker who publishes, or did so a moment ago.

    Args:
        name: in the room.
        workshop: the room's.
        origin_s: when the first tick begins, on the room's clock.

    Attributes:
        source: the speaker's own voice; None while nothing is published.
        muted: whether the own voice is heard nowhere.
        lip_sync: whether lips are changed.
        languages: by code.
        broadcast: to those who want the original.
        speaking: whether the voice sounded in the last tick.
        camera: takes the pictures of whoever publishes.
    """

    def __init__(self, name: str, workshop: Workshop, origin_s: float) -> None:
        self.name = name
        self.source: LiveIntake | None = None
        self.muted = False
        self.lip_sync = True
        self.languages: dict[str, Language] = {}
        self.broadcast = Broadcast(LONGEST_SIDE, rates=MEETING)
        self.speaking = False
        self.camera = RemoteCamera("The speaker's camera")
        self.meters = Meters()
        self._workshop = workshop
        self._voice = VoiceHearing(origin_s)
        self._hand = Worker("reference")
        self._face = SpeakerFace(self._hand)
        self._eye = Eye(self.camera.open, workshop.make_tracker, self._see)
        self._original = Line(
            Outlets(
                pictures=[self.broadcast],
                sounds=[self.broadcast],
                watched=lambda: self.broadcast.viewers > 0,
            ),
            Heard(target=False, source=True),
            bundle=workshop.bundle,
            painter=None,
            face=self._face,
            clock=workshop.clock,
            origin_s=origin_s,
            meters=self.meters,
            controls=Controls(own_voice=True),
            delay=Delay(ORIGINAL_DELAY_S, least_s=_LEAST_DELAY_S),
        )
        self._crew = Crew()

    @property
    def said(self) -> NDArray[np.float32]:
        """The 16 kHz copy of the last tick's own voice, float32 (n,)."""
        return self._voice.mono

    @property
    def trouble(self) -> str | None:
        """One sentence while no picture comes or it can't be used."""
        return self._eye.trouble

    def start(self) -> None:
        """Begin to look and to send."""
        self._crew.start(self._eye.run())
        self._crew.start(self._original.run())
        self._crew.start(self.broadcast.run())

    async def end(self) -> None:
        """Let everybody go who watches."""
        for code in [*self.languages]:
            await self.drop(code)
        self.camera.end()
        await self._crew.end()
        await self._hand.end()

    def add(self, code: str, origin_s: float) -> Language:
        """The speaker's language of this code; begun if it is new.

        Args:
            code: of the language.
            origin_s: when its first tick begins, on the room's clock.
        """
        language = self.languages.get(code)
        if language is None:
            language = self.languages[code] = Language(code, self._workshop, self._face, origin_s)
            language.start()
        return language

    async def drop(self, code: str) -> None:
        """A language that nobody speaks any more."""
        await self.languages.pop(code).end()

    def tick(self, now: float, floor: Mapping[str, Sound]) -> None:
        """The sound of the tick that ends now.

        Args:
            now: room seconds.
            floor: for each language whose floor interpreter speaks for this speaker, what was
                said, float32 (960, 2).
        """
        quiet = voice = silence(TICK_SAMPLES)
        if self.source is not None:
            pulled = self.source.pull(TICK_SAMPLES, now)
            voice = quiet if self.muted else pulled
        hops = self._voice.hear(voice)
        if hops:
            self.speaking = hops[-1].probability >= ON_AT
        self._original.hear(quiet, voice, hops)
        for code, language in self.languages.items():
            language.controls.lip_sync = self.lip_sync
            language.line.hear(language.pull(now, floor.get(code)), voice, hops)

    def measure(self) -> None:
        """A second of the room is over."""
        now = self._workshop.clock()
        for meters in [self.meters, *(language.meters for language in self.languages.values())]:
            meters.tick(now)

    @property
    def watched(self) -> bool:
        """Whether anybody sees or hears the speaker."""
        return self.broadcast.viewers > 0 or any(
            language.broadcast.viewers for language in self.languages.values()
        )

    def _see(self, seen: Seen) -> None:
        self._eye.tracking = any(language.broadcast.viewers for language in self._languages())
        lips_move = self._face.saw(seen, self._workshop.clock())
        self._original.see(seen, lips_move=lips_move)
        for language in self._languages():
            language.line.see(seen, lips_move=lips_move)

    def _languages(self) -> Sequence[Language]:
        return [*self.languages.values()]
