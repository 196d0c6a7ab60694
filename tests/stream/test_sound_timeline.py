"""A peer's sound without gaps, from packets that are lost, late, doubled or out of order."""

import random
import struct
from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import pytest

from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound
from stream.core.sound_timeline import (
    MOST_FILL_S,
    MOST_WAIT_S,
    SoundTimeline,
    Stretch,
)

pytestmark = pytest.mark.unit

TICK_S = 0.02
TONE_HZ = 220.0


def payload(number: int, samples: int = TICK_SAMPLES) -> bytes:
    return struct.pack("!QI", number, samples)


def decode(data: bytes) -> Sound:
    """A tone that goes on from packet to packet; nothing of what is no payload of ours."""
    if len(data) != 12:
        return np.zeros((TICK_SAMPLES if data == b"." else 0, 2), np.float32)
    number, samples = struct.unpack("!QI", data)
    at = (number * TICK_SAMPLES + np.arange(samples)) / SOUND_RATE
    wave = (0.5 * np.sin(2 * np.pi * TONE_HZ * at)).astype(np.float32)
    return np.stack([wave, wave], axis=1)


def play(
    timeline: SoundTimeline, arrivals: Iterable[tuple[float, int]], *, until_s: float = 0.0
) -> list[Stretch]:
    """What is given for packets that arrive at these times; in between it is asked every 10 ms."""
    given: list[Stretch] = []
    tick = 0.0
    for at, number in sorted(arrivals):
        while tick < at:
            given += timeline.wait(tick)
            tick += 0.01
        given += timeline.add(number, number * TICK_SAMPLES, payload(number), at)
    while tick < until_s:
        given += timeline.wait(tick)
        tick += 0.01
    return given


def assert_contiguous(stretches: list[Stretch]) -> None:
    for before, after in pairwise(stretches):
        assert after.start == before.start + len(before.samples)


def wait(timeline: SoundTimeline, begin: float, end: float) -> list[Stretch]:
    """What is given while nothing arrives."""
    given: list[Stretch] = []
    for step in range(round(1000 * begin), round(1000 * end), 5):
        given += timeline.wait(step / 1000)
    return given


def on_time(*numbers: int) -> list[tuple[float, int]]:
    return [(number * TICK_S, number) for number in numbers]


def test_packets_in_order_leave_at_once_and_unchanged() -> None:
    timeline = SoundTimeline(decode)
    for number in range(10):
        (stretch,) = timeline.add(number, number * TICK_SAMPLES, payload(number), number * TICK_S)
        assert stretch.start == number * TICK_SAMPLES
        assert stretch.heard
        assert np.array_equal(stretch.samples, decode(payload(number)))
    assert timeline.heard_s == pytest.approx(0.2)
    assert timeline.filled_s == 0.0


def test_a_lost_packet_is_filled_with_as_many_samples_and_no_click() -> None:
    timeline = SoundTimeline(decode)
    given = play(timeline, on_time(0, 1, 2, 4, 5, 6, 7, 8, 9, 10))
    assert_contiguous(given)
    assert sum(len(stretch.samples) for stretch in given) == 11 * TICK_SAMPLES
    (fill,) = [stretch for stretch in given if not stretch.heard]
    assert (fill.start, len(fill.samples)) == (3 * TICK_SAMPLES, TICK_SAMPLES)
    assert np.abs(fill.samples).max() > 0.3  # conceals, and is not just silent
    whole = np.concatenate([stretch.samples for stretch in given])
    steepest = 2 * np.pi * TONE_HZ / SOUND_RATE * 0.5
    assert np.abs(np.diff(whole, axis=0)).max() < 1.5 * steepest
    assert timeline.lost == 1


def test_a_long_gap_falls_silent_and_begins_again_without_a_click() -> None:
    given = play(SoundTimeline(decode), on_time(0, 1, 2, 12, 13, 14, 15, 16), until_s=1.0)
    assert_contiguous(given)
    (fill,) = [stretch for stretch in given if not stretch.heard]
    assert len(fill.samples) == 9 * TICK_SAMPLES
    assert np.abs(fill.samples[TICK_SAMPLES:]).max() == 0.0
    whole = np.concatenate([stretch.samples for stretch in given])
    assert np.abs(np.diff(whole, axis=0)).max() < 0.02


