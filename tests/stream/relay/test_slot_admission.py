"""As many sessions are let in as the device has time for, and others are told when to come back."""

import pytest

from stream.core.admission import BUDGET, CALM_S, HOT_S, SlotAdmission, capacity
from stream.core.step_times import MOST_GROWTH, STALE_S, StepTimes
from tests.stream.relay.device import CHUNK_S, FPS, SIZES, Device, K, Session, cpu, gpu

pytestmark = pytest.mark.unit


def admission(step_s: object = cpu, slots: int = 64) -> SlotAdmission:
    times = StepTimes({size: step_s(size) for size in SIZES})  # type: ignore[operator]
    return SlotAdmission(times, slots=slots, fps=FPS, k=K)


def filled(one: SlotAdmission, now: float = 0.0) -> int:
    """Let in who gets in."""
    count = 0
    while one.admit(now) is None:
        one.opened(count)
        count += 1
    return count


def test_a_step_time_follows_what_is_measured() -> None:
    times = StepTimes({5: 0.1, 10: 0.2})
    for step in range(40):
        times.learn(5, 0.05, float(step) / 10)
    assert times.seconds(5) == pytest.approx(0.05, rel=1e-3)
    assert times.seconds(6) == 0.2
    assert times.seconds(13) == pytest.approx(0.2 + 0.05, rel=1e-3)


def test_one_long_pause_is_hardly_believed() -> None:
    times = StepTimes({5: 0.01})
    times.learn(5, 30.0, 0.0)
    assert times.seconds(5) <= 0.01 * MOST_GROWTH


def test_a_batch_that_does_not_fill_its_size_does_not_make_it_cheaper() -> None:
    times = StepTimes({5: 0.01, 10: 0.02})
    times.learn(6, 0.012, 0.0)
    assert times.seconds(10) == 0.02
    times.learn(6, 0.03, 0.0)
    assert times.seconds(10) > 0.02
    times.learn(11, 9.0, 0.0)
    assert times.seconds(5) == 0.01


def test_a_size_that_is_not_run_follows_those_that_are() -> None:
    """A processor that got slower got slower for all of them."""
    times = StepTimes({5: 0.01, 40: 0.02})
    for step in range(100):
        times.learn(5, 0.02, step * 0.2)
    assert times.seconds(5) == pytest.approx(0.02, rel=1e-3)
    assert 0.02 < times.seconds(40) <= 0.04
    late_s = STALE_S + 30.0
    for step in range(100):
        times.learn(5, 0.04, late_s + step * 0.2)
    assert times.seconds(40) > 0.035


@pytest.mark.parametrize("measured", [{}, {0: 0.1}, {5: 0.0}, {5: float("nan")}], ids=str)
def test_what_is_no_step_time_is_refused(measured: dict[int, float]) -> None:
    with pytest.raises(ValueError, match="step times"):
        StepTimes(measured)


@pytest.mark.parametrize(
    ("step_s", "held"),
    [
        pytest.param({5: 0.02}, 8, id="all-of-the-budget"),
        pytest.param({5: 0.021}, 7, id="a-little-more"),
        pytest.param({5: 0.0801}, 1, id="one"),
        pytest.param({5: 0.3}, 0, id="too-slow-for-one"),
        pytest.param({5: 0.02, 10: 0.02, 20: 0.02, 40: 0.02}, 64, id="batches-for-nothing"),
        pytest.param({5: 0.02, 10: 0.04, 20: 0.08, 40: 0.16}, 8, id="batches-no-gain"),
        pytest.param({5: 0.09, 10: 0.11}, 1, id="batch-longer-than-half-a-chunk"),
        pytest.param({5: 0.05, 10: 0.08}, 4, id="batches-of-two"),
    ],
)
def test_how_many_sessions_a_device_holds(step_s: dict[int, float], held: int) -> None:
    assert capacity(step_s, fps=FPS, k=K) == held
    one = SlotAdmission(StepTimes(step_s), slots=99, fps=FPS, k=K)
    assert one.capacity() == held
    assert filled(one) == max(held, 1)  # an idle device takes one, however slow
    assert held == 0 or one.reserved() <= BUDGET + 1e-6


def test_capacity_follows_budget_frames_and_bound() -> None:
    assert capacity({5: 0.02}, fps=FPS, k=K, budget=0.4) == 4
    assert capacity({5: 0.02}, fps=50.0, k=K) == 4
    assert capacity({5: 1e-6}, fps=FPS, k=K, most=16) == 16


def test_one_more_than_the_device_holds_is_refused_with_a_time() -> None:
    one = admission()
    assert filled(one) == 4
    refused = one.admit(1.0)
    assert refused is not None
    assert refused.reason == "load"
    assert refused.retry_after_s >= 1
    one.closed(2)
    assert one.admit(1.0) is None
    one.failed()  # it got no slot: its place is free again
    assert one.admit(1.0) is None
    assert one.refused == 2


