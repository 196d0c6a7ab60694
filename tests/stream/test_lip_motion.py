import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engine.face_models import FaceModels
from engine.lips import mouth_opening
from engine.media import VideoReader
from engine.tracker import FaceTracker
from stream.core.gate import Gate, GateCase
from stream.core.lip_motion import WINDOW_S, LipMotion, count_swings
from stream.portrait import Portrait

pytestmark = pytest.mark.models

RATES = [10.0, 15.0, 25.0, 29.97, 30.0]
Opening = Callable[[float], float | None]


def syllables(times_s: float, *, rate_hz: float = 4.3, size: float = 0.09) -> float:
    """The opening of a mouth that talks at an even rate."""
    return float(0.03 + size * (0.5 - 0.5 * np.cos(2 * np.pi * rate_hz * times_s)))


def ramp(now: float, start: float, length_s: float, low: float, high: float) -> float:
    share = float(np.clip((now - start) / length_s, 0, 1))
    return low + (high - low) * (0.5 - 0.5 * float(np.cos(np.pi * share)))


def watch(
    opening: Opening, seconds: float, *, fps: float = 25.0, jitter: float = 0.0, seed: int = 0
) -> list[tuple[float, bool]]:
    chance = np.random.default_rng(seed)
    motion, found = LipMotion(), []
    for number in range(round(seconds * fps)):
        pts = number / fps
        value = opening(pts)
        if value is not None:
            value = max(0.0, value + chance.normal(0, jitter))
        found.append((pts, motion.update(value, pts)))
    return found


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("rate_hz", [2.3, 4.3, 5.7])
def test_talking_is_found_at_any_rate(fps: float, rate_hz: float) -> None:
    found = watch(lambda now: syllables(now, rate_hz=rate_hz), 8, fps=fps, jitter=0.004)
    settled = [moving for pts, moving in found if pts > 0.6]
    assert np.mean(settled) > 0.97


@pytest.mark.parametrize("fps", RATES)
def test_slow_talk_goes_on_between_syllables(fps: float) -> None:
    found = watch(lambda now: syllables(now, rate_hz=1.3), 8, fps=fps, jitter=0.003)
    assert all(moving for pts, moving in found if pts > 1)


@pytest.mark.parametrize("fps", RATES)
def test_it_begins_with_the_first_syllable_and_ends_soon_after_the_last(fps: float) -> None:
    found = watch(lambda now: syllables(now) if 2 <= now < 4.09 else 0.03, 6, fps=fps, jitter=0.003)
    times = [pts for pts, moving in found if moving]
    assert 2.05 < times[0] < 2.3
    assert 4.0 < times[-1] < 4.09 + WINDOW_S + 1 / fps


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize(
    ("rest", "jitter"), [(0.02, 0.003), (0.02, 0.006), (0.2, 0.006), (0.35, 0.008)]
)
def test_jitter_of_a_resting_mouth_is_no_talking(fps: float, rest: float, jitter: float) -> None:
    """Shut, smiling, wide open: for five minutes each."""
    found = watch(lambda now: rest, 300, fps=fps, jitter=jitter)
    assert not any(moving for _, moving in found)


def yawn(now: float) -> float:
    """Opens over most of a second, stays, and shuts."""
    return ramp(now, 1, 0.9, 0.02, 0.6) - ramp(now, 3, 0.7, 0.0, 0.58)


def smile(now: float) -> float:
    """Bares the teeth for two seconds."""
    return ramp(now, 1, 0.3, 0.02, 0.2) - ramp(now, 3, 0.3, 0.0, 0.18)


def blinks(now: float) -> float:
    """As the mesh of an open mouth gives way while the eyes are shut."""
    return 0.19 - 0.022 * (now % 2 < 0.16)


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("opening", [yawn, smile, blinks])
def test_other_things_that_mouths_do_are_no_talking(opening: Opening, fps: float) -> None:
    found = watch(opening, 8, fps=fps, jitter=0.003)
    assert not any(moving for _, moving in found)


