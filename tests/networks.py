"""Small networks with numbers that are the same on every machine and with every torch."""

from typing import Any

import numpy as np
import torch
from torch import nn

from engine.mel import COLUMNS
from training.generator import Generator, GeneratorConfig

TINY_WIDTH = 0.02  # eight channels everywhere


def fill(module: nn.Module, seed: int) -> None:
    """Give every weight and statistic a number from NumPy's frozen legacy generator."""
    random = np.random.RandomState(seed)
    for name, tensor in module.state_dict().items():
        values = random.standard_normal(tuple(tensor.shape))
        if name.endswith("running_var") or (name.endswith("weight") and tensor.dim() == 1):
            values = 1 + 0.2 * np.abs(values)
        elif tensor.dim() == 4:
            values /= np.sqrt(values[0].size)
        else:
            values *= 0.2
        if tensor.is_floating_point():
            tensor.copy_(torch.from_numpy(np.asarray(values)))


def tiny_generator(seed: int = 0, **config: Any) -> Generator:
    """Return a filled generator for use, eight channels wide."""
    sizes = {"width": TINY_WIDTH, "audio_width": TINY_WIDTH}
    model = Generator(GeneratorConfig(**{**sizes, **config}))
    fill(model, seed)
    return model.eval()


def inputs(
    batch: int, resolution: int = 96, seed: int = 0, columns: int = COLUMNS
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return mel windows, pose faces and identity references as the generator takes them."""
    random = np.random.RandomState(seed)
    mel = random.uniform(-4, 4, (batch, 1, 80, columns)).astype(np.float32)
    pose, identity = random.uniform(0, 1, (2, batch, 3, resolution, resolution)).astype(np.float32)
    pose[:, :, resolution // 2 :] = 0
    return torch.from_numpy(mel), torch.from_numpy(pose), torch.from_numpy(identity)
