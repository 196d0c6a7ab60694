import math
import pickle
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from stream.core.fader import FADE_S
from stream.core.gate import (
    LEAD_S,
    LIPS_HOLD_S,
    LIPS_LEAD_S,
    MEL_FADE_S,
    SOURCE_HOLD_S,
    TARGET_HOLD_S,
    Gate,
    GateCase,
    GateDecision,
)

pytestmark = pytest.mark.unit

HOP_S = 0.032
SPEAKS, SILENT = 0.97, 0.02

Voice = Callable[[float], float]
Decided = list[tuple[float, GateDecision]]


def between(*spells: tuple[float, float]) -> Voice:
    """The probability of a voice that sounds in these spells."""
    return lambda at: SPEAKS if any(a <= at < b for a, b in spells) else SILENT


def nobody(at: float) -> float:
    return SILENT


def run(
    gate: Gate,
    seconds: float,
    *,
    target: Voice = nobody,
    source: Voice = nobody,
    fps: float = 25.0,
    ahead_s: float = 0.2,
) -> Decided:
    """Decide each picture when the sound up to ``ahead_s`` later is known."""
    decided, hops = [], 0
    for number in range(round(seconds * fps)):
        pts = number / fps
        while (hops + 1) * HOP_S <= pts + ahead_s:
            hops += 1
            gate.heard_target(hops * HOP_S, HOP_S, target((hops - 0.5) * HOP_S))
            gate.heard_source(hops * HOP_S, HOP_S, source((hops - 0.5) * HOP_S))
        decided.append((pts, gate.decide(pts)))
    return decided


def at(decided: Decided, pts: float) -> GateDecision:
    return min(decided, key=lambda one: abs(one[0] - pts))[1]


def spell(decided: Decided, case: GateCase) -> tuple[float, float]:
    """The first and the last picture of a case, which must be one stretch."""
    times = [pts for pts, decision in decided if decision.case is case]
    inside = [decision.case for pts, decision in decided if times[0] <= pts <= times[-1]]
    assert set(inside) == {case}
    return times[0], times[-1]


def test_the_real_mouth_is_left_alone_while_both_are_silent() -> None:
    for _, decision in run(Gate(has_source=True), 5):
        assert (decision.case, decision.amount) == (GateCase.REAL, 0.0)
        assert not decision.generates


@pytest.mark.parametrize("talks", [nobody, between((0, 9))], ids=["alone", "over-the-speaker"])
def test_target_speech_is_shown_from_just_before_it_to_just_after(talks: Voice) -> None:
    decided = run(Gate(has_source=True), 6, target=between((2, 4)), source=talks, fps=50)
    first, last = spell(decided, GateCase.SPEECH)
    assert first == pytest.approx(2 - LEAD_S, abs=HOP_S)
    assert last == pytest.approx(4 + TARGET_HOLD_S, abs=HOP_S)
    whole = [decision for pts, decision in decided if 2.08 < pts < 4]
    assert {(d.amount, d.mel_amount, d.generates) for d in whole} == {(1.0, 1.0, True)}


def test_a_speaker_alone_gets_a_mouth_that_hears_silence() -> None:
    decided = run(Gate(has_source=True), 6, source=between((2, 4)), fps=50)
    first, last = spell(decided, GateCase.CLOSED)
    assert first == pytest.approx(2 - LEAD_S, abs=HOP_S)
    assert last == pytest.approx(4 + SOURCE_HOLD_S, abs=HOP_S)
    shown = [decision for _, decision in decided if decision.amount > 0]
    assert {decision.mel_amount for decision in shown} == {0.0}, (
        "from its first picture to its last"
    )
    assert at(decided, 3).amount == 1.0


def test_short_pauses_change_nothing_and_long_ones_do() -> None:
    decided = run(Gate(has_source=True), 8, target=between((1, 2), (2.35, 3), (5, 6)))
    assert {at(decided, 2 + n / 25).case for n in range(25)} == {GateCase.SPEECH}
    assert at(decided, 4).case is GateCase.REAL
    assert at(decided, 4).amount == 0.0


@pytest.mark.parametrize(
    ("begin", "goes_on", "case"),
    [
        pytest.param(0.49, 0.49, GateCase.REAL, id="never-sure"),
        pytest.param(0.51, 0.36, GateCase.SPEECH, id="goes-on-when-less-sure"),
        pytest.param(0.51, 0.34, GateCase.REAL, id="ends"),
    ],
)
def test_a_voice_begins_surer_than_it_goes_on(begin: float, goes_on: float, case: GateCase) -> None:
    decided = run(
        Gate(has_source=True),
        3,
        target=lambda now: SILENT if now < 1 else begin if now < 1.1 else goes_on,
    )
    assert at(decided, 2).case is case


