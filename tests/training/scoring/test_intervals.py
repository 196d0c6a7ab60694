import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from training.scoring.intervals import NOTHING, Estimate, mean_of, of_sets

pytestmark = pytest.mark.unit


def test_interval_of_a_mean_is_that_of_scipys_bootstrap() -> None:
    values = np.random.default_rng(0).gamma(2.0, size=40)
    found = mean_of(values.tolist())
    other = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(other.low, rel=0.02)
    assert found.high == pytest.approx(other.high, rel=0.02)


def test_same_seed_gives_the_same_interval() -> None:
    values = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.5]
    assert mean_of(values) == mean_of(values)
    assert mean_of(values, seed=1) != mean_of(values)


def test_clips_without_a_value_do_not_count_and_one_clip_has_no_interval() -> None:
    assert mean_of([None, None]) == NOTHING
    assert mean_of([None, 3.0]) == Estimate(3.0, None, None, 1)
    assert mean_of([2.0, None, 2.0]) == Estimate(2.0, 2.0, 2.0, 2)


def test_figure_that_rises_with_repeated_clips_stays_within_its_interval() -> None:
    def different(clips: NDArray[np.int_]) -> float:
        return 100.0 - len(np.unique(clips))

    found = of_sets(different, 30)
    assert found.value == 70
    assert found.low is not None
    assert found.low < 70  # the percentiles alone would lie near 81
    assert of_sets(different, 1) == Estimate(99.0, None, None, 1)
