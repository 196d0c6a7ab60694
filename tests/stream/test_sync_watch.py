"""The monitor beside a line: its thread, what it is handed, and what it makes of it."""

import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError, EngineError
from engine.sync_monitor import Expert
from stream.core.sinks import Shown
from stream.core.sound import TICK_S, TICK_SAMPLES
from stream.core.sync_meter import SyncMeter
from stream.core.sync_policy import SyncPolicy
from stream.lip_experts import expert_bundle
from stream.live.sync_watch import SyncWatch, watch_with
from tests.mean_face import mean_points, mesh_of
from tests.naming_expert import NamingExpert, names, tone

pytestmark = pytest.mark.models  # voice activity

GIVE_UP_S = 20.0
MESH = mesh_of(mean_points())


def picture(name: int) -> NDArray[np.uint8]:
    return np.full((200, 260, 3), 20 * (name + 1), np.uint8)


class Beside:
    """A monitor and the line that it is beside, which hands over as fast as the monitor takes.

    Args:
        load: makes the expert; by default one that names.
        acts: whether the policy acts.
    """

    def __init__(self, load: Callable[[], Expert] | None, *, acts: bool = False) -> None:
        self.policy = SyncPolicy(0.25, acts=acts)
        self.expert = NamingExpert()
        self.meter = SyncMeter("names")
        # The session's time runs as fast as the monitor can follow: no budget of real time.
        self.watch = SyncWatch(
            load or (lambda: self.expert), self.policy, self.meter, hop=10, budget=1e9, gap_s=0
        )
        self.watch.start()
        self.wait(lambda: self.watch.ready.is_set() or self.watch.trouble is not None)
        self.states: list[str] = []
        self.tick = 0

    def run(
        self,
        shown: NDArray[np.int64],
        said: NDArray[np.int64],
        *,
        fps: float = 25.0,
        late_s: float = 0.0,
        intended_s: float = 0.0,
        modified: bool = True,
        mesh: NDArray[np.float32] | None = MESH,
    ) -> "Beside":
        """Names shown and said, one for each 40 ms; the pictures leave so much later.

        What the monitor corrects is corrected as a line does it.
        """
        pictures = 0
        first = self.tick
        for step in range(2 * len(said)):
            at = self.tick * TICK_S
            half = step % 2 * TICK_SAMPLES
            mono = tone(int(said[step // 2]), 48_000)[half : half + TICK_SAMPLES]
            self.watch.hear(np.repeat(mono[:, None], 2, axis=1), at)
            while (due := first * TICK_S + pictures / fps) <= at + 1e-9:
                own = picture(int(shown[min(int(pictures * 25 / fps), len(shown) - 1)]))
                leaves = due + late_s + self.watch.correction_s
                self.watch.show(Shown(pictures, due, own, own, modified, leaves, mesh))
                pictures += 1
            self.wait(lambda: self.watch._waiting.empty() or self.watch.trouble is not None)
            self.watch.tick(at, intended_s=intended_s, quiet=True)
            if not self.states or self.states[-1] != self.policy.status.state:
                self.states.append(self.policy.status.state)
            self.tick += 1
        return self

    def wait(self, until: Callable[[], bool]) -> None:
        give_up = time.monotonic() + GIVE_UP_S
        while not until():
            assert time.monotonic() < give_up
            time.sleep(0.0005)


@pytest.fixture
def beside() -> Iterator[Callable[..., Beside]]:
    made: list[Beside] = []

    def make(load: Callable[[], Expert] | None = None, *, acts: bool = False) -> Beside:
        made.append(Beside(load, acts=acts))
        return made[-1]

    yield make
    for one in made:
        one.watch.end()


def heard_as_speech(one: Beside) -> None:
    """Tones are no speech to the voice network; nothing here is about that."""
    one.watch.policy._judge = lambda reading: (  # type: ignore[method-assign]
        ("unsure", "starting")
        if reading is None
        else ("unsure", "no painted mouth")
        if reading.seen < 0.5
        else ("good", None)
        if abs(reading.offset.frames) <= 1
        else ("drifting", None)
    )


@pytest.mark.parametrize(("late_s", "offset"), [(0.0, 0), (0.2, -5), (-0.2, 5)])
def test_a_picture_that_leaves_late_has_sound_that_is_early(
    beside: Callable[..., Beside], late_s: float, offset: int
) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(150)
    one.run(said, said, late_s=late_s)
    assert one.policy.status.offset == offset
    assert one.meter.dropped == 0


def test_pictures_of_another_rate_are_taken_at_their_times(beside: Callable[..., Beside]) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(150)
    one.run(said, said, fps=30.0)
    assert one.policy.status.offset == 0
    assert one.policy.status.avsu is not None
    assert one.policy.status.avsu > 0.5


def test_what_the_user_wants_is_no_offset(beside: Callable[..., Beside]) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(200)
    one.run(said, said, late_s=0.2, intended_s=0.2)
    # Its frames may begin between two pictures: half a frame either way is nothing.
    assert one.policy.status.state == "good"


def test_an_offset_is_corrected_and_then_judged_anew(beside: Callable[..., Beside]) -> None:
    one = beside(acts=True)
    heard_as_speech(one)
    said = names(250)
    one.run(said, said, late_s=0.2)
    assert one.watch.correction_s == pytest.approx(-0.2, abs=0.041)
    assert one.policy.status.state == "good"
    assert one.meter.corrections == 1


@pytest.mark.parametrize(("modified", "mesh"), [(False, MESH), (True, None)])
def test_only_painted_mouths_are_judged(
    beside: Callable[..., Beside], modified: bool, mesh: NDArray[np.float32] | None
) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(120)
    one.run(said, said, modified=modified, mesh=mesh)
    assert one.states == ["unsure"]
    assert one.policy.status.doubt == "no painted mouth"


def test_after_a_pause_nothing_old_is_left(beside: Callable[..., Beside]) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(120)
    one.run(said, said)
    one.tick += 500  # ten seconds in which nobody watched
    one.run(said, np.roll(said, 5))
    assert one.policy.status.offset == 5


def test_a_camera_that_comes_late_is_no_burden(beside: Callable[..., Beside]) -> None:
    one = beside()
    heard_as_speech(one)
    said = names(120)
    for _ in range(3000):  # a minute of sound without a picture
        one.watch.hear(np.zeros((TICK_SAMPLES, 2), np.float32), one.tick * TICK_S)
        one.watch.tick(one.tick * TICK_S, intended_s=0.0, quiet=True)
        one.tick += 1
        one.wait(lambda: one.watch._waiting.qsize() < 100)
    began = time.monotonic()
    one.run(said, said)
    assert one.policy.status.state == "good"
    assert one.expert.embedded < 300, "the minute without pictures is not made up for"
    assert time.monotonic() - began < GIVE_UP_S


def test_sound_that_got_lost_makes_no_offset(beside: Callable[..., Beside]) -> None:
    """What was already handed over when something is dropped belongs to another timeline."""
    one = beside(acts=True)
    heard_as_speech(one)
    said = names(200)
    one.run(said[:60], said[:60])
    for step in range(20):  # the line goes on, but these blocks find no room
        one.watch._begin_anew((one.tick + step) * TICK_S)
    one.tick += 20
    one.run(said, said)
    assert one.policy.status.state == "good"
    assert one.meter.corrections == 0


def test_a_reading_waits_until_the_generator_rests() -> None:
    read = threading.Event()

    class Noted(NamingExpert):
        def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
            read.set()
            return super().watch(frames)

    watch = SyncWatch(Noted, SyncPolicy(0.25), SyncMeter("noted"), gap_s=GIVE_UP_S)
    try:
        watch.start()
        assert watch.ready.wait(GIVE_UP_S)
        for tick in range(100):
            at, own = tick * TICK_S, picture(3)
            watch.hear(np.zeros((TICK_SAMPLES, 2), np.float32), at)
            watch.show(Shown(tick, at, own, own, True, at, MESH))
        assert not read.wait(0.2)
        watch.gap()
        assert read.wait(GIVE_UP_S / 2)
    finally:
        watch.gap()
        watch.end()


def test_a_monitor_that_hangs_holds_up_nothing() -> None:
    entered, free = threading.Event(), threading.Event()

    class Stuck(NamingExpert):
        def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
            entered.set()
            free.wait()
            return super().watch(frames)

    watch = SyncWatch(Stuck, SyncPolicy(0.25), SyncMeter("stuck"))
    try:
        own = picture(3)
        watch.start()
        assert watch.ready.wait(GIVE_UP_S)
        waited_s = longest_s = 0.0
        for tick in range(1500):
            at, began = tick * TICK_S, time.monotonic()
            watch.hear(np.zeros((TICK_SAMPLES, 2), np.float32), at)
            watch.show(Shown(tick, at, own, own, True, at, MESH))
            watch.tick(at, intended_s=0.0, quiet=True)
            longest_s = max(longest_s, time.monotonic() - began)
            while tick == 100 and not entered.wait(0.01):
                waited_s += 0.01
                assert waited_s < GIVE_UP_S
        assert watch.meter.dropped > 500
        assert longest_s < GIVE_UP_S / 2, "nothing waits for the monitor"
    finally:
        free.set()
        watch.end()


def test_an_expert_that_fails_is_named_and_the_line_goes_on(beside: Callable[..., Beside]) -> None:
    def broken() -> Expert:
        raise EngineError("The expert can't be loaded; get the bundle again.")

    one = beside(broken)
    said = names(60)
    one.run(said, said)
    assert one.watch.trouble == "The expert can't be loaded; get the bundle again."
    assert one.states == ["unsure"]


def test_the_starters_expert_watches_where_a_bundle_has_none(tiny_bundle: Bundle) -> None:
    assert expert_bundle(tiny_bundle, "off", None) is None
    assert watch_with(None, "off") is None
    own = expert_bundle(tiny_bundle, "act", None)
    starter = load_bundle()
    assert own is not None
    assert own.folder == starter.folder
    with pytest.raises(BundleError, match="carries no lip expert"):
        expert_bundle(starter, "act", tiny_bundle.folder)
