"""Teach a lip expert of one's own: AV-HuBERT's form, narrow, on one core in under an hour.

    python -m training expert REGIONS -o RUN

The network learns to find, from the lips of a moment, the sound of that moment, and the other way
round. The run can be stopped at any time and goes on from its last checkpoint, exactly as if it
had not been: ``expert.pt`` holds weights, their running average, the optimiser and the step, and
everything random follows from the seed and the step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch.utils.tensorboard import SummaryWriter

from engine.errors import ConfigError
from training.averages import update_average
from training.avhubert import AvHubert, AvHubertConfig
from training.checkpoint import EXPERT, load_checkpoint, save_checkpoint
from training.expert_evaluation import judge_quickly
from training.expert_features import features_alone
from training.regions import find_regions
from training.sync_augment import SyncAugment
from training.sync_loss import SyncLosses, SyncWeights, sync_loss
from training.sync_samples import SyncSampler, Windows, split

FILE: Final = "expert.pt"
NARROW: Final = AvHubertConfig(layers=4, dim=192, ffn=768, heads=4, trunk=(16, 32, 64, 128))

_FREE: Final = ("steps", "save_every", "threads")
"""Fields that may differ when a run goes on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertConfig:
    """One run of the lip expert.

    Attributes:
        network: sizes.
        dropout: inside the transformer.
        windows: sizes of batches.
        augment: how samples are changed.
        weights: of the loss.
        judge: names of clips that are kept for judging, besides the tenth of each speaker's.
        steps: of AdamW, warm-up and cosine decay included.
        learning_rate, warmup_steps, betas, weight_decay: of AdamW.
        average: decay of the running average of the weights, which is what is used.
        bf16: whether the network learns in bfloat16, where the processor is quick at it.
        save_every: steps between checkpoints.
        seed: of weights and samples.
        threads: of torch.
    """

    network: AvHubertConfig = NARROW
    dropout: float = 0.1
    windows: Windows = field(default_factory=Windows)
    augment: SyncAugment = field(default_factory=SyncAugment)
    weights: SyncWeights = field(default_factory=SyncWeights)
    judge: tuple[str, ...] = ()
    steps: int = 1000
    learning_rate: float = 1e-3
    warmup_steps: int = 100
    betas: tuple[float, float] = (0.9, 0.98)
    weight_decay: float = 0.01
    average: float = 0.99
    bf16: bool = False
    save_every: int = 50
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("steps", "warmup_steps", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        plain = asdict(self) | {"network": self.network.to_dict(), "betas": list(self.betas)}
        return plain | {"judge": sorted(self.judge)}


def learning_rate(config: ExpertConfig, step: int) -> float:
    """Warm-up, then half a cosine to 3 % of the rate.

    Args:
        config: the run.
        step: 1..steps.
    """
    warm = min(1.0, step / config.warmup_steps)
    fall = 0.5 * (1 + math.cos(math.pi * step / config.steps))
    return config.learning_rate * warm * (0.03 + 0.97 * fall)


class ExpertRun:
    """One run: network, average, optimiser and the step they stand at.

    Args:
        regions: folder of prepared mouth regions.
        folder: of checkpoint and TensorBoard events; a run that is there is gone on with.
        config: the run.
        facts: what export states of the weights: ``licence`` and ``training_data``; a run that
            goes on keeps those it was started with where they are left out.

    Raises:
        ConfigError: too few clips, or a checkpoint of another run.
    """

    def __init__(
        self,
        regions: Path,
        folder: Path,
        config: ExpertConfig,
        *,
        facts: Mapping[str, str] | None = None,
    ) -> None:
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.step = 0
        self._facts = dict(facts or {})
        self._folder, self._path = folder, folder / FILE
        learnt, self._kept = split(find_regions(regions), config.judge)
        self._sampler = SyncSampler(learnt, config.windows, config.augment, config.seed)
        self.model = AvHubert(config.network, dropout=config.dropout)
        self._optimiser = torch.optim.AdamW(
            self.model.parameters(),
            config.learning_rate,
            betas=config.betas,
            weight_decay=config.weight_decay,
        )
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if self._path.is_file():
            self._resume()

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self._path)
        wanted = replace(self.config, steps=1, save_every=1, threads=1).to_dict()
        stored = checkpoint.training.get("config", {}) | dict.fromkeys(_FREE, 1)
        if checkpoint.kind != EXPERT or stored != wanted:
            differs = sorted(k for k in wanted if stored.get(k) != wanted[k])
            raise ConfigError(
                f"{self._path} is of another run (different: {', '.join(differs)}): name another"
                " folder with -o."
            )
        facts = ("licence", "training_data")
        kept = {n: checkpoint.training[n] for n in facts if n in checkpoint.training}
        self._facts = kept | self._facts
        self.average = dict(checkpoint.model)
        self.model.load_state_dict(checkpoint.resume["weights"])
        self._optimiser.load_state_dict(checkpoint.resume["optimiser"])
        self.step = checkpoint.resume["step"]

    def train(self) -> Path:
        """Go on to the last step; returns the checkpoint's path."""
        log = SummaryWriter(str(self._folder))
        started, first = time.monotonic(), self.step
        while self.step < self.config.steps:
            self.step += 1
            losses = self.train_step(self.step)
            last = self.step == self.config.steps
            if self.step % 20 == 0 or last:
                for name, value in losses.scalars().items():
                    log.add_scalar(f"train/{name}", value, self.step)
                seconds = (time.monotonic() - started) / (self.step - first)
                terms = "  ".join(f"{n} {v:.3f}" for n, v in losses.scalars().items())
                _say(f"step {self.step}  {terms}  {seconds:.2f} s/step")
            if self.step % self.config.save_every == 0 or last:
                self.save()
            if self._kept and (self.step % 200 == 0 or last):
                figures = judge_quickly(self.averaged(), self._kept)
                for name, value in figures.items():
                    log.add_scalar(f"unseen/{name}", value, self.step)
                _say("  unseen clips: " + "  ".join(f"{n} {v:.3f}" for n, v in figures.items()))
        log.close()
        return self._path

    def train_step(self, step: int) -> SyncLosses:
        """Learn from the batch of one step (1..steps)."""
        batch = self._sampler.draw(step)
        torch.manual_seed(self.config.seed * 1_000_003 + step)  # of the dropout
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        self.model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.config.bf16):
            lips, sound = features_alone(self.model, batch.video, batch.audio)
        losses = sync_loss(
            lips.float(),
            sound.float(),
            batch.shift,
            batch.moving,
            batch.audible,
            self.config.weights,
        )
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        update_average(self.average, self.model, self.step, self.config.average)
        return losses

    def averaged(self) -> AvHubert:
        """The network with its averaged weights, for use."""
        model = AvHubert(self.config.network)
        model.load_state_dict(self.average)
        return model.eval()

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self._path,
            kind=EXPERT,
            config=self.config.network.to_dict(),
            model=self.average,
            training={
                "config": self.config.to_dict(),
                "step": self.step,
                "kept": [f"{file.speaker}/{file.name}" for file in self._kept],
                **self._facts,
            },
            resume={
                "weights": self.model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
            },
        )


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
