"""Convolution blocks shared by the networks.

The names inside a block (``conv_block.0`` the convolution, ``conv_block.1`` the normalisation) are
those of the public Wav2Lip and SyncNet checkpoints, so that these load without renaming.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNEL_STEP = 8  # vector units work on 8 channels at a time; fewer would cost the same


def scaled(channels: int, width: float) -> int:
    """Return ``channels * width`` rounded to a multiple of 8, and at least 8.

    Args:
        channels: number of channels at width 1.
        width: factor above 0.
    """
    return max(CHANNEL_STEP, round(channels * width / CHANNEL_STEP) * CHANNEL_STEP)


class ConvBlock(nn.Module):
    """Convolution, batch normalisation, optional identity shortcut, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel: one number, or (rows, columns).
        stride: one number, or (rows, columns).
        padding: zeros added on every side.
        shortcut: add the input before the ReLU; needs equal channels and a stride of 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int | tuple[int, int] = 3,
        stride: int | tuple[int, int] = 1,
        padding: int = 1,
        *,
        shortcut: bool = False,
    ) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding),
            nn.BatchNorm2d(out_channels),
        )
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W'), all values >= 0."""
        y: Tensor = self.conv_block(x)
        return F.relu(y + x if self.shortcut else y)


class UpBlock(nn.Module):
    """Transposed convolution of kernel 3, batch normalisation, ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: 1 grows a 1×1 map to 3×3; 2 doubles the height and the width.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 2) -> None:
        super().__init__()
        inner = stride - 1  # padding and output padding that make stride 2 an exact doubling
        self.conv_block = nn.Sequential(
            nn.ConvTranspose2d(in_channels, out_channels, 3, stride, inner, inner),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, 2H, 2W); stride 1: (H + 2, W + 2)."""
        y: Tensor = self.conv_block(x)
        return F.relu(y)


def concatenate(*maps: Tensor) -> Tensor:
    """Join maps (B, C_i, H, W) on their channels: (B, sum of C_i, H, W)."""
    return torch.cat(maps, dim=1)
