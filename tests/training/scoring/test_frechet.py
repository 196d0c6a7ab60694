import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import linalg

from training.scoring.frechet import frechet_distance, gaussian_distance

pytestmark = pytest.mark.unit


def test_gaussians_along_the_axes_have_a_known_distance() -> None:
    # Commuting covariances: |μ₁ − μ₂|² + Σ (σ₁ − σ₂)².
    found = gaussian_distance(
        np.array([1.0, 2.0, 0.0]),
        np.diag([4.0, 9.0, 1.0]),
        np.array([1.0, -1.0, 2.0]),
        np.diag([1.0, 16.0, 1.0]),
    )
    assert found == pytest.approx(9 + 4 + 1 + 1)


def test_turning_both_gaussians_changes_nothing() -> None:
    turn = linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    a, b = np.diag([4.0, 9.0, 0.0]), np.diag([1.0, 16.0, 0.25])
    zero = np.zeros(3)
    turned = gaussian_distance(zero, turn @ a @ turn.T, zero, turn @ b @ turn.T)
    assert turned == pytest.approx(1 + 1 + 0.25)


def by_the_formula(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """As papers write it, with the matrix's own root."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = linalg.sqrtm(cov_a @ cov_b)
    apart = ((a.mean(axis=0) - b.mean(axis=0)) ** 2).sum()
    return float(apart + np.trace(cov_a + cov_b - 2 * np.real(root)))


@pytest.mark.parametrize(("few", "many"), [(200, 90), (20, 25)], ids=["full rank", "few features"])
def test_sets_have_the_distance_of_the_formula(few: int, many: int) -> None:
    chance = np.random.default_rng(1)
    mixed = chance.normal(size=(40, 40))
    a, b = chance.normal(size=(few, 40)) @ mixed, chance.normal(size=(many, 40)) + 0.5
    found = frechet_distance(a.astype(np.float32), b.astype(np.float32))
    assert found == pytest.approx(by_the_formula(a, b), rel=1e-3)


def test_set_has_no_distance_from_itself() -> None:
    features = np.random.default_rng(2).normal(size=(30, 64))
    assert frechet_distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_sets_that_do_not_compare_are_refused() -> None:
    features = np.zeros((5, 4))
    for other in (np.zeros((5, 3)), np.zeros((1, 4)), np.zeros(4)):
        with pytest.raises(ValueError, match="are compared"):
            frechet_distance(features, other)
