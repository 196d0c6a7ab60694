"""A whole session, with ends in memory and a generator that is told to fail."""

import asyncio
import os
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import EngineError, MediaError
from engine.generator import Chunk
from engine.media import probe
from engine.sources import FaceSource
from stream.core.file_intake import FileIntake
from stream.core.meters import Meters
from stream.core.sinks import Shown
from stream.core.sound import TICK_S, TICK_SAMPLES, Sound
from stream.demo import SPEECH_FILE, speaker
from stream.live.cameras import Camera, Captured, PacedCamera
from stream.live.clock import SessionClock
from stream.live.control import SessionControl
from stream.live.ends import Controls, Ends
from stream.live.painter import Painter
from stream.live.recording import Recording
from stream.live.session import LiveSession
from stream.live.wiring import Wiring
from stream.portrait import Portrait

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.face_models import FaceModels

pytestmark = pytest.mark.models

Rows = NDArray[np.uint8]
FPS = Fraction(25)
GREEN = (30, 200, 60)


class Green:
    """A generator that gives the face back with green lips, so that its work can be seen."""

    def __init__(self, bundle: "Bundle", misbehave: Callable[[int], None]) -> None:
        self.bundle = bundle
        self.misbehave = misbehave
        self.steps = 0
        self.known = False

    def open(self, identity: Rows) -> int:
        return 0

    def replace_identity(self, slot: int, identity: Rows) -> None:
        self.known = True

    def close(self, slot: int) -> None:
        pass

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, Rows]:
        first, end = self.bundle.rows
        if self.known:
            self.steps += 1
            self.misbehave(self.steps)
        rows = chunks[0].pose[:, first:end].copy()
        middle, side = (end - first) // 2, self.bundle.resolution
        rows[:, middle - 8 : middle + 8, side // 2 - 10 : side // 2 + 10] = GREEN
        return {0: rows}


class Screen:
    """A sink for pictures and sound that remembers."""

    lead_s = 0.0

    def __init__(self) -> None:
        self.shown: list[Shown] = []
        self.places: list[float] = []
        self.peak = 0.0

    def show(self, shown: Shown) -> None:
        self.shown.append(shown)

    def hear(self, block: Sound, position_s: float) -> None:
        assert block.shape == (TICK_SAMPLES, 2)
        self.places.append(position_s)
        self.peak = max(self.peak, float(np.abs(block).max()))

    async def run(self) -> None:
        await asyncio.Event().wait()


class Flaky:
    """The demo's speaker on a camera that is unplugged for a while."""

    def __init__(self, clock: SessionClock, gone: tuple[float, float]) -> None:
        if gone[0] < clock() < gone[1]:
            raise MediaError("The camera is gone; plug it in again.")
        self._camera = PacedCamera(portrait(), clock, wait)
        self.name, self.fps = "flaky", FPS
        self.width = self.height = Portrait.width
        self._clock, self._gone = clock, gone

    def read(self) -> Captured:
        if self._gone[0] < self._clock() < self._gone[1]:
            raise MediaError("The camera is gone; plug it in again.")
        return self._camera.read()

    def close(self) -> None:
        self._camera.close()


@cache
def portrait() -> FaceSource:
    """Made once: shutting its mouth takes a second."""
    return speaker()


def wait(seconds: float) -> None:
    import time

    time.sleep(seconds)


class Held:
    """A session in memory that was run to its end."""

    def __init__(
        self,
        bundle: "Bundle",
        models: "FaceModels",
        *,
        misbehave: Callable[[int], None] = lambda step: None,
        target: Path | None = SPEECH_FILE,
        gone: tuple[float, float] = (1e9, 1e9),
        control: Callable[[SessionControl], None] | None = None,
        record: Path | None = None,
    ) -> None:
        self.screen, self.meters = Screen(), Meters()
        self._bundle, self._models = bundle, models
        self._misbehave, self._target, self._gone = misbehave, target, gone
        self._control, self._record = control, record
        self.troubles: set[str] = set()

    async def run(self, seconds: float) -> "Held":
        from engine.tracker import FaceTracker

        bundle, clock = self._bundle, SessionClock()
        painter = Painter(bundle, lambda: Green(bundle, self._misbehave), stall_s=0.3)
        speech = None if self._target is None else FileIntake(self._target)
        await painter.start()
        portrait()
        sinks: list[Screen | Recording] = [self.screen]
        if self._record is not None:
            sinks.append(Recording(self._record, FPS, clock=clock))
        ends = Ends(
            camera=lambda: self._camera(clock),
            target=speech,
            pictures=sinks,
            sounds=sinks,
            runners=sinks,
        )
        self.session = LiveSession(
            ends,
            bundle=bundle,
            painter=painter,
            make_tracker=lambda: FaceTracker(
                self._models, geometry=bundle.crop, resolution=bundle.resolution, live=True
            ),
            clock=clock,
            meters=self.meters,
            controls=Controls(),
        )
        watch = asyncio.create_task(self._watch())
        if self._control is not None:
            self._control(SessionControl(self.session, {}, backend=lambda: "none", bundle="green"))
        clock.restart()
        try:
            await self.session.run(seconds)
        finally:
            watch.cancel()
            await painter.close()
            if speech is not None:
                speech.close()
        return self

    def _camera(self, clock: SessionClock) -> Camera:
        return Flaky(clock, self._gone)

    async def _watch(self) -> None:
        while True:
            self.troubles |= {text for text in self.session.troubles().values() if text}
            await asyncio.sleep(0.05)

    def check_sound(self, seconds: float) -> None:
        """It never stopped, and no block was left out or came twice."""
        places = np.array(self.screen.places)
        assert len(places) >= seconds / TICK_S - 2
        np.testing.assert_allclose(np.diff(places), TICK_S, atol=1e-9)


async def test_speech_is_painted_marked_and_heard(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    held = await Held(tiny_bundle, face_models).run(3)
    held.check_sound(3)
    assert held.screen.peak > 0.05
    numbers = [shown.number for shown in held.screen.shown]
    assert numbers == sorted(set(numbers))
    late = [shown for shown in held.screen.shown if shown.pts > 1.5]
    assert sum(shown.modified for shown in late) >= 0.9 * len(late)
    modified = next(shown for shown in reversed(late) if shown.modified)
    corner = np.s_[-40:, :120]
    assert (modified.picture[corner] != modified.original[corner]).any(), "the badge"
    assert held.meters.report(3, backend="none", bundle="green").frames["generated"] > 20


async def test_a_silent_session_gives_the_camera_s_own_pixels(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    held = await Held(tiny_bundle, face_models, target=None).run(2)
    held.check_sound(2)
    assert len(held.screen.shown) > 30
    for shown in held.screen.shown:
        assert not shown.modified
        np.testing.assert_array_equal(shown.picture, shown.original)


async def test_sound_goes_on_and_real_pixels_are_shown_while_the_generator_fails(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    def misbehave(step: int) -> None:
        if 4 <= step <= 8:
            raise EngineError("The generator is out of order.", retryable=True)

    held = await Held(tiny_bundle, face_models, misbehave=misbehave).run(5)
    held.check_sound(5)
    assert held.troubles == {"The generator is out of order."}
    reasons = held.meters.report(5, backend="none", bundle="green").frames_by_reason
    assert reasons["passthrough"]["engine"] >= 5
    assert held.screen.shown[-1].modified, "it came back"


async def test_a_lost_camera_gives_a_card_and_comes_back(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    held = await Held(tiny_bundle, face_models, gone=(1.0, 3.6)).run(5.5)
    held.check_sound(5.5)
    assert held.troubles == {"The camera is gone; plug it in again."}
    cards = [shown for shown in held.screen.shown if shown.number == -1]
    assert cards
    assert cards[0].at - max(s.at for s in held.screen.shown if s.at < cards[0].at) >= 0.9
    last = held.screen.shown[-1]
    assert last.number > 0
    assert last.at > cards[-1].at


async def test_switching_off_on_the_page_gives_the_real_mouth(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    held = await Held(
        tiny_bundle, face_models, control=lambda page: page.change("lip_sync", False)
    ).run(1.5)
    assert not any(shown.modified for shown in held.screen.shown)


async def test_pausing_the_picture_shows_a_card_and_lets_the_sound_go_on(
    tiny_bundle: "Bundle", face_models: "FaceModels"
) -> None:
    held = await Held(
        tiny_bundle, face_models, control=lambda page: page.change("paused", True)
    ).run(2)
    held.check_sound(2)
    pictures = [shown.picture for shown in held.screen.shown]
    assert len(pictures) > 20
    assert all(picture is pictures[-1] for picture in pictures[5:]), "one still card"


async def test_a_session_that_is_cancelled_keeps_its_recording(
    tiny_bundle: "Bundle", face_models: "FaceModels", tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    held = Held(tiny_bundle, face_models, record=out)
    task = asyncio.create_task(held.run(60))
    while len(held.screen.shown) < 20:
        await asyncio.sleep(0.05)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert os.listdir(tmp_path) == ["out.mp4"]
    assert probe(out).duration_s > 0.5


def test_a_wiring_frees_what_it_holds() -> None:
    closed: list[str] = []
    wiring = Wiring(camera=lambda: pytest.fail("not opened"), closing=[lambda: closed.append("a")])
    wiring.close()
    assert closed == ["a"]
