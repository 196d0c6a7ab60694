"""The recording sink, and the instrument that measures skew from outside."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.media import VideoReader, probe, read_audio
from engine.video_writer import VideoWriter
from stream.core.sinks import Shown
from stream.core.skew import SkewMeter
from stream.core.sound import SOUND_RATE, TICK_SAMPLES
from stream.live import recording as recording_module
from stream.live.card import still_card
from stream.live.recording import Recording
from tests.stream import flash_click

pytestmark = pytest.mark.media

DELAY_S = 0.4
SIDE = 64


# The instrument


@pytest.mark.parametrize("late_s", [0.0, 0.08, -0.12])
@pytest.mark.parametrize("fps", [25, 30])
def test_flash_and_click_tell_a_known_skew(tmp_path: Path, late_s: float, fps: int) -> None:
    path = tmp_path / "flash.mp4"
    with VideoWriter(
        path, width=SIDE, height=SIDE, fps=Fraction(fps), audio_rate=SOUND_RATE
    ) as writer:
        for number in range(4 * fps):
            writer.write_frame(flash_click.picture(number / fps, SIDE, SIDE))
        writer.write_audio(flash_click.sound(-late_s, 4 * SOUND_RATE))
    found = flash_click.measure(path)
    assert found == [pytest.approx(late_s, abs=0.003)] * 4


def test_a_flash_without_a_click_counts_for_nothing() -> None:
    assert flash_click.skews([0.4, 1.4, 2.4], [0.41]) == [pytest.approx(0.01)]
    assert flash_click.skews([0.4], []) == []
    assert flash_click.find_clicks(np.zeros(1000, np.float32)) == []


# The recording


class Now:
    """A clock that is set."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def grey(level: int, width: int = SIDE, height: int = SIDE) -> NDArray[np.uint8]:
    return np.full((height, width, 3), level, np.uint8)


def shown(picture: NDArray[np.uint8], at: float, number: int = 0) -> Shown:
    return Shown(
        number=number,
        pts=at - DELAY_S,
        picture=picture,
        original=picture,
        modified=False,
        at=at,
    )


def tone(count: int = TICK_SAMPLES, level: float = 0.5) -> NDArray[np.float32]:
    return np.full((count, 2), level, np.float32)


@asynccontextmanager
async def running(recording: Recording) -> AsyncIterator[Recording]:
    task = asyncio.create_task(recording.run())
    await asyncio.sleep(0)
    try:
        yield recording
    finally:
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def play(
    recording: Recording,
    now: Now,
    seconds: float,
    pictures: Iterator[tuple[float, NDArray[np.uint8]]],
    *,
    sound: Callable[[float], NDArray[np.float32]] = lambda position_s: tone(),
    start: float = 5.0,
    patient: bool = True,
) -> None:
    """A session from ``start`` on: a block each 20 ms, and pictures at their times after it.

    Whoever is patient lets the encoder follow, as it has to in virtual time.
    """
    waiting = next(pictures, None)
    for tick in range(round(seconds / 0.02)):
        now.at = start + tick * 0.02
        recording.hear(sound(now.at - DELAY_S), now.at - DELAY_S)
        while waiting is not None and waiting[0] < (tick + 1) * 0.02:
            recording.show(shown(waiting[1], start + waiting[0]))
            waiting = next(pictures, None)
        while patient and recording.waiting > 20:
            time.sleep(0.001)


def levels(path: Path) -> list[int]:
    with VideoReader(path) as pictures:
        return [round(float(picture.mean())) for _, picture in pictures]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def near(wanted: list[int]) -> list[object]:
    return [pytest.approx(level, abs=3) for level in wanted]