def test_a_packet_out_of_order_is_waited_for() -> None:
    timeline = SoundTimeline(decode)
    arrivals = [*on_time(0, 1, 3, 4), (0.1, 2), *on_time(6, 7)]
    given = play(timeline, arrivals)
    assert [stretch.start // TICK_SAMPLES for stretch in given[:5]] == [0, 1, 2, 3, 4]
    assert all(stretch.heard for stretch in given[:5])
    assert timeline.lost == 0


def test_nothing_is_held_up_longer_than_the_longest_wait() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0))
    assert timeline.add(2, 2 * TICK_SAMPLES, payload(2), 1.0) == []
    end = 1.0 + MOST_WAIT_S
    assert wait(timeline, 1.0, end - 0.001) == []
    assert [stretch.heard for stretch in wait(timeline, end, end + 0.01)] == [False, True]


def test_nothing_becomes_late_while_the_loop_stands_still_and_reads_nothing() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0, 1, 2))
    assert timeline.add(4, 4 * TICK_SAMPLES, payload(4), 0.08) == []
    assert timeline.add(5, 5 * TICK_SAMPLES, payload(5), 0.4) == []
    given = timeline.add(3, 3 * TICK_SAMPLES, payload(3), 0.401)
    assert [stretch.heard for stretch in given] == [True, True, True]


def test_a_listener_that_is_about_to_run_dry_is_not_kept_waiting() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0))
    assert timeline.add(2, 2 * TICK_SAMPLES, payload(2), 1.0) == []
    assert [stretch.heard for stretch in timeline.wait(1.012, dry=True)] == [False, True]


def test_packets_that_came_late_are_waited_for_although_the_listener_runs_dry() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(*[n for n in range(100) if n != 60]))
    timeline.add(60, 60 * TICK_SAMPLES, payload(60), 61 * TICK_S + 0.03)  # it would have been one
    play(timeline, [*on_time(*range(100, 110), 111), (111 * TICK_S + 0.035, 110)])
    assert (timeline.lost, timeline.late) == (1, 1)
    now = 112 * TICK_S
    assert timeline.add(113, 113 * TICK_SAMPLES, payload(113), now) == []
    assert timeline.wait(now + 0.044, dry=True) == []
    given = timeline.add(112, 112 * TICK_SAMPLES, payload(112), now + 0.044, dry=True)
    assert [stretch.heard for stretch in given] == [True, True]


def test_a_late_packet_is_dropped_and_counted_and_a_double_one_is_told_from_it() -> None:
    timeline = SoundTimeline(decode)
    given = play(timeline, [*on_time(0, 1, 3, 4, 5, 6, 7, 8), (0.165, 2), (0.17, 8), (0.171, 1)])
    assert_contiguous(given)
    assert (timeline.lost, timeline.late, timeline.twice) == (1, 1, 2)


@pytest.mark.parametrize("loss", [0.01, 0.05, 0.1])
def test_under_loss_as_many_seconds_leave_as_were_sent(loss: float) -> None:
    chance, timeline, packets = random.Random(2), SoundTimeline(decode), 3000
    numbers = [n for n in range(packets) if n in (0, packets - 1) or chance.random() >= loss]
    given = play(timeline, [(n * TICK_S + 0.02 * chance.random(), n) for n in numbers], until_s=70)
    assert_contiguous(given)
    assert sum(len(stretch.samples) for stretch in given) == packets * TICK_SAMPLES
    assert timeline.heard_s == pytest.approx(len(numbers) * TICK_S)
    assert timeline.heard_s + timeline.filled_s == pytest.approx(packets * TICK_S)


def test_jitter_reordering_and_doubles_lose_nothing() -> None:
    chance, timeline = random.Random(4), SoundTimeline(decode)
    arrivals = []
    for number in range(2000):
        delay_s = 0.05 + 0.02 * (2 * chance.random() - 1) + 0.03 * (chance.random() < 0.02)
        arrivals += [(number * TICK_S + delay_s, number)] * (1 + (chance.random() < 0.01))
    arrivals = [(0.0, 0), *arrivals[1:]]
    given = play(timeline, arrivals, until_s=41)
    assert_contiguous(given)
    assert all(stretch.heard for stretch in given)
    assert len(given) == 2000
    assert (timeline.lost, timeline.filled_s) == (0, 0.0)
    assert timeline.twice > 0


