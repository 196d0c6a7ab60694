"""The running average of a network's weights, which is what is used of it."""

from __future__ import annotations

import torch
from torch import Tensor, nn


@torch.no_grad()
def update_average(average: dict[str, Tensor], model: nn.Module, step: int, most: float) -> None:
    """Take a step's weights into the average, in place; what is no fraction is copied.

    Args:
        average: the state dict so far.
        model: whose weights they are.
        step: from 1.
        most: decay of an average that is not young.
    """
    # A young average would remember the first, random weights for too long.
    decay = min(most, (1 + step) / (10 + step))
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - decay)
        else:
            average[name].copy_(value)