async def test_each_picture_gets_the_slot_in_which_it_was_shown(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    # Shown 4 ms early and late in turn; none in the slots 3 and 4, two in slot 6.
    times = [(0.004, 40), (0.036, 60), (0.084, 80), (0.196, 100), (0.235, 120), (0.248, 140)]
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        play(recording, now, 0.4, ((at, grey(level)) for at, level in times))
    assert levels(path) == near([40, 60, 80, 80, 80, 100, 140, 140, 140, 140])
    assert recording.facts() == {
        "pictures": 10,
        "repeated": 5,
        "dropped": {"slot": 1},
        "sound_s": 0.4,
        "holes": 0,
        "trouble": None,
    }
    info = probe(path)
    assert (info.fps, info.width, info.height) == (Fraction(25), SIDE, SIDE)
    assert names(tmp_path) == ["out.mp4"]


async def test_jitter_at_the_edge_of_two_slots_neither_drops_nor_repeats(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    jitter = np.random.default_rng(3).uniform(-0.005, 0.005, 50)
    pictures = ((number / 25 + 0.02 + jitter[number], grey(50)) for number in range(50))
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        play(recording, now, 2.1, pictures)
    assert recording.facts()["dropped"] == {}
    assert recording.facts()["repeated"] <= 4  # the start and the end


async def test_a_faster_camera_drops_and_a_slower_one_repeats(tmp_path: Path) -> None:
    dropped, repeated = [], []
    for rate in (30, 20):
        path, now = tmp_path / f"{rate}.mp4", Now()
        pictures = ((number / rate, grey(50)) for number in range(2 * rate))
        async with running(Recording(path, Fraction(25), clock=now)) as recording:
            play(recording, now, 2.0, pictures)
        assert len(levels(path)) == pytest.approx(50, abs=1)
        dropped.append(sum(recording.facts()["dropped"].values()))
        repeated.append(recording.facts()["repeated"])
    assert dropped == [pytest.approx(10, abs=1), 0]
    assert repeated == [pytest.approx(0, abs=1), pytest.approx(10, abs=1)]


async def test_what_comes_before_the_first_picture_shows_that_picture(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        play(recording, now, 1.0, iter([(0.4, grey(90)), (0.8, grey(180))]))
    assert levels(path) == near([90] * 20 + [180] * 5)
    assert len(read_audio(path, SOUND_RATE)) == pytest.approx(SOUND_RATE, abs=2048)


@pytest.mark.parametrize("fps", [25, 30])
async def test_the_file_is_in_sync_and_the_sink_says_so(tmp_path: Path, fps: int) -> None:
    path, now, meter = tmp_path / "out.mp4", Now(), SkewMeter()

    def sound(position_s: float) -> NDArray[np.float32]:
        return np.repeat(flash_click.sound(position_s, TICK_SAMPLES)[:, None], 2, axis=1)

    # Pictures are shown at their pts plus the delay, up to 6 ms late, out of phase with the file.
    late = np.random.default_rng(1).uniform(0.0, 0.006, 4 * fps)
    start = 5.007
    pictures = (
        (number / fps + 0.011 + late[number], number / fps + 0.011 + start - DELAY_S)
        for number in range(4 * fps)
    )
    drawn = ((at, flash_click.picture(pts, SIDE, SIDE)) for at, pts in pictures)
    recording = Recording(
        path,
        Fraction(fps),
        clock=now,
        on_picture_left=meter.picture_left,
        on_sound_left=meter.sound_left,
    )
    async with running(recording):
        play(recording, now, 4.1, drawn, sound=sound, start=start)
    found = flash_click.measure(path)
    assert len(found) == 4
    assert max(abs(skew_s) for skew_s in found) < 1 / fps + 0.01
    sizes = meter.sizes_ms()
    assert sizes["max"] is not None
    assert 0 < sizes["max"] < 1000 / fps
    assert meter.signed_p50_ms == pytest.approx(float(np.median(found)) * 1000, abs=1000 / fps)


async def test_sound_is_written_as_it_comes_whatever_its_positions(tmp_path: Path) -> None:
    """A change of the delay moves the positions, not the time at which sound is due."""
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        recording.show(shown(grey(50), 0.0))
        for tick in range(50):
            now.at = tick * 0.02
            recording.hear(tone(), now.at - (0.4 if tick < 25 else 0.2))
    facts = recording.facts()
    assert (facts["sound_s"], facts["holes"]) == (1.0, 0)


async def test_a_hole_in_the_sound_becomes_silence(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        recording.show(shown(grey(50), 0.0))
        for tick in (*range(25), *range(50, 75)):  # half a second never comes
            now.at = tick * 0.02
            recording.hear(tone(level=0.5), now.at - DELAY_S)
    heard = np.abs(read_audio(path, SOUND_RATE))
    assert recording.facts()["holes"] == 1
    assert recording.facts()["sound_s"] == pytest.approx(1.5)
    assert heard[int(0.6 * SOUND_RATE) : int(0.9 * SOUND_RATE)].max() < 0.02
    assert np.median(heard[int(1.1 * SOUND_RATE) : int(1.4 * SOUND_RATE)]) > 0.3


async def test_a_stalled_event_loop_makes_no_hole(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        recording.show(shown(grey(50), 0.0))
        for tick in range(100):
            stalled = 25 <= tick < 60
            now.at = 1.2 if stalled else tick * 0.02
            recording.hear(tone(), tick * 0.02 - DELAY_S)
    assert (recording.facts()["sound_s"], recording.facts()["holes"]) == (2.0, 0)


async def test_a_late_first_block_does_not_shift_the_whole_file(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        for tick in range(50):
            now.at = tick * 0.02 + (0.1 if tick == 0 else 0.0)
            recording.hear(tone(), tick * 0.02 - DELAY_S)
        recording.show(shown(grey(50), 0.0))
        recording.show(shown(grey(200), 0.8))
    assert levels(path) == near([50] * 20 + [200] * 5)


async def test_pictures_of_another_size_are_fitted_in(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        play(recording, now, 0.2, iter([(0.0, grey(60, 96, 54)), (0.1, grey(200, 128, 72))]))
    assert (probe(path).width, probe(path).height) == (96, 54)
    assert levels(path)[-1] == pytest.approx(200, abs=3)


async def test_the_size_that_was_asked_for_is_the_files(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now, size=(80, 48))) as recording:
        play(recording, now, 0.2, iter([(0.0, grey(60, 160, 96))]))
    assert (probe(path).width, probe(path).height) == (80, 48)


class Slow(VideoWriter):
    """An encoder that waits at its first picture."""

    begun, go = threading.Event(), threading.Event()

    def write_frame(self, rgb: NDArray[np.uint8]) -> None:
        self.begun.set()
        assert self.go.wait(30)
        super().write_frame(rgb)


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Slow]]:
    monkeypatch.setattr(Slow, "begun", threading.Event())
    monkeypatch.setattr(Slow, "go", threading.Event())
    monkeypatch.setattr(recording_module, "VideoWriter", Slow)
    yield Slow
    Slow.go.set()


def encoder_ends_within(seconds: float) -> None:
    for thread in threading.enumerate():
        if thread.name == "recording":
            thread.join(seconds)


def begin(recording: Recording, now: Now, slow: type[Slow]) -> None:
    """The first half second, of which the encoder takes the first picture."""
    play(recording, now, 0.4, iter([(0.0, grey(20)), (0.2, grey(20))]), patient=False)
    assert slow.begun.wait(30)


async def test_a_slow_encoder_loses_the_oldest_pictures_and_no_sound(
    tmp_path: Path, slow: type[Slow]
) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        begin(recording, now, slow)
        pictures = ((number / 25, grey(30 + 2 * number)) for number in range(100))
        play(recording, now, 4.0, pictures, start=5.4, patient=False)
        slow.go.set()
    assert recording.facts()["dropped"] == {"slow": 51}  # of the 101 after it, 50 may wait
    assert recording.facts()["sound_s"] == 4.4
    found = levels(path)
    assert found == near([20] * 60 + [30 + 2 * number for number in range(50, 100)])
    assert np.median(np.abs(read_audio(path, SOUND_RATE))) > 0.4


async def test_an_encoder_a_minute_behind_ends_the_recording_and_keeps_it(
    tmp_path: Path, slow: type[Slow]
) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(5), clock=now)) as recording:
        begin(recording, now, slow)
        pictures = ((number / 5, grey(50)) for number in range(400))
        play(recording, now, 70.0, pictures, start=5.4, patient=False)
        assert recording.trouble is not None
        assert "faster x264_preset" in recording.trouble
        slow.go.set()
    assert float(probe(path).duration_s) == pytest.approx(60.2, abs=0.3)


async def test_trouble_while_writing_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: VideoWriter, samples: object) -> None:
        raise MediaError("out.mp4 can't be written (No space left on device); check the disk.")

    monkeypatch.setattr(VideoWriter, "write_audio", full)
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        pictures = ((number / 25, grey(50)) for number in range(25))
        play(recording, now, 1.0, pictures)
    assert recording.trouble is not None
    assert "No space left" in recording.trouble
    assert names(tmp_path) == []


async def test_a_failure_of_ours_does_not_reach_the_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(content_s: float, at: float) -> None:
        raise RuntimeError("broken")

    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now, on_sound_left=broken)) as recording:
        play(recording, now, 1.0, iter([(0.0, grey(50))]))
    assert recording.trouble == f"{path} can't be written; the log says why."
    assert names(tmp_path) == []
    assert "the recording failed" in caplog.text


