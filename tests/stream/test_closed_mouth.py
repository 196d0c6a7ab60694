"""A speaker talks before the translation does: the lips that are shown stay shut."""

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import load_bundle
from engine.face_models import FaceModels
from engine.generator import Generator
from engine.lips import mouth_opening
from engine.media import VideoReader, read_audio, retime
from engine.tracker import FaceTracker
from stream.core.meters import Meters
from stream.core.session import Event
from stream.core.sinks import Shown
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound, as_sound
from stream.core.track import silence
from stream.live.cameras import Captured
from stream.live.clock import SessionClock
from stream.live.ends import Ends
from stream.live.painter import Painter
from stream.live.session import LiveSession
from training.bench import CLOSED

pytestmark = pytest.mark.models

FPS = 25
SECONDS = 6.0


class Film:
    """A clip as a camera, forward and backward."""

    name, fps = "film", Fraction(FPS)

    def __init__(self, pictures: list[NDArray[np.uint8]], clock: SessionClock) -> None:
        self._pictures, self._clock, self._number = [*pictures, *pictures[::-1]], clock, 0
        self.height, self.width = pictures[0].shape[:2]

    def read(self) -> Captured:
        self._number += 1
        at = self._number / FPS
        time.sleep(max(0.0, at - self._clock()))
        return Captured(self._pictures[self._number % len(self._pictures)], at)

    def close(self) -> None:
        pass


class Voice:
    """A clip's voice, again and again; silence where there is none."""

    def __init__(self, sound: Sound) -> None:
        self._sound, self._place = sound, 0

    def pull(self, count: int, now: float) -> Sound:
        places = np.arange(self._place, self._place + count) % len(self._sound)
        self._place += count
        return np.asarray(self._sound[places], np.float32)


class Screen:
    def __init__(self) -> None:
        self.shown: list[Shown] = []

    def show(self, shown: Shown) -> None:
        self.shown.append(shown)

    async def run(self) -> None:
        raise AssertionError("it is no runner")


@pytest.mark.data
@pytest.mark.timeout(60)
@pytest.mark.parametrize("clip", ["s1/bbas2p", "others/lwbsza"])
async def test_the_mouth_of_a_talking_speaker_stays_shut_while_the_target_is_silent(
    data_dir: Path, face_models: FaceModels, clip: str
) -> None:
    path = data_dir / "grid" / f"{clip}.mp4"
    with VideoReader(path) as video:
        pictures = list(retime(video, Fraction(FPS)))
    voice = as_sound(np.asarray(read_audio(path, SOUND_RATE), np.float32))
    bundle, clock, screen = load_bundle(), SessionClock(), Screen()
    painter = Painter(bundle, lambda: Generator(bundle, threads=2, slots=1))
    decided: list[Event] = []
    await painter.start()
    clock.restart()
    session = LiveSession(
        Ends(
            camera=lambda: Film(pictures, clock),
            target=Voice(silence(TICK_SAMPLES)),
            source=Voice(voice),
            pictures=[screen],
        ),
        bundle=bundle,
        painter=painter,
        make_tracker=lambda: FaceTracker(
            face_models, geometry=bundle.crop, resolution=bundle.resolution, live=True
        ),
        clock=clock,
        meters=Meters(),
        badge=False,
        trace=decided.append,
    )
    await session.run(SECONDS)
    await painter.close()

    closed = {event[2] for event in decided if event[0] == "compose" and event[3] == "closed"}
    tracker = FaceTracker(face_models)
    shut = []
    for shown in screen.shown:
        face = tracker.update(shown.picture, shown.pts)
        # Before the first second the speaker's looks are still being learned.
        if face is not None and shown.number in closed and shown.pts > 1:
            shut.append(mouth_opening(face.mesh) < CLOSED)
    assert len(shut) > 2 * FPS, "the speaker's voice was heard"
    assert np.mean(shut) >= 0.95
