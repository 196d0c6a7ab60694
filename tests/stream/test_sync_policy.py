"""What a session makes of its lip expert's readings, in virtual time."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from engine.lip_sync import Offset
from engine.sync_monitor import Reading
from stream.core.sync_meter import SyncMeter
from stream.core.sync_policy import MOST_CORRECTION, POOR_S, RETRY_S, SyncPolicy, SyncStatus

pytestmark = pytest.mark.unit

EVERY_S = 0.4


def reading(
    offset: int = 0, *, confidence: float = 0.5, spoken: float = 0.8, seen: float = 1.0
) -> Reading:
    return Reading(0.0, 0.5, Offset(offset, confidence, 0.6), spoken, seen)


@dataclass
class Session:
    """A session whose world is ``found``: a reading for a time and the correction by then."""

    found: Callable[[float, int], Reading | None]
    quiet: Callable[[float], bool] = lambda now: True
    acts: bool = True
    changes: list[tuple[float, SyncStatus]] = field(default_factory=list)
    states: list[tuple[float, str]] = field(default_factory=list)

    def run(self, seconds: float) -> "Session":
        self.policy = SyncPolicy(0.25, acts=self.acts)
        for tick in range(1, round(seconds / 0.02)):
            now = tick * 0.02
            if tick % round(EVERY_S / 0.02) == 0:
                found = None if self._fresh(now) else self.found(now, self.policy.status.correction)
                self.policy.read(found, now)
                self.states.append((now, self.policy.status.state))
            if self.policy.tick(now, quiet=self.quiet(now)):
                self.changes.append((now, self.policy.status))
        return self

    def _fresh(self, now: float) -> bool:
        """The window starts anew after each change: two seconds without a reading."""
        return bool(self.changes) and now - self.changes[-1][0] < 2.0


def test_what_fits_is_good_and_nothing_is_done() -> None:
    session = Session(lambda now, correction: reading(1)).run(60)
    assert session.policy.status.state == "good"
    assert session.changes == []


@pytest.mark.parametrize("offset", [-7, -5, -2, 2, 5, 7])
def test_a_constant_offset_is_corrected_by_whole_frames(offset: int) -> None:
    """Sound that is late by some frames: the picture is held back by as many."""
    session = Session(lambda now, correction: reading(offset - correction)).run(30)
    assert [status.correction for _, status in session.changes] == [offset]
    assert session.policy.correction_s == pytest.approx(offset / 25)
    assert session.policy.status.state == "good"


def test_it_is_corrected_only_where_nothing_sounds() -> None:
    session = Session(lambda now, c: reading(-5 - c), quiet=lambda now: now > 12.3).run(20)
    (changed,) = session.changes
    assert changed[0] == pytest.approx(12.32, abs=0.021)
    assert {state for now, state in session.states if 2 < now < 12} == {"drifting"}


def test_an_offset_that_does_not_stand_is_not_followed() -> None:
    session = Session(lambda now, c: reading(4 if round(now / EVERY_S) % 3 else 1)).run(30)
    assert session.changes == []


def test_offsets_that_grow_again_are_corrected_again() -> None:
    session = Session(lambda now, c: reading((3 if now < 20 else 6) - c)).run(60)
    assert [status.correction for _, status in session.changes] == [3, 6]


def test_no_more_than_half_a_second_is_made_up_for() -> None:
    session = Session(lambda now, c: reading(10 + (0 if now < 10 else 10) - c)).run(40)
    assert [status.correction for _, status in session.changes] == [10]
    assert MOST_CORRECTION == 12
    assert session.policy.status.state == "drifting"


@pytest.mark.parametrize(
    ("found", "doubt"),
    [
        (reading(5, spoken=0.1), "silence"),
        (reading(5, seen=0.2), "no painted mouth"),
        (None, "starting"),
    ],
)
def test_without_speech_or_a_painted_mouth_nothing_is_said(
    found: Reading | None, doubt: str
) -> None:
    session = Session(lambda now, c: found).run(60)
    assert session.changes == []
    status = session.policy.status
    assert (status.state, status.doubt, status.offset) == ("unsure", doubt, None)


def test_lips_that_match_nothing_give_way_to_the_real_mouth() -> None:
    session = Session(lambda now, c: reading(confidence=0.05)).run(POOR_S + 2)
    assert {state for _, state in session.states[:14]} == {"poor"}
    (changed,) = session.changes
    assert changed[0] == pytest.approx(EVERY_S + POOR_S, abs=0.05)
    assert session.policy.passthrough
    assert "real mouth" in str(session.policy.status.why)


def test_clear_offsets_that_all_differ_are_no_match_either() -> None:
    session = Session(lambda now, c: reading((round(now / EVERY_S) * 7) % 11 + 2)).run(POOR_S + 4)
    assert session.policy.passthrough


def test_a_moment_that_matches_nothing_is_borne() -> None:
    session = Session(lambda now, c: reading(confidence=0.05 if now % 8 < 5 else 0.5)).run(60)
    assert session.changes == []


def test_the_painted_mouth_is_tried_again_and_later_each_time() -> None:
    def found(now: float, correction: int) -> Reading:
        painted = session.policy.status.why is None
        return reading(confidence=0.05, seen=1.0 if painted else 0.0)

    session = Session(found)
    session.run(150)
    off = [now for now, status in session.changes if status.why]
    on = [now for now, status in session.changes if not status.why]
    pauses = [back - gone for gone, back in zip(off, on, strict=False)]
    assert pauses[:3] == pytest.approx(list(RETRY_S), abs=0.05)


def test_once_it_is_good_again_it_is_trusted_as_before() -> None:
    def found(now: float, correction: int) -> Reading:
        painted = session.policy.status.why is None
        good = 25 < now < 40
        return reading(confidence=0.5 if good else 0.05, seen=1.0 if painted else 0.0)

    session = Session(found)
    session.run(120)
    off = [now for now, status in session.changes if status.why]
    on = [now for now, status in session.changes if not status.why]
    assert on[1] - off[1] == pytest.approx(RETRY_S[0], abs=0.05)


def test_a_correction_outlives_a_withdrawal() -> None:
    def found(now: float, correction: int) -> Reading:
        return reading(5 - correction, confidence=0.5 if now < 20 else 0.05)

    session = Session(found).run(40)
    assert session.policy.passthrough
    assert session.policy.status.correction == 5


def test_it_can_be_told_only_to_report() -> None:
    session = Session(lambda now, c: reading(5, confidence=0.5), acts=False).run(60)
    assert session.changes == []
    assert session.policy.status.state == "drifting"
    assert session.policy.status.offset == 5


def test_the_report_counts_what_was_found() -> None:
    meter, policy = SyncMeter("an expert"), SyncPolicy(0.25)
    for step, found in enumerate(
        [None, reading(5), reading(5), reading(5), reading(5), reading(0)]
    ):
        policy.read(found, step * EVERY_S)
        meter.read(policy.status)
        before = policy.status
        if policy.tick(step * EVERY_S, quiet=True):
            meter.changed(before, policy.status)
    report = meter.report()
    assert report["readings"] == {"good": 1, "drifting": 4, "poor": 0, "unsure": 1}
    assert report["good_share"] == 0.2
    assert report["offset_frames"] == {"0": 1, "5": 4}
    assert (report["corrections"], report["correction_frames"]) == (1, 5)
    assert report["avsu"]["p50"] == pytest.approx(0.5, abs=0.01)
    assert meter.snapshot()["expert"] == "an expert"
