"""Sound that is kept, sound that waits, and joints."""

import numpy as np
import pytest

from stream.core.sound import SOUND_RATE, Sound
from stream.core.track import FADE_SAMPLES, Seam, SoundQueue, SoundTrack, silence

pytestmark = pytest.mark.unit


def numbered(first: int, count: int) -> Sound:
    """Samples whose left channel is their own number, and the right one its negative."""
    numbers = np.arange(first, first + count, dtype=np.float32)
    return np.stack([numbers, -numbers], axis=1)


def constant(value: float, count: int) -> Sound:
    return np.full((count, 2), value, np.float32)


# SoundTrack


@pytest.mark.parametrize("seed", range(5))
def test_a_track_gives_what_was_appended_and_zeros_elsewhere(seed: int) -> None:
    random = np.random.default_rng(seed)
    track, end, size = SoundTrack(keep_s=1_000 / SOUND_RATE), 0, 1_000
    for _ in range(60):
        count = int(random.choice([0, 1, 7, 960, 999, 1_000, 1_001, 2_345]))
        track.append(numbered(end, count))
        end += count
        assert track.end == end
        start, count = int(random.integers(-500, end + 500)), int(random.integers(0, 3_000))
        wanted = numbered(start, count)
        numbers = np.arange(start, start + count)
        wanted[(numbers < max(0, end - size)) | (numbers >= end)] = 0
        np.testing.assert_array_equal(track.read(start, count), wanted)


def test_what_is_read_is_the_readers_own() -> None:
    track = SoundTrack()
    track.append(numbered(0, 960))
    track.read(0, 960)[:] = 7
    np.testing.assert_array_equal(track.read(0, 960), numbered(0, 960))


@pytest.mark.parametrize("peak", [0.5, -0.5])
def test_the_level_is_the_peak_of_a_stretch(peak: float) -> None:
    track = SoundTrack()
    block = silence(960)
    block[500, 1] = peak
    track.append(block)
    assert track.level(0, 960) == 0.5
    assert track.level(500, 1) == 0.5
    assert track.level(501, 10_000) == 0
    assert track.level(-100, 600) == 0
    assert track.level(0, 0) == 0


def test_a_track_keeps_its_memory() -> None:
    track = SoundTrack(keep_s=0.1)
    ring = track._ring
    for start in range(0, 96_000, 960):
        track.append(numbered(start, 960))
    assert track._ring is ring
    assert ring.shape == (4_800, 2)


# SoundQueue


@pytest.mark.parametrize("seed", range(5))
def test_a_queue_gives_everything_in_order(seed: int) -> None:
    random = np.random.default_rng(seed)
    queue, pushed, gone = SoundQueue(), 0, 0
    for _ in range(200):
        count = int(random.integers(0, 50))
        queue.append(numbered(pushed, count))
        pushed += count
        wanted = int(random.integers(0, 60))
        there = min(wanted, pushed - gone)
        np.testing.assert_array_equal(queue.peek(wanted), numbered(gone, there))
        if random.random() < 0.5:
            np.testing.assert_array_equal(queue.take(wanted), numbered(gone, there))
        else:
            assert queue.drop(wanted) == there
        gone += there
        assert len(queue) == pushed - gone
    assert queue.clear() == pushed - gone
    assert len(queue) == len(queue.take(10)) == 0


@pytest.mark.parametrize(("start", "count"), [(0, 10), (3, 10), (3, 1_000), (100, 5), (20, 0)])
def test_samples_are_removed_from_the_middle(start: int, count: int) -> None:
    queue = SoundQueue()
    for first in range(0, 50, 10):
        queue.append(numbered(first, 10))
    queue.drop(2)
    wanted = np.delete(numbered(2, 48), slice(start, start + count), axis=0)
    assert queue.remove(start, count) == 48 - len(wanted)
    assert len(queue) == len(wanted)
    np.testing.assert_array_equal(queue.take(100), wanted)


# Seam


def test_without_a_cut_nothing_is_touched() -> None:
    seam, part = Seam(), numbered(0, 960)
    assert seam.join(part) is part


@pytest.mark.parametrize("size", [1, 7, 100, 960])
def test_a_cut_is_cross_faded_over_blocks_of_any_size(size: int) -> None:
    seam = Seam()
    seam.join(constant(1, 960))
    seam.cut(constant(1, 960))
    joined = np.concatenate([seam.join(constant(-1, size)) for _ in range(0, 960, size)])[:, 0]
    steps = np.diff(joined)
    assert np.abs(joined[0] - 1) < 0.01
    assert (steps <= 0).all()
    assert np.abs(steps).max() < 2.1 / FADE_SAMPLES
    assert (joined[FADE_SAMPLES:] == -1).all()
    assert joined[FADE_SAMPLES - 1] > -1


def test_where_nothing_more_is_known_the_last_sample_fades_out() -> None:
    seam = Seam()
    seam.join(constant(0.8, 960))
    seam.cut()
    faded = seam.join(silence(960))[:, 0]
    assert 0.79 < faded[0] < 0.8
    assert np.abs(np.diff(faded)).max() < 0.9 / FADE_SAMPLES
    assert not faded[FADE_SAMPLES:].any()


def test_a_short_rest_is_held() -> None:
    seam = Seam()
    seam.join(constant(0.8, 960))
    seam.cut(constant(0.8, 10))
    assert np.abs(np.diff(seam.join(silence(960))[:, 0])).max() < 0.9 / FADE_SAMPLES


def test_a_cut_within_a_fade_makes_no_step() -> None:
    seam = Seam()
    parts = [seam.join(constant(1, 960))]
    seam.cut(constant(1, 960))
    parts.append(seam.join(constant(-1, 100)))
    seam.cut(constant(-1, 960))
    parts.append(seam.join(silence(960)))
    joined = np.concatenate(parts)[:, 0]
    assert np.abs(np.diff(joined)).max() < 2.5 / FADE_SAMPLES
    assert not joined[-100:].any()


def test_what_is_joined_keeps_the_callers_block() -> None:
    seam, block = Seam(), constant(1, 960)
    seam.cut()
    seam.join(block)
    assert (block == 1).all()
