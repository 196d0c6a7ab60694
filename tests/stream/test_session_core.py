"""What a session decides, in virtual time."""

import math
import random
from collections.abc import Callable
from itertools import pairwise

import pytest

from stream.core.delay import Delay
from stream.core.fader import FADE_S, Fader
from stream.core.pictures import Trouble
from stream.core.session import COMPOSE_S
from tests.stream.simulation import Left, Scenario, Simulation

pytestmark = pytest.mark.unit

FRAME_S = 1 / 25
STEP = FRAME_S / FADE_S
CHUNK_S = 5 * FRAME_S


def spans(seed: int, mean_on_s: float, mean_off_s: float) -> Callable[[float], bool]:
    """A voice that speaks now and then: the same for the same seed."""
    source = random.Random(seed)
    ends, now, on = [], 0.0, False
    while now < 4000:
        now += source.expovariate(1 / (mean_on_s if on else mean_off_s)) + 0.1
        ends.append(now)
        on = not on

    place = 0

    def voice(time: float) -> bool:
        nonlocal place
        while ends[place] <= time:
            place += 1
        while place and ends[place - 1] > time:
            place -= 1
        return place % 2 == 1

    return voice


def conversation(seed: int) -> Scenario:
    return Scenario(speech=spans(seed, 4, 2), talks=spans(seed + 1, 4, 2))


def check_order(run: Simulation) -> None:
    left = run.left
    assert [picture.number for picture in left] == sorted({picture.number for picture in left})
    assert all(picture.at >= picture.due - 1e-9 for picture in left)
    dropped = {number for number, _ in run.dropped}
    assert dropped.isdisjoint(picture.number for picture in left)


def steps(left: list[Left]) -> list[float]:
    return [b.amount - a.amount for a, b in pairwise(left)]


def test_every_picture_leaves_once_in_order_and_on_time() -> None:
    run = Simulation(conversation(3)).run(60)
    check_order(run)
    assert run.dropped == []
    assert len(run.left) >= 25 * 60 - 25
    assert max(picture.at - picture.due for picture in run.left) < 0.02


@pytest.mark.timeout(60)
def test_an_hour_keeps_its_delay_and_loses_nothing() -> None:
    run = Simulation(conversation(1), keep_trace=False).run(3600)
    check_order(run)
    assert run.dropped == []
    assert len(run.left) >= 3600 * 25 - 25
    cases = {picture.case for picture in run.left}
    assert cases == {"real", "speech", "closed"}
    speech = [picture for picture in run.left if picture.case == "speech"]
    assert sum(picture.amount > 0 for picture in speech) >= 0.97 * len(speech)
    assert max(abs(step) for step in steps(run.left)) <= STEP + 0.02


def test_an_hour_over_a_hundred_seeds_gives_the_same_trace_twice() -> None:
    traces = set()
    for seed in range(100):
        first, second = (Simulation(conversation(seed), seed=seed).run(36) for _ in range(2))
        assert first.trace == second.trace
        check_order(first)
        traces.add(tuple(map(str, first.trace)))
    assert len(traces) == 100


@pytest.mark.parametrize("fps", [10, 24, 25, 29.97, 30])
def test_speech_is_painted_at_any_rate_of_the_camera(fps: float) -> None:
    run = Simulation(Scenario(fps=fps)).run(20)
    settled = [picture for picture in run.left if picture.pts > 1]
    assert len(settled) > 18 * fps
    assert all(picture.amount == 1 for picture in settled)


def test_silence_leaves_every_picture_as_it_came() -> None:
    run = Simulation(Scenario(speech=lambda now: False)).run(20)
    assert {picture.reason for picture in run.left} == {"quiet"}
    assert {picture.amount for picture in run.left} == {0.0}
    assert not any(event[0] == "chunk" for event in run.trace)


def test_a_talking_speaker_and_silent_speech_shut_the_mouth() -> None:
    run = Simulation(Scenario(speech=lambda now: False, talks=lambda now: now > 5)).run(20)
    late = [picture for picture in run.left if picture.pts > 5.5]
    assert {picture.case for picture in late} == {"closed"}
    assert all(picture.amount == 1 for picture in late)


