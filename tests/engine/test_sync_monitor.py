"""The rolling window, with an expert that names what it sees and hears."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.filterbank import FPS
from engine.lip_expert import AROUND
from engine.sync_monitor import LEAST, WINDOW, Reading, SyncMonitor
from tests.naming_expert import NamingExpert, names, region, tone

pytestmark = pytest.mark.unit


def watch(
    monitor: SyncMonitor,
    shown: NDArray[np.int64],
    said: NDArray[np.int64],
    every: int = 10,
) -> list[Reading | None]:
    """Show and say one name a frame; read every so many frames."""
    readings = []
    for i, (lips, sound) in enumerate(zip(shown, said, strict=True), 1):
        monitor.see(region(int(lips)))
        monitor.hear(tone(int(sound)))
        monitor.voice(i / FPS, 1 / FPS, True)
        if i % every == 0:
            readings.append(monitor.read())
    return readings


def last(readings: list[Reading | None]) -> Reading:
    assert readings[-1] is not None
    return readings[-1]


def test_nothing_is_said_before_there_is_enough() -> None:
    said = names(LEAST + 20)
    readings = watch(SyncMonitor(NamingExpert()), said, said)
    known = [i for i, reading in enumerate(readings) if reading is not None]
    assert known[0] == LEAST // 10  # two frames and a row are still open at LEAST itself


def test_what_belongs_together_is_found_so() -> None:
    said = names(150)
    reading = last(watch(SyncMonitor(NamingExpert()), said, said))
    assert reading.avsu > 0.95
    assert reading.offset.frames == 0
    assert reading.offset.confidence > 0.8
    assert reading.seen == 1.0
    assert reading.spoken == pytest.approx(1.0)
    assert reading.at_s == pytest.approx(148 / FPS)  # two frames wait for those that follow


@pytest.mark.parametrize("late", [-7, -5, -1, 1, 5, 7])
def test_late_sound_is_a_positive_offset(late: int) -> None:
    said = names(150)
    reading = last(watch(SyncMonitor(NamingExpert()), said, np.roll(said, late)))
    assert reading.offset.frames == late
    assert reading.avsu < 0.3


@pytest.mark.parametrize("late", [-5, 5])
def test_a_picture_that_jumps_is_seen_within_four_seconds(late: int) -> None:
    said = names(400)
    heard = np.concatenate([said[:200], np.roll(said, late)[200:]])
    readings = watch(SyncMonitor(NamingExpert()), said, heard)
    seen = [r.at_s for r in readings if r is not None and r.offset.frames == late]
    assert seen
    assert seen[0] - 200 / FPS <= 4.0


def test_every_frame_is_embedded_once() -> None:
    expert = NamingExpert()
    said = names(300)
    watch(SyncMonitor(expert), said, said, every=5)
    assert expert.embedded == 300 - AROUND


def test_how_often_it_is_read_changes_nothing() -> None:
    said = names(200)
    often = last(watch(SyncMonitor(NamingExpert()), said, np.roll(said, 3), every=1))
    once = last(watch(SyncMonitor(NamingExpert()), said, np.roll(said, 3), every=200))
    assert often == once


def test_sound_that_runs_ahead_waits_for_its_pictures() -> None:
    said = names(150)
    monitor = SyncMonitor(NamingExpert())
    for name in said:
        monitor.hear(tone(int(name)))
    for name in said[:120]:
        monitor.see(region(int(name)))
    reading = monitor.read()
    assert reading is not None
    assert reading.offset.frames == 0
    assert reading.at_s == pytest.approx(118 / FPS)


def test_frames_that_do_not_count_are_left_out() -> None:
    said = names(150)
    monitor = SyncMonitor(NamingExpert())
    for i, name in enumerate(said):
        other = i % 2 == 0
        monitor.see(None if i % 4 == 0 else region(int(name) if not other else 3), counts=not other)
        monitor.hear(tone(int(name)))
    reading = monitor.read()
    assert reading is not None
    assert reading.seen == pytest.approx(0.5, abs=0.01)
    assert reading.avsu > 0.95
    assert reading.offset.frames == 0


def test_without_a_face_nothing_is_known() -> None:
    monitor = SyncMonitor(NamingExpert())
    for name in names(120):
        monitor.see(None)
        monitor.hear(tone(int(name)))
    reading = monitor.read()
    assert reading is not None
    assert (reading.seen, reading.avsu, reading.spoken) == (0.0, 0.0, 0.0)


def test_the_share_of_speech_is_that_of_the_window() -> None:
    monitor = SyncMonitor(NamingExpert())
    for i, name in enumerate(names(300), 1):
        monitor.see(region(int(name)))
        monitor.hear(tone(int(name)))
        monitor.voice(i / FPS, 1 / FPS, i > 250)
    reading = monitor.read()
    assert reading is not None
    assert reading.spoken == pytest.approx(48 / WINDOW, abs=0.011)


def test_memory_does_not_grow() -> None:
    monitor = SyncMonitor(NamingExpert(), window=50)
    said = names(2000)
    for name in said:
        monitor.see(region(int(name)))
        monitor.hear(tone(int(name)))
        monitor.voice(monitor.frames / FPS, 1 / FPS, True)
        if monitor.frames % 10 == 0:
            monitor.read()
    kept = [v for v in vars(monitor).values() if isinstance(v, np.ndarray | list)]
    assert max(len(one) for one in kept) <= 110
