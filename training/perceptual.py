"""How alike two pictures look to a network that knows pictures (§3.6 of the paper, eq. 2).

The distance of a layer's maps is their L2 distance divided by the root of their size, which is
the root of the mean squared difference; a layer then counts the same at every resolution. The
paper cites Johnson et al. (2016) for layers and coefficients, who use another network and four
layers; chosen here is the customary set for VGG-19: relu1_1, 2_1, 3_1, 4_1 and 5_1, with 1/32,
1/16, 1/8, 1/4 and 1. Where there is no VGG-19, an AV-HuBERT's picture network stands in: gray
mouth regions, its front end and four stages with the same coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from engine.errors import ConfigError
from training.avhubert import AvHubert
from training.mouth_cut import CUT_POINTS, cut_mouths, mouth_matrices
from training.stored_values import StoredTensor
from training.torch_files import TorchFile
from training.weights import SUFFIX

COEFFICIENTS: Final = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)
VGG19_SOURCE: Final = "https://download.pytorch.org/models/vgg19-dcbb9e9d.pth"

_PLAN: Final = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512)
"""Channels of VGG-19's convolutions up to relu5_1; 0 is a pooling."""
_SEEN: Final = (1, 6, 11, 20, 29)  # indices in torchvision's ``features``: relu1_1 to relu5_1
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LEAST: Final = 1e-12  # keeps the root's gradient finite where two pictures are equal


class Vgg19(nn.Module):
    """VGG-19 up to relu5_1 (Simonyan & Zisserman, 2015), under torchvision's names."""

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for channels in _PLAN:
            if channels:
                layers += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU()]
                before = channels
            else:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        for name, values in (("mean", _MEAN), ("deviation", _DEVIATION)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Maps of five layers of pictures (N, 3, S, S), RGB in [0, 1]; S at least 16."""
        x = (pictures - self.mean) / self.deviation
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in _SEEN:
                maps.append(x)
        return maps


def load_vgg19(path: Path | None) -> Vgg19:
    """VGG-19 with its weights, frozen.

    Args:
        path: torchvision's file, or the same tensors as ``.safetensors``.

    Raises:
        ConfigError: no file is named, it can't be read, or it holds other weights.
    """
    if path is None:
        raise ConfigError(
            f"The perceptual loss needs VGG-19's weights: get {VGG19_SOURCE} and name the file"
            " with --vgg, or choose --perceptual expert or none."
        )
    with torch.device("meta"):
        model = Vgg19()
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    tensors = _read(path, wanted)
    if {name: tuple(tensor.shape) for name, tensor in tensors.items()} != wanted:
        raise ConfigError(
            f"{path} does not hold VGG-19's weights under torchvision's names; get {VGG19_SOURCE}."
        )
    model = Vgg19()
    model.load_state_dict(tensors)
    return model.eval().requires_grad_(False)


def _read(path: Path, wanted: dict[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """Those of the wanted tensors that a file holds."""
    if path.suffix == SUFFIX:
        try:
            tensors = load_file(path)
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"{path} can't be read as weights; is the file whole?") from error
        return {name: tensor for name, tensor in tensors.items() if name in wanted}
    with TorchFile(path) as file:
        content = file.content if isinstance(file.content, dict) else {}
        return {
            name: file.tensor(stored)
            for name, stored in content.items()
            if name in wanted and isinstance(stored, StoredTensor)
        }


def map_distance(made: Sequence[Tensor], true: Sequence[Tensor]) -> Tensor:
    """The weighted distance of five layers' maps, (N, …) each; a scalar in float32 or more."""
    total = torch.zeros((), device=made[0].device)
    for weight, ours, theirs in zip(COEFFICIENTS, made, true, strict=True):
        off = ours.to(torch.promote_types(ours.dtype, torch.float32)) - theirs
        apart = (off.square().flatten(1).mean(dim=1) + _LEAST).sqrt()  # (N,)
        total = total + weight * apart.mean()
    return total


class VggDistance:
    """The paper's perceptual loss.

    Args:
        model: frozen, on the device of the pictures.
    """

    def __init__(self, model: Vgg19) -> None:
        self._model = model

    def __call__(self, made: Tensor, true: Tensor, mesh: Tensor) -> Tensor:
        """The distance of generated and real crops.

        Args:
            made: (B·k, 3, S, S), RGB in [0, 1].
            true: the same.
            mesh: (B·k, 468, 2), of no use here.
        """
        with torch.no_grad():
            wanted = self._model(true)
        return map_distance(self._model(made), wanted)


class ExpertDistance:
    """The perceptual loss by a lip expert's picture network, on gray mouth regions.

    Args:
        expert: frozen and in ``eval``, on the device of the pictures.
        k: frames of a sample.
    """

    def __init__(self, expert: AvHubert, k: int) -> None:
        self._network = expert.feature_extractor_video.resnet
        self._k = k

    def __call__(self, made: Tensor, true: Tensor, mesh: Tensor) -> Tensor:
        """The distance of generated and real crops.

        Args:
            made: (B·k, 3, S, S), RGB in [0, 1].
            true: the same.
            mesh: (B·k, 468, 2) in pixels of the crops.
        """
        points = mesh[:, CUT_POINTS].reshape(-1, self._k, len(CUT_POINTS), 2)
        matrices = mouth_matrices(points).flatten(0, 1)
        with torch.no_grad():
            wanted = self._maps(cut_mouths(true, matrices))
        return map_distance(self._maps(cut_mouths(made, matrices)), wanted)

    def _maps(self, regions: Tensor) -> list[Tensor]:
        """Maps of the front end and the four stages, for regions (B·k, 88, 88)."""
        video = regions.reshape(-1, 1, self._k, *regions.shape[1:])
        x = self._network.frontend3D(video).transpose(1, 2).flatten(0, 1)  # (B·k, C1, 22, 22)
        maps = [x]
        for number in (1, 2, 3, 4):
            x = getattr(self._network.trunk, f"layer{number}")(x)
            maps.append(x)
        return maps
