"""New faces of two: both pictures are brought to the mesh between theirs and laid over each other.

A face of equal parts looks like neither parent, which makes more people out of few pictures.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator

from engine.mesh_warp import warp

_BORDER_STEPS: Final = 9  # points on each side of the crop that stay where they are


def blend(
    one: tuple[NDArray[np.uint8], NDArray[np.float32]],
    other: tuple[NDArray[np.uint8], NDArray[np.float32]],
    share: float = 0.5,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A face between two.

    Args:
        one: a crop, uint8 (S, S, 3), and its mesh, float32 (468, 3) in its pixels.
        other: another of the same size.
        share: of the other one, 0..1, in form and colour.

    Returns:
        The crop and the mesh of the new face.
    """
    side = len(one[0])
    mesh = (1 - share) * one[1] + share * other[1]
    moved = [warp(crop, _whole_field(own, mesh, side)) for crop, own in (one, other)]
    mixed = (1 - share) * moved[0].astype(np.float32) + share * moved[1]
    return np.rint(mixed).astype(np.uint8), mesh.astype(np.float32)


def _whole_field(
    source: NDArray[np.float32], target: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Where each pixel of a face with another mesh comes from: float32 (side, side, 2)."""
    along = np.linspace(0, side - 1, _BORDER_STEPS)
    first, last = np.zeros_like(along), np.full_like(along, side - 1)
    pairs = ((along, first), (along, last), (first, along), (last, along))
    border = np.concatenate([np.stack(pair, axis=1) for pair in pairs])
    inside = np.all((target[:, :2] > 0) & (target[:, :2] < side - 1), axis=1)
    places = np.concatenate([target[inside, :2], border])
    values = np.concatenate([source[inside, :2], border])
    ticks = np.arange(side, dtype=np.float32)
    field = LinearNDInterpolator(places, values)(*np.meshgrid(ticks, ticks))
    return np.asarray(field, dtype=np.float32)
