import copy

import pytest
import torch
from torch import nn
from torch.amp.grad_scaler import GradScaler

from training.config import Objective
from training.discriminator import (
    Adversary,
    Discriminator,
    discriminator_loss,
    generator_loss,
)
from training.hardware import CPU

pytestmark = pytest.mark.models

SMALL = Objective(adversarial=1.0, discriminator_width=0.01, discriminator_rate=1e-2)


def pictures(count: int, level: float, side: int = 96) -> torch.Tensor:
    chance = torch.Generator().manual_seed(int(100 * level))
    return (level + 0.1 * torch.randn(count, 3, side, side, generator=chance)).clamp(0, 1)


@pytest.mark.parametrize(("side", "figures"), [(96, 1), (192, 2), (384, 3)])
def test_crops_of_every_size_are_judged(side: int, figures: int) -> None:
    judged = Discriminator(0.01)(pictures(2, 0.5, side))
    assert judged.shape == (2, 1, figures, figures)


def test_seven_strided_convolutions_are_kept_from_growing() -> None:
    torch.manual_seed(0)
    network = Discriminator(0.125)
    layers = [layer for layer in network.layers if isinstance(layer, nn.Conv2d)]
    assert [layer.stride for layer in layers] == [(2, 2)] * 7
    assert sum(isinstance(layer, nn.LeakyReLU) for layer in network.layers) == 6
    for _ in range(60):  # each pass brings the estimate nearer
        network(pictures(1, 0.5))
    for layer in layers:
        greatest = torch.linalg.matrix_norm(layer.weight.detach().flatten(1), 2)
        assert greatest == pytest.approx(1.0, abs=0.03)


def test_losses_are_those_of_the_two_forms() -> None:
    sure, wrong, even = torch.tensor([2.0]), torch.tensor([-2.0]), torch.zeros(1)
    assert discriminator_loss(even, even, "bce").item() == pytest.approx(2 * 0.6931, abs=1e-3)
    assert discriminator_loss(sure, wrong, "bce").item() == pytest.approx(2 * 0.1269, abs=1e-3)
    assert generator_loss(wrong, "bce").item() == pytest.approx(2.1269, abs=1e-3)
    assert discriminator_loss(even, even, "hinge").item() == 2
    assert discriminator_loss(sure, wrong, "hinge").item() == 0
    assert generator_loss(wrong, "hinge").item() == 2


def test_adversary_learns_to_tell_pictures_apart_and_to_push_painted_ones() -> None:
    torch.manual_seed(0)
    adversary, scaler = Adversary(SMALL, CPU), GradScaler("cpu", enabled=False)
    real = pictures(4, 0.7)
    painted = pictures(4, 0.3)
    painted.requires_grad_()
    losses = []
    for _ in range(15):
        adversary.begin(1.0)
        losses.append(adversary.learn(real, painted, 1.0, scaler).item())
        adversary.optimiser.step()
    assert losses[-1] < 0.5 * losses[0]
    assert not _has_gradient(painted)

    adversary.begin(1.0)
    adversary.judge(painted).backward()  # type: ignore[no-untyped-call]
    assert painted.grad is not None
    assert painted.grad.mean() < 0  # brighter would look more real
    assert all(p.grad is None and p.requires_grad for p in adversary.network.parameters())


def _has_gradient(tensor: torch.Tensor) -> bool:
    return tensor.grad is not None


def test_state_brings_back_weights_estimates_and_optimiser() -> None:
    torch.manual_seed(0)
    first, second = Adversary(SMALL, CPU), Adversary(SMALL, CPU)
    scaler = GradScaler("cpu", enabled=False)

    def step(adversary: Adversary) -> float:
        adversary.begin(0.5)
        loss = adversary.learn(pictures(2, 0.7), pictures(2, 0.3), 1.0, scaler).item()
        adversary.optimiser.step()
        return loss

    for _ in range(3):
        step(first)
    second.load(copy.deepcopy(first.state()))
    assert [step(first), step(first)] == [step(second), step(second)]
