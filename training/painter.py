"""A generator's checkpoint in the offline chain, without a bundle.

What it paints is what its bundle would paint, up to rounding: so runs are compared as they are.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.crop import CropGeometry, geometry_from_dict
from engine.errors import ConfigError, EngineError
from engine.generator import Chunk
from engine.mel import MelSettings, WindowPlacement
from training.checkpoint import GENERATOR, Checkpoint
from training.generator import Generator, GeneratorConfig, mask_pose


def build_model(checkpoint: Checkpoint) -> Generator:
    """The generator of a checkpoint, ready for use.

    Raises:
        ConfigError: the checkpoint holds another network, or weights that do not fit.
    """
    if checkpoint.kind != GENERATOR:
        raise ConfigError(
            f"The checkpoint holds a {checkpoint.kind!r}; only a {GENERATOR!r} makes a bundle."
        )
    model = Generator(GeneratorConfig.from_dict(checkpoint.config))
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        raise ConfigError(
            "The checkpoint's weights do not fit its own settings; save it again."
        ) from error
    return model.eval()


class TorchPainter:
    """A checkpoint's generator as :class:`engine.chain.Chain` drives it, and its form.

    Args:
        checkpoint: of a generator.
        device: that it computes on, in float32.

    Attributes:
        crop, resolution, rows, k, mel, placement: see :class:`engine.bundle.Bundle`.

    Raises:
        ConfigError: the checkpoint holds another network, or weights that do not fit.
    """

    def __init__(self, checkpoint: Checkpoint, device: torch.device) -> None:
        self._model = build_model(checkpoint).to(device)
        self._device = device
        config = self._model.config
        self.crop: CropGeometry = geometry_from_dict(checkpoint.crop)
        self.resolution = config.resolution
        self.rows = config.rows
        self.k: int = checkpoint.training.get("k", 5)
        self.mel = MelSettings.from_dict(checkpoint.mel)
        self.placement = WindowPlacement.from_dict(checkpoint.placement)
        self._identities: dict[int, tuple[Tensor, list[Tensor]]] = {}

    @torch.inference_mode()
    def open(self, identity: NDArray[np.uint8]) -> int:
        """Take a slot for an identity reference, uint8 (S, S, 3); there is always one."""
        slot = next(i for i in range(len(self._identities) + 1) if i not in self._identities)
        picture = self._to_network(identity[None])
        self._identities[slot] = picture, self._model.encode_identity(picture)
        return slot

    @torch.inference_mode()
    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, NDArray[np.uint8]]:
        """Paint chunks by slot: uint8 (k, R, S, 3) each.

        Raises:
            EngineError: the network painted values that are no numbers.
        """
        return {slot: self._paint(slot, chunk) for slot, chunk in chunks.items()}

    def close(self, slot: int) -> None:
        """Free a slot."""
        del self._identities[slot]

    def _paint(self, slot: int, chunk: Chunk) -> NDArray[np.uint8]:
        count = len(chunk.pose)
        identity, maps = self._identities[slot]
        frames = self._model(
            torch.from_numpy(chunk.mel).to(self._device),
            mask_pose(self._to_network(chunk.pose), self._model.config.masked_from),
            identity.expand(count, -1, -1, -1),
            [values.expand(count, -1, -1, -1) for values in maps],
        ).frames
        if not bool(torch.isfinite(frames).all()):
            raise EngineError("The generator painted values that are no numbers; train it again.")
        levels = (frames.float() * 255 + 0.5).clamp(0, 255).byte()
        return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())

    def _to_network(self, pictures: NDArray[np.uint8]) -> Tensor:
        """uint8 (n, S, S, 3) to float32 (n, 3, S, S) in 0..1."""
        planes = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device)
        return planes.permute(0, 3, 1, 2).float() / 255
