"""Move a crop's pixels along with its mesh, and shut an open mouth that way.

A picture in which somebody smiles or speaks makes a poor identity reference: the generator opens
lips, it does not close them. :func:`close_mouth` gives it shut ones.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import LinearNDInterpolator, RBFInterpolator

from engine.crop import LEFT_EYE, RIGHT_EYE
from engine.face_models import OUTER_EYE_CORNERS
from engine.lips import INNER_LOWER_LIP, INNER_UPPER_LIP

UPPER_INNER_LIP: Final = (78, 191, 80, 81, 82, 13, 312, 311, 310, 415, 308)
LOWER_INNER_LIP: Final = (78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308)
"""Mesh points along the inner lips from corner to corner; equal places face each other."""

UPPER_OUTER_LIP: Final = (61, 185, 40, 39, 37, 0, 267, 269, 270, 409, 291)
LOWER_OUTER_LIP: Final = (61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291)
"""The same along the outer lips."""

# From this gap on (in distances of the outer eye corners) a mouth shows its teeth, and the edge
# of its lips is sought this share of the way towards their outer line, or this distance.
TEETH_GAP: Final = 0.08
LIP_SHARE: Final = 0.45
LIP_EDGE: Final = 0.04
# How much of its width and of its curve a smile loses as the mouth shuts.
RELAX_WIDTH: Final = 0.12
RELAX_CURVE: Final = 0.9

NOSE_BASE: Final = 2
CHIN: Final = 152
STILL_RING: Final = (1, 2, 98, 327, 50, 280, 123, 352, 132, 361, 58, 288)
"""Mesh points of the nose and the sides of the face, which shut lips leave where they are."""

# Mesh points above this share of the way from the eyes to the nose's base do not move with speech.
_STILL_ABOVE: Final = 0.6
_ANCHOR_STEP_PX: Final = 8
_LIP_STEPS: Final = 5
_FINER: Final = 8  # sub-pixels of drawn edges
_LINE_SHADE: Final = 0.88  # brightness of the line between shut lips against the lips


def moving_points(mesh: NDArray[np.floating]) -> NDArray[np.intp]:
    """Indices of the mesh points in the lower face.

    Args:
        mesh: (468, 2 or 3) in pixels of an upright crop.
    """
    eyes = mesh[[*LEFT_EYE, *RIGHT_EYE], 1].mean()
    return np.flatnonzero(mesh[:, 1] > eyes + _STILL_ABOVE * (mesh[NOSE_BASE, 1] - eyes))


def _anchors(side: int, above: float) -> NDArray[np.float32]:
    """Places that stay: the crop's border and everything above the lower face."""
    ticks = np.append(np.arange(0, side - 1, _ANCHOR_STEP_PX), side - 1)
    grid = np.stack(np.meshgrid(ticks, ticks), axis=-1).reshape(-1, 2)
    border = (grid[:, 0] % (side - 1) == 0) | (grid[:, 1] == side - 1) | (grid[:, 1] < above)
    return np.asarray(grid[border], dtype=np.float32)


