import numpy as np
import pytest
from numpy.typing import NDArray

from engine.mel import SAMPLE_RATE
from stream.core.pcm_messages import End, Format, Pcm, PcmParser, encode
from stream.core.translation import END_PAUSE_S, LagMeter, Pauses, SourceQueue, SourceTimeline

pytestmark = pytest.mark.unit

TICK = SAMPLE_RATE // 50
END = "end"


def block(number: int, count: int = TICK) -> NDArray[np.int16]:
    """A tick whose samples all have one value, so that it can be told from others."""
    return np.full(count, number, np.int16)


def runs(queue: SourceQueue) -> list[tuple[int, int] | str]:
    """Everything that is sent: values with how many samples in a row have them, and ends."""
    parser = PcmParser()
    parser.feed(encode(Format(SAMPLE_RATE, 1)))
    found: list[tuple[int, int] | str] = []
    while (data := queue.take()) is not None:
        for message in parser.feed(data):
            if isinstance(message, End):
                found.append(END)
                continue
            assert isinstance(message, Pcm)
            assert 0 < len(message.samples) <= SAMPLE_RATE // 10
            for value in message.samples[:, 0].tolist():
                last = found[-1] if found else END
                if isinstance(last, tuple) and last[0] == value:
                    found[-1] = (value, last[1] + 1)
                else:
                    found.append((value, 1))
    assert parser.error is None
    return found


# What is sent


