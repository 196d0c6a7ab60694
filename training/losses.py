"""What the generator is told about its frames.

The inside of the mouth is compared where the generator has put the lips
(:mod:`training.lip_places`).

Shapes as in training.generator: N = B·k frames, R painted rows, S side.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.face_models import MESH_POINTS
from engine.lips import INNER_LOWER_LIP, INNER_UPPER_LIP
from engine.paste import paste_mask
from training.config import LossWeights
from training.generator import GeneratorOutput
from training.lip_places import (
    carried_inside,
    inside_lips,
    opened,
    painted_mesh,
    painted_rim,
    parted_rim,
    sample_flow,
    unit_places,
)
from training.mouth_shape import LIPS, SHAPE_POINTS

_MOUTH_MARGIN: Final = 3.0  # px of a 96 crop around the lips that still count as mouth
_QUANTILES: Final = (0.8, 0.25)  # of the brightness at the upper and at the lower lip
_TEETH_PX: Final = 2.0, 5.0  # gaps of a 96 crop between which teeth come to be expected
_FAR_PX: Final = 6.0  # distance from which on a lip counts linearly: it is an outlier
_FLOW_SCALE: Final = 1.0  # px from which on a wrong flow counts linearly


@dataclass(frozen=True, slots=True)
class Losses:
    """The terms of one batch, unweighted, and their weighted sum."""

    total: Tensor
    pixel: Tensor
    gradient: Tensor
    flow: Tensor
    rough: Tensor
    mask: Tensor
    paint: Tensor
    place: Tensor

    def scalars(self) -> dict[str, float]:
        """The terms by name."""
        return {name: value.item() for name, value in self.tensors().items()}

    def tensors(self) -> dict[str, Tensor]:
        """The terms by name, on their device."""
        return {name: getattr(self, name) for name in self.__slots__}


class GeneratorLoss:
    """The loss of one run.

    Args:
        weights: of the terms.
        rows: first painted row and the row after the last.
        side: pixels a side of the crop.
        device: where the pictures are.
    """

    def __init__(
        self,
        weights: LossWeights,
        rows: tuple[int, int],
        side: int,
        device: torch.device | None = None,
    ) -> None:
        self._weights = weights
        self._rows = rows
        self._side = side
        seen = torch.from_numpy(paste_mask(side).copy())[rows[0] : rows[1]]
        self._point_weight = torch.ones(MESH_POINTS)
        self._point_weight[list(SHAPE_POINTS)] = weights.lips
        self._point_weight = self._point_weight.to(device)
        self._seen = (weights.outside + (1 - weights.outside) * seen).to(device)  # (R, S)

    def __call__(
        self, output: GeneratorOutput, frames: Tensor, mesh: Tensor, identity_mesh: Tensor
    ) -> Losses:
        """Compare painted rows with the real ones.

        Args:
            output: of the generator.
            frames: (N, 3, S, S), the real crops.
            mesh: (N, 468, 2) in pixels of the crop.
            identity_mesh: (N, 468, 2), that of each frame's identity reference.
        """
        target = frames[:, :, self._rows[0] : self._rows[1]]
        mouth = self._mouth(mesh)  # (N, 1, R, S)
        weight = self._seen * (1 + (self._weights.mouth - 1) * mouth)
        zero = frames.new_zeros(())
        flow, rough, mask, paint, moved = zero, zero, zero, zero, zero
        if output.flow is not None and output.mask is not None and output.paint is not None:
            flow = self._flow(output.flow, mesh, identity_mesh)
            rough = output.flow.diff(dim=-1).abs().mean() + output.flow.diff(dim=-2).abs().mean()
            place = self._rows, self._side
            rim = painted_rim(output.flow, mesh, identity_mesh, *place)
            moved = self._place(rim, mesh)
            painted = painted_mesh(rim, mesh)
            inside, true_inside = inside_lips(painted, *place), inside_lips(mesh, *place)
            mask = self._mask(output.mask, inside, mouth)
            # Teeth and tongue where the generator has put the lips; a shut mouth shows none.
            shown = inside * opened(mesh, self._side)[:, None, None, None]
            carried = carried_inside(frames, mesh, painted, *place)
            paint = self._paint(output.paint, carried, shown, painted)
            # What shows there is judged by the paint alone.
            weight = weight * (1 - torch.maximum(inside, true_inside))
        weight = weight / weight.mean()
        error = output.frames - target
        pixel = (weight * error.abs()).mean()
        gradient = (weight[..., 1:, :] * error.diff(dim=-2).abs()).mean()
        gradient = gradient + (weight[..., :, 1:] * error.diff(dim=-1).abs()).mean()
        w = self._weights
        total = w.pixel * pixel + w.gradient * gradient
        total = total + w.flow * flow + w.rough * rough + w.mask * mask + w.paint * paint
        total = total + w.place * moved
        return Losses(total, pixel, gradient, flow, rough, mask, paint, moved)

    def _place(self, rim: Tensor, mesh: Tensor) -> Tensor:
        """Half the squared distance of the lips from their place, per axis, in px of a 96 crop.

        All other terms are lowest at the median of what the sound leaves open, which is a mouth too
        shut where it may be open; this one at the mean, which follows the speech best.
        """
        off = (rim - parted_rim(mesh, self._side)) * 96 / self._side
        return F.huber_loss(off, torch.zeros_like(off), delta=_FAR_PX)

    @staticmethod
    def _mask(mask: Tensor, inside: Tensor, mouth: Tensor) -> Tensor:
        """Cross-entropy of the mask, at the mouth and (twice) elsewhere, each on average."""
        sure = mask.clamp(1e-4, 1 - 1e-4)  # a saturated mask would have an endless cost
        cost = F.binary_cross_entropy(sure, 1 - inside, reduction="none")
        at_mouth = (mouth * cost).sum() / mouth.sum().clamp(min=1)
        return at_mouth + 2 * ((1 - mouth) * cost).mean()

    def _paint(self, paint: Tensor, carried: Tensor, shown: Tensor, painted: Tensor) -> Tensor:
        """Quantile loss of the paint between the lips: bright below the upper lip, then dark.

        The median of teeth that show in some moments and not in others is no teeth at all. Lips
        that hardly part have a dark line between them, which lies a pixel higher or lower each
        time: the median there is the colour of lips. Twice the pinball loss, so that a quantile of
        0.5 costs the mean absolute difference.
        """
        top, bottom = (painted[:, point, 1] for point in (INNER_UPPER_LIP, INNER_LOWER_LIP))
        y = torch.arange(*self._rows, dtype=torch.float32, device=paint.device)
        depth = (y - top[:, None]) / (bottom - top).clamp(min=1)[:, None]  # (N, R)
        high, low = _QUANTILES
        none, all_of_them = _TEETH_PX
        teeth = ((bottom - top) * 96 / self._side - none) / (all_of_them - none)  # (N,)
        quantile = low + (high - low) * teeth.clamp(0, 1)[:, None] * (1 - depth.clamp(0, 1))
        off = carried - paint
        tau = quantile[:, None, :, None]
        wrong = 2 * torch.maximum(tau * off, (tau - 1) * off).mean(dim=1, keepdim=True)
        return (shown * wrong).sum() / shown.sum().clamp(min=1)

    def _mouth(self, mesh: Tensor) -> Tensor:
        """1 in the box of the lips and its margin, else 0: (N, 1, R, S)."""
        lips = mesh[:, list(LIPS)]
        margin = _MOUTH_MARGIN * self._side / 96
        low, high = lips.amin(dim=1) - margin, lips.amax(dim=1) + margin  # (N, 2)
        x = torch.arange(self._side, dtype=torch.float32, device=mesh.device)
        y = torch.arange(*self._rows, dtype=torch.float32, device=mesh.device)
        inside_x = (x >= low[:, :1]) & (x <= high[:, :1])
        inside_y = (y >= low[:, 1:]) & (y <= high[:, 1:])
        return (inside_y[:, None, :, None] & inside_x[:, None, None, :]).float()

    def _flow(self, flow: Tensor, mesh: Tensor, identity_mesh: Tensor) -> Tensor:
        """Distance of the flow at the mesh's points from where those points are in the reference.

        Points above the painted rows or outside the crop do not count; lips and jaw count more.
        """
        found = sample_flow(flow, mesh, self._rows, self._side).transpose(1, 2)
        wanted = (identity_mesh - mesh).transpose(1, 2)  # (N, 2, 468)
        x, y = unit_places(mesh, self._rows, self._side)
        counts = ((x.abs() < 1) & (y.abs() < 1)).float()[:, None]
        counts = counts * self._point_weight
        off = (found - wanted) / _FLOW_SCALE
        distance = F.smooth_l1_loss(off, torch.zeros_like(off), reduction="none")
        return (counts * distance).sum() / counts.sum().clamp(min=1) / 2
