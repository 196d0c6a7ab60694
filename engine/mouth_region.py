"""The lip expert's sight: the mouth region as AV-HuBERT takes it, from the face mesh.

Five points that do not move with the mouth (eye corners, base of the nose) are laid on those of a
mean face of 256×256 pixels; around the mouth's centre there, 96×96 pixels are cut out in gray. The
reference form smooths the points over the 12 frames that follow; live there are only those before.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

SIDE: Final = 96
INNER: Final = 88
"""Side in pixels of the centre that the network looks at."""
MEAN, DEVIATION = 0.421, 0.165
"""Of gray values in 0..1; the network takes (value - mean) / deviation."""
SMOOTHED: Final = 12  # frames

# Points of the mesh in the order of the 68-point scheme (iBUG): jaw, brows, nose, eyes, lips.
POINTS_68: Final = (
    *(162, 234, 93, 58, 172, 136, 149, 148, 152, 377, 378, 365, 397, 288, 323, 454, 389),
    *(71, 63, 105, 66, 107, 336, 296, 334, 293, 301),
    *(168, 197, 5, 4, 75, 97, 2, 326, 305),
    *(33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380),
    *(61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181),
    *(78, 82, 13, 312, 308, 317, 14, 87),
)
STABLE: Final = (33, 36, 39, 42, 45)
LIPS: Final = slice(48, 68)

WHOLE: Final = 256  # side of the mean face's picture
MEAN_FACE: Final = np.array(
    [
        [128.87017960974802, 137.30253355584708],
        [92.52245552947952, 94.36876013925871],
        [112.7724172413806, 94.94360869870115],
        [145.52511509158018, 94.5349986248377],
        [166.67710071343456, 93.56562295717796],
    ]
)


def points_68(mesh: NDArray[np.float32]) -> NDArray[np.float64]:
    """The mesh (468, 2 or more) in the order of the 68-point scheme: (68, 2), same unit."""
    return mesh[list(POINTS_68), :2].astype(np.float64)


def similarity(points: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The turn, scale and shift that lay points on others with the least squares (Umeyama, 1991).

    Args:
        points: (n, 2), n ≥ 2.
        target: (n, 2).

    Returns:
        (2, 3): target ≈ matrix · (x, y, 1).
    """
    from_mean, to_mean = points.mean(axis=0), target.mean(axis=0)
    source, wanted = points - from_mean, target - to_mean
    # In the plane: the best turn and scale as one complex number.
    a = source[:, 0] + 1j * source[:, 1]
    b = wanted[:, 0] + 1j * wanted[:, 1]
    turn = (np.conj(a) @ b) / max(float((np.abs(a) ** 2).sum()), 1e-12)
    linear = np.array([[turn.real, -turn.imag], [turn.imag, turn.real]])
    return np.column_stack([linear, to_mean - linear @ from_mean])


def _cut(
    picture: NDArray[np.uint8], smoothed: NDArray[np.float64], lips: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """Cut a picture out by smoothed points (68, 2), around the middle of lips (20, 2)."""
    matrix = similarity(smoothed[list(STABLE)], MEAN_FACE)
    centre = matrix[:, :2] @ lips.mean(axis=0) + matrix[:, 2]
    half = SIDE // 2
    left, top = (min(max(round(float(c)), half), WHOLE - half) - half for c in centre)
    shifted = matrix - np.array([[0, 0, left], [0, 0, top]])
    part, offset = _around(picture, shifted)
    shifted[:, 2] += shifted[:, :2] @ offset
    cut = cv2.warpAffine(part.astype(np.float32), shifted, (SIDE, SIDE), flags=cv2.INTER_LINEAR)
    return np.asarray(cv2.cvtColor(cut.astype(np.uint8), cv2.COLOR_RGB2GRAY), np.uint8)


def _around(
    picture: NDArray[np.uint8], matrix: NDArray[np.float64]
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The part of a picture that a region shows, and where it begins: x and y."""
    corners = np.array([[0, 0], [SIDE, 0], [0, SIDE], [SIDE, SIDE]]) - matrix[:, 2]
    places = np.linalg.solve(matrix[:, :2], corners.T)
    height, width = picture.shape[:2]
    low = np.clip(np.floor(places.min(axis=1)) - 1, 0, (width - 1, height - 1)).astype(np.int64)
    high = np.clip(np.ceil(places.max(axis=1)) + 2, low + 1, (width, height)).astype(np.int64)
    return picture[low[1] : high[1], low[0] : high[0]], low


def mouth_regions(
    pictures: Sequence[NDArray[np.uint8]], meshes: Sequence[NDArray[np.float32] | None]
) -> NDArray[np.uint8]:
    """The mouth regions of a clip, in the reference form.

    Args:
        pictures: uint8 (H, W, 3) RGB, at 25 a second.
        meshes: float32 (468, 3) in pixels; None for a picture without a face, which is filled in
            from its neighbours.

    Returns:
        uint8 (T, 96, 96), gray.

    Raises:
        ValueError: no picture has a face.
    """
    points = _without_gaps([None if mesh is None else points_68(mesh) for mesh in meshes])
    ahead = min(len(points), SMOOTHED)
    means = [points[i : i + ahead].mean(axis=0) for i in range(len(points) - ahead + 1)]
    return np.stack(
        [
            _cut(picture, means[min(i, len(means) - 1)], points[i][LIPS])
            for i, picture in enumerate(pictures)
        ]
    )


class MouthStream:
    """The mouth region of each picture as it comes: the points are smoothed over those before.

    The lips' middle is smoothed too. In a picture whose mouth was changed, the lips that the mesh
    knows are those of the real mouth: followed closely, they would show in how the region moves.
    """

    def __init__(self) -> None:
        self._before: deque[NDArray[np.float64]] = deque(maxlen=SMOOTHED)

    def push(self, picture: NDArray[np.uint8], mesh: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Take the next picture, uint8 (H, W, 3) RGB, and its mesh; uint8 (96, 96), gray."""
        self._before.append(points_68(mesh))
        smoothed = np.mean(self._before, axis=0)
        return _cut(picture, smoothed, smoothed[LIPS])

    def forget(self) -> None:
        """Another face follows, or the same after a pause."""
        self._before.clear()


def network_input(regions: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network looks at: uint8 (T, 96, 96) → float32 (T, 88, 88), about −2.6 to 3.5."""
    edge = (SIDE - INNER) // 2
    inner = regions[..., edge : edge + INNER, edge : edge + INNER]
    return np.asarray((inner / np.float32(255) - MEAN) / DEVIATION, np.float32)


def _without_gaps(points: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64]:
    known = [i for i, found in enumerate(points) if found is not None]
    if not known:
        raise ValueError("no picture has a face")
    given = np.stack([found for found in points if found is not None]).reshape(len(known), -1)
    every = np.arange(len(points))
    filled = np.stack([np.interp(every, known, column) for column in given.T], axis=1)
    return filled.reshape(len(points), 68, 2)