@pytest.mark.parametrize("fps", [10, 24, 25, 29.97, 30, 60])
def test_fades_take_their_time_at_any_rate(fps: float) -> None:
    decided = run(Gate(has_source=True), 6, target=between((2, 4)), fps=fps)
    amounts = [decision.amount for _, decision in decided]
    steps = [b - a for a, b in pairwise(amounts)]
    assert max(map(abs, steps)) <= 1 / fps / FADE_S + 1e-9
    rising, falling = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
    assert rising == falling == math.ceil(FADE_S * fps - 1e-6)
    assert amounts[0] == amounts[-1] == 0.0
    assert max(amounts) == 1.0


def test_between_speech_and_a_shut_mouth_only_the_hearing_fades() -> None:
    decided = run(
        Gate(has_source=True), 8, target=between((2, 4)), source=between((0.5, 7)), fps=50
    )
    within = [decision for pts, decision in decided if 1 < pts < 7]
    assert {decision.amount for decision in within} == {1.0}
    hears = [decision.mel_amount for decision in within]
    steps = [b - a for a, b in pairwise(hears)]
    assert sum(step > 0 for step in steps) == sum(step < 0 for step in steps) == MEL_FADE_S * 50
    assert max(map(abs, steps)) <= 0.02 / MEL_FADE_S + 1e-9
    assert (hears[0], at(decided, 3).mel_amount, hears[-1]) == (0.0, 1.0, 0.0)


def test_a_mouth_that_fades_out_hears_on_and_one_that_fades_in_hears_at_once() -> None:
    decided = run(Gate(has_source=True), 9, target=between((1, 2), (5, 6)), source=between((3, 4)))
    out = [d for _, d in decided if d.case is GateCase.REAL and d.generates]
    assert [decision.mel_amount for decision in out] == [1.0] * 3 + [0.0] * 3 + [1.0] * 3
    starts = [b for (_, a), (_, b) in pairwise(decided) if a.amount == 0 and b.amount > 0]
    assert [decision.mel_amount for decision in starts] == [1.0, 0.0, 1.0]


@pytest.mark.parametrize("ahead_s", [0.16, 0.3, 2.0])
def test_sound_that_is_known_still_further_ahead_changes_nothing(ahead_s: float) -> None:
    target = between((1, 2), (2.4, 3), (3.5, 3.6), (5, 7))
    source = between((0, 0.3), (2, 6))
    least = run(Gate(has_source=True), 9, target=target, source=source, ahead_s=0.152)
    assert run(Gate(has_source=True), 9, target=target, source=source, ahead_s=ahead_s) == least


def test_sound_that_comes_late_is_shown_from_when_it_is_known() -> None:
    decided = run(Gate(has_source=True), 4, target=between((1, 3)), ahead_s=-0.1)
    first, _ = spell(decided, GateCase.SPEECH)
    assert 1.1 <= first <= 1.2


def test_before_any_sound_is_known_the_mouth_is_real() -> None:
    gate = Gate(has_source=True)
    assert gate.decide(0.0) == GateDecision(GateCase.REAL, 0.0, 1.0)
    gate.heard_target(10.0, HOP_S, SPEAKS)
    assert gate.decide(0.04).case is GateCase.REAL, "and in pictures from before all of it"


def test_a_session_that_begins_with_speech_shows_it_at_once() -> None:
    decided = run(Gate(has_source=True), 1, target=between((0, 1)))
    assert decided[0][1] == GateDecision(GateCase.SPEECH, 1.0, 1.0)


def test_sound_that_stops_coming_in_ends_in_the_real_mouth() -> None:
    gate = Gate(has_source=True)
    run(gate, 2, target=between((1, 9)), ahead_s=0.2)
    assert gate.decide(2.2).case is GateCase.SPEECH
    assert gate.decide(2.7).case is GateCase.REAL


def test_after_missing_hops_a_voice_begins_anew() -> None:
    gate = Gate(has_source=True)
    gate.heard_target(1.0, HOP_S, SPEAKS)
    gate.heard_target(2.0, HOP_S, 0.4)
    assert gate.decide(1.98).case is GateCase.REAL


