"""A batch starts as soon as nobody is worth waiting for, and holds the most urgent."""

import random

import pytest

from stream.core.scheduler import ACTIVE_S, JITTER_S, MOST_WAIT_S, WAIT_S, Scheduler
from stream.core.step_times import StepTimes
from tests.stream.relay.device import CHUNK_S, FPS, SIZES, Device, Session, cpu, gpu

pytestmark = pytest.mark.unit

STEP_S = gpu(5)


def scheduler(step_s: object = gpu) -> Scheduler:
    return Scheduler(StepTimes({size: step_s(size) for size in SIZES}), fps=FPS)  # type: ignore[operator]


def ask(one: Scheduler, key: int, *, now: float, frames: int = 5, within_s: float = 0.2) -> None:
    """The request of the slot of the same number."""
    one.ask(key, [key], frames=frames, deadline_s=now + within_s, now=now)


def asked_together(one: Scheduler, slots: int, now: float = 0.0) -> None:
    """Their chunks of one moment, painted: they are expected again after as long as a chunk."""
    for slot in range(slots):
        ask(one, slot, now=now)
    while one:
        one.take(now)


def test_nothing_waits() -> None:
    one = scheduler()
    assert one.wait_s(0.0) is None
    assert one.take(0.0).painted == []


def test_a_slot_alone_is_painted_at_once() -> None:
    one = scheduler()
    for chunk in range(3):
        ask(one, 0, now=chunk * CHUNK_S)
        assert one.wait_s(chunk * CHUNK_S) == 0
        assert one.take(chunk * CHUNK_S).painted == [0]
    assert len(one) == 0


def test_the_lines_of_a_speaker_are_painted_together() -> None:
    one = scheduler()
    asked_together(one, 3)
    ask(one, 0, now=CHUNK_S)
    assert one.wait_s(CHUNK_S) == pytest.approx(JITTER_S)
    ask(one, 1, now=CHUNK_S + 0.001)
    assert one.wait_s(CHUNK_S + 0.001) == pytest.approx(JITTER_S - 0.001)
    ask(one, 2, now=CHUNK_S + 0.002)
    assert one.wait_s(CHUNK_S + 0.002) == 0
    assert one.take(CHUNK_S + 0.002).painted == [0, 1, 2]


def test_company_that_comes_within_the_longest_wait_is_waited_for_and_no_longer() -> None:
    one = scheduler()
    for slot, at_s in ((1, 0.015), (2, 0.018), (3, 0.021)):
        ask(one, slot, now=at_s)
    one.take(0.03)
    ask(one, 0, now=CHUNK_S)
    assert one.wait_s(CHUNK_S) == pytest.approx(WAIT_S)  # not until the third, 21 ms later
    ask(one, 1, now=CHUNK_S + 0.015)
    assert one.wait_s(CHUNK_S + WAIT_S) == 0
    assert one.take(CHUNK_S + WAIT_S).painted == [0, 1]


def test_company_that_is_late_is_given_up() -> None:
    one = scheduler()
    asked_together(one, 2)
    ask(one, 0, now=CHUNK_S)
    assert one.wait_s(CHUNK_S + JITTER_S + 1e-6) == 0


@pytest.mark.parametrize("now", [0.05, 0.1, ACTIVE_S + 0.1], ids=["just-asked", "later", "silent"])
def test_company_that_is_not_likely_is_not_waited_for(now: float) -> None:
    one = scheduler()
    ask(one, 1, now=0.0)
    one.take(0.0)
    ask(one, 0, now=now)
    assert one.wait_s(now) == 0


def test_when_a_slot_asks_again_is_learnt_from_when_it_asked() -> None:
    """A camera of 60 frames a second: a chunk every 83 ms."""
    one = scheduler()
    for chunk in range(40):
        ask(one, 1, now=chunk / 12)
        one.take(chunk / 12)
    ask(one, 0, now=40 / 12 - 0.01)
    assert one.wait_s(40 / 12 - 0.01) == pytest.approx(0.01 + JITTER_S, abs=1e-3)


def test_a_closed_slot_is_not_waited_for() -> None:
    one = scheduler()
    asked_together(one, 2)
    one.forget(1)
    ask(one, 0, now=CHUNK_S)
    assert one.wait_s(CHUNK_S) == 0


def test_a_near_deadline_does_not_wait_for_company() -> None:
    one = scheduler()
    asked_together(one, 2)
    near_s = gpu(10)
    ask(one, 0, now=CHUNK_S, within_s=near_s + 0.003)
    assert one.wait_s(CHUNK_S) == pytest.approx(0.003)
    one.take(CHUNK_S)
    asked_together(one, 2, 1.0)
    ask(one, 0, now=1.0 + CHUNK_S, within_s=near_s)
    assert one.wait_s(1.0 + CHUNK_S) == 0