async def test_an_encoder_that_has_nothing_to_do_at_the_end_still_gets_the_last_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, now = tmp_path / "out.mp4", Now()
    busy, ending = threading.Event(), threading.Event()

    def left(content_s: float, at: float) -> None:
        busy.set()
        assert ending.wait(30)

    recording = Recording(path, Fraction(25), clock=now, on_sound_left=left)
    hand_on = recording._hand_on

    def handed_on_late(until: int) -> None:
        ending.set()
        encoder_ends_within(0.1)  # which it must not
        hand_on(until)

    monkeypatch.setattr(recording, "_hand_on", handed_on_late)
    async with running(recording):
        recording.show(shown(grey(50), 0.0))
        recording.hear(tone(), -DELAY_S)
        assert await asyncio.to_thread(busy.wait, 30)
    assert recording.trouble is None
    assert levels(path) == near([50])


async def test_a_session_without_pictures_leaves_no_file(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(Recording(path, Fraction(25), clock=now)) as recording:
        play(recording, now, 1.0, iter([]))
    assert recording.trouble is not None
    assert "no pictures" in recording.trouble
    assert names(tmp_path) == []


async def test_sound_that_waits_for_a_picture_gets_a_dark_one(tmp_path: Path) -> None:
    path, now = tmp_path / "out.mp4", Now()
    async with running(
        Recording(path, Fraction(25), clock=now, size=(64, 64), preset="ultrafast")
    ) as recording:
        play(recording, now, 6.0, iter([(5.6, grey(200))]))
    assert levels(path) == near([28] * 140 + [200] * 10)


@pytest.mark.parametrize(
    ("name", "message"),
    [("out.avi", "ending in .mp4"), ("none/out.mp4", "does not exist")],
)
def test_a_file_that_cannot_be_written_is_known_before_the_session(
    tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(MediaError, match=message):
        Recording(tmp_path / name, Fraction(25), clock=Now())
    assert names(tmp_path) == []


async def test_a_second_cancellation_gives_the_file_up(tmp_path: Path, slow: type[Slow]) -> None:
    path, now = tmp_path / "out.mp4", Now()
    recording = Recording(path, Fraction(25), clock=now)
    task = asyncio.create_task(recording.run())
    await asyncio.sleep(0)
    play(recording, now, 0.2, ((n / 25, grey(50)) for n in range(5)), patient=False)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    slow.go.set()
    encoder_ends_within(30)
    assert names(tmp_path) == []


# The still card


def test_a_card_shows_the_picture_dimmed_with_readable_lines() -> None:
    picture = np.zeros((360, 640, 3), np.uint8)
    picture[:, :320, 0] = 250  # red on the left
    card = still_card(picture, 640, 360, ("Camera lost", "The sound goes on"))
    assert card.shape == (360, 640, 3)
    assert card.dtype == np.uint8
    assert 60 < card[20, 100, 0] < 90
    assert card[20, 100, 1:].max() == 0
    assert card[20, 500].max() < 5
    text = card.min(axis=2) > 200
    rows, columns = np.flatnonzero(text.any(1)), np.flatnonzero(text.any(0))
    assert len(np.flatnonzero(np.diff(rows) > 5)) == 1  # two lines
    assert (rows[0] + rows[-1]) / 2 == pytest.approx(180, abs=15)
    assert (columns[0] + columns[-1]) / 2 == pytest.approx(320, abs=8)


@pytest.mark.parametrize(("width", "height"), [(1280, 720), (256, 256), (180, 320)])
def test_long_lines_stay_on_the_card(width: int, height: int) -> None:
    card = still_card(None, width, height, ("No picture from the camera at this moment",))
    columns = np.flatnonzero((card[..., 0] > 150).any(axis=0))
    assert columns[0] > 0.03 * width
    assert columns[-1] < 0.97 * width
    assert columns[-1] - columns[0] > 0.4 * width


def test_a_card_without_lines_is_plain() -> None:
    assert set(np.unique(still_card(None, 64, 48, ()))) == {28}
