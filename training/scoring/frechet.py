"""The Fréchet distance of two sets of features, as FID takes it of pictures (Heusel et al., 2017).

Each set counts as a Gaussian: d² = |μ₁ − μ₂|² + tr(Σ₁ + Σ₂ − 2 (Σ₁ Σ₂)^½).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

Features = NDArray[np.floating]


def gaussian_distance(
    mean_a: NDArray[np.float64],
    cov_a: NDArray[np.float64],
    mean_b: NDArray[np.float64],
    cov_b: NDArray[np.float64],
) -> float:
    """The squared Fréchet distance of two Gaussians.

    Args:
        mean_a: (D,).
        cov_a: (D, D), symmetric, no negative eigenvalues.
        mean_b: (D,).
        cov_b: (D, D), likewise.

    Returns:
        At least 0, in squared units of the features.
    """
    # Σ₁ Σ₂ has the eigenvalues of Σ₁^½ Σ₂ Σ₁^½, which is symmetric: no complex root is needed.
    values, vectors = linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(linalg.eigvalsh(root @ cov_b @ root), 0)).sum()
    apart = float(((mean_a - mean_b) ** 2).sum())
    return max(0.0, apart + float(np.trace(cov_a) + np.trace(cov_b) - 2 * shared))


def frechet_distance(a: Features, b: Features) -> float:
    """The squared Fréchet distance of two sets of features.

    It is biased upward, the more the smaller the sets: only figures of sets of one size compare.

    Args:
        a: (n, D), n ≥ 2.
        b: (m, D), m ≥ 2.

    Returns:
        At least 0.

    Raises:
        ValueError: a set has less than two features, or they differ in length.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"two sets of features of one length are compared, not {a.shape}, {b.shape}"
        )
    mean_a, mean_b = a.mean(axis=0, dtype=np.float64), b.mean(axis=0, dtype=np.float64)
    spread_a = (a - mean_a) / np.sqrt(len(a) - 1)
    spread_b = (b - mean_b) / np.sqrt(len(b) - 1)
    if max(len(a), len(b)) > a.shape[1]:
        return gaussian_distance(mean_a, spread_a.T @ spread_a, mean_b, spread_b.T @ spread_b)
    # With Σ = Xᵀ X, tr (Σ₁ Σ₂)^½ is the sum of the singular values of X₁ X₂ᵀ, which is smaller.
    shared = linalg.svdvals(spread_a @ spread_b.T).sum()
    apart = float(((mean_a - mean_b) ** 2).sum())
    traces = float((spread_a**2).sum() + (spread_b**2).sum())
    return max(0.0, apart + traces - 2 * float(shared))
