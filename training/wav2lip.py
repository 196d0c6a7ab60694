"""Wav2Lip's generator and its lip expert (Prajwal et al., ACM MM 2020), in plain torch.

Names and shapes of the parameters are those of the public checkpoints, so that these load without
renaming. Both networks see colours in the order blue, green, red.

Legend of shapes: B batch (frames or windows), C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from training.audio_encoder import EMBEDDING, AudioEncoder
from training.blocks import ConvBlock, UpBlock, concatenate

SIDE = 96  # px of a crop
MASKED_FROM = 48  # the first row that the pose face does not show
WINDOW_FRAMES = 5  # that the lip expert sees at once


def _same(channels: int, count: int) -> list[ConvBlock]:
    """Blocks that keep the size, with shortcuts."""
    return [ConvBlock(channels, channels, shortcut=True) for _ in range(count)]


class Wav2Lip(nn.Module):
    """The generator: paints the whole crop for a mel window, a pose face and a reference."""

    def __init__(self) -> None:
        super().__init__()
        self.face_encoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(6, 16, kernel=7, padding=3)),
                nn.Sequential(ConvBlock(16, 32, stride=2), *_same(32, 2)),
                nn.Sequential(ConvBlock(32, 64, stride=2), *_same(64, 3)),
                nn.Sequential(ConvBlock(64, 128, stride=2), *_same(128, 2)),
                nn.Sequential(ConvBlock(128, 256, stride=2), *_same(256, 2)),
                nn.Sequential(ConvBlock(256, 512, stride=2), *_same(512, 1)),
                nn.Sequential(
                    ConvBlock(512, 512, padding=0), ConvBlock(512, 512, kernel=1, padding=0)
                ),
            ]
        )
        # Rows are mel bands, columns are time: 80×16 → 27×16 → 9×6 → 3×3 → 1×1.
        self.audio_encoder = nn.Sequential(
            ConvBlock(1, 32),
            *_same(32, 2),
            ConvBlock(32, 64, stride=(3, 1)),
            *_same(64, 2),
            ConvBlock(64, 128, stride=3),
            *_same(128, 2),
            ConvBlock(128, 256, stride=(3, 2)),
            *_same(256, 1),
            ConvBlock(256, EMBEDDING, padding=0),
            ConvBlock(EMBEDDING, EMBEDDING, kernel=1, padding=0),
        )
        self.face_decoder_blocks = nn.ModuleList(
            [
                nn.Sequential(ConvBlock(EMBEDDING, 512, kernel=1, padding=0)),
                nn.Sequential(UpBlock(1024, 512, stride=1), *_same(512, 1)),
                nn.Sequential(UpBlock(1024, 512), *_same(512, 2)),
                nn.Sequential(UpBlock(768, 384), *_same(384, 2)),
                nn.Sequential(UpBlock(512, 256), *_same(256, 2)),
                nn.Sequential(UpBlock(320, 128), *_same(128, 2)),
                nn.Sequential(UpBlock(160, 64), *_same(64, 2)),
            ]
        )
        self.output_block = nn.Sequential(ConvBlock(80, 32), nn.Conv2d(32, 3, 1), nn.Sigmoid())

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """Paint one crop per mel window.

        Args:
            mel: (B, 1, 80, 16), values in [-4, 4].
            faces: (B, 6, 96, 96) in [0, 1]: the pose face, BGR with its rows from 48 on 0, then
                the reference, BGR.

        Returns:
            (B, 3, 96, 96), BGR in [0, 1].
        """
        maps = []
        x = faces
        for block in self.face_encoder_blocks:
            x = block(x)
            maps.append(x)
        x = self.audio_encoder(mel)  # (B, 512, 1, 1)
        for block, skip in zip(self.face_decoder_blocks, reversed(maps), strict=True):
            x = concatenate(block(x), skip)
        painted: Tensor = self.output_block(x)
        return painted


class SyncNetColour(nn.Module):
    """The lip expert: whether five frames of a mouth and a mel window belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.face_encoder = nn.Sequential(
            ConvBlock(3 * WINDOW_FRAMES, 32, kernel=7, padding=3),
            ConvBlock(32, 64, kernel=5, stride=(1, 2)),  # one pixel of padding only: 48 → 46 rows
            *_same(64, 2),
            ConvBlock(64, 128, stride=2),
            *_same(128, 3),
            ConvBlock(128, 256, stride=2),
            *_same(256, 2),
            ConvBlock(256, 512, stride=2),
            *_same(512, 2),
            ConvBlock(512, 512, stride=2),
            ConvBlock(512, EMBEDDING, padding=0),
            ConvBlock(EMBEDDING, EMBEDDING, kernel=1, padding=0),
        )
        self.audio_encoder = AudioEncoder()

    def hear(self, mel: Tensor) -> Tensor:
        """Embed mel windows (B, 1, 80, 16) as (B, 512), of length 1, all values >= 0."""
        return F.normalize(self.audio_encoder(mel), dim=1)

    def watch(self, faces: Tensor) -> Tensor:
        """Embed mouths.

        Args:
            faces: (B, 15, 48, 96), BGR in [0, 1]: the rows from 48 on of five crops, frame after
                frame.

        Returns:
            (B, 512), of length 1, all values >= 0.
        """
        return F.normalize(self.face_encoder(faces).flatten(1), dim=1)

    def forward(self, mel: Tensor, faces: Tensor) -> Tensor:
        """The cosine of each pair of windows.

        Args:
            mel: (B, 1, 80, 16), values in [-4, 4], that start with the first of the five frames.
            faces: as for :meth:`watch`.

        Returns:
            (B,) in [0, 1]; 1 where they belong together.
        """
        return (self.hear(mel) * self.watch(faces)).sum(dim=1)


def mouth_window(frames: Tensor) -> Tensor:
    """What the lip expert sees of five crops.

    Args:
        frames: (B, 5, 3, 96, 96), BGR in [0, 1].

    Returns:
        (B, 15, 48, 96).
    """
    return torch.flatten(frames[..., MASKED_FROM:, :], 1, 2)