def test_the_operator_has_the_last_word() -> None:
    one = admission(gpu, slots=8)
    assert filled(one) == 8
    refused = one.admit(0.0)
    assert refused is not None
    assert refused.reason == "slots"
    assert one.capacity() == 8


def test_a_session_counts_from_the_moment_it_is_let_in() -> None:
    """Two that come together do not both get the last place."""
    one = admission()
    assert [one.admit(0.0) is None for _ in range(5)] == [True] * 4 + [False]


def test_a_fast_camera_counts_for_more() -> None:
    one = admission()
    assert one.admit(0.0) is None
    one.opened(0)
    before = one.reserved()
    for chunk in range(240):
        one.asked(0, 5, chunk / 12)
    assert one.reserved() == pytest.approx(before * 60 / 25, rel=0.05)
    one.closed(0)
    assert one.reserved() == 0


def test_a_usual_camera_counts_as_reserved_and_as_loaded() -> None:
    device = Device(cpu)
    for slot in range(2):
        device.open(Session(first_s=slot * 0.1))
    device.run(30.0)
    assert device.admission.reserved() == pytest.approx(2 * cpu(5) / CHUNK_S, rel=0.03)
    assert device.admission.load(30.0) == pytest.approx(2 * cpu(5) / CHUNK_S, rel=0.06)


def overloaded(device: Device) -> bool:
    """Asked anew each time: type checkers take an attribute for what it was."""
    return device.admission.overloaded


def slower_device() -> Device:
    """A device of four sessions, which became 40 % slower than it was when they came."""
    device = Device(cpu)
    for slot in range(4):
        assert device.open(Session(first_s=slot * 0.05)) is None
    device.run(10.0)
    assert not overloaded(device)
    device.step_s = lambda frames: 1.4 * cpu(frames)
    return device


def test_an_overload_is_seen_after_a_while_and_nobody_is_let_in() -> None:
    device = slower_device()
    device.run(10.0 + HOT_S / 2)
    assert not overloaded(device)
    device.run(10.0 + 4 * HOT_S)
    assert overloaded(device)
    assert device.admission.load(device.now) > BUDGET
    device.close(device.sessions[0])
    refused = device.admission.admit(device.now)
    assert refused is not None
    assert refused.reason == "overload"
    assert 1 <= refused.retry_after_s <= CALM_S


def test_an_overload_ends_only_when_the_load_stayed_low_for_a_while() -> None:
    device = slower_device()
    device.run(20.0)
    device.close(device.sessions[0])
    device.run(40.0)  # 71 % of the time: less than would be an overload, more than calm
    assert device.admission.load(40.0) < BUDGET
    assert overloaded(device)
    device.close(device.sessions[1])
    device.run(40.0 + CALM_S - 1.0)
    assert overloaded(device)
    device.run(40.0 + 2 * CALM_S)
    assert not overloaded(device)
    assert device.admission.admit(device.now) is None


def test_a_short_peak_is_no_overload() -> None:
    device = Device(cpu)
    for slot in range(4):
        device.open(Session(first_s=slot * 0.05))
    device.run(10.0)
    device.step_s = lambda frames: 2 * cpu(frames)
    device.run(10.5)
    device.step_s = cpu
    device.run(30.0)
    assert not overloaded(device)


def test_late_chunks_are_an_overload_whatever_the_load() -> None:
    one = admission()
    seen = []
    for tick in range(300):
        one.answered(2, int(tick < 50), tick * 0.1)
        seen.append(one.overloaded)
    assert (seen[49], seen[299]) == (True, False)


def test_an_idle_device_takes_a_session_even_after_an_overload() -> None:
    device = slower_device()
    device.run(20.0)
    for session in [*device.sessions.values()]:
        device.close(session)
    assert overloaded(device)
    assert device.admission.admit(device.now) is None


def test_a_session_that_dies_leaves_nothing_and_others_keep_their_time() -> None:
    """While it waits, while it is painted, and between its chunks."""
    device = Device(cpu)
    others = [Session(first_s=0.001 * slot) for slot in range(3)]
    for session in others:
        assert device.open(session) is None
    for turn in range(30):
        dying = Session(first_s=device.now + 0.002)
        assert device.open(dying) is None, turn
        device.run(device.now + 1.0 + turn * 0.007)
        device.close(dying)
        assert dying.slot not in device.sessions
    device.run(device.now + 10.0)
    assert device.admission.open_slots == 3
    assert device.admission.reserved() == pytest.approx(3 * cpu(5) / CHUNK_S, rel=0.03)
    assert sum(session.late + session.shed for session in others) == 0
    lost = [key for session in others for key in device.close(session)]
    assert len(device.scheduler) == 0
    assert len(lost) <= 1
    assert device.admission.reserved() == 0
