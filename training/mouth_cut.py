"""Mouth regions of crops, cut so that gradients reach the crops' pixels.

The geometry is that of :mod:`engine.mouth_region` in its reference form; it comes from the mesh
and is fixed. A 96 crop has fewer pixels there than the region, which is therefore softer than one
that is cut from the camera's picture.

Legend of shapes: B samples, T frames, N pictures, S side of the crop in pixels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from engine.crop import BoxGeometry, mesh_box
from engine.mouth_region import (
    DEVIATION,
    INNER,
    LIPS,
    MEAN,
    MEAN_FACE,
    POINTS_68,
    SIDE,
    SMOOTHED,
    STABLE,
    WHOLE,
    similarity,
)
from training.wav2lip import MASKED_FROM
from training.wav2lip import SIDE as BOX_SIDE

CUT_POINTS: Final = [POINTS_68[index] for index in (*STABLE, *range(LIPS.start, LIPS.stop))]
"""Mesh points that a region lies by: the stable five, then the lips."""

_STABLE: Final = len(STABLE)
_MIRRORED: Final = [0, 4, 3, 2, 1]  # the stable five of a face in a mirror
_GRAY: Final = (0.299, 0.587, 0.114)
_EDGE: Final = (SIDE - INNER) // 2


def mouth_matrices(points: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Where mouth regions lie in crops.

    Args:
        points: (B, T, 25, 2), :data:`CUT_POINTS` in pixels of the crops; of a mirrored face too.
        lengths: (B,), frames of each sample that count; all by default.

    Returns:
        float64 (B, T, 2, 3) on the CPU: pixels of the inner 88×88 → pixels of the crop.
    """
    count, span = points.shape[:2]
    ends = [span] * count if lengths is None else [int(end) for end in lengths]
    places = points.detach().cpu().double().numpy()
    matrices = np.zeros((count, span, 2, 3))
    matrices[...] = np.eye(2, 3)
    for sample, end in enumerate(ends):
        matrices[sample, :end] = _clip_matrices(places[sample, :end])
    return torch.from_numpy(matrices)


def _clip_matrices(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrices (T, 2, 3) of one clip's points (T, 25, 2)."""
    ahead = min(len(points), SMOOTHED)
    means = [points[i : i + ahead, :_STABLE].mean(axis=0) for i in range(len(points) - ahead + 1)]
    found = []
    for index, own in enumerate(points):
        stable = means[min(index, len(means) - 1)]
        if stable[1, 0] > stable[4, 0]:  # the outer corners of the eyes have changed sides
            stable = stable[_MIRRORED]
        matrix = similarity(stable, MEAN_FACE)
        centre = matrix[:, :2] @ own[_STABLE:].mean(axis=0) + matrix[:, 2]
        half = SIDE // 2
        corner = [min(max(round(float(c)), half), WHOLE - half) - half + _EDGE for c in centre]
        back = np.linalg.inv(matrix[:, :2])
        found.append(np.column_stack([back, back @ (np.array(corner) - matrix[:, 2])]))
    return np.stack(found)


def box_matrices(mesh: Tensor) -> Tensor:
    """Where the lower halves of Wav2Lip's crops lie in crops: the ``box+pads`` of the mesh.

    Args:
        mesh: (N, 468, 2) in pixels of the crops.

    Returns:
        float64 (N, 2, 3) on the CPU: pixels of the lower 48×96 → pixels of the crop.
    """
    found = []
    for points in mesh.detach().cpu().numpy():
        matrix = BoxGeometry().matrix(mesh_box(points), BOX_SIDE)
        back = np.linalg.inv(matrix[:, :2])
        found.append(np.column_stack([back, back @ ([0, MASKED_FROM] - matrix[:, 2])]))
    return torch.from_numpy(np.stack(found))


def read(pictures: Tensor, matrices: Tensor, height: int, width: int) -> Tensor:
    """Read pictures through affine maps; beyond their border is black.

    Args:
        pictures: (N, C, S, S).
        matrices: (N, 2, 3): pixels of what is read → pixels of the picture.
        height: of what is read.
        width: likewise.

    Returns:
        (N, C, height, width).
    """
    side = pictures.shape[-1]
    m = matrices.to(pictures)[:, :, None, None]  # (N, 2, 1, 1, 3)
    x = torch.arange(width, dtype=pictures.dtype, device=pictures.device)
    y = torch.arange(height, dtype=pictures.dtype, device=pictures.device)[:, None]
    # No matrix product: under autocast it would round the places.
    places = m[..., 0] * x + m[..., 1] * y + m[..., 2]  # (N, 2, height, width)
    grid = (2 * places.permute(0, 2, 3, 1) + 1) / side - 1
    return F.grid_sample(pictures, grid, padding_mode="zeros", align_corners=False)


def cut_mouths(pictures: Tensor, matrices: Tensor) -> Tensor:
    """The mouth regions of crops, as AV-HuBERT takes them.

    Args:
        pictures: (N, 3, S, S), RGB in [0, 1].
        matrices: (N, 2, 3) of :func:`mouth_matrices`.

    Returns:
        (N, 88, 88) gray, (value − 0.421) / 0.165.
    """
    weights = pictures.new_tensor(_GRAY)[:, None, None]
    gray = (pictures * weights).sum(dim=1, keepdim=True)  # (N, 1, S, S)
    return (read(gray, matrices, INNER, INNER)[:, 0] - MEAN) / DEVIATION
