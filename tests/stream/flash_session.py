"""A real session of flashes and clicks, measured from outside: ``recording OUT.mp4``, ``devices``.

A program of its own, since PortAudio and pyvirtualcam's backends belong to a process. With
``devices`` it prints the skew of every flash as JSON: from what a virtual camera and a microphone
behind the virtual microphone got.
"""

import asyncio
import json
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyvirtualcam
from numpy.typing import NDArray

from engine.bundle import load_bundle
from engine.face_models import FaceModels
from engine.generator import Generator
from engine.tracker import FaceTracker
from stream.core.meters import Meters
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound, as_sound
from stream.live.cameras import Captured
from stream.live.clock import SessionClock
from stream.live.ends import Ends
from stream.live.microphone import Microphone
from stream.live.painter import Painter
from stream.live.recording import Recording
from stream.live.session import LiveSession
from stream.live.speaker import Speaker
from stream.live.virtual_camera import VirtualCamera
from tests.stream.flash_click import find_clicks, find_flashes, picture, skews, sound
from tests.stream.pulse import SINK, SOURCE

WIDTH, HEIGHT, FPS = 320, 240, 60  # of the virtual camera
SECONDS, SETTLED_S = 8.0, 2.5


class FlashCamera:
    """Flashes, at 25 pictures a second of the session's own time."""

    name, width, height, fps = "flashes", WIDTH, HEIGHT, Fraction(25)

    def __init__(self, clock: SessionClock) -> None:
        self._clock = clock
        self._number = int(clock() * 25) + 1

    def read(self) -> Captured:
        import time

        at = self._number / 25
        self._number += 1
        time.sleep(max(0.0, at - self._clock()))
        return Captured(picture(at, WIDTH, HEIGHT), at)

    def close(self) -> None:
        pass


class Clicks:
    """Clicks on the session's timeline."""

    def __init__(self) -> None:
        self._place = 0

    def pull(self, count: int, now: float) -> Sound:
        block = as_sound(sound(self._place / SOUND_RATE, count, SOUND_RATE))
        self._place += count
        return block


class Seen:
    """pyvirtualcam's backend: when it got which light."""

    clock: ClassVar[SessionClock]
    pictures: ClassVar[list[tuple[float, NDArray[np.uint8]]]] = []

    def __init__(self, **rest: Any) -> None:
        pass

    def send(self, frame: NDArray[np.uint8]) -> None:
        Seen.pictures.append((Seen.clock(), frame[:300].copy()))

    def close(self) -> None:
        pass

    def device(self) -> str:
        return "memory"

    def native_fourcc(self) -> None:
        return None


class Ear:
    """Takes what the microphone behind the virtual microphone hears, tick by tick."""

    lead_s = 0.0

    def __init__(self, microphone: Microphone, clock: SessionClock) -> None:
        self._microphone, self._clock = microphone, clock
        self.blocks: list[Sound] = []
        self.ticked_s: list[float] = []
        self.latency_s: list[float] = []

    def hear(self, block: Sound, position_s: float) -> None:
        self.ticked_s.append(self._clock())
        self.blocks.append(self._microphone.intake.pull(TICK_SAMPLES, self._clock()))
        self.latency_s.append(self._microphone.latency_s)

    async def run(self) -> None:
        await self._microphone.run()

    def clicks(self) -> list[float]:
        """When clicks were there to be heard, in session seconds."""
        heard = np.concatenate(self.blocks)[:, 0]
        # Ticks may come late, the first ones of a session above all, but never early.
        tick_s = TICK_SAMPLES / SOUND_RATE
        start_s = float(np.min(self.ticked_s - tick_s * np.arange(len(self.ticked_s))))
        # A tick that ends now holds what was pulled in it, and the intake holds sound back.
        first_s = start_s - tick_s
        late_s = float(np.median(self.latency_s[-100:]))
        return [first_s + at - late_s for at in find_clicks(heard)]


async def session(clock: SessionClock, ends: Ends, meters: Meters) -> None:
    bundle, models = load_bundle(), FaceModels(threads=1)
    painter = Painter(bundle, lambda: Generator(bundle, threads=1, slots=1))
    await painter.start()
    clock.restart()
    held = LiveSession(
        ends,
        bundle=bundle,
        painter=painter,
        make_tracker=lambda: FaceTracker(models),
        clock=clock,
        meters=meters,
    )
    await held.run(SECONDS)
    await painter.close()


async def record(out: Path) -> None:
    clock, meters = SessionClock(), Meters()
    file = Recording(out, Fraction(25), clock=clock)
    ends = Ends(
        camera=lambda: FlashCamera(clock),
        target=Clicks(),
        pictures=[file],
        sounds=[file],
        runners=[file],
    )
    await session(clock, ends, meters)


async def play() -> None:
    clock, meters = SessionClock(), Meters()
    Seen.clock = clock
    pyvirtualcam.register_backend("memory", Seen)
    camera = VirtualCamera(
        WIDTH, HEIGHT, FPS, clock=clock, backend="memory", on_left=meters.skew.picture_left
    )
    speaker = Speaker(SINK, clock, on_left=meters.skew.sound_left)
    ear = Ear(Microphone(SOURCE, clock), clock)
    ends = Ends(
        camera=lambda: FlashCamera(clock),
        target=Clicks(),
        pictures=[camera],
        sounds=[speaker, ear],
        runners=[camera, speaker, ear],
        picture_wait_s=0.5 / FPS,
    )
    await session(clock, ends, meters)
    flashes = [at for at in find_flashes(Seen.pictures) if at > SETTLED_S]
    report = meters.report(clock(), backend="openvino", bundle="starter")
    facts = {
        "outside": skews(flashes, ear.clicks()),
        "inside_ms": dict(report.skew_ms),
        "late_ratio": report.late_ratio,
    }
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    asyncio.run(play() if sys.argv[1] == "devices" else record(Path(sys.argv[2])))
