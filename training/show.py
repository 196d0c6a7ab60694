"""Pictures of a run, for people who watch it."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from training.generator import mask_pose
from training.pairs import Batch

MOST: Final = 8  # samples that are shown


def contact_sheet(batch: Batch, made: Tensor, masked_from: int) -> Tensor:
    """Samples in rows: identity reference, pose face, generated crop, real crop.

    Args:
        batch: B samples of k frames; of each the middle frame is shown.
        made: (B·k, 3, S, S), RGB in [0, 1].
        masked_from: first row that the pose face hides.

    Returns:
        float32 (3, rows · S, 4 · S) in 0..1, on the CPU.
    """
    count = len(batch.identity)
    k = len(made) // count
    real, ours = (frames[k // 2 :: k] for frames in (batch.frames, made))
    columns = [batch.identity, mask_pose(real, masked_from), ours, real]
    sheet = torch.cat([column[:MOST] for column in columns], dim=-1)  # (rows, 3, S, 4·S)
    return torch.cat(list(sheet.float().clamp(0, 1).cpu()), dim=-2)