def test_a_jump_of_hours_is_not_filled() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0, 1))
    far = 2 * TICK_SAMPLES + round(MOST_FILL_S * SOUND_RATE) + 1
    given = timeline.add(2, far, payload(2), 0.04) + timeline.add(3, 0, payload(3), 0.06)
    assert [(stretch.heard, stretch.start) for stretch in given] == [(True, far), (True, 0)]
    assert (timeline.jumps, timeline.filled_s) == (2, 0.0)


def test_packets_of_other_lengths_keep_their_length() -> None:
    timeline = SoundTimeline(decode)
    given: list[Stretch] = []
    place = 0
    for number, samples in enumerate((480, 2880, 960, 120)):
        given += timeline.add(number, place, payload(number, samples), number * TICK_S)
        place += samples
    assert_contiguous(given)
    assert [len(stretch.samples) for stretch in given] == [480, 2880, 960, 120]


def test_what_can_not_be_decoded_is_filled() -> None:
    timeline = SoundTimeline(decode)
    given = play(timeline, on_time(0, 1))
    given += timeline.add(2, 2 * TICK_SAMPLES, b"garbage", 0.04)
    given += play(timeline, on_time(3, 4))
    assert_contiguous(given)
    assert [stretch.heard for stretch in given] == [True, True, False, True, True]


def test_while_the_sender_pauses_silence_goes_on_and_adds_up_to_the_time_of_the_pause() -> None:
    """Discontinuous transmission: a packet of one byte, then none but one every 400 ms."""
    timeline = SoundTimeline(decode)
    given = play(timeline, on_time(*range(10)))
    now, most_s, last = 0.2, 0.0, 0.2
    number, timestamp = 10, 10 * TICK_SAMPLES
    for _ in range(25):
        given += timeline.add(number, timestamp, b".", now)
        most_s, last = max(most_s, now - last), now
        for step in range(1, 40):
            at = now + step / 100
            fresh = timeline.wait(at)
            given += fresh
            most_s, last = (max(most_s, at - last), at) if fresh else (most_s, last)
        number, timestamp, now = number + 1, timestamp + 20 * TICK_SAMPLES, now + 0.4
    given += timeline.add(number, timestamp, payload(number), now)
    assert most_s < 0.055  # nothing runs dry
    assert timeline.heard_s + timeline.filled_s == pytest.approx(10.2 + 0.02)
    assert sum(len(stretch.samples) for stretch in given) == timestamp + TICK_SAMPLES
    assert timeline.jumps == 0


def test_a_pause_that_ends_late_is_made_up_for() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0))
    timeline.add(1, TICK_SAMPLES, b".", 0.02)
    for step in range(50):
        timeline.wait(0.02 + step / 100)
    timeline.add(2, 21 * TICK_SAMPLES, b".", 0.52)  # 80 ms late
    for step in range(40):
        timeline.wait(0.52 + step / 100)
    timeline.add(3, 41 * TICK_SAMPLES, payload(41), 0.92)
    assert timeline.heard_s + timeline.filled_s == pytest.approx(42 * TICK_S, abs=0.0801)
    play(timeline, [(0.94 + n * TICK_S, 42 + n) for n in range(1, 20)])  # the first one is lost
    assert timeline.heard_s + timeline.filled_s == pytest.approx(62 * TICK_S, abs=0.0601)


def test_another_stream_begins_where_it_likes() -> None:
    timeline = SoundTimeline(decode)
    play(timeline, on_time(0, 1))
    timeline.restart()
    given = timeline.add(5, 10**9, payload(7), 0.06)
    assert [stretch.start for stretch in given] == [10**9]
    assert (timeline.jumps, timeline.filled_s) == (1, 0.0)


def test_what_waits_has_a_bound_whatever_comes() -> None:
    chance, timeline = random.Random(6), SoundTimeline(decode)
    sequence = 0
    for step in range(20_000):
        sequence += chance.choice([1, 1, 2, -5, 200, -150])
        timestamp = chance.randrange(-(1 << 20), 1 << 20)
        timeline.add(sequence, timestamp, chance.choice([b"", b".", payload(1)]), step / 1000)
        assert timeline.pending <= 100
    assert timeline.filled_s <= 20_000 * MOST_FILL_S