def test_company_that_saves_no_time_is_not_waited_for() -> None:
    """On a processor's cores each chunk may as well be painted by itself."""
    one = scheduler(cpu)
    asked_together(one, 3)
    for slot in range(3):
        ask(one, slot, now=CHUNK_S)
        assert one.wait_s(CHUNK_S) == 0
    assert one.take(CHUNK_S).painted == [0]


def test_a_full_batch_waits_for_nobody() -> None:
    one = scheduler()
    asked_together(one, 9)
    for slot in range(8):
        assert one.wait_s(CHUNK_S) != 0
        ask(one, slot, now=CHUNK_S)
    assert one.wait_s(CHUNK_S) == 0
    assert len(one.take(CHUNK_S).painted) == 8


def test_the_earliest_deadline_is_painted_first() -> None:
    one = scheduler(cpu)
    for slot, within_s in enumerate((0.4, 0.2, 0.3, 0.2)):
        ask(one, slot, now=0.0, within_s=within_s)
    assert [one.take(0.0).painted for _ in range(4)] == [[1], [3], [2], [0]]


def test_a_large_request_is_not_overtaken_by_small_ones_behind_it() -> None:
    one = scheduler()
    ask(one, 0, now=0.0, frames=30, within_s=0.1)
    ask(one, 1, now=0.0, frames=16, within_s=0.2)
    ask(one, 2, now=0.0, frames=1, within_s=0.3)
    assert one.take(0.0).painted == [0]
    assert one.take(0.0).painted == [1, 2]


def test_a_request_larger_than_a_batch_is_painted_alone() -> None:
    one = scheduler()
    one.ask(0, [0, 1], frames=48, deadline_s=0.1, now=0.0)
    ask(one, 2, now=0.0, frames=1)
    assert one.take(0.0).painted == [0]
    assert one.take(0.0).painted == [2]


def test_a_batch_is_not_made_so_large_that_its_first_deadline_is_missed() -> None:
    steps = {5: 0.04, 10: 0.06, 20: 0.1, 40: 0.15}
    one = scheduler(steps.__getitem__)
    for slot in range(8):
        ask(one, slot, now=0.0, within_s=0.11)
    assert one.take(0.0).painted == [0, 1, 2, 3]
    for slot in range(8):
        one.withdraw(slot)
        ask(one, slot, now=1.0, within_s=0.05 if slot == 5 else 0.2)
    assert one.take(1.0).painted == [5]
    assert len(one.take(1.04).painted) == 7


def test_a_batch_is_counted_as_the_size_that_it_is_filled_up_to() -> None:
    """Two chunks as two steps of 10 ms; three as one of 20 frames, which takes 40 ms: no gain."""
    steps = {5: 0.01, 10: 0.015, 20: 0.04, 40: 0.08}
    one = scheduler(steps.__getitem__)
    for slot in range(3):
        ask(one, slot, now=0.0)
    assert one.take(0.0).painted == [0, 1]


def test_what_can_not_be_in_time_any_more_lets_others_go_first() -> None:
    one = scheduler(cpu)
    ask(one, 0, now=0.0, within_s=0.03)  # of a step of 34 ms
    ask(one, 1, now=0.0, within_s=0.04)
    first, second = one.take(0.0), one.take(0.035)
    assert (first.painted, second.painted) == ([1], [0])
    assert first.shed == second.shed == []


def test_in_an_overload_what_can_not_be_in_time_is_shed_at_once() -> None:
    one = scheduler(cpu)
    ask(one, 0, now=0.0, within_s=0.03)
    ask(one, 1, now=0.0, within_s=0.04)
    batch = one.take(0.0, overloaded=True)
    assert (batch.painted, batch.shed) == ([1], [0])
    assert len(one) == 0


def test_an_overloaded_device_paints_one_if_none_can_be_in_time() -> None:
    """Else it would never see that it became faster."""
    one = scheduler(cpu)
    painted = []
    for turn in range(6):
        for slot in range(3):
            ask(one, slot, now=turn * CHUNK_S, within_s=0.01)
        batch = one.take(turn * CHUNK_S, overloaded=True)
        assert len(batch.shed) == 2
        painted += batch.painted
    assert sorted(painted) == [0, 0, 1, 1, 2, 2]


