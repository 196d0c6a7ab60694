import numpy as np
import pytest
from numpy.typing import NDArray

from training.metrics import LAG_REACH, PSNR_CAP_DB, best_lag, lag_curve, psnr, ssim

pytestmark = pytest.mark.unit


@pytest.fixture
def picture() -> NDArray[np.uint8]:
    y, x = np.mgrid[0:96, 0:96]
    waves = (
        128
        + 50 * np.sin(x / 7)[..., None]
        + 40 * np.cos(y / (5 + np.arange(3))[:, None, None])[[0, 1, 2]].transpose(1, 2, 0)
    )
    return np.asarray(waves, np.uint8)


@pytest.mark.parametrize(("off", "expected"), [(1, 48.1308), (10, 28.1308), (51, 13.9794)])
def test_psnr_of_a_known_error(picture: NDArray[np.uint8], off: int, expected: float) -> None:
    wrong = np.clip(picture, 0, 200).astype(np.uint8)
    assert psnr(wrong + np.uint8(off), wrong) == pytest.approx(expected, abs=1e-3)


def test_psnr_does_not_wrap_around() -> None:
    black, white = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)
    assert psnr(black, white) == psnr(white, black) == pytest.approx(0.0)


def test_identical_pictures_are_capped(picture: NDArray[np.uint8]) -> None:
    assert psnr(picture, picture.copy()) == PSNR_CAP_DB
    assert ssim(picture, picture.copy()) == pytest.approx(1.0)


def gaussian_ssim(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """SSIM of one channel as Wang et al. write it, without the 5 px at the border."""
    ticks = np.arange(-5, 6)
    kernel = np.exp(-0.5 * (ticks / 1.5) ** 2)
    kernel /= kernel.sum()

    def smooth(x: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = np.apply_along_axis(np.convolve, 0, x, kernel, "valid")
        return np.asarray(np.apply_along_axis(np.convolve, 1, rows, kernel, "valid"))

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mean_a, mean_b = smooth(a), smooth(b)
    var_a, var_b = smooth(a * a) - mean_a**2, smooth(b * b) - mean_b**2
    shared = smooth(a * b) - mean_a * mean_b
    top = (2 * mean_a * mean_b + c1) * (2 * shared + c2)
    return float((top / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def test_ssim_is_wangs_on_each_colour(picture: NDArray[np.uint8]) -> None:
    noise = np.random.default_rng(0).normal(0, 15, picture.shape)
    noisy = np.clip(picture + noise, 0, 255).astype(np.uint8)
    colours = [
        gaussian_ssim(noisy[..., c].astype(np.float64), picture[..., c].astype(np.float64))
        for c in range(3)
    ]
    assert ssim(noisy, picture) == pytest.approx(float(np.mean(colours)), abs=1e-4)
    assert 0.3 < ssim(noisy, picture) < 0.95


@pytest.mark.parametrize("measure", [psnr, ssim])
def test_other_shapes_are_refused(measure: object, picture: NDArray[np.uint8]) -> None:
    assert callable(measure)
    with pytest.raises(ValueError, match=r"shape|dimensions"):
        measure(picture, picture[1:])


@pytest.mark.parametrize("late", [-3, 0, 1, 6])
def test_lag_is_positive_where_the_generated_mouth_comes_late(late: int) -> None:
    chance = np.random.default_rng(1)
    signal = np.convolve(chance.normal(size=120), np.ones(3) / 3, "valid")
    real, made = signal[10:90], 0.5 * signal[10 - late : 90 - late] + 2
    lag, value = best_lag(lag_curve(real, made))
    assert lag == late
    assert value == pytest.approx(1.0)


def test_curve_holds_every_lag_with_zero_in_the_middle() -> None:
    chance = np.random.default_rng(2)
    real, made = chance.normal(size=(2, 60))
    curve = lag_curve(real, made)
    assert len(curve) == 2 * LAG_REACH + 1
    assert curve[LAG_REACH] == pytest.approx(np.corrcoef(real, made)[0, 1])


def test_constant_mouth_follows_nothing() -> None:
    assert (lag_curve(np.arange(50.0), np.full(50, 0.1)) == 0).all()


def test_too_few_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="give no curve"):
        lag_curve(np.arange(9.0), np.arange(9.0))
    with pytest.raises(ValueError, match="give no curve"):
        lag_curve(np.arange(50.0), np.arange(49.0))
