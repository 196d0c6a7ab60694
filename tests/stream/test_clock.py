"""The session's clock: monotonic, and still while the machine sleeps."""

import time

import pytest

from stream.live.clock import SessionClock

pytestmark = pytest.mark.unit


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def test_counts_from_the_session_s_start(now: list[float]) -> None:
    clock = SessionClock()
    now[0] += 2.5
    assert clock() == 2.5
    clock.restart()
    assert clock() == 0


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_jumps_of_the_wall_clock_do_nothing(
    now: list[float], monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    clock = SessionClock()
    wall = time.time()  # noqa: TID251
    now[0] += 1
    monkeypatch.setattr(time, "time", lambda: wall + jump_s)
    assert clock() == 1


def test_time_that_was_slept_through_is_taken_out(now: list[float]) -> None:
    clock = SessionClock()
    now[0] += 10
    clock.hold_back(8)
    assert clock() == 2
