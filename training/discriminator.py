"""The discriminator: whether a face is a photograph or was painted (§3.6 of the paper).

The paper tells of seven strided convolutions, LeakyReLU and spectral normalisation, and gives no
formula. Chosen here: kernels of 4 with stride 2 down to 3×3, then of 3; a slope of 0.2; one
figure for a 96 crop; the non-saturating cross-entropy of the GAN that the paper cites, or the
hinge. It sees the whole crop and computes in float32 always.

Legend of shapes: N pictures, S side of the crop in pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils.parametrizations import spectral_norm

from training.blocks import scaled
from training.config import AdversarialForm, Objective
from training.hardware import Hardware

CHANNELS: Final = (64, 128, 256, 512, 512, 512)
SLOPE: Final = 0.2
_WIDE: Final = 5  # convolutions with the larger kernel: 96 → 48 → 24 → 12 → 6 → 3


class Discriminator(nn.Module):
    """Seven strided convolutions.

    Args:
        width: factor on the channels.
    """

    def __init__(self, width: float = 1.0) -> None:
        super().__init__()
        sizes = [3, *(scaled(channels, width) for channels in CHANNELS), 1]
        layers: list[nn.Module] = []
        for index, (before, after) in enumerate(pairwise(sizes)):
            if index:
                layers.append(nn.LeakyReLU(SLOPE))
            kernel = 4 if index < _WIDE else 3
            layers.append(spectral_norm(nn.Conv2d(before, after, kernel, 2, 1)))
        self.layers = nn.Sequential(*layers)

    def forward(self, pictures: Tensor) -> Tensor:
        """Judge pictures.

        Args:
            pictures: (N, 3, S, S), RGB in [0, 1].

        Returns:
            (N, 1, n, n), above 0 where they look real; n is 1, 2 or 3 for an S of 96, 192 or 384.
        """
        judged: Tensor = self.layers(2 * pictures - 1)
        return judged


def discriminator_loss(real: Tensor, painted: Tensor, form: AdversarialForm) -> Tensor:
    """How badly both kinds are told apart; the arguments are what the discriminator said."""
    if form == "hinge":
        return F.relu(1 - real).mean() + F.relu(1 + painted).mean()
    return F.softplus(-real).mean() + F.softplus(painted).mean()


def generator_loss(painted: Tensor, form: AdversarialForm) -> Tensor:
    """How badly the discriminator is deceived."""
    return -painted.mean() if form == "hinge" else F.softplus(-painted).mean()


class Adversary:
    """A discriminator that learns beside the generator.

    Both learn from the same pictures: it judges them with the weights it had before the step.

    Args:
        objective: of the run.
        hardware: of the run.

    Attributes:
        network: the discriminator.
        optimiser: its own Adam.
    """

    def __init__(self, objective: Objective, hardware: Hardware) -> None:
        self._form = objective.adversarial_form
        self._rate = objective.discriminator_rate
        self._hardware = hardware
        self.network = Discriminator(objective.discriminator_width).to(hardware.device)
        self._shared = hardware.shared(self.network)
        self.optimiser = torch.optim.Adam(
            self.network.parameters(), self._rate, betas=objective.discriminator_betas
        )

    def learn(self, real: Tensor, painted: Tensor, share: float, scaler: GradScaler) -> Tensor:
        """Gather gradients from a part of a step.

        Args:
            real: (N, 3, S, S).
            painted: (N, 3, S, S); nothing flows back into it.
            share: of the step's samples that these are.
            scaler: of the run.

        Returns:
            The loss, for reports.
        """
        judged = self._shared(torch.cat([real, painted.detach()]))
        loss = discriminator_loss(judged[: len(real)], judged[len(real) :], self._form)
        scaler.scale(loss * share).backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def judge(self, painted: Tensor) -> Tensor:
        """The generator's term; gradients reach the pictures (N, 3, S, S) and stop there."""
        self.network.requires_grad_(False).eval()
        loss = generator_loss(self.network(painted), self._form)
        self.network.requires_grad_(True).train()
        return loss

    def begin(self, factor: float) -> None:
        """Start a step; the learning rate is ``factor`` times the configured one."""
        self.optimiser.zero_grad(set_to_none=True)
        for group in self.optimiser.param_groups:
            group["lr"] = self._rate * factor

    def gathering(self, last: bool) -> Any:
        """Context of a part of a step; processes share their gradients in the last one."""
        return self._hardware.gathering(self._shared, last)

    def state(self) -> dict[str, Any]:
        """What a run needs to go on."""
        return {
            "weights": self.network.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.network.load_state_dict(state["weights"])
        self.optimiser.load_state_dict(state["optimiser"])
