"""Pseudo identities: the same person, looking like somebody else.

One change of colour and form is drawn for each sample and given to its identity reference and to
all its target frames, so what the generator must learn is to keep whoever is in the reference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from training.config import Augment
from training.pairs import Batch

_CONTROL = 5  # points a side of the grid that an elastic change is drawn on
_INVERSE_STEPS = 4


ALL: Final = slice(None)


def augment_batch(
    batch: Batch,
    settings: Augment,
    chance: torch.Generator,
    *,
    part: slice = ALL,
    whole: int | None = None,
) -> Batch:
    """Change the samples of a batch, each in its own way.

    Args:
        batch: B samples of k frames.
        settings: how far.
        chance: the source of chance.
        part: which samples of a larger batch these are; each changes as it would there.
        whole: samples of that larger batch.

    Returns:
        The batch with pictures and meshes changed alike; the sound stays.
    """
    drawn, side = whole or len(batch.identity), batch.identity.shape[-1]
    count = len(batch.identity)
    k = len(batch.frames) // count

    def uniform(*shape: int) -> Tensor:
        return (torch.rand(drawn, *shape, generator=chance) * 2 - 1)[part]

    def picked(share: float) -> Tensor:
        return (torch.rand(drawn, generator=chance) < share).float()[part]

    changed = picked(settings.share)
    shift = uniform(2, _CONTROL, _CONTROL) * (settings.elastic * side)
    shift = F.interpolate(shift, side, mode="bicubic", align_corners=True)
    shift = shift * changed[:, None, None, None]  # (B, 2, S, S) px
    mirrored = picked(settings.flip)
    place = _pixels(side)[None].expand(count, -1, -1, -1)  # (B, 2, S, S)
    source = place + shift
    source = torch.cat([_mirror(source[:, :1], mirrored, side), source[:, 1:]], dim=1)

    small = settings.misplace * uniform(4)
    stray = _affine(place, small, side)
    at = _sample(source, stray)  # where the reference's pixels come from

    colour = _Colour.draw(drawn, part, settings, changed, chance)
    frames = _sample(batch.frames, source.repeat_interleave(k, dim=0))
    mesh = _carry(batch.mesh, source.repeat_interleave(k, dim=0), mirrored.repeat_interleave(k))
    identity_mesh = _carry(batch.identity_mesh, source, mirrored)
    context = batch.context
    if context is not None:
        span = context.frames.shape[1]
        every = source.repeat_interleave(span, dim=0)
        seen = colour(_sample(context.frames.flatten(0, 1), every), span)
        points = _carry(context.points.flatten(0, 1), every, mirrored.repeat_interleave(span))
        context = replace(
            context,
            frames=seen.reshape(context.frames.shape),
            points=points.reshape(context.points.shape),
        )
    return replace(
        batch,
        context=context,
        frames=colour(frames, k),
        identity=colour(_sample(batch.identity, at), 1),
        mesh=mesh,
        identity_mesh=_undo_affine(identity_mesh, small, side),
    )


class _Colour:
    """A colour matrix and a gamma for each sample."""

    def __init__(self, matrix: Tensor, gamma: Tensor) -> None:
        self._matrix = matrix
        self._gamma = gamma

    @classmethod
    def draw(
        cls, drawn: int, part: slice, settings: Augment, changed: Tensor, chance: torch.Generator
    ) -> _Colour:
        noise = torch.randn(drawn, 3, 3, generator=chance)[part] * settings.colour
        gamma = (torch.rand(drawn, generator=chance)[part] * 2 - 1) * settings.gamma
        return cls(
            torch.eye(3) + noise * changed[:, None, None], torch.exp(gamma * changed)[:, None]
        )

    def __call__(self, pictures: Tensor, k: int) -> Tensor:
        count, planes = len(self._matrix), pictures.shape[1:]
        rows = pictures.reshape(count, k, 3, -1)
        mixed = torch.einsum("bij,bkjp->bkip", self._matrix, rows).clamp(1e-4, 1)
        return mixed.pow(self._gamma[:, None, None]).reshape(-1, *planes)


def _pixels(side: int) -> Tensor:
    """Places of the pixels, (2, S, S): x and y."""
    ticks = torch.arange(side, dtype=torch.float32)
    y, x = torch.meshgrid(ticks, ticks, indexing="ij")
    return torch.stack((x, y))


def _mirror(x: Tensor, mirrored: Tensor, side: int) -> Tensor:
    flag = mirrored.reshape(-1, *([1] * (x.dim() - 1)))
    return torch.where(flag > 0, side - 1 - x, x)


def _sample(pictures: Tensor, places: Tensor) -> Tensor:
    """Read (n, C, S, S) at places (n, 2, S, S) in pixels; beyond the border it is repeated."""
    side = pictures.shape[-1]
    grid = (2 * places.permute(0, 2, 3, 1) + 1) / side - 1
    return F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)


def _affine(place: Tensor, small: Tensor, side: int) -> Tensor:
    """Shift, turn and scale places (B, 2, S, S) about the middle by ``small`` (B, 4)."""
    middle = (side - 1) / 2
    dx, dy, turn, grow = (small[:, i, None, None] for i in range(4))
    x, y = place[:, 0] - middle, place[:, 1] - middle
    # At the crop's edge, half a side from the middle, a turn or growth of 2·small moves a pixel
    # by small·side.
    a, b = 1 + 2 * grow, 2 * turn
    return torch.stack(
        (a * x - b * y + dx * side + middle, b * x + a * y + dy * side + middle), dim=1
    )


def _undo_affine(points: Tensor, small: Tensor, side: int) -> Tensor:
    """Where points (B, n, 2) come to lie in a picture that is read by :func:`_affine`."""
    middle = (side - 1) / 2
    dx, dy, turn, grow = (small[:, i, None] for i in range(4))
    a, b = 1 + 2 * grow, 2 * turn
    x = points[..., 0] - middle - dx * side
    y = points[..., 1] - middle - dy * side
    scale = a * a + b * b
    return torch.stack(((a * x + b * y) / scale + middle, (a * y - b * x) / scale + middle), -1)


def _carry(points: Tensor, source: Tensor, mirrored: Tensor) -> Tensor:
    """Where points (n, p, 2) come to lie in a picture whose pixels are read at ``source``.

    Solves source(q) = point for q by fixed-point steps, which converge since the change is smooth
    and small.
    """
    side = source.shape[-1]
    smooth = torch.cat([_mirror(source[:, :1], mirrored, side), source[:, 1:]], dim=1)
    shift = smooth - _pixels(side)  # (n, 2, S, S)
    wanted = torch.stack((_mirror(points[..., 0], mirrored, side), points[..., 1]), dim=-1)
    found = wanted
    for _ in range(_INVERSE_STEPS):
        grid = ((2 * found + 1) / side - 1)[:, :, None]  # (n, p, 1, 2)
        moved = F.grid_sample(shift, grid, padding_mode="border", align_corners=False)
        found = wanted - moved[..., 0].transpose(1, 2)
    return found