def _lip_points(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """More points along the inner lips, so close that no triangle crosses shut lips."""
    shares = np.linspace(0, 1, _LIP_STEPS, endpoint=False, dtype=np.float32)[1:, None]
    lines = []
    for row in (UPPER_INNER_LIP, LOWER_INNER_LIP):
        start, end = mesh[list(row)[:-1], None, :2], mesh[list(row)[1:], None, :2]
        lines.append((start + shares * (end - start)).reshape(-1, 2))
    return np.concatenate(lines)


def warp_field(
    source: NDArray[np.float32], target: NDArray[np.float32], side: int
) -> NDArray[np.float32]:
    """Where each pixel of a moved picture comes from.

    Args:
        source: float32 (468, 2+), the mesh of the picture at hand, in pixels of the crop.
        target: float32 (468, 2+), where its points shall be.
        side: pixels a side of the crop.

    Returns:
        float32 (side, side, 2), x and y of the source pixel, linear between the points.
    """
    moving = moving_points(source)
    anchors = _anchors(side, float(source[moving, 1].min()) - 2)
    places = np.concatenate([target[moving, :2], _lip_points(target), anchors])
    values = np.concatenate([source[moving, :2], _lip_points(source), anchors])
    ticks = np.arange(side, dtype=np.float32)
    x, y = np.meshgrid(ticks, ticks)
    field = LinearNDInterpolator(places, values)(x, y)
    return np.asarray(field, dtype=np.float32)


def warp(picture: NDArray[np.uint8], field: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Move a crop's pixels: uint8 (S, S, 3) by a field of :func:`warp_field`."""
    moved = cv2.remap(
        picture, field[..., 0], field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(moved, dtype=np.uint8)


def closed_mesh(mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mesh with its lips together.

    The lips meet in the middle of the gap, the lower one coming a little further since the jaw
    closes; the chin follows, and the points between are carried along smoothly, those above the
    gap with the upper lip and those below it with the lower one.

    Args:
        mesh: float32 (468, 2 or 3) in pixels of an upright crop.
    """
    upper, lower = mesh[list(UPPER_INNER_LIP), :2], mesh[list(LOWER_INNER_LIP), :2]
    between = lower - upper
    closed = mesh.copy()
    moving = moving_points(mesh)
    middle = (upper + lower) / 2
    order = np.argsort(middle[:, 0])
    line = np.interp(mesh[moving, 0], middle[order, 0], middle[order, 1])
    is_above = mesh[moving, 1] < line
    relax = _relaxed(upper + 0.42 * between, mesh)
    # The shares sum to 1 less a sliver, so that upper and lower points stay distinct.
    for side, inner, outer, share in (
        (moving[is_above], UPPER_INNER_LIP, UPPER_OUTER_LIP, 0.42),
        (moving[~is_above], LOWER_INNER_LIP, LOWER_OUTER_LIP, -0.578),
    ):
        lips = [*inner, *outer]
        shifts = [share * between + relax, 0.85 * share * between + relax]
        if share < 0:
            lips.append(CHIN)
            shifts.append(0.7 * share * between[[len(inner) // 2]])
        still = mesh[list(STILL_RING), :2]
        carried = RBFInterpolator(
            np.concatenate([mesh[lips, :2], still]),
            np.concatenate([*shifts, np.zeros_like(still)]),
            kernel="linear",
            smoothing=1e-3,
        )
        closed[side, :2] += carried(mesh[side, :2]).astype(np.float32)
        closed[list(inner), :2] = mesh[list(inner), :2] + share * between + relax
    return closed


def _relaxed(meeting: NDArray[np.float32], mesh: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each place of the lips' meeting line moves as a smile ends.

    Lips drawn apart to show teeth are wide and curved; at rest they are narrower and straighter.

    Args:
        meeting: float32 (n, 2), the line from corner to corner.
        mesh: float32 (468, 2+), with the mouth as it was.

    Returns:
        float32 (n, 2) in pixels; nothing where the mouth was shut already.
    """
    middle = meeting.mean(axis=0)
    strength = _open_share(mesh)
    shift = strength * np.array([RELAX_WIDTH, RELAX_CURVE]) * (middle - meeting)
    return np.asarray(shift, dtype=np.float32)


def _open_share(mesh: NDArray[np.float32]) -> float:
    """0 for shut lips to 1 for lips that show teeth."""
    gap = float(np.linalg.norm(mesh[INNER_LOWER_LIP, :2] - mesh[INNER_UPPER_LIP, :2]))
    return min(gap / (TEETH_GAP * _eye_span(mesh)), 1.0)


def _eye_span(mesh: NDArray[np.float32]) -> float:
    """Distance of the outer eye corners, the unit of the constants above."""
    left, right = OUTER_EYE_CORNERS
    return float(np.linalg.norm(mesh[right, :2] - mesh[left, :2]))


def close_mouth(
    crop: NDArray[np.uint8], mesh: NDArray[np.float32]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Shut the mouth in a crop.

    Args:
        crop: uint8 (S, S, 3), upright.
        mesh: float32 (468, 2 or 3) in its pixels.

    Returns:
        The crop with shut lips and its mesh.
    """
    closed = closed_mesh(mesh)
    # Teeth reach beyond the mesh's inner lips; taking the lips' edge from further out hides them.
    seen = mesh.copy()
    unit = _eye_span(mesh)
    out = _open_share(mesh)
    for inner, outer in (
        (UPPER_INNER_LIP, UPPER_OUTER_LIP),
        (LOWER_INNER_LIP, LOWER_OUTER_LIP),
    ):
        lip = mesh[list(outer), :2] - mesh[list(inner), :2]
        thick = np.linalg.norm(lip, axis=1, keepdims=True)
        reach = np.maximum(LIP_SHARE, LIP_EDGE * unit / np.maximum(thick, 1e-6))
        seen[list(inner), :2] += out * np.minimum(reach, 0.9) * lip
    field = warp_field(seen, closed, crop.shape[0])
    shut = warp(crop, field)
    return _lip_line(shut, closed, out), closed


def _lip_line(
    shut: NDArray[np.uint8], closed: NDArray[np.float32], strength: float
) -> NDArray[np.uint8]:
    """Draw the dark line where shut lips meet, over what is left of the teeth.

    Args:
        shut: uint8 (S, S, 3), the lips already together.
        closed: float32 (468, 2+), its mesh.
        strength: 0..1, how much of the line is drawn.
    """
    side = len(shut)
    line = closed[[61, *UPPER_INNER_LIP, 291], :2]  # from outer corner to outer corner
    fine = np.zeros((side * _FINER, side * _FINER), dtype=np.uint8)
    places = np.round((line + 0.5) * _FINER - 0.5).astype(np.int32)
    cv2.polylines(fine, [places], isClosed=False, color=255, thickness=_FINER * side // 64)
    share = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    share = cv2.GaussianBlur(share, (0, 0), 0.6 * side / 96).astype(np.float32) / 255
    share = (strength * share)[..., None]
    # The colour of the lower lip, in its own shade.
    middle = (closed[list(LOWER_INNER_LIP), :2] + closed[list(LOWER_OUTER_LIP), :2])[3:-3] / 2
    x, y = np.clip(np.round(middle).astype(int), 0, side - 1).T
    dark = np.median(shut[y, x].astype(np.float32), axis=0) * _LINE_SHADE
    return np.asarray(np.round(share * dark + (1 - share) * shut), dtype=np.uint8)
