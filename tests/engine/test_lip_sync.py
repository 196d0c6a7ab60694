import numpy as np
import pytest
from numpy.typing import NDArray

from engine.lip_sync import avs, estimate_offset, frame_cosines, offset_scores, unit

pytestmark = pytest.mark.unit


def walk(length: int, dim: int = 16, seed: int = 0) -> NDArray[np.float32]:
    """Features that drift, as those of speech do."""
    steps = np.random.default_rng(seed).standard_normal((length, dim))
    return np.asarray(steps + 0.5 * np.roll(steps, 1, axis=0), np.float32)


def test_cosines_are_those_of_each_frame() -> None:
    a = np.array([[1, 0], [1, 1], [0, 2]], np.float32)
    b = np.array([[2, 0], [1, 0], [0, -1]], np.float32)
    np.testing.assert_allclose(frame_cosines(a, b), [1, np.sqrt(0.5), -1], atol=1e-6)


def test_a_frame_without_features_fits_nothing() -> None:
    nothing, something = np.zeros((1, 3), np.float32), np.ones((1, 3), np.float32)
    assert frame_cosines(nothing, something)[0] == 0.0
    assert np.isfinite(unit(nothing)).all()


def test_the_mean_of_frames_counts_quiet_features_as_much_as_loud_ones() -> None:
    a = np.array([[10, 0], [0, 1]], np.float32)
    b = np.array([[10, 0], [1, 0]], np.float32)
    assert avs(a, b) == pytest.approx(0.5)
    assert avs(a, b, flatten=True) == pytest.approx(100 / np.sqrt(101 * 101))


def test_sequences_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="equal length"):
        avs(walk(5), walk(6))
    with pytest.raises(ValueError, match="equal length"):
        avs(walk(0), walk(0))
    with pytest.raises(ValueError, match="longer than 5"):
        offset_scores(walk(5), walk(5), 5)


@pytest.mark.parametrize("late", range(-7, 8))
def test_late_sound_is_a_positive_offset(late: int) -> None:
    lips = walk(75)
    found = estimate_offset(np.roll(lips, late, axis=0), lips)
    assert found.frames == late
    assert found.score > 0.8
    assert found.confidence > 0.7


def test_each_score_is_the_mean_over_the_frames_that_both_have() -> None:
    lips, sound = walk(20), walk(20, seed=1)
    scores = offset_scores(sound, lips, 3)
    for offset in range(-3, 4):
        pairs = [(t, t + offset) for t in range(20) if 0 <= t + offset < 20]
        own = [float(frame_cosines(lips[t : t + 1], sound[s : s + 1])[0]) for t, s in pairs]
        assert scores[offset + 3] == pytest.approx(np.mean(own), abs=1e-6)


def test_only_frames_that_count_are_judged() -> None:
    lips = walk(60)
    sound = np.roll(lips, 4, axis=0)
    lips[:30] = walk(30, seed=9)  # another mouth
    counts = np.arange(60) >= 30
    assert estimate_offset(sound, lips, 8, counts).score > estimate_offset(sound, lips, 8).score
    assert estimate_offset(sound, lips, 8, counts).frames == 4
    nothing = np.zeros(60, np.bool_)
    assert (offset_scores(sound, lips, 8, nothing) == -1).all()


def test_lips_that_say_nothing_give_no_confidence() -> None:
    frozen = np.repeat(walk(1), 75, axis=0)
    assert estimate_offset(walk(75, seed=3), frozen).confidence < 0.15
