"""A batch starts as soon as nobody is worth waiting for, and holds the most urgent."""

import random

import pytest

from stream.core.gather import ACTIVE_S, REST_S, WAIT_S, Gather

pytestmark = pytest.mark.unit

CHUNK_S = 0.2


def ask(gather: Gather, key: int, *, now: float, frames: int = 5, deadline_s: float = 9.0) -> None:
    """The request of the slot of the same number."""
    gather.ask(key, [key], frames=frames, deadline_s=deadline_s, now=now)


def test_nothing_waits() -> None:
    gather = Gather(most_frames=10)
    assert gather.wait_s(0.0) is None
    assert gather.take() == []


def test_a_slot_alone_is_painted_at_once() -> None:
    gather = Gather(most_frames=10)
    for chunk in range(3):
        ask(gather, 0, now=chunk * CHUNK_S)
        assert gather.wait_s(chunk * CHUNK_S) == 0
        assert gather.take() == [0]
    assert len(gather) == 0


def test_the_lines_of_a_speaker_are_painted_together() -> None:
    gather = Gather(most_frames=20)
    for slot in range(3):
        ask(gather, slot, now=0.0)
    gather.take()
    ask(gather, 0, now=CHUNK_S)
    assert gather.wait_s(CHUNK_S) == pytest.approx(WAIT_S)
    ask(gather, 1, now=CHUNK_S + 0.001)
    assert gather.wait_s(CHUNK_S + 0.001) == pytest.approx(WAIT_S - 0.001)
    ask(gather, 2, now=CHUNK_S + 0.002)
    assert gather.wait_s(CHUNK_S + 0.002) == 0
    assert gather.take() == [0, 1, 2]


def test_no_chunk_waits_longer_than_the_limit_for_company() -> None:
    gather = Gather(most_frames=20)
    ask(gather, 0, now=0.0)
    ask(gather, 1, now=0.0)
    gather.take()
    ask(gather, 0, now=CHUNK_S)
    assert gather.wait_s(CHUNK_S + WAIT_S + 1e-6) == 0
    assert gather.take() == [0]


@pytest.mark.parametrize("silent_s", [REST_S / 2, ACTIVE_S + 0.1], ids=["just-asked", "silent"])
def test_company_that_is_not_likely_is_not_waited_for(silent_s: float) -> None:
    gather = Gather(most_frames=20)
    ask(gather, 1, now=0.0)
    gather.take()
    ask(gather, 0, now=silent_s)
    assert gather.wait_s(silent_s) == 0


def test_a_closed_slot_is_not_waited_for() -> None:
    gather = Gather(most_frames=20)
    ask(gather, 1, now=0.0)
    gather.take()
    gather.forget(1)
    ask(gather, 0, now=CHUNK_S)
    assert gather.wait_s(CHUNK_S) == 0


def test_a_full_batch_waits_for_nobody() -> None:
    gather = Gather(most_frames=10)
    for slot in range(3):
        ask(gather, slot, now=0.0)
    gather.take()
    gather.take()
    ask(gather, 0, now=CHUNK_S)
    assert gather.wait_s(CHUNK_S) != 0
    ask(gather, 1, now=CHUNK_S)
    assert gather.wait_s(CHUNK_S) == 0


def test_the_earliest_deadline_is_painted_first() -> None:
    gather = Gather(most_frames=10)
    for slot, deadline_s in enumerate((0.4, 0.2, 0.3, 0.2)):
        ask(gather, slot, now=0.0, deadline_s=deadline_s)
    assert gather.take() == [1, 3]
    assert gather.take() == [2, 0]


def test_a_large_request_is_not_overtaken_by_small_ones_behind_it() -> None:
    gather = Gather(most_frames=10)
    ask(gather, 0, now=0.0, frames=3, deadline_s=0.1)
    ask(gather, 1, now=0.0, frames=9, deadline_s=0.2)
    ask(gather, 2, now=0.0, frames=1, deadline_s=0.3)
    assert gather.take() == [0]
    assert gather.take() == [1, 2]


def test_a_request_larger_than_a_batch_is_painted_alone() -> None:
    gather = Gather(most_frames=10)
    gather.ask(0, [0, 1], frames=32, deadline_s=0.1, now=0.0)
    ask(gather, 1, now=0.0, frames=1, deadline_s=0.2)
    assert gather.take() == [0]
    assert gather.take() == [1]


def test_a_batch_holds_at_least_a_frame() -> None:
    with pytest.raises(ValueError, match="most_frames"):
        Gather(most_frames=0)


@pytest.mark.parametrize("seed", range(5))
def test_an_hour_of_two_speakers_with_three_lines_each(seed: int) -> None:
    """Everything is painted once, in time, and a speaker's lines mostly share a batch."""
    rng = random.Random(seed)
    gather = Gather(most_frames=15)
    arrivals: list[tuple[float, int, int]] = []
    key = 0
    for speaker, offset_s in enumerate((0.0, rng.uniform(0, CHUNK_S))):
        for chunk in range(int(3600 / CHUNK_S)):
            for line in range(3):
                at_s = offset_s + chunk * CHUNK_S + rng.uniform(0, 0.001)
                arrivals.append((at_s, key, speaker * 3 + line))
                key += 1
    arrivals.sort()
    painted: list[int] = []
    batches, free_s, longest_s = 0, 0.0, 0.0
    asked_s: dict[int, float] = {}

    def paint_until(now: float) -> None:
        nonlocal batches, free_s, longest_s
        time_s = free_s
        while (wait_s := gather.wait_s(time_s)) is not None and time_s + wait_s < now:
            start_s = time_s + wait_s
            batch = gather.take()
            batches += 1
            painted.extend(batch)
            longest_s = max(longest_s, *(start_s - asked_s[each] for each in batch))
            time_s = free_s = start_s + 0.007 * 5 * len(batch) / 3

    for at_s, number, slot in arrivals:
        paint_until(at_s)
        free_s = max(free_s, at_s)
        asked_s[number] = at_s
        gather.ask(number, [slot], frames=5, deadline_s=at_s + CHUNK_S, now=at_s)
    paint_until(float("inf"))
    assert sorted(painted) == list(range(key))
    assert batches < 1.1 * key / 3
    assert longest_s < 0.1
