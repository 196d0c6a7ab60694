"""Teach the generator.

    python -m training train PREPARED --audio RUN/audio.pt -o RUN --run starter

The run can be stopped at any time and goes on from its last checkpoint, exactly as if it had not
been: ``generator.pt`` holds weights, their running average, the optimiser and the step, and
everything random follows from the seed and the step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import ConfigError
from engine.mel import MelSettings
from training.augment import augment_batch
from training.checkpoint import GENERATOR, load_checkpoint, save_checkpoint
from training.config import TrainConfig
from training.generator import Generator, GeneratorOutput, mask_pose
from training.losses import GeneratorLoss, Losses
from training.mel_augment import GENTLE
from training.pairs import Batch, PairSampler

FILE: Final = "generator.pt"
FACTS: Final = ("licence", "training_data")
"""What a bundle must say of its weights, and nobody but the user knows."""


def learning_rate(config: TrainConfig, step: int) -> float:
    """Warm-up, then half a cosine to 0.

    Args:
        config: the run.
        step: 1..steps.
    """
    warm = min(1.0, step / config.warmup_steps)
    return config.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * step / config.steps))


def generate(model: Generator, batch: Batch, mel: Tensor) -> GeneratorOutput:
    """Run the generator on a batch; identity references are encoded once per sample."""
    k = len(batch.frames) // len(batch.identity)
    maps = [m.repeat_interleave(k, dim=0) for m in model.encode_identity(batch.identity)]
    pose = mask_pose(batch.frames, model.config.masked_from)
    identity = batch.identity.repeat_interleave(k, dim=0)
    output: GeneratorOutput = model(mel, pose, identity, maps)
    return output


class Run:
    """One run of the generator: model, average, optimiser and the step they stand at."""

    def __init__(
        self,
        clips: Path,
        audio: Path,
        folder: Path,
        config: TrainConfig,
        *,
        facts: Mapping[str, str] | None = None,
        start: Path | None = None,
    ) -> None:
        """Start the run, or go on with the one in ``folder``.

        Args:
            clips: prepared clips.
            audio: checkpoint of the pretrained audio encoder.
            folder: of checkpoint and TensorBoard events.
            config: the run.
            facts: what export states of the weights: ``licence`` and ``training_data``; a run
                that goes on keeps those it was started with where they are left out.
            start: checkpoint of another generator of the same form, whose weights a new run
                starts from: fine-tuning, or a second lesson.

        Raises:
            ConfigError: no clips, an audio encoder of another size or window, or a checkpoint of
                another run.
        """
        torch.set_num_threads(config.threads)
        torch.manual_seed(config.seed)
        self.config = config
        self.step = 0
        self._facts = dict(facts or {})
        self._path = folder / FILE
        self._folder = folder
        self.model = Generator(config.generator)
        if start is not None:
            self._load_start(start)
        self._load_audio(audio)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.freeze_audio_encoder()
        learnt = [p for p in self.model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.Adam(learnt, config.learning_rate, betas=config.betas)
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if self._path.is_file():
            self._resume()
        self._sampler = PairSampler(clips, config)
        self._loss = GeneratorLoss(
            config.weights, config.generator.rows, config.generator.resolution
        )

    def _load_start(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        if checkpoint.kind != GENERATOR or checkpoint.config != self.config.generator.to_dict():
            raise ConfigError(
                f"{path} is no generator of the form that this run has: start from one that was"
                " trained with the same --run."
            )
        self.model.load_state_dict(checkpoint.model)

    def _load_audio(self, path: Path) -> None:
        checkpoint = load_checkpoint(path)
        if checkpoint.kind != "audio":
            raise ConfigError(f"{path} holds a {checkpoint.kind}, not an audio encoder.")
        if checkpoint.config != {"width": self.config.generator.audio_width}:
            raise ConfigError(
                f"The audio encoder of {path} has width {checkpoint.config.get('width')}, the run"
                f" wants {self.config.generator.audio_width}."
            )
        if checkpoint.placement != self.config.placement.to_dict():
            raise ConfigError(
                f"The audio encoder of {path} learnt with mel windows at {checkpoint.placement},"
                f" the run wants {self.config.placement.to_dict()}: pretrain it again."
            )
        self.model.audio_encoder.load_state_dict(checkpoint.model)

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self._path)
        # Only the end of a run may be moved: everything else would make it another run.
        kept = replace(self.config, steps=1, save_every=1, threads=1).to_dict()
        stored = {**checkpoint.training["config"], "steps": 1, "save_every": 1, "threads": 1}
        if stored != kept:
            differs = sorted(k for k in kept if stored.get(k) != kept[k])
            raise ConfigError(
                f"{self._path} is of another run (different: {', '.join(differs)}): name another"
                " folder with -o."
            )
        stored_facts = {n: checkpoint.training[n] for n in FACTS if n in checkpoint.training}
        self._facts = stored_facts | self._facts
        self.average = dict(checkpoint.model)
        self.model.load_state_dict(checkpoint.resume["weights"])
        self._optimiser.load_state_dict(checkpoint.resume["optimiser"])
        self.step = checkpoint.resume["step"]

    def train(self) -> Path:
        """Go on to the last step; returns the checkpoint's path."""
        log = SummaryWriter(str(self._folder))
        started, first = time.monotonic(), self.step
        self.model.train()
        while self.step < self.config.steps:
            self.step += 1
            losses = self.train_step(self.step)
            if self.step % 50 == 0 or self.step == self.config.steps:
                for name, value in losses.scalars().items():
                    log.add_scalar(f"train/{name}", value, self.step)
                seconds = (time.monotonic() - started) / (self.step - first)
                terms = "  ".join(f"{n} {v:.4f}" for n, v in losses.scalars().items())
                sys.stdout.write(f"step {self.step}  {terms}  {seconds:.2f} s/step\n")
                sys.stdout.flush()
            if self.step % self.config.save_every == 0 or self.step == self.config.steps:
                self.save()
        log.close()
        return self._path

    def train_step(self, step: int) -> Losses:
        """Learn from the batch of one step (1..steps)."""
        chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        batch = augment_batch(self._sampler.draw(step), self.config.augment, chance)
        for group in self._optimiser.param_groups:
            group["lr"] = learning_rate(self.config, step)
        output = generate(self.model, batch, GENTLE(batch.mel, chance))
        k = len(batch.frames) // len(batch.identity)
        losses = self._loss(
            output, batch.frames, batch.mesh, batch.identity_mesh.repeat_interleave(k, dim=0)
        )
        self._optimiser.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimiser.step()
        self._update_average()
        return losses

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average would remember the first, random weights for too long.
        decay = min(self.config.average, (1 + self.step) / (10 + self.step))
        for name, value in self.model.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    def save(self) -> None:
        """Write the checkpoint."""
        facts: dict[str, Any] = {"config": self.config.to_dict(), "step": self.step}
        facts |= {"fps": 25, "k": self.config.k, "identity_policy": "live", "colour_order": "rgb"}
        facts |= self._facts
        self._folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self._path,
            config=self.config.generator.to_dict(),
            model=self.average,
            mel=MelSettings().to_dict(),
            placement=self.config.placement.to_dict(),
            crop=geometry_to_dict(UprightGeometry()),
            training=facts,
            resume={
                "weights": self.model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
            },
        )
