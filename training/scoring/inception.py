"""The Inception network of 2015-12-05 that FID is defined by, and its features of pictures.

Names and shapes of the parameters are those of the public weights
(``pt_inception-2015-12-05-6726825d.pth``). It is not torchvision's network: its average pools leave
the border out, its last block pools by maximum, and it knows 1008 classes. Another Inception gives
other figures, which must not be called FID.

Legend of shapes: B pictures, C channels, H and W pixels.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

SIDE: Final = 299  # px of the input
FEATURES: Final = 2048
CLASSES: Final = 1008
_BATCH: Final = 16  # pictures: bounds the memory


class _Conv(nn.Module):
    """A convolution, its batch normalisation and a ReLU."""

    def __init__(
        self,
        channels: int,
        out: int,
        kernel: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


def _mean_pool(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


class _Wide(nn.Module):
    """35×35: 1×1, 5×5 and two 3×3 beside a mean pool."""

    def __init__(self, channels: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(channels, 64, 1)
        self.branch5x5_1 = _Conv(channels, 48, 1)
        self.branch5x5_2 = _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(channels, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        five = self.branch5x5_2(self.branch5x5_1(x))
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch1x1(x), five, three, self.branch_pool(_mean_pool(x))], 1)


class _Shrink(nn.Module):
    """35×35 → 17×17."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(channels, 384, 3, stride=2)
        self.branch3x3dbl_1 = _Conv(channels, 64, 1)
        self.branch3x3dbl_2 = _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), three, F.max_pool2d(x, 3, 2)], 1)


class _Long(nn.Module):
    """17×17: rows and columns of seven."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        row: tuple[tuple[int, int], tuple[int, int]] = (1, 7), (0, 3)
        column: tuple[tuple[int, int], tuple[int, int]] = (7, 1), (3, 0)

        def conv(inside: int, out: int, form: tuple[tuple[int, int], tuple[int, int]]) -> _Conv:
            return _Conv(inside, out, form[0], padding=form[1])

        self.branch1x1 = _Conv(channels, 192, 1)
        self.branch7x7_1 = _Conv(channels, inner, 1)
        self.branch7x7_2 = conv(inner, inner, row)
        self.branch7x7_3 = conv(inner, 192, column)
        self.branch7x7dbl_1 = _Conv(channels, inner, 1)
        self.branch7x7dbl_2 = conv(inner, inner, column)
        self.branch7x7dbl_3 = conv(inner, inner, row)
        self.branch7x7dbl_4 = conv(inner, inner, column)
        self.branch7x7dbl_5 = conv(inner, 192, row)
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        twice = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        twice = self.branch7x7dbl_5(self.branch7x7dbl_4(twice))
        return torch.cat([self.branch1x1(x), seven, twice, self.branch_pool(_mean_pool(x))], 1)


class _ShrinkAgain(nn.Module):
    """17×17 → 8×8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.branch3x3_1 = _Conv(channels, 192, 1)
        self.branch3x3_2 = _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(channels, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        three = self.branch3x3_2(self.branch3x3_1(x))
        seven = self.branch7x7x3_2(self.branch7x7x3_1(x))
        seven = self.branch7x7x3_4(self.branch7x7x3_3(seven))
        return torch.cat([three, seven, F.max_pool2d(x, 3, 2)], 1)


class _Split(nn.Module):
    """8×8: rows and columns of three side by side."""

    def __init__(self, channels: int, *, by_maximum: bool) -> None:
        super().__init__()
        self._by_maximum = by_maximum
        self.branch1x1 = _Conv(channels, 320, 1)
        self.branch3x3_1 = _Conv(channels, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1 = _Conv(channels, 448, 1)
        self.branch3x3dbl_2 = _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(channels, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        one = self.branch3x3_1(x)
        two = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, 1, 1) if self._by_maximum else _mean_pool(x)
        parts = [
            self.branch1x1(x),
            *(self.branch3x3_2a(one), self.branch3x3_2b(one)),
            *(self.branch3x3dbl_3a(two), self.branch3x3dbl_3b(two)),
            self.branch_pool(pooled),
        ]
        return torch.cat(parts, 1)


class Inception(nn.Module):
    """The whole network; only its features are used, its classes are part of the weights."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = _Conv(32, 32, 3)
        self.Conv2d_2b_3x3 = _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1 = _Conv(64, 80, 1)
        self.Conv2d_4a_3x3 = _Conv(80, 192, 3)
        self.Mixed_5b = _Wide(192, 32)
        self.Mixed_5c = _Wide(256, 64)
        self.Mixed_5d = _Wide(288, 64)
        self.Mixed_6a = _Shrink(288)
        self.Mixed_6b = _Long(768, 128)
        self.Mixed_6c = _Long(768, 160)
        self.Mixed_6d = _Long(768, 160)
        self.Mixed_6e = _Long(768, 192)
        self.Mixed_7a = _ShrinkAgain(768)
        self.Mixed_7b = _Split(1280, by_maximum=False)
        self.Mixed_7c = _Split(2048, by_maximum=True)
        self.fc = nn.Linear(FEATURES, CLASSES)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (B, 3, H, W), RGB in [0, 1], to features (B, 2048)."""
        x = F.interpolate(pictures, (SIDE, SIDE), mode="bilinear", align_corners=False)
        x = self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(2 * x - 1))
        x = F.max_pool2d(self.Conv2d_2b_3x3(x), 3, 2)  # (B, 64, 73, 73)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, 2)  # (B, 192, 35, 35)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6b(self.Mixed_6a(x))  # (B, 768, 17, 17)
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(x)))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))  # (B, 2048, 8, 8)
        features: Tensor = x.mean(dim=(2, 3))
        return features


@torch.no_grad()
def picture_features(model: Inception, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of pictures, as FID takes them.

    Args:
        model: the network, in ``eval``.
        pictures: uint8 (n, H, W, 3), RGB.

    Returns:
        float32 (n, 2048).
    """
    done = [np.zeros((0, FEATURES), np.float32)]
    for first in range(0, len(pictures), _BATCH):
        batch = torch.from_numpy(pictures[first : first + _BATCH]).permute(0, 3, 1, 2) / 255
        done.append(model(batch).numpy())
    return np.concatenate(done)
