from collections import OrderedDict
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import ConfigError
from tests.training.drawn_clips import face, face_mesh, tiny_expert
from training.perceptual import (
    COEFFICIENTS,
    ExpertDistance,
    Vgg19,
    VggDistance,
    load_vgg19,
    map_distance,
)

pytestmark = pytest.mark.models

K = 3


@pytest.fixture(scope="module")
def state() -> "OrderedDict[str, Tensor]":
    """VGG-19's first 13 convolutions under torchvision's names, and one of its last layers."""
    torch.manual_seed(0)
    state = OrderedDict((name, t.half()) for name, t in Vgg19().state_dict().items())
    state["features.30.weight"] = torch.zeros(512, 512, 3, 3, dtype=torch.float16)
    state["classifier.6.bias"] = torch.zeros(1000)
    return state


@pytest.fixture(scope="module")
def vgg(state: "OrderedDict[str, Tensor]", tmp_path_factory: pytest.TempPathFactory) -> Vgg19:
    path = tmp_path_factory.mktemp("vgg") / "vgg19.pth"
    torch.save(state, path, _use_new_zipfile_serialization=False)  # as torchvision's file is
    return load_vgg19(path)


def crops(*openings: float) -> Tensor:
    drawn = [torch.from_numpy(face(opening, 1)) for opening in openings]
    return torch.stack(drawn).permute(0, 3, 1, 2).float() / 255


def test_names_of_the_weights_are_those_of_torchvision() -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in Vgg19().state_dict().items()}
    convolutions = (0, 2, 5, 7, 10, 12, 14, 16, 19, 21, 23, 25, 28)
    assert list(shapes) == [f"features.{n}.{p}" for n in convolutions for p in ("weight", "bias")]
    assert shapes["features.0.weight"] == (64, 3, 3, 3)
    assert shapes["features.28.weight"] == (512, 512, 3, 3)


def test_maps_are_those_of_the_five_layers(vgg: Vgg19, state: "OrderedDict[str, Tensor]") -> None:
    pictures = crops(0.1)[:, :, ::3, ::3]
    maps = vgg(pictures)
    sizes = [(64, 32), (128, 16), (256, 8), (512, 4), (512, 2)]
    assert [(m.shape[1], m.shape[2]) for m in maps] == sizes
    mean = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
    deviation = torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    x = (pictures - mean) / deviation
    for index, place in enumerate((0, 2, 5)):
        weight, bias = (state[f"features.{place}.{n}"].float() for n in ("weight", "bias"))
        x = F.relu(F.conv2d(x, weight, bias, padding=1))
        if index == 0:
            assert torch.allclose(maps[0], x, atol=1e-4)
        if index == 1:
            x = F.max_pool2d(x, 2)
    assert torch.allclose(maps[1], x, atol=1e-4)


def test_weights_are_taken_from_safetensors_too(
    vgg: Vgg19, state: "OrderedDict[str, Tensor]", tmp_path: Path
) -> None:
    save_file(state, tmp_path / "vgg19.safetensors")
    found = load_vgg19(tmp_path / "vgg19.safetensors").state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in vgg.state_dict().items())


def test_missing_or_other_weights_are_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs VGG-19's weights: get https://.*--vgg"):
        load_vgg19(None)
    with pytest.raises(ConfigError, match="can't be read"):
        load_vgg19(tmp_path / "none.pth")
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, tmp_path / "other.pth")
    with pytest.raises(ConfigError, match="does not hold VGG-19's weights"):
        load_vgg19(tmp_path / "other.pth")
    (tmp_path / "broken.safetensors").write_bytes(b"no")
    with pytest.raises(ConfigError, match="is the file whole"):
        load_vgg19(tmp_path / "broken.safetensors")


def test_distance_is_the_weighted_root_of_the_mean_square() -> None:
    true = [torch.zeros(2, 3, 4, 4) for _ in COEFFICIENTS]
    made = [torch.full((2, 3, 4, 4), level) for level in (1.0, 2.0, 3.0, 4.0, 5.0)]
    expected = 1 / 32 + 2 / 16 + 3 / 8 + 4 / 4 + 5
    assert map_distance(made, true).item() == pytest.approx(expected, rel=1e-5)
    assert map_distance(true, true).item() < 1e-5


@pytest.mark.parametrize("kind", ["vgg19", "expert"])
def test_likeness_grows_and_pixels_are_told_how(kind: str, vgg: Vgg19) -> None:
    distance = VggDistance(vgg) if kind == "vgg19" else ExpertDistance(tiny_expert(), K)
    true, mesh = crops(*[0.3] * K), torch.from_numpy(face_mesh(0.3)[None, :, :2]).repeat(K, 1, 1)
    far = distance(crops(*[0.9] * K), true, mesh).item()
    near = crops(*[0.4] * K).requires_grad_()
    loss = distance(near, true, mesh)
    assert distance(true, true, mesh).item() < 1e-4 < loss.item() < far
    loss.backward()  # type: ignore[no-untyped-call]
    assert near.grad is not None
    assert near.grad[:, :, 50:66, 40:56].abs().sum() > 0
    top = near.grad[:, :, :18].abs().sum()
    assert (top == 0) == (kind == "expert")  # which sees the mouth alone
