"""Which packets are asked for again, and when."""

from itertools import pairwise

import pytest

from stream.core.nack import MOST_MISSING, REPEAT_S, TRIES, Nacks

pytestmark = pytest.mark.unit


def asked_times(nacks: Nacks, until_s: float, step_s: float = 0.01) -> list[float]:
    """When packets are asked for again from now on."""
    return [
        round(step * step_s, 3)
        for step in range(round(until_s / step_s))
        if nacks.again(step * step_s)
    ]


def test_a_hole_is_asked_for_at_once_and_only_once_by_arrivals() -> None:
    nacks = Nacks()
    assert nacks.take(10, 0.0) == []
    assert nacks.take(13, 0.01) == [11, 12]
    assert nacks.take(14, 0.02) == []
    assert nacks.take(11, 0.03) == []
    assert len(nacks) == 1
    assert (nacks.asked, nacks.recovered) == (2, 1)


def test_a_lost_answer_is_asked_for_again_then_more_often_and_not_for_ever() -> None:
    nacks = Nacks()
    nacks.take(10, 0.0)
    assert nacks.take(12, 0.0) == [11]
    times = asked_times(nacks, 3.0)
    assert times[0] == pytest.approx(REPEAT_S, abs=0.011)
    assert len(times) == TRIES - 1
    steps = [b - a for a, b in pairwise(times)]
    assert max(steps) < REPEAT_S / 2
    assert len(nacks) == 0


def test_the_repetition_follows_the_round_trip() -> None:
    nacks = Nacks()
    nacks.take(0, 0.0)
    now = 0.0
    for number in range(2, 40, 2):
        now += 1.0
        nacks.take(number, now)
        nacks.take(number - 1, now + 0.2, retransmitted=True)
    assert nacks.rtt_s == pytest.approx(0.2)
    assert nacks.repeat_s == pytest.approx(0.3)


def test_a_packet_that_was_only_late_says_nothing_about_the_round_trip() -> None:
    nacks = Nacks()
    nacks.take(0, 0.0)
    nacks.take(2, 0.02)
    nacks.take(1, 0.025)
    assert nacks.rtt_s is None


def test_a_round_trip_is_learned_although_requests_are_repeated_before_the_answer_comes() -> None:
    nacks = Nacks()
    nacks.take(0, 0.0)
    nacks.take(2, 1.0)
    for step in range(25):
        nacks.again(1.0 + step * 0.01)
    assert nacks.repeated > 0
    nacks.take(1, 1.25, retransmitted=True)
    assert nacks.rtt_s == pytest.approx(0.25)


def test_an_answer_that_was_lost_once_does_not_hide_the_round_trip() -> None:
    nacks = Nacks()
    nacks.take(0, 0.0)
    nacks.take(2, 1.0)
    for step in range(25):
        nacks.again(1.0 + step * 0.01)
    nacks.take(1, 1.25, retransmitted=True)
    nacks.take(4, 2.0)
    nacks.take(3, 2.05, retransmitted=True)
    assert nacks.rtt_s == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("hole", "silent_s", "hopeless"),
    [
        pytest.param(MOST_MISSING + 1, 0.1, True, id="longer than senders remember"),
        pytest.param(20, 0.5, True, id="an outage"),
        pytest.param(20, 0.1, False, id="a burst"),
        pytest.param(3, 1.0, False, id="a slow stream"),
    ],
)
def test_what_can_not_be_repaired_in_time_is_not_asked_for(
    hole: int, silent_s: float, hopeless: bool
) -> None:
    nacks = Nacks()
    nacks.take(0, 0.0)
    asked = nacks.take(hole + 1, silent_s)
    assert nacks.hopeless is hopeless
    assert len(asked) == (0 if hopeless else hole)


def test_memory_is_bounded_and_what_is_of_no_use_is_forgotten() -> None:
    nacks = Nacks()
    for number in range(0, 2000, 2):  # every second packet is lost
        nacks.take(number, number / 1000)
    assert len(nacks) <= MOST_MISSING
    nacks.forget(1999)
    assert len(nacks) == 0
    nacks.take(2100, 3.0)
    nacks.restart()
    assert nacks.take(5, 3.1) == []


def test_what_is_missing_before_the_first_packet_that_came_is_asked_for_once_that_shows() -> None:
    nacks = Nacks()
    assert nacks.take(10, 0.0) == []
    assert nacks.take(12, 0.0) == [11]
    assert nacks.take(6, 0.01) == [7, 8, 9]
    assert nacks.take(8, 0.02) == []
    assert nacks.take(-500, 0.02) == []
    assert nacks.again(0.2) == [7, 9, 11]
    nacks.forget(10)
    assert nacks.again(0.4) == [11]
