"""Public checkpoints become files of weights: nothing of a checkpoint but its numbers is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.files import sha256_of
from training.public_layouts import Found, find_network
from training.public_networks import KINDS, empty_network
from training.torch_files import TorchFile
from training.weights import SUFFIX, Weights, save_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class Imported:
    """What an import made.

    Attributes:
        what: the checkpoint, for people.
        weights: as written.
        parameters: numbers that training moves.
        left_out: groups of the checkpoint's tensors that were not used.
    """

    what: str
    weights: Weights
    parameters: int
    left_out: tuple[str, ...]

    def summary(self, out: Path) -> str:
        """Lines that say what was imported, where it went and under which terms."""
        lines = [
            f"{self.weights.source}: {self.what}, {self.parameters:,} parameters",
            f"{out}: {self.weights.kind}",
            f"licence: {self.weights.licence}",
            f"training data: {self.weights.training_data}",
        ]
        if self.left_out:
            lines.insert(1, f"left out: {', '.join(self.left_out)}")
        return "\n".join(lines)


def import_checkpoint(
    path: Path, out: Path, *, licence: str | None = None, training_data: str | None = None
) -> Imported:
    """Import a public checkpoint.

    Args:
        path: of the checkpoint, as its publishers give it.
        out: the file of weights, ``.safetensors``.
        licence: of these weights, where it is another one than that of the public ones.
        training_data: likewise.

    Raises:
        ConfigError: the checkpoint can't be read, asks for what no known one holds, is of another
            network, or the weights can't be written.
    """
    if out.suffix != SUFFIX:
        raise ConfigError(f"Imported weights need a name that ends with {SUFFIX}, not {out.name}.")
    with TorchFile(path) as file:
        found = find_network(file.content, path.name)
        if _size(found) > path.stat().st_size:
            raise ConfigError(
                f"{path.name} has tensors that are together larger than the file, and was refused;"
                " get the file from its publishers."
            )
        tensors = {name: _plain(file.tensor(stored)) for name, stored in found.tensors.items()}
    tensors |= {name: torch.zeros((), dtype=torch.int64) for name in found.counters}
    kind = KINDS[found.layout.kind]
    weights = Weights(
        kind=found.layout.kind,
        config=found.config,
        source=path.name,
        source_sha256=sha256_of(path),
        licence=licence or found.layout.licence or kind.licence,
        training_data=training_data or found.layout.training_data or kind.training_data,
        tensors=tensors,
    )
    save_weights(out, weights)
    return Imported(
        what=found.layout.title,
        weights=weights,
        parameters=_parameters(found),
        left_out=found.left_out,
    )


def _size(found: Found) -> int:
    """Bytes of the tensors when each lies for itself."""
    return sum(
        math.prod(tensor.shape) * tensor.storage.dtype.itemsize for tensor in found.tensors.values()
    )


def _plain(tensor: Tensor) -> Tensor:
    """Numbers of any precision as float32; whole numbers as they are."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _parameters(found: Found) -> int:
    network = empty_network(found.layout.kind, found.config)
    return sum(parameter.numel() for parameter in network.parameters())