@pytest.mark.parametrize(
    ("end_s", "probability"),
    [
        pytest.param(5.0, SPEAKS, id="again"),
        pytest.param(4.98, SPEAKS, id="out-of-order"),
        pytest.param(math.nan, SPEAKS, id="no-time"),
        pytest.param(5.032, math.nan, id="no-probability"),
    ],
)
def test_a_hop_that_makes_no_sense_is_silence(end_s: float, probability: float) -> None:
    gate = Gate(has_source=True)
    gate.heard_target(5.0, HOP_S, SILENT)
    gate.heard_target(end_s, HOP_S, probability)
    assert {gate.decide(pts).case for pts in (4.9, 4.98, 5.1)} == {GateCase.REAL}
    gate.heard_target(6.0, HOP_S, SPEAKS)
    assert gate.decide(6.0).case is GateCase.SPEECH


def test_after_a_gap_in_the_pictures_the_share_is_what_it_would_be() -> None:
    gate = Gate(has_source=True)
    for hop in range(1, 200):
        gate.heard_target(hop * HOP_S, HOP_S, SPEAKS if hop * HOP_S > 1 else SILENT)
    assert gate.decide(0.5).amount == 0.0
    assert gate.decide(3.0).amount == 1.0
    assert gate.decide(3.0) == gate.decide(3.0), "asked again, nothing moves"


def lips(gate: Gate, moving: tuple[float, float], seconds: float) -> Decided:
    """Pictures whose lips are known a quarter of a second ahead."""
    decided = []
    for number in range(round(seconds * 25)):
        later = number / 25 + 0.25
        gate.lips(later, moving[0] <= later < moving[1])
        decided.append((number / 25, gate.decide(number / 25)))
    return decided


def test_where_there_is_no_voice_the_lips_tell_that_the_speaker_talks() -> None:
    decided = lips(Gate(has_source=False), (2, 4), 6)
    first, last = spell(decided, GateCase.CLOSED)
    assert 2 - LIPS_LEAD_S <= first < 2 - 0.15, "lips tell late: they are believed from before"
    assert last == pytest.approx(4 + LIPS_HOLD_S, abs=0.05)


def test_lips_count_only_where_there_is_no_voice_and_the_other_way_round() -> None:
    heard = lips(Gate(has_source=True), (0, 9), 3)
    assert {decision.case for _, decision in heard} == {GateCase.REAL}
    seen = run(Gate(has_source=False), 3, source=between((0, 9)))
    assert {decision.case for _, decision in seen} == {GateCase.REAL}


def test_target_speech_goes_before_moving_lips() -> None:
    gate = Gate(has_source=False)
    for hop in range(1, 100):
        gate.heard_target(hop * HOP_S, HOP_S, SPEAKS)
    assert {decision.case for _, decision in lips(gate, (0, 9), 3)} == {GateCase.SPEECH}


def test_without_target_audio_the_mouth_stays_real() -> None:
    gate = Gate(has_source=True, has_target=False)
    decided = run(gate, 3, source=between((1, 2)))
    assert {(d.case, d.amount) for _, d in decided} == {(GateCase.REAL, 0.0)}


def test_memory_does_not_grow_though_no_picture_comes() -> None:
    gate = Gate(has_source=True)
    sizes = []
    for hop in range(1, 40_000):
        probability = SPEAKS if hop // 20 % 2 else SILENT
        gate.heard_target(hop * HOP_S, HOP_S, probability)
        gate.heard_source(hop * HOP_S, HOP_S, probability)
        if hop % 4000 == 0:
            sizes.append(len(pickle.dumps(gate)))
    assert max(sizes) < 2000


def test_an_hour_is_decided_in_a_moment() -> None:
    talk = between(*((start, start + 4.0) for start in range(0, 60, 7)))
    minute = [talk((hop + 0.5) * HOP_S) for hop in range(1875)]
    gate = Gate(has_source=True)
    hops, cases = 0, set()
    started = time.process_time()
    for number in range(90_000):
        pts = number / 25
        while (hops + 1) * HOP_S <= pts + 0.3:
            gate.heard_target((hops + 1) * HOP_S, HOP_S, minute[hops % 1875])
            gate.heard_source((hops + 1) * HOP_S, HOP_S, minute[(hops + 1860) % 1875])
            hops += 1
        cases.add(gate.decide(pts).case)
    assert time.process_time() - started < 1.5
    assert cases == set(GateCase)
