"""The terms that the paper adds to the pixels: perceptual and lip-sync, with their networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from engine.errors import ConfigError
from engine.files import sha256_of
from engine.paste import paste_mask
from training.avhubert import AvHubert
from training.config import TrainConfig
from training.expert_features import load_expert
from training.generator import GeneratorOutput
from training.hardware import Hardware
from training.pairs import Batch
from training.perceptual import ExpertDistance, VggDistance, load_vgg19
from training.public_networks import restore
from training.sync_objective import ColourSync, ExpertSync, SyncLoss
from training.wav2lip import WINDOW_FRAMES, SyncNetColour
from training.weights import SUFFIX, load_weights


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkFiles:
    """Where the frozen networks are that judge what the generator paints.

    Attributes:
        expert: a lip expert: what ``python -m training expert`` or ``import`` has made.
        colour: Wav2Lip's, for the ``syncnet`` form alone; without it that form asks ``expert``.
        vgg: VGG-19's weights, torchvision's file.
    """

    expert: Path | None = None
    colour: Path | None = None
    vgg: Path | None = None


def open_expert(path: Path) -> AvHubert | SyncNetColour:
    """The lip expert of a file, frozen and in ``eval``.

    Raises:
        ConfigError: the file can't be read, or holds another network.
    """
    if path.suffix == SUFFIX:
        weights = load_weights(path)
        model = restore(weights)
        if not isinstance(model, AvHubert | SyncNetColour):
            raise ConfigError(
                f"{path} holds {weights.kind!r}, which is no lip expert: name an AV-HuBERT or"
                " Wav2Lip's lip expert."
            )
    else:
        model = load_expert(path)
    return model.eval().requires_grad_(False)


class Distance(Protocol):
    """A perceptual loss."""

    def __call__(self, made: Tensor, true: Tensor, mesh: Tensor) -> Tensor:
        """The distance of crops (B·k, 3, S, S), whose mesh is (B·k, 468, 2)."""


def composed(output: GeneratorOutput, frames: Tensor, rows: tuple[int, int]) -> Tensor:
    """Whole crops, as they are shown: what a paste replaces is painted, the rest is real.

    Args:
        output: of the generator, N frames of R rows.
        frames: (N, 3, S, S), the real crops.
        rows: first painted row and the row after the last.

    Returns:
        (N, 3, S, S), RGB in [0, 1]; the generator's own pictures where it paints all rows.
    """
    first, end = rows
    side = frames.shape[-1]
    if (first, end) == (0, side):
        return output.frames
    shown = torch.from_numpy(paste_mask(side)[first:end].copy()).to(frames)  # (R, S)
    whole = frames.clone()
    whole[..., first:end, :] = torch.lerp(frames[..., first:end, :], output.frames, shown)
    return whole


class Judges:
    """The frozen networks of a run and what they make of generated crops.

    Args:
        config: the run.
        files: where the networks are.
        hardware: of the run.

    Attributes:
        hashes: SHA-256 of each file that is used, as hexadecimal digits, by its role.

    Raises:
        ConfigError: a file that is needed is not named, can't be read, or holds another network.
    """

    def __init__(self, config: TrainConfig, files: NetworkFiles, hardware: Hardware) -> None:
        self._objective = objective = config.objective
        self._hardware = hardware
        self._precision = config.precision
        self.hashes: dict[str, str] = {}
        self._sync: SyncLoss | None = None
        self._distance: Distance | None = None
        expert = None
        colour = objective.sync == "syncnet" and files.colour is not None
        looks = objective.judges_looks and objective.perceptual == "expert"
        if looks or (objective.judges_sync and not colour):
            expert = self._load_expert("expert", files.expert)
        if objective.judges_sync and colour:
            own = self._load_expert("syncnet-colour", files.colour)
            self._sync = self._sync_loss(config, own, files.colour)
        elif objective.judges_sync and expert is not None:
            self._sync = self._sync_loss(config, expert, files.expert)
        if objective.judges_looks and objective.perceptual == "expert":
            if not isinstance(expert, AvHubert):
                raise ConfigError(
                    f"The perceptual loss needs an AV-HuBERT, and {files.expert} is another"
                    " network: choose --perceptual vgg19 or none."
                )
            self._distance = ExpertDistance(expert, config.k)
        elif objective.judges_looks:
            model = load_vgg19(files.vgg)
            self._note("vgg", files.vgg)
            self._distance = VggDistance(model.to(hardware.device))

    def _load_expert(self, role: str, path: Path | None) -> AvHubert | SyncNetColour:
        if path is None:
            raise ConfigError(
                "This run needs a lip expert: name one with --expert, made by"
                " `python -m training expert` or `import`, or choose --sync none and another"
                " --perceptual."
            )
        model = open_expert(path)
        self._note(role, path)
        return model.to(self._hardware.device)

    def _sync_loss(
        self, config: TrainConfig, expert: AvHubert | SyncNetColour, path: Path | None
    ) -> SyncLoss:
        form = config.objective.sync
        if form == "syncnet":
            if not isinstance(expert, SyncNetColour):
                raise ConfigError(
                    f"--sync syncnet needs Wav2Lip's lip expert, and {path} is an AV-HuBERT."
                )
            if config.k != WINDOW_FRAMES:
                raise ConfigError(
                    f"--sync syncnet sees {WINDOW_FRAMES} frames at once, the run has"
                    f" k = {config.k}: choose another form."
                )
            return ColourSync(expert)
        if not isinstance(expert, AvHubert):
            raise ConfigError(
                f"--sync {form} needs an AV-HuBERT, and {path} is another network: choose"
                " --sync syncnet for it."
            )
        return ExpertSync(expert, form)

    def _note(self, role: str, path: Path | None) -> None:
        assert path is not None
        self.hashes[role] = sha256_of(path)

    def __call__(self, made: Tensor, batch: Batch) -> Mapping[str, tuple[float, Tensor]]:
        """Weight and value of each term.

        Args:
            made: (B·k, 3, S, S) of :func:`composed`.
            batch: what they were made from.
        """
        terms: dict[str, tuple[float, Tensor]] = {}
        with self._hardware.autocast(self._precision):
            if self._distance is not None:
                distance = self._distance(made, batch.frames, batch.mesh)
                terms["perceptual"] = self._objective.perceptual_weight, distance
            if self._sync is not None:
                terms["sync"] = self._objective.sync_weight, self._sync(made, batch)
        return terms