def test_who_was_shed_goes_first_when_there_is_too_much_to_do() -> None:
    one = scheduler(cpu)
    ask(one, 7, now=0.0, within_s=0.01)
    ask(one, 0, now=0.0)
    assert one.take(0.0, overloaded=True).shed == [7]
    ask(one, 0, now=0.1)
    ask(one, 7, now=0.1, within_s=0.3)
    assert one.take(0.1, overloaded=True).painted == [7]


def test_a_request_is_answered_before_its_client_gives_the_engine_up() -> None:
    one = scheduler()
    ask(one, 0, now=0.0)
    ask(one, 1, now=0.5)
    batch = one.take(MOST_WAIT_S + 0.01)
    assert (batch.painted, batch.shed) == ([1], [0])


def test_a_slot_has_one_request_at_a_time() -> None:
    one = scheduler()
    ask(one, 0, now=0.0)
    with pytest.raises(ValueError, match="one request at a time"):
        one.ask(1, [5, 0], frames=10, deadline_s=1.0, now=0.0)
    assert len(one) == 1


def test_a_slot_that_is_closed_while_it_waits_leaves_nothing() -> None:
    one = scheduler()
    ask(one, 0, now=0.0)
    one.ask(1, [1, 2], frames=10, deadline_s=0.2, now=0.0)
    assert one.forget(2) == [1]  # all of the request: it can't be painted any more
    assert one.forget(2) == []
    assert one.take(0.0).painted == [0]
    one.withdraw(0)
    assert one.wait_s(0.0) is None


def test_below_capacity_no_deadline_is_missed() -> None:
    """Whatever the phases; the last is the one that the device holds just so."""
    for step_s, held in ((cpu, 4), (gpu, 40)):
        for seed in range(5):
            rng = random.Random(seed)
            device = Device(step_s)
            sessions = [Session(first_s=rng.uniform(0, CHUNK_S)) for _ in range(held)]
            for session in sessions:
                assert device.open(session) is None
            device.run(10.0)
            assert sum(session.late + session.shed for session in sessions) == 0
            assert min(session.painted for session in sessions) >= 48
            assert not device.admission.overloaded


def test_on_a_device_that_paints_many_as_fast_as_one_batches_are_large() -> None:
    device = Device(gpu)
    for speaker in range(8):  # of five lines each, which ask within a millisecond
        for line in range(5):
            device.open(Session(first_s=0.025 * speaker + 0.0002 * line))
    device.run(10.0)
    assert sum(device.batches) / len(device.batches) > 20


def test_ten_minutes_of_two_speakers_with_three_lines_each() -> None:
    """Everything is painted once and in time, and a speaker's lines share a batch."""
    device = Device(gpu)
    sessions = [
        Session(first_s=speaker * 0.07 + line * 0.0004) for speaker in range(2) for line in range(3)
    ]
    for session in sessions:
        device.open(session)
    device.run(600.0)
    assert all(session.painted >= 2_999 for session in sessions)
    assert not any(session.late or session.shed for session in sessions)
    assert len(device.batches) < 1.01 * 2 * 3_000
    assert max(session.waited_s for session in sessions) <= WAIT_S + STEP_S + 0.01


@pytest.mark.parametrize("count", [6, 8, 12])
@pytest.mark.parametrize("seed", range(3))
def test_in_an_overload_nobody_starves_and_no_time_is_lost(count: int, seed: int) -> None:
    """More sessions than the device holds, let in all the same."""
    rng = random.Random(seed)
    device = Device(cpu)
    sessions = [Session(first_s=rng.uniform(0, CHUNK_S)) for _ in range(count)]
    for session in sessions:
        device.open(session, by_force=True)
    device.run(60.0)
    assert device.admission.overloaded
    in_time = [session.painted - session.late for session in sessions]
    assert sum(in_time) > 0.97 * 60.0 / cpu(5)
    fair = min(sum(in_time) / count, 60.0 / CHUNK_S)
    assert min(in_time) > 0.6 * fair
    gaps = [b - a for s in sessions for a, b in zip(s.painted_s, s.painted_s[1:], strict=False)]
    assert max(gaps) < 4.0


@pytest.mark.parametrize("deadline_s", [0.0, CHUNK_S], ids=["urgent", "as-all"])
def test_a_slot_that_asks_without_end_takes_no_time_of_others(deadline_s: float) -> None:
    device = Device(cpu)
    sessions = [Session(first_s=0.05 * slot) for slot in range(3)]
    floods = [Session(greedy=True, deadline_s=deadline_s) for _ in range(2)]
    for session in [*sessions, *floods]:
        device.open(session, by_force=True)
    device.run(30.0)
    for session in sessions:
        assert session.painted - session.late > 0.95 * 30.0 / CHUNK_S
