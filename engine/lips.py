"""How far the mouth is open: the measure that judges every model here."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.crop import eye_centres

INNER_UPPER_LIP: Final = 13
INNER_LOWER_LIP: Final = 14
"""Mesh points in the middle of the inner lips."""


def mouth_opening(mesh: NDArray[np.float32]) -> float:
    """Distance of the inner lips over the inter-ocular distance, both as the picture shows them.

    Args:
        mesh: float32 (468, 3), any unit.

    Returns:
        About 0.02 for closed lips, 0.3 for a wide open vowel.
    """
    left, right = eye_centres(mesh)
    gap = np.linalg.norm(mesh[INNER_UPPER_LIP, :2] - mesh[INNER_LOWER_LIP, :2])
    return float(gap / max(float(np.linalg.norm((right - left)[:2])), 1e-6))


def correlation(a: NDArray[np.floating], b: NDArray[np.floating], *, lag: int = 0) -> float:
    """Pearson's correlation of two openings, ``b`` read ``lag`` frames later.

    Args:
        a: (n,) openings.
        b: (n,) openings at the same times.
        lag: frames; positive asks whether b comes late.

    Returns:
        -1..1, or 0 where either is constant or nothing overlaps.
    """
    if lag > 0:
        a, b = a[:-lag], b[lag:]
    elif lag < 0:
        a, b = a[-lag:], b[:lag]
    if len(a) == 0 or np.ptp(a) == 0 or np.ptp(b) == 0:  # exact, which a variance is not
        return 0.0
    a, b = a - a.mean(dtype=np.float64), b - b.mean(dtype=np.float64)
    return float(a @ b) / float(np.sqrt((a @ a) * (b @ b)))
