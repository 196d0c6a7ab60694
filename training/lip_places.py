"""Where a generator has put the lips, and what shows between them.

A generator that hears the mouth's opening a little wrong puts the lips a little beside the true
ones. Compared pixel by pixel, teeth, gap and tongue would then be learnt as their average, which is
none of them. So the mouth's inside is taken from the true frame and carried to where the generator
has put the lips.

Shapes: N frames, P points, S side of the crop, R painted rows; points are (x, y) in pixels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.lips import INNER_LOWER_LIP, INNER_UPPER_LIP
from engine.mesh_warp import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from training.animate import INNER_LIPS, between_lips

_INNER: Final = (*UPPER_INNER_LIP, *LOWER_INNER_LIP)
RIM: Final = (*UPPER_OUTER_LIP, *LOWER_OUTER_LIP)
"""On the rim of the lips, each beside the inner point of the same place."""
_ROUNDS: Final = 4  # the flow bends little around a point
_SHUT_PX: Final = 1.0  # gap of the inner lips in the mesh of a shut mouth, px of a 96 crop
_OPEN_PX: Final = 1.75  # gap from which on all between the lips is the mouth's inside
_BLENDED_PX: Final = 1.6, 0.4  # of a narrow gap and of a wide one, px of a 96 crop, as measured
_WIDE_PX: Final = 2.5, 6.0  # gaps between which the one passes into the other
_LEAST_PX: Final = 1.0  # height or width that lips are taken to have at least
_GROWTH: Final = (0.4, 2.5)  # of the true mouth's inside against the painted one, each axis


def sample_flow(flow: Tensor, points: Tensor, rows: tuple[int, int], side: int) -> Tensor:
    """The flow at some points.

    Args:
        flow: (N, 2, R, S) px.
        points: (N, P, 2).
        rows: first painted row and the row after the last.
        side: S.

    Returns:
        (N, P, 2); points beside the painted rows get that of the nearest pixel.
    """
    grid = torch.stack(unit_places(points, rows, side), dim=-1)[:, :, None]
    found = F.grid_sample(flow, grid, padding_mode="border", align_corners=False)
    return found[..., 0].transpose(1, 2)


def unit_places(points: Tensor, rows: tuple[int, int], side: int) -> tuple[Tensor, Tensor]:
    """Points (N, P, 2) as x and y of the painted rows, -1..1 from edge to edge: (N, P) each."""
    first, end = rows
    x = (2 * points[..., 0] + 1) / side - 1
    return x, (2 * (points[..., 1] - first) + 1) / (end - first) - 1


def parted_rim(mesh: Tensor, side: int) -> Tensor:
    """Where a generator is to put the outer rim of the lips: (N, P, 2) of meshes (N, 468, 2).

    Painted lips blend into what is painted between them, so less of a gap is seen than lies there,
    of a narrow one above all. They are put further apart by as much.
    """
    upper, lower = (mesh[:, list(row), 1] for row in (UPPER_INNER_LIP, LOWER_INNER_LIP))
    gap_px, (narrow, wide) = (lower - upper) * 96 / side, _BLENDED_PX
    start, end = _WIDE_PX
    more = narrow + (wide - narrow) * ((gap_px - start) / (end - start)).clamp(0, 1)
    more = more * _share_open(gap_px) * side / 96
    rim = mesh[:, list(RIM)].clone()
    rim[..., 1] += torch.cat((-more, more), dim=1) / 2
    return rim


def painted_rim(
    flow: Tensor, mesh: Tensor, identity_mesh: Tensor, rows: tuple[int, int], side: int
) -> Tensor:
    """Where the generator has put the outer rim of the lips.

    A point p of the rim lies where the flow leads to its place in the reference: p + flow(p) is
    known, and p is found in a few rounds. Gradients flow through the last of them.

    Args:
        flow: (N, 2, R, S) px, from a painted pixel to its place in the identity reference.
        mesh: (N, 468, 2), the true mesh, where the search begins.
        identity_mesh: (N, 468, 2), that of the identity reference.
        rows: first painted row and the row after the last.
        side: S.

    Returns:
        (N, P, 2), the points of :data:`RIM`.
    """
    wanted, rim = identity_mesh[:, list(RIM)], mesh[:, list(RIM)]
    with torch.no_grad():
        for _ in range(_ROUNDS - 1):
            rim = wanted - sample_flow(flow, rim, rows, side)
    return wanted - sample_flow(flow, rim, rows, side)


@torch.no_grad()
def painted_mesh(rim: Tensor, mesh: Tensor) -> Tensor:
    """The true mesh with the inner lips where the generator has put them.

    The inner lips of a shut mouth lie on each other, and everything painted between them comes from
    there, so the flow does not tell where they are. It tells where the outer rim of the lips has
    come to lie; the lips are as thick as in the true frame.

    Args:
        rim: (N, P, 2), of :func:`painted_rim`.
        mesh: (N, 468, 2), the true mesh.

    Returns:
        (N, 468, 2).
    """
    inner = list(_INNER)
    painted = mesh.clone()
    painted[:, inner] = rim + (mesh[:, inner] - mesh[:, list(RIM)])
    return painted


def opened(mesh: Tensor, side: int) -> Tensor:
    """From 0, shut, to 1, open: (N,) of meshes (N, 468, 2).

    Lips that touch leave a sliver between them in the mesh.
    """
    gap = mesh[:, INNER_LOWER_LIP, 1] - mesh[:, INNER_UPPER_LIP, 1]
    return _share_open(gap * 96 / side)


def _share_open(gap_px: Tensor) -> Tensor:
    return ((gap_px - _SHUT_PX) / (_OPEN_PX - _SHUT_PX)).clamp(0, 1)


def inside_lips(mesh: Tensor, rows: tuple[int, int], side: int) -> Tensor:
    """Share of each painted pixel that lies between open lips: (N, 1, R, S)."""
    lips = mesh[:, list(INNER_LIPS)].cpu().numpy()
    shares = np.stack([between_lips(one, side) for one in lips])[:, rows[0] : rows[1]]
    inside = torch.from_numpy(shares).permute(0, 3, 1, 2).to(mesh.device)
    return inside * opened(mesh, side)[:, None, None, None]


@torch.no_grad()
def carried_inside(
    frames: Tensor, mesh: Tensor, painted: Tensor, rows: tuple[int, int], side: int
) -> Tensor:
    """The mouth's inside, moved and stretched from the true lips to the painted ones.

    Args:
        frames: (N, 3, S, S).
        mesh: (N, 468, 2), the true mesh.
        painted: (N, 468, 2), as :func:`painted_mesh` gives it.
        rows: first painted row and the row after the last.
        side: S.

    Returns:
        (N, 3, R, S); it means something between the painted lips only.
    """
    lips = list(INNER_LIPS)
    source, target = mesh[:, lips], painted[:, lips]
    low, high = source.amin(dim=1), source.amax(dim=1)  # (N, 2)
    target_low, target_high = target.amin(dim=1), target.amax(dim=1)
    grow = (high - low) / (target_high - target_low).clamp(min=_LEAST_PX)
    grow = grow.clamp(*_GROWTH)[:, None, None]
    middle, target_middle = (
        (a + b)[:, None, None] / 2 for a, b in ((low, high), (target_low, target_high))
    )
    y, x = torch.meshgrid(
        torch.arange(*rows, dtype=torch.float32, device=frames.device),
        torch.arange(side, dtype=torch.float32, device=frames.device),
        indexing="ij",
    )
    places = middle + grow * (torch.stack((x, y), dim=-1) - target_middle)  # (N, R, S, 2) px
    grid = (2 * places + 1) / side - 1
    carried: Tensor = F.grid_sample(frames, grid, padding_mode="border", align_corners=False)
    return carried
