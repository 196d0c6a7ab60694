import math

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face_models import FaceModels
from engine.lips import correlation, mouth_opening
from engine.tracker import FaceTracker
from tests.faces import Picture, found, move, similarity


def mesh(gap: float, *, eyes: float = 40.0, roll: float = 0.0) -> NDArray[np.float32]:
    """Return a mesh whose lips stand apart; its other points lie anywhere."""
    points = np.random.default_rng(0).uniform(0, 100, (468, 3)).astype(np.float32)
    for corner, side in zip((33, 133, 362, 263), (-1, -1, 1, 1), strict=True):
        points[corner] = (side * eyes / 2, 0, 9 * side)
    points[13], points[14] = (3, 50, -20), (3, 50 + gap, -25)
    cos, sin = math.cos(roll), math.sin(roll)
    points[:, :2] = points[:, :2] @ np.array([[cos, sin], [-sin, cos]], dtype=np.float32)
    return points


@pytest.mark.unit
@pytest.mark.parametrize("roll", [0.0, 0.5, -1.0])
def test_opening_is_the_lips_gap_over_the_distance_of_the_eyes(roll: float) -> None:
    assert mouth_opening(mesh(8.0, roll=roll)) == pytest.approx(0.2, rel=1e-5)
    assert mouth_opening(mesh(0.0, roll=roll)) == 0.0
    assert mouth_opening(mesh(8.0, eyes=80.0, roll=roll)) == pytest.approx(0.1, rel=1e-5)


@pytest.mark.unit
def test_opening_has_no_unit() -> None:
    points = mesh(6.0)
    assert mouth_opening(points * 3) == pytest.approx(mouth_opening(points))


@pytest.mark.models
@pytest.mark.parametrize(("scale", "roll"), [(0.6, 0.0), (1.0, 25.0), (1.6, -25.0)])
def test_opening_of_a_face_does_not_depend_on_its_size_or_roll(
    face_models: FaceModels, astronaut: Picture, scale: float, roll: float
) -> None:
    smile = mouth_opening(found(FaceTracker(face_models), astronaut).mesh)
    assert 0.12 < smile < 0.25
    picture = move(astronaut, similarity(scale=scale, roll=roll))
    assert mouth_opening(found(FaceTracker(face_models), picture).mesh) == pytest.approx(
        smile, abs=0.025
    )


def speech(count: int = 200) -> NDArray[np.float64]:
    noise = np.random.default_rng(0).normal(0, 1, count + 8)
    return np.convolve(noise, np.ones(9) / 9, mode="valid")


@pytest.mark.unit
def test_correlation_is_pearsons() -> None:
    a = speech()
    b = 0.3 * a + np.random.default_rng(1).normal(0, 0.05, len(a))
    assert correlation(a, b) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert correlation(a, 3 * a + 7) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)


@pytest.mark.unit
@pytest.mark.parametrize("late", [-3, 0, 4])
def test_lag_is_positive_where_the_second_is_late(late: int) -> None:
    whole = speech(220)
    a, b = whole[10:210], whole[10 - late : 210 - late]
    lags = {lag: correlation(a, b, lag=lag) for lag in range(-8, 9)}
    assert max(lags, key=lags.__getitem__) == late
    assert lags[late] == pytest.approx(1)


@pytest.mark.unit
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3])
def test_a_constant_correlates_with_nothing(dtype: type[np.floating], value: float) -> None:
    constant = np.full(199, value, dtype=dtype)
    assert correlation(constant, speech(199).astype(dtype)) == 0.0
    assert correlation(speech(199).astype(dtype), constant) == 0.0
    assert correlation(constant, constant) == 0.0


@pytest.mark.unit
@pytest.mark.parametrize("lag", [-20, 20])
def test_a_lag_beyond_the_end_correlates_with_nothing(lag: int) -> None:
    assert correlation(speech(12), speech(12), lag=lag) == 0.0