def test_a_held_vowel_ends_talking() -> None:
    found = watch(lambda now: syllables(now) if now < 2.1 else 0.03 + 0.09 * (now < 5), 5, fps=25)
    assert dict(found)[2.0]
    assert not any(moving for pts, moving in found if pts > 2.1 + WINDOW_S + 0.15)


def test_missing_faces_do_not_stop_it_and_a_lost_one_does() -> None:
    def flickering(now: float) -> float | None:
        return None if round(now * 25) % 4 == 0 else syllables(now)

    assert all(moving for pts, moving in watch(flickering, 4) if pts > 0.7)
    gone = watch(lambda now: syllables(now) if now < 2 else None, 4)
    assert not any(moving for pts, moving in gone if pts > 2 + WINDOW_S)


def test_a_face_that_comes_back_as_another_one_does_not_talk() -> None:
    def changing(now: float) -> float | None:
        if now < 1.33:
            return 0.02 if now < 1 else None
        return ramp(now, 1.36, 0.15, 0.2, 0.02)  # its smile ends

    assert not any(moving for _, moving in watch(changing, 3, fps=30))


def test_a_picture_out_of_order_is_ignored() -> None:
    motion = LipMotion()
    for number, opening in enumerate([0.02, 0.02, 0.2, 0.2, 0.02, 0.02, 0.2, 0.2]):
        assert not motion.update(opening, -number / 25)


def test_reset_forgets_the_face() -> None:
    motion = LipMotion()
    for number in range(50):
        motion.update(syllables(number / 25), number / 25)
    motion.reset()
    assert not motion.update(0.1, 0.0)


@pytest.mark.parametrize(
    ("values", "swings"),
    [
        ([1.0], 0),
        ([1.0, 1.9, 0.95], 0),
        ([1.0, 2.0], 1),
        ([1.0, 1.5, 2.0, 2.5, 3.0], 1),
        ([1.0, 2.0, 1.0], 2),
        ([2.0, 1.0, 2.0, 1.5, 2.5, 0.5], 3),
        ([1.5, 1.0, 1.9, 1.0, 2.1, 1.2, 1.0], 2),
    ],
)
def test_swings_are_counted_from_turn_to_turn(values: list[float], swings: int) -> None:
    assert count_swings(values, 1.0) == swings


def test_a_still_mouth_that_sways_and_blinks_never_talks(face_models: FaceModels) -> None:
    portrait, tracker, motion = Portrait(), FaceTracker(face_models), LipMotion()
    for number in range(150):
        pts = 1.0 + number / 25  # with two blinks
        face = tracker.update(portrait.frame(pts), pts)
        assert face is not None
        assert not motion.update(mouth_opening(face.mesh), pts)


CLIPS = ("bbaf2n", "lgif2p", "prwd7a")


@pytest.mark.data
def test_real_talk_is_found_from_its_first_word_to_its_last(
    face_models: FaceModels, data_dir: Path
) -> None:
    """Lips alone find most of it; the gate, which believes them from before, all."""
    words: dict[str, list[float]] = {}
    with (data_dir / "grid" / "words.tsv").open(newline="") as table:
        for row in csv.DictReader(table, delimiter="\t"):
            if row["clip"] in CLIPS and row["word"] != "sil":
                words.setdefault(row["clip"], []).extend(
                    [float(row["start_s"]), float(row["end_s"])]
                )
    found, shut = [], []
    for clip in CLIPS:
        tracker, motion, gate = FaceTracker(face_models), LipMotion(), Gate(has_source=False)
        first, last = min(words[clip]), max(words[clip])
        with VideoReader(data_dir / "grid" / "s1" / f"{clip}.mp4") as video:
            for number, (_, picture) in enumerate(video):
                pts = number / 25
                face = tracker.update(picture, pts)
                moving = motion.update(None if face is None else mouth_opening(face.mesh), pts)
                gate.lips(pts, moving)
                case = gate.decide(pts - 0.24).case
                if first <= pts <= last:
                    found.append(moving)
                if first <= pts - 0.24 <= last:
                    shut.append(case is GateCase.CLOSED)
    assert np.mean(found) >= 0.9
    assert np.mean(shut) >= 0.97
