import numpy as np
import pytest
from numpy.typing import NDArray

from engine.smoothing import OneEuro

pytestmark = pytest.mark.unit

FPS = 25
PX_PER_UNIT = 96 / 2.85  # crop pixels in an inter-ocular distance
USUAL_SPEED = 1.5  # inter-ocular distances a second


def tracker_filter() -> OneEuro:
    """The constants of the tracker."""
    return OneEuro(rest_hz=0.6, gain=6.0)


def smooth(values: NDArray[np.float64], times: NDArray[np.float64]) -> NDArray[np.float64]:
    steady = tracker_filter()
    rows = zip(values, times, strict=True)
    return np.array([steady(np.array([v]), float(t))[0] for v, t in rows])


@pytest.mark.parametrize("fps", [15, 25, 30, 60])
def test_noise_at_rest_is_at_least_halved(fps: int) -> None:
    noise = np.random.default_rng(0).normal(0, 0.003, 20 * fps)
    steady = smooth(noise, np.arange(len(noise)) / fps)[2 * fps :]
    assert steady.std() < noise.std() / 2
    assert np.abs(np.diff(steady)).mean() < np.abs(np.diff(noise)).mean() / 3


@pytest.mark.parametrize("fps", [15, 25, 30, 60])
@pytest.mark.parametrize("speed", [-USUAL_SPEED, 0.3, USUAL_SPEED])
def test_steady_motion_lags_less_than_a_crop_pixel(fps: int, speed: float) -> None:
    times = np.arange(2 * fps) / fps
    lag = np.abs(speed * times - smooth(speed * times, times)) * PX_PER_UNIT
    assert lag[fps // 2 :].max() < 1.0


def test_irregular_steps_lag_no_more() -> None:
    steps = np.random.default_rng(0).choice([0.02, 0.04, 0.08, 0.12], 60)
    times = np.cumsum(steps)
    lag = np.abs(USUAL_SPEED * times - smooth(USUAL_SPEED * times, times)) * PX_PER_UNIT
    assert lag[10:].max() < 1.0


def test_first_value_and_the_one_after_a_reset_are_taken_as_they_are() -> None:
    steady = tracker_filter()
    assert steady(np.array([3.0, -7.0]), 0.0).tolist() == [3.0, -7.0]
    steady(np.array([3.1, -7.0]), 0.04)
    steady.reset()
    assert steady(np.array([50.0, 60.0]), 0.08).tolist() == [50.0, 60.0]
    # The speed is forgotten too: a value at rest stays where it is.
    assert steady(np.array([50.0, 60.0]), 0.12).tolist() == [50.0, 60.0]


@pytest.mark.parametrize("now", [1.0, 0.5])
def test_time_that_stands_still_or_goes_back_starts_anew(now: float) -> None:
    steady = tracker_filter()
    steady(np.array([1.0]), 1.0)
    assert steady(np.array([2.0]), now).tolist() == [2.0]


def test_only_the_past_counts() -> None:
    noise = np.random.default_rng(1).normal(0, 1, 50)
    times = np.arange(50) / FPS
    other = np.concatenate([noise[:30], 5 + noise[30:]])
    np.testing.assert_array_equal(smooth(noise, times)[:30], smooth(other, times)[:30])


def test_values_are_smoothed_each_for_itself() -> None:
    noise = np.random.default_rng(2).normal(0, 0.01, (50, 3))
    steady = OneEuro(rest_hz=np.array([0.6, 0.1, 5.0]), gain=6.0)
    together = np.array([steady(row, i / FPS) for i, row in enumerate(noise)])
    alone = OneEuro(rest_hz=0.1, gain=6.0)
    middle = np.array([alone(row[1:2], i / FPS)[0] for i, row in enumerate(noise)])
    np.testing.assert_allclose(together[:, 1], middle)
    assert together[10:, 1].std() < together[10:, 0].std() < together[10:, 2].std()


def test_arrays_that_come_in_and_go_out_are_the_callers_own() -> None:
    steady = tracker_filter()
    values = np.array([1.0])
    out = steady(values, 0.0)
    values[0], out[0] = 9.0, 9.0
    assert steady(np.array([1.0]), 0.04)[0] == pytest.approx(1.0)
