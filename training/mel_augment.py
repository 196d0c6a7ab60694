"""Make one voice sound like many: changes of a mel window that leave the lips as they are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.mel import BANDS

MEL_PER_DB = 0.08
"""Normalised mel units a decibel: 8 units span 100 dB (engine.mel)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MelAugment:
    """How far windows are changed; each is drawn anew.

    Attributes:
        tract: greatest change of the vocal tract's length: bands are stretched by 1 ± this, which
            turns a man's formants into a woman's or a child's and back.
        level_db: greatest change of loudness.
        colour_db: greatest change of a smooth curve over the bands (microphone, room).
        noise_db: loudest stationary noise floor, in dB of the mel scale (0 is full scale).
        quiet_db: noise floor that changes nothing.
    """

    tract: float = 0.2
    level_db: float = 12.0
    colour_db: float = 8.0
    noise_db: float = -45.0
    quiet_db: float = -100.0

    def __call__(self, mel: Tensor, generator: torch.Generator) -> Tensor:
        """Change windows.

        Args:
            mel: (B, 1, 80, columns) in [-4, 4].
            generator: the source of chance.

        Returns:
            The same shape and range.
        """
        batch = mel.shape[0]

        def uniform(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=generator) * 2 - 1

        stretched = self._stretch(mel, 1 + self.tract * uniform(batch))
        curve = F.interpolate(uniform(batch, 1, 5), BANDS, mode="linear", align_corners=True)
        change_db = self.level_db * uniform(batch, 1, 1) + self.colour_db * curve
        louder = stretched + MEL_PER_DB * change_db[..., None]
        span = self.noise_db - self.quiet_db
        # Half of the windows stay clean; the floor's own colour differs from the voice's.
        floor_db = self.quiet_db + span * (uniform(batch, 1, 1).clamp(min=0) ** 0.5)
        tilt = F.interpolate(uniform(batch, 1, 3), BANDS, mode="linear", align_corners=True)
        floor_db = floor_db + 10 * tilt * (floor_db > self.quiet_db)
        floor = -4 + MEL_PER_DB * (floor_db - self.quiet_db)[..., None]
        # Powers of unrelated sounds add; the wobble is that of noise in single columns.
        floor = floor + 0.25 * torch.randn(mel.shape, generator=generator) * (floor > -4)
        scale = 20 * MEL_PER_DB / torch.log(torch.tensor(10.0)) / 2
        return (scale * torch.logaddexp(louder / scale, floor / scale)).clamp(-4, 4)

    @staticmethod
    def _stretch(mel: Tensor, factor: Tensor) -> Tensor:
        """Read band b of each window from band b · factor, between bands."""
        bands = torch.arange(BANDS, dtype=torch.float32)
        source = (bands[None] * factor[:, None]).clamp(max=BANDS - 1)  # (B, 80)
        low = source.floor().long()
        share = (source - low)[:, None, :, None]
        rows = mel.transpose(1, 2).squeeze(2)  # (B, 80, columns)

        def take(index: Tensor) -> Tensor:
            picked = index.clamp(max=BANDS - 1)[..., None].expand(-1, -1, mel.shape[-1])
            return rows.gather(1, picked)[:, None]

        return take(low) * (1 - share) + take(low + 1) * share


GENTLE = MelAugment(tract=0.08, level_db=6.0, colour_db=3.0, noise_db=-70.0)
"""For the generator: near the clips' own sound."""

NEAR = MelAugment(tract=0.1, level_db=8.0, colour_db=4.0, noise_db=-62.0)
"""For the audio encoder's later lessons: a little further, as other people are to be heard too."""