def test_each_tick_goes_out_by_itself_and_what_waits_goes_in_pieces_of_100_ms() -> None:
    queue = SourceQueue()
    queue.push(block(1), speaking=True)
    assert queue.behind_s == 0.02
    data = queue.take()
    assert data is not None
    assert len(data) == 5 + 2 * TICK
    assert queue.take() is None
    for number in range(7):
        queue.push(block(number), speaking=True)
    sizes = []
    while (data := queue.take()) is not None:
        sizes.append((len(data) - 5) // 2)
    assert sizes == [5 * TICK, 2 * TICK]
    assert queue.behind_s == 0


def test_an_end_follows_a_pause_after_speech_and_once_only() -> None:
    queue = SourceQueue()
    pause = round(END_PAUSE_S * 50)
    for number, (ticks, speaking) in enumerate(
        [(60, False), (3, True), (pause - 1, False), (5, True), (3 * pause, False), (1, True)]
    ):
        for _ in range(ticks):
            queue.push(block(number), speaking=speaking)
    assert runs(queue) == [
        (0, 60 * TICK),
        (1, 3 * TICK),
        (2, (pause - 1) * TICK),
        (3, 5 * TICK),
        (4, pause * TICK),
        END,
        (4, 2 * pause * TICK),
        (5, TICK),
    ]


def test_what_does_not_fit_gives_way_to_silence_of_the_same_length() -> None:
    queue = SourceQueue(hold_s=1.0)
    for number in range(1, 81):
        queue.push(block(number), speaking=True)
    assert queue.dropped_s == pytest.approx(0.6)
    assert queue.behind_s == pytest.approx(1.6)
    sent = runs(queue)
    assert sent == [(0, 30 * TICK)] + [(number, TICK) for number in range(31, 81)]


def test_silence_that_was_begun_to_be_sent_goes_on_where_more_is_dropped() -> None:
    queue = SourceQueue(hold_s=0.2)
    for number in range(1, 21):
        queue.push(block(number), speaking=True)
    first = queue.take()
    assert first is not None
    assert not any(first[5:])
    for number in range(21, 26):
        queue.push(block(number), speaking=True)
    assert runs(queue) == [(0, 10 * TICK)] + [(number, TICK) for number in range(16, 26)]


def test_an_end_is_not_lost_with_the_sound_before_it() -> None:
    queue = SourceQueue(hold_s=1.0)
    for _ in range(10):
        queue.push(block(1), speaking=True)
    for _ in range(100):
        queue.push(block(2), speaking=False)
    assert runs(queue) == [(0, 60 * TICK), END, (2, 50 * TICK)]


def test_an_end_alone_is_sent_when_it_is_due() -> None:
    queue = SourceQueue()
    queue.push(block(1, SAMPLE_RATE), speaking=True)
    queue.push(block(2, SAMPLE_RATE), speaking=False)
    assert runs(queue)[-1] == END
    for _ in range(20):
        assert queue.take() is None


def test_blocks_of_any_length_are_taken() -> None:
    queue = SourceQueue(hold_s=2.0)
    for count in (0, 1, SAMPLE_RATE, 333):
        queue.push(block(count % 7 + 1, count), speaking=False)
    assert runs(queue) == [(2, 1), (SAMPLE_RATE % 7 + 1, SAMPLE_RATE), (333 % 7 + 1, 333)]
    queue.push(block(9, 10 * SAMPLE_RATE), speaking=False)
    assert runs(queue) == [(0, 10 * SAMPLE_RATE)]


def test_a_new_connection_begins_empty_and_goes_on_counting() -> None:
    queue = SourceQueue(hold_s=0.1)
    queue.push(block(1, SAMPLE_RATE), speaking=True)
    queue.restart()
    assert queue.take() is None
    queue.push(block(2, SAMPLE_RATE), speaking=False)
    assert queue.dropped_s == 2
    assert END not in runs(queue)


# The lag


def test_a_position_is_said_when_its_sample_came_in() -> None:
    line = SourceTimeline()
    assert line.said_at(0.0) is None
    for tick in range(100):
        line.given(TICK, 7.02 + tick * 0.02 + 0.015 * (tick % 3))  # a clock that jitters
    assert line.position_s == 2.0
    for position in (0.0, 0.5, 1.999, 2.0):
        assert line.said_at(position) == pytest.approx(7.0 + position, abs=0.04)
    for position in (-0.001, 2.001, float("nan"), 1e13):
        assert line.said_at(position) is None


def test_sound_that_was_left_out_shifts_only_what_comes_after_it() -> None:
    line = SourceTimeline()
    now = 0.0
    for tick in range(200):
        now += 0.02 + (3.0 if tick == 100 else 0)
        line.given(TICK, now)
    assert line.said_at(1.9) == pytest.approx(1.9)
    assert line.said_at(2.1) == pytest.approx(5.1)
    line.restart()
    assert line.said_at(0.0) is None
    line.given(TICK, 50.0)
    assert line.said_at(0.01) == pytest.approx(49.99)


def test_of_many_jumps_the_last_ones_are_known() -> None:
    line = SourceTimeline()
    for jump in range(1000):
        line.given(TICK, float(jump))
    assert line.said_at(999.5 * 0.02) == pytest.approx(999 - 0.01)
    assert line.said_at(0.0) is not None


def test_the_lag_is_that_of_what_is_heard_now() -> None:
    lag = LagMeter()
    assert lag.lag_s(100.0) is None
    lag.mark(said_at=10.0, heard_at=12.5)
    lag.mark(said_at=12.0, heard_at=16.0)
    assert lag.lag_s(12.4) is None
    assert lag.lag_s(12.5) == 2.5
    assert lag.lag_s(15.9) == 2.5
    assert lag.lag_s(16.0) == 4.0
    assert lag.lag_s(1000.0) == 4.0


def test_marks_of_what_was_flushed_never_count() -> None:
    lag = LagMeter()
    for second in range(10):
        lag.mark(said_at=0.0, heard_at=float(second + 1))
    lag.flush(after=3.0)
    lag.mark(said_at=3.5, heard_at=4.0)
    assert lag.lag_s(3.0) == 3.0
    assert lag.lag_s(60.0) == 0.5


def test_marks_are_thinned_and_bounded() -> None:
    lag = LagMeter()
    for tick in range(4):
        lag.mark(said_at=0.0, heard_at=1 + tick * 0.0625)
    assert lag.lag_s(1.19) == 1.0
    for quarter in range(100_000):
        lag.mark(said_at=0.0, heard_at=2 + quarter / 4)
    assert lag.lag_s(1e9) == 2 + 399 / 4


# The pauses between attempts


def test_pauses_grow_to_fifteen_seconds_and_start_again_after_a_success() -> None:
    longest = Pauses(lambda: 1.0)
    assert [longest.next() for _ in range(7)] == [1, 2, 4, 8, 15, 15, 15]
    shortest = Pauses(lambda: 0.0)
    assert [shortest.next() for _ in range(6)] == [0.5, 1, 2, 4, 7.5, 7.5]
    shortest.reset()
    assert shortest.next() == 0.5
