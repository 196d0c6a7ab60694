"""Teach the generator.

    python -m training train PREPARED --audio RUN/audio.pt -o RUN --run starter

The run can be stopped at any time and goes on from its last checkpoint, exactly as if it had not
been: ``generator.pt`` holds weights, their running average, the optimiser and the step, those of
the discriminator where there is one, and everything random follows from the seed and the step.
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
from torch import Tensor, nn
from torch.amp.grad_scaler import GradScaler
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.tensorboard import SummaryWriter

from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import ConfigError
from engine.mel import MelSettings
from training.augment import augment_batch
from training.averages import update_average
from training.bundled import audio_weights_for, measure_statistics, weights_for
from training.checkpoint import GENERATOR, Checkpoint, load_checkpoint, save_checkpoint
from training.config import Objective, TrainConfig
from training.discriminator import Adversary
from training.generator import (
    Generator,
    GeneratorConfig,
    GeneratorOutput,
    mask_pose,
    without_audio,
)
from training.hardware import CPU, Hardware
from training.losses import GeneratorLoss
from training.mel_augment import GENTLE
from training.objective import Judges, NetworkFiles, composed
from training.pairs import Batch, PairSampler
from training.show import contact_sheet

FILE: Final = "generator.pt"
FACTS: Final = ("licence", "training_data")
"""What a bundle must say of its weights, and nobody but the user knows."""

_MEASURED_STEPS: Final = 8  # whose samples give a bundle's normalisations their statistics

_FREE: Final = ("steps", "save_every", "threads")
"""Fields that may differ when a run goes on: everything else would make it another run."""


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


class _Pass(nn.Module):
    """:func:`generate` as one module, which processes can share."""

    def __init__(self, model: Generator) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch, mel: Tensor) -> GeneratorOutput:
        return generate(self.model, batch, mel)


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
        files: NetworkFiles | None = None,
        hardware: Hardware = CPU,
    ) -> None:
        """Start the run, or go on with the one in ``folder``.

        Args:
            clips: prepared clips.
            audio: checkpoint of the pretrained audio encoder, or a bundle's folder.
            folder: of checkpoint and TensorBoard events.
            config: the run.
            facts: what export states of the weights: ``licence`` and ``training_data``; a run
                that goes on keeps those it was started with where they are left out.
            start: checkpoint of another generator of the same form, or a bundle's folder, whose
                weights a new run starts from: fine-tuning, or a second lesson.
            files: the frozen networks that the run's objective asks for.
            hardware: this process's place.

        Raises:
            BundleError: a bundle that can't be trained on.
            ConfigError: no clips, an audio encoder of another size or window, a network of the
                objective that is missing or another one, samples that the processes can't share,
                or a checkpoint of another run.
        """
        torch.set_num_threads(config.threads)
        hardware.check(config.precision)
        self.config = config
        self.step = 0
        self._hardware = hardware
        self._parts = hardware.own(config.clips, config.accumulate)
        self._facts = dict(facts or {})
        self._path = folder / FILE
        self._folder = folder
        self._judges = Judges(config, files or NetworkFiles(), hardware)
        torch.manual_seed(config.seed)
        self.model = Generator(config.generator)
        if start is not None:
            self._load_start(start)
        self._load_audio(audio)
        self._sampler = PairSampler(clips, config)
        self.model = hardware.normalised(self.model).to(hardware.device)
        self.model = self.model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.model.freeze_audio_encoder()
        if start is not None and start.is_dir() and not self._path.is_file():
            # A bundle has no statistics of its own: a step in training must begin where it stands.
            whole = slice(0, config.clips)
            batches = (self._samples(step, whole)[0] for step in range(1, _MEASURED_STEPS + 1))
            measure_statistics(self.model, batches)
        learnt = [p for p in self.model.parameters() if p.requires_grad]
        self._optimiser = torch.optim.Adam(learnt, config.learning_rate, betas=config.betas)
        self._pass = hardware.shared(_Pass(self.model))
        self.adversary: Adversary | None = None
        if config.objective.adversarial > 0:
            self.adversary = Adversary(config.objective, hardware)
        self._scaler = GradScaler(hardware.device.type, enabled=config.precision == "fp16")
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if self._path.is_file():
            self._resume()
        self._loss = GeneratorLoss(
            config.weights,
            config.generator.rows,
            config.generator.resolution,
            hardware.device,
        )
        self._shown: tuple[Batch, Tensor] | None = None  # the last samples and what came of them

    @property
    def path(self) -> Path:
        """Of its checkpoint."""
        return self._path

    @property
    def device(self) -> torch.device:
        """That the run learns on."""
        return self._hardware.device

    def _load_start(self, path: Path) -> None:
        if path.is_dir():
            weights = weights_for(path, self.config.generator)
            self.model.load_state_dict({**self.model.state_dict(), **weights})
            return
        checkpoint = load_checkpoint(path)
        run = self.config.generator
        if (
            checkpoint.kind != GENERATOR
            or GeneratorConfig.from_dict(checkpoint.config).hearing_as(run) != run
        ):
            raise ConfigError(
                f"{path} is no generator of the form that this run has: start from one that was"
                " trained with the same --run."
            )
        self.model.load_state_dict({**self.model.state_dict(), **without_audio(checkpoint.model)})

    def _load_audio(self, path: Path) -> None:
        if path.is_dir():
            weights = audio_weights_for(path, self.model.audio_encoder, self.config.placement)
            self.model.audio_encoder.load_state_dict(weights)
            return
        checkpoint = load_checkpoint(path)
        if checkpoint.kind != "audio":
            raise ConfigError(f"{path} holds a {checkpoint.kind}, not an audio encoder.")
        if checkpoint.config.get("width") != self.config.generator.audio_width:
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
        self._check_same(checkpoint)
        stored_facts = {n: checkpoint.training[n] for n in FACTS if n in checkpoint.training}
        self._facts = stored_facts | self._facts
        device = self._hardware.device
        self.average = {name: value.to(device) for name, value in checkpoint.model.items()}
        self.model.load_state_dict(checkpoint.resume["weights"])
        self._optimiser.load_state_dict(checkpoint.resume["optimiser"])
        self.step = checkpoint.resume["step"]
        if self.adversary is not None:
            self.adversary.load(checkpoint.resume["adversary"])
        if self._scaler.is_enabled():
            self._scaler.load_state_dict(checkpoint.resume["scaler"])

    def _check_same(self, checkpoint: Checkpoint) -> None:
        """Refuse the checkpoint of another run."""
        kept = self.config.to_dict()
        plain = replace(
            self.config, objective=Objective(), accumulate=1, precision="fp32", statistics="batch"
        ).to_dict()  # what a checkpoint that lacks these was made with
        stored = plain | checkpoint.training["config"]
        stored["generator"] = GeneratorConfig.from_dict(stored["generator"]).to_dict()
        differs = sorted(k for k in kept if k not in _FREE and stored.get(k) != kept[k])
        hashes = checkpoint.training.get("judges", {})
        differs += [f"--{r}" for r, h in self._judges.hashes.items() if hashes.get(r) != h]
        if differs:
            raise ConfigError(
                f"{self._path} is of another run (different: {', '.join(differs)}): name another"
                " folder with -o."
            )

    def train(self, limit_s: float = math.inf) -> Path:
        """Go on to the last step; returns the checkpoint's path.

        Args:
            limit_s: stop after a step that ends later than this, for runs of one process; the run
                goes on from there as from any checkpoint.
        """
        log = SummaryWriter(str(self._folder)) if self._hardware.writes else None
        started, first = time.monotonic(), self.step
        self.model.train()
        if self.config.statistics == "fixed":
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        last = False
        while self.step < self.config.steps and not last:
            self.step += 1
            losses = self.train_step(self.step)
            last = self.step == self.config.steps or time.monotonic() - started > limit_s
            if self.step % 50 == 0 or last:
                values = self._hardware.mean(losses)
                seconds = (time.monotonic() - started) / (self.step - first)
                if log is not None:
                    self._report(log, values, seconds)
            if log is not None and (self.step % self.config.save_every == 0 or last):
                self.save()
                log.add_image("train/pictures", self.pictures(), self.step)
        if log is not None:
            log.close()
        return self._path

    def _report(self, log: SummaryWriter, values: Mapping[str, float], seconds: float) -> None:
        for name, value in values.items():
            log.add_scalar(f"train/{name}", value, self.step)
        terms = "  ".join(f"{n} {v:.4f}" for n, v in values.items())
        sys.stdout.write(f"step {self.step}  {terms}  {seconds:.2f} s/step\n")
        sys.stdout.flush()

    def train_step(self, step: int) -> dict[str, Tensor]:
        """Learn from the samples of one step (1..steps).

        Returns:
            The terms of the loss, unweighted, and their weighted sum as ``total``; ``adversary``
            is the discriminator's own.
        """
        rate = learning_rate(self.config, step)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        self._optimiser.zero_grad(set_to_none=True)
        if self.adversary is not None:
            self.adversary.begin(rate / self.config.learning_rate)
        share = 1 / len(self._parts)
        sums: dict[str, Tensor] = {}
        for part in self._parts:
            with self._hardware.gathering(self._pass, part is self._parts[-1]):
                for name, value in self._learn_part(step, part, share).items():
                    sums[name] = sums[name] + share * value if name in sums else share * value
        self._scaler.unscale_(self._optimiser)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._scaler.step(self._optimiser)
        if self.adversary is not None:
            self._scaler.step(self.adversary.optimiser)
        self._scaler.update()
        update_average(self.average, self.model, self.step, self.config.average)
        return sums

    def _learn_part(self, step: int, part: slice, share: float) -> dict[str, Tensor]:
        """Gather gradients from some of a step's samples; ``share`` is their part of it."""
        batch, mel = self._samples(step, part)
        k = len(batch.frames) // len(batch.identity)
        with self._hardware.autocast(self.config.precision):
            output: GeneratorOutput = self._pass(batch, mel)
        losses = self._loss(
            output, batch.frames, batch.mesh, batch.identity_mesh.repeat_interleave(k, dim=0)
        )
        made = composed(output, batch.frames, self.config.generator.rows)
        terms = dict(self._judges(made, batch))
        values = losses.tensors()
        if self.adversary is not None:
            with self.adversary.gathering(part is self._parts[-1]):
                values["adversary"] = self.adversary.learn(batch.frames, made, share, self._scaler)
            weight = self.config.objective.adversarial
            terms["adversarial"] = weight, self.adversary.judge(made)
        total = losses.total
        for weight, value in terms.values():
            total = total + weight * value
        self._scaler.scale(total * share).backward()  # type: ignore[no-untyped-call]
        self._shown = batch, made.detach()
        values |= {name: value for name, (_, value) in terms.items()} | {"total": total}
        return {name: value.detach() for name, value in values.items()}

    def _samples(self, step: int, part: slice) -> tuple[Batch, Tensor]:
        """Some of a step's samples and their mel windows, as they would be among all of them."""
        clips, k = self.config.clips, self.config.k
        chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        drawn = self._sampler.draw(step, part)
        batch = augment_batch(drawn, self.config.augment, chance, part=part, whole=clips)
        rows = slice(part.start * k, part.stop * k)
        every = batch.mel.new_zeros(clips * k, *batch.mel.shape[1:])
        every[rows] = batch.mel
        mel = GENTLE(every, chance)[rows]
        return batch.to(self._hardware.device), mel.to(self._hardware.device)

    def pictures(self) -> Tensor:
        """Some of the last step's samples side by side, float32 (3, H, W) in 0..1.

        Raises:
            ValueError: no step has been made.
        """
        if self._shown is None:
            raise ValueError("there are no pictures before the first step")
        batch, made = self._shown
        return contact_sheet(batch, made, self.config.generator.masked_from)

    def save(self) -> None:
        """Write the checkpoint; only the first process does."""
        if not self._hardware.writes:
            return
        facts: dict[str, Any] = {"config": self.config.to_dict(), "step": self.step}
        facts |= {"fps": 25, "k": self.config.k, "identity_policy": "live", "colour_order": "rgb"}
        facts |= self._facts
        if self._judges.hashes:
            facts["judges"] = self._judges.hashes
        resume: dict[str, Any] = {
            "weights": self.model.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "step": self.step,
        }
        if self.adversary is not None:
            resume["adversary"] = self.adversary.state()
        if self._scaler.is_enabled():
            resume["scaler"] = self._scaler.state_dict()
        self._folder.mkdir(parents=True, exist_ok=True)
        save_checkpoint(
            self._path,
            config=self.config.generator.to_dict(),
            model=self.average,
            mel=MelSettings().to_dict(),
            placement=self.config.placement.to_dict(),
            crop=geometry_to_dict(UprightGeometry()),
            training=facts,
            resume=resume,
        )
