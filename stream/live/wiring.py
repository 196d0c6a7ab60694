"""The ends of a session as they are put together, and those of the demo."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Final

from stream.config import Settings
from stream.core.file_intake import FileIntake
from stream.core.meters import Meters
from stream.core.sinks import PictureSink, SoundSink
from stream.core.sound import Intake
from stream.demo import SPEECH_FILE, speaker
from stream.live.cameras import Camera, PacedCamera
from stream.live.clock import SessionClock
from stream.live.ends import Ends, Runner
from stream.live.recording import Recording
from stream.live.release import Release

CAPTURE_FPS: Final = 30  # what cameras are asked for


@dataclass
class Wiring:
    """The ends of a session as they are put together.

    Attributes:
        camera: opens the camera.
        target: the target audio, if any.
        source: the speaker's voice, if any.
        pictures: picture sinks.
        sounds: sound sinks.
        runners: all that have work of their own.
        troubles: for each end by its name, a sentence, or None while it works.
        starting: to be awaited before the session, so that trouble shows at once.
        closing: to be called at the end.
        target_latency_s: how long the target sound is held before the session has it.
        picture_wait_s: as in :class:`stream.live.ends.Ends`.
        skew_source: which pair of sinks the skew is measured at.
        measured: whether a pair of sinks reports what left.
        fps: the camera's.
    """

    camera: Callable[[], Camera]
    target: Intake | None = None
    source: Intake | None = None
    pictures: list[PictureSink] = field(default_factory=list)
    sounds: list[SoundSink] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)
    troubles: dict[str, Callable[[], str | None]] = field(default_factory=dict)
    starting: list[Callable[[], Awaitable[object]]] = field(default_factory=list)
    closing: list[Callable[[], None]] = field(default_factory=list)
    target_latency_s: Callable[[], float] = lambda: 0.0
    picture_wait_s: float = 0.0
    skew_source: str = "the session's own release"
    measured: bool = False
    fps: Fraction = Fraction(CAPTURE_FPS)

    def ends(self) -> Ends:
        """The ends as a session takes them."""
        return Ends(
            camera=self.camera,
            target=self.target,
            source=self.source,
            pictures=self.pictures,
            sounds=self.sounds,
            runners=self.runners,
            target_latency_s=self.target_latency_s,
            picture_wait_s=self.picture_wait_s,
        )

    def measure(self, clock: SessionClock, meters: Meters) -> None:
        """Measure the skew where the session lets go, unless a pair of sinks does it."""
        meters.skew_source = self.skew_source
        if not self.measured:
            skew = meters.skew
            release = Release(clock, skew.picture_left, skew.sound_left)
            self.pictures.append(release)
            self.sounds.append(release)

    def close(self) -> None:
        """Free what no task frees."""
        for close in self.closing:
            close()

    def record(
        self, path: Path, fps: Fraction, settings: Settings, clock: SessionClock, meters: Meters
    ) -> None:
        """Write what leaves to a video; the skew is measured there unless at devices already."""
        recording = Recording(
            path,
            fps,
            clock=clock,
            crf=settings.x264_crf,
            preset=settings.x264_preset,
            on_picture_left=None if self.measured else meters.skew.picture_left,
            on_sound_left=None if self.measured else meters.skew.sound_left,
        )
        if not self.measured:
            self.skew_source, self.measured = "the recording", True
        self.pictures.append(recording)
        self.sounds.append(recording)
        self.runners.append(recording)
        self.troubles["recording"] = lambda: recording.trouble
        meters.sink("recording", recording.facts)


def demo_wiring(clock: SessionClock) -> Wiring:
    """The built-in speaker and speech: needs no device."""
    face = speaker()
    speech = FileIntake(SPEECH_FILE)
    speech.wait()
    return Wiring(
        camera=lambda: PacedCamera(face, clock, time.sleep),
        target=speech,
        closing=[speech.close],
        fps=face.fps,
    )
