"""The mouth's shape as a few numbers: what the audio encoder is taught to hear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.mesh_warp import (
    CHIN,
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    NOSE_BASE,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)

LIPS: Final = tuple(
    dict.fromkeys((*UPPER_INNER_LIP, *LOWER_INNER_LIP, *UPPER_OUTER_LIP, *LOWER_OUTER_LIP))
)
JAW: Final = (CHIN, 172, 136, 150, 149, 176, 148, 377, 400, 378, 379, 365, 397)
SHAPE_POINTS: Final = (*LIPS, *JAW)
"""Mesh points that speech moves: the lips and the line of the jaw."""


def speech_motion(mesh: NDArray[np.floating]) -> NDArray[np.float32]:
    """Lips and jaw as they move in speech, without the head's nod.

    Args:
        mesh: (n, 468, 2+) in pixels of upright crops.

    Returns:
        float32 (n, len(SHAPE_POINTS), 2), places relative to the nose's base.
    """
    xy = mesh[:, :, :2].astype(np.float32)
    return xy[:, list(SHAPE_POINTS)] - xy[:, [NOSE_BASE]]


@dataclass(frozen=True, slots=True)
class ShapeBasis:
    """Principal components of one speaker's :func:`speech_motion`.

    Attributes:
        mean: float32 (2 · points,), in pixels of the crop.
        components: float32 (c, 2 · points), orthonormal, greatest first.
        scale: standard deviation of the first component in pixels; it scales all of them, so
            that a coefficient counts as much as it moves the mouth.
    """

    mean: NDArray[np.float32]
    components: NDArray[np.float32]
    scale: float

    @classmethod
    def fit(cls, motion: NDArray[np.float32], components: int) -> ShapeBasis:
        """Fit the basis to (n, points, 2) of motion."""
        rows = motion.reshape(len(motion), -1)
        mean = rows.mean(axis=0)
        _, singular, directions = np.linalg.svd(rows - mean, full_matrices=False)
        scale = float(singular[0] / np.sqrt(len(rows)))
        return cls(mean, directions[:components].astype(np.float32), scale)

    def encode(self, motion: NDArray[np.float32]) -> NDArray[np.float32]:
        """Coefficients float32 (n, c) of (n, points, 2) of motion; the first has variance 1."""
        rows = motion.reshape(len(motion), -1)
        return np.asarray((rows - self.mean) @ self.components.T / self.scale, dtype=np.float32)
