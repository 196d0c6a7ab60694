"""How alike two pictures are, and how one mouth follows another."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from skimage.metrics import structural_similarity

from engine.lips import correlation

PSNR_CAP_DB: Final = 100.0
"""PSNR of identical pictures, which has no finite value of its own."""

SSIM_SETTINGS: Final = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 255,
    "channel_axis": -1,
}
"""Wang et al. (2004), the mean of the three colours; other settings move SSIM by up to 0.05."""

LAG_REACH: Final = 8
"""Frames to both sides in which the best lag is sought: 0.32 s at 25 fps."""


def psnr(made: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio of one picture in dB, at most 100.

    Figures of several frames are the mean of these, not the PSNR of the mean error.

    Args:
        made: uint8 (H, W, 3).
        real: uint8 (H, W, 3).

    Raises:
        ValueError: the shapes differ.
    """
    if made.shape != real.shape:
        raise ValueError(f"pictures of one shape are compared, not {made.shape} and {real.shape}")
    error = float(np.mean((made.astype(np.float64) - real) ** 2))
    if error == 0:
        return PSNR_CAP_DB
    return min(PSNR_CAP_DB, float(10 * np.log10(255**2 / error)))


def ssim(made: NDArray[np.uint8], real: NDArray[np.uint8]) -> float:
    """Structural similarity of one picture, -1..1, with :data:`SSIM_SETTINGS`.

    Args:
        made: uint8 (H, W, 3), at least 11 pixels a side.
        real: uint8 (H, W, 3).

    Raises:
        ValueError: the shapes differ, or the pictures are too small.
    """
    return float(structural_similarity(made, real, **SSIM_SETTINGS))  # type: ignore[no-untyped-call]


def lag_curve(
    real: NDArray[np.floating], made: NDArray[np.floating], reach: int = LAG_REACH
) -> NDArray[np.float64]:
    """Correlation of two openings at each lag.

    Args:
        real: (n,) openings, n > reach + 1.
        made: (n,) openings at the same times.
        reach: frames to both sides.

    Returns:
        float64 (2 · reach + 1,); the middle is lag 0, what follows it asks whether ``made`` comes
        late.

    Raises:
        ValueError: the openings differ in number, or are too few.
    """
    if len(real) != len(made) or len(real) < reach + 2:
        raise ValueError(f"{len(real)} and {len(made)} openings give no curve of {reach} frames")
    lags = range(-reach, reach + 1)
    return np.array([correlation(real, made, lag=lag) for lag in lags], dtype=np.float64)


def best_lag(curve: NDArray[np.float64]) -> tuple[int, float]:
    """The lag at which a curve of :func:`lag_curve` is highest, in frames, and its value there."""
    top = int(np.argmax(curve))
    return top - len(curve) // 2, float(curve[top])