@pytest.mark.parametrize("stall_s", [0.5, 2.0, math.inf, -0.05], ids=str)
def test_a_generator_in_trouble_gives_real_pixels_and_comes_back(stall_s: float) -> None:
    """Stalls, hangs for ever, or (negative) fails, from second 5 to second 8."""

    def paint_s(now: float) -> float:
        return stall_s if 5 <= now < 8 else 0.04

    run = Simulation(Scenario(paint_s=paint_s)).run(20)
    check_order(run)
    assert run.dropped == [], "the picture goes on whatever the generator does"
    assert max(b.at - a.at for a, b in pairwise(run.left)) < 2.5 * FRAME_S
    real = next(picture for picture in run.left if picture.at > 5 and picture.amount == 0)
    assert real.at < 5 + 0.6
    assert real.reason == ("engine" if stall_s < 0 else "late")
    assert max(abs(step) for step in steps(run.left[25:])) <= STEP + 0.02, "faded, not switched"
    # From the first chunk that is painted again on, all pictures are.
    back = next(
        event[1]
        for event in run.trace
        if event[0] == "painted" and event[3] and float(str(event[1])) > 8 + 0.05
    )
    whole = next(p for p in run.left if p.at > 8.1 and p.amount == 1)
    assert whole.at < float(str(back)) + run.delay.seconds + CHUNK_S
    assert all(p.amount == 1 for p in run.left if p.at > whole.at)


def test_the_mouth_fades_out_before_the_face_is_lost() -> None:
    gone = (5.0, 6.0)
    run = Simulation(
        Scenario(trouble=lambda pts: "no-face" if gone[0] <= pts < gone[1] else None)
    ).run(10)
    during = [picture for picture in run.left if gone[0] <= picture.pts < gone[1]]
    assert {picture.amount for picture in during} == {0.0}
    assert {picture.reason for picture in during} == {"no-face"}
    assert max(abs(step) for step in steps(run.left[25:])) <= STEP + 0.02
    assert run.left[-1].amount == 1


@pytest.mark.parametrize("reason", ["turned", "occluded"])
def test_a_mouth_that_can_not_be_changed_fades_to_the_real_one(reason: Trouble) -> None:
    run = Simulation(Scenario(trouble=lambda pts: reason if 5 <= pts < 6 else None)).run(10)
    shown = [picture.amount for picture in run.left if 5.2 < picture.pts < 6]
    assert set(shown) == {0.0}
    assert max(abs(step) for step in steps(run.left[25:])) <= STEP + 0.02
    assert run.left[-1].amount == 1


def test_a_lost_camera_brings_the_card_after_a_second_until_it_is_back() -> None:
    run = Simulation(Scenario(camera=lambda now: not 5 <= now < 9)).run(14)
    last = max(picture.at for picture in run.left if picture.at < 7)
    back = min(picture.at for picture in run.left if picture.at > 7)
    assert last + 1 < run.cards[0] < last + 1.2
    assert run.cards[-1] < back < 9 + run.delay.seconds + 0.1
    assert run.left[-1].amount == 1


def test_switching_off_fades_and_nothing_is_painted_any_more() -> None:
    simulation = Simulation(Scenario())

    def switch(pts: float) -> None:
        simulation.core.lip_sync = pts < 5

    simulation.scenario = Scenario(trouble=switch)
    simulation.run(10)
    assert max(abs(step) for step in steps(simulation.left[25:])) <= STEP + 0.02
    assert simulation.left[-1].amount == 0
    assert simulation.left[-1].reason == "off"


def test_the_delay_grows_in_small_steps_where_chunks_take_long() -> None:
    delay = Delay(0.4)
    for _ in range(30):
        delay.painted(0.55)
    assert delay.change() == 2
    assert delay.seconds == pytest.approx(0.44)
    assert delay.change() == 0, "the chunks that asked for it were answered"


def test_the_delay_shrinks_only_after_half_a_minute_of_spare_time() -> None:
    delay = Delay(0.6)
    for _ in range(149):
        delay.painted(0.3)
    assert delay.change() == 0
    delay.painted(0.3)
    assert delay.change() == -1
    assert delay.seconds == pytest.approx(0.58)


def test_one_late_chunk_in_half_a_minute_changes_nothing() -> None:
    delay = Delay(0.4)
    for _ in range(149):
        delay.painted(0.33)
    delay.painted(0.8)
    assert delay.change() in (0, 2)
    assert delay.seconds <= 0.44


def test_a_fade_takes_its_time_at_any_rate() -> None:
    for fps in (10, 25, 30, 60):
        fader = Fader()
        fader.move(0.0, 0.0)
        shown = [fader.move(n / fps, 1.0) for n in range(1, fps + 1)]
        whole = shown.index(1.0) + 1
        assert whole / fps == pytest.approx(FADE_S, abs=1 / fps)


def test_pictures_are_put_together_just_before_they_are_due() -> None:
    run = Simulation(Scenario()).run(5)
    composed = [float(str(event[1])) for event in run.trace if event[0] == "compose"]
    lead = [picture.due - at for picture, at in zip(run.left, composed, strict=False)]
    assert max(lead) <= COMPOSE_S + 1e-9
