"""Teach a lip expert of Wav2Lip's form (SyncNet on colours): the baseline of the ablation.

Its samples are five upright crops and the mel window that starts with the first of them, of the
clips and with the changes that generators learn with, so it judges what it has learnt from. As in
Wav2Lip's own lesson, the loss is the binary cross-entropy of the cosine, and what does not belong
together comes from elsewhere in the same clip. The run can be stopped and goes on.

Legend of shapes: C clips, W windows of each, D width of the embeddings.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.files import sha256_of
from engine.mel import COLUMNS, cut_windows, log_mel
from training.augment import augment_batch
from training.averages import update_average
from training.checkpoint import load_checkpoint, save_checkpoint
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.config import Augment, Precision
from training.hardware import CPU, Hardware
from training.mel_augment import GENTLE
from training.pairs import FROM_FRAME, Batch, pictures_of_crops, points_of_mesh
from training.public_networks import SYNCNET_COLOUR
from training.sync_objective import colour_mouths
from training.wav2lip import WINDOW_FRAMES, SyncNetColour
from training.weights import SUFFIX, Weights, save_weights

FILE: Final = f"syncnet{SUFFIX}"
RUN: Final = "run.pt"
JUDGED: Final = 60  # held-out clips at most
_FREE: Final = ("save_every", "threads")
_LEAST: Final = 1e-4  # of a cosine, or of what is left to 1, in a logarithm


@dataclass(frozen=True, kw_only=True, slots=True)
class ColourConfig:
    """One run.

    Attributes:
        clips: of a step.
        windows: of each clip in a step, none over another.
        augment: how they are changed.
        steps: of Adam.
        learning_rate, warmup_steps: of it; the rate stays after the warm-up.
        average: decay of the running average of the weights, which is what is used.
        precision: what the network computes in.
        save_every: steps between checkpoints.
        seed: of weights and samples.
        threads: of torch.
    """

    clips: int = 8
    windows: int = 4
    augment: Augment = field(default_factory=Augment)
    steps: int = 600
    learning_rate: float = 3e-4
    warmup_steps: int = 30
    average: float = 0.98
    precision: Precision = "fp32"
    save_every: int = 50
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("clips", "steps", "warmup_steps", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.windows < 2:
            raise ConfigError("windows must be at least 2: each is told from the others.")


class ColourRun:
    """One run: network, average, optimiser and the step they stand at.

    Args:
        clips: prepared clips; the held-out ones are not learnt from.
        folder: of checkpoint and weights; a run that is there is gone on with.
        config: the run.
        hardware: this process's place.

    Raises:
        ConfigError: no clip is long enough, or a checkpoint of another run.
    """

    def __init__(
        self, clips: Path, folder: Path, config: ColourConfig, *, hardware: Hardware = CPU
    ) -> None:
        torch.set_num_threads(config.threads)
        hardware.check(config.precision)
        self.config = config
        self.step = 0
        self._hardware = hardware
        self._folder = folder
        every = [_Source(read_clip(path), is_held_out(path.name)) for path in find_clips(clips)]
        fit = [source for source in every if source.places >= config.windows]
        self._learnt = [source for source in fit if not source.held_out]
        self._kept = [source for source in fit if source.held_out][:JUDGED]
        if not self._learnt:
            needed = config.windows * WINDOW_FRAMES / FPS
            raise ConfigError(
                f"{clips} holds no clip of {needed} s or more to learn from: prepare longer ones."
            )
        torch.manual_seed(config.seed)
        self.model = SyncNetColour().to(hardware.device)
        self._optimiser = torch.optim.Adam(self.model.parameters(), config.learning_rate)
        self.average = {n: t.detach().clone() for n, t in self.model.state_dict().items()}
        if (folder / RUN).is_file():
            self._resume()

    @property
    def clips(self) -> int:
        """How many clips it learns from."""
        return len(self._learnt)

    def _resume(self) -> None:
        checkpoint = load_checkpoint(self._folder / RUN)
        wanted, stored = asdict(self.config), checkpoint.training.get("config", {})
        differs = sorted(n for n in wanted if n not in _FREE and stored.get(n) != wanted[n])
        if checkpoint.kind != SYNCNET_COLOUR or differs:
            raise ConfigError(
                f"{self._folder / RUN} is of another run (different: {', '.join(differs)}): name"
                " another folder with -o."
            )
        device = self._hardware.device
        self.average = {name: value.to(device) for name, value in checkpoint.model.items()}
        self.model.load_state_dict(checkpoint.resume["weights"])
        self._optimiser.load_state_dict(checkpoint.resume["optimiser"])
        self.step = checkpoint.resume["step"]

    def train(self) -> Path:
        """Go on to the last step; returns the path of the weights."""
        started, first = time.monotonic(), self.step
        while self.step < self.config.steps:
            self.step += 1
            loss = self.train_step(self.step)
            last = self.step == self.config.steps
            if self.step % 20 == 0 or last:
                seconds = (time.monotonic() - started) / (self.step - first)
                sys.stdout.write(
                    f"step {self.step}  loss {float(loss):.3f}  {seconds:.2f} s/step\n"
                )
                sys.stdout.flush()
            if self.step % self.config.save_every == 0 or last:
                self.save()
        return self._write_weights()

    def train_step(self, step: int) -> Tensor:
        """Learn from the samples of one step (1..steps); returns the loss."""
        config, device = self.config, self._hardware.device
        batch = self.draw(step).to(device)
        assert batch.heard is not None
        faces = colour_mouths(batch.frames, batch.mesh, len(batch.heard))
        for group in self._optimiser.param_groups:
            group["lr"] = config.learning_rate * min(1.0, step / config.warmup_steps)
        self.model.train()
        with self._hardware.autocast(config.precision):
            watched, heard = self.model.watch(faces), self.model.hear(batch.heard)
        loss = cosine_loss(
            watched.float().reshape(config.clips, -1, watched.shape[-1]),
            heard.float().reshape(config.clips, -1, heard.shape[-1]),
        )
        self._optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        update_average(self.average, self.model, step, config.average)
        return loss.detach()

    def draw(self, step: int) -> Batch:
        """The samples of a step: C·W of five frames; everything follows from seed and step."""
        chance = np.random.default_rng((self.config.seed, step))
        torch_chance = torch.Generator().manual_seed(self.config.seed * 1_000_003 + step)
        windows = []
        for _ in range(self.config.clips):
            source = self._learnt[int(chance.integers(len(self._learnt)))]
            windows += [(source, at) for at in source.draw(self.config.windows, chance)]
        batch = _batch(windows)
        assert batch.heard is not None
        heard = GENTLE(batch.heard, torch_chance)
        return replace(augment_batch(batch, self.config.augment, torch_chance), heard=heard)

    def averaged(self) -> SyncNetColour:
        """The network with its averaged weights, for use."""
        model = SyncNetColour()
        model.load_state_dict(self.average)
        return model.eval().to(self._hardware.device)

    def told_apart(self) -> float | None:
        """How well it tells what belongs together, by the held-out clips.

        Returns:
            The share of windows' pairs of sounds in a clip, one own and one of another time, of
            which the own one has the higher cosine: 0.5 by chance. None without held-out clips.
        """
        model, shares = self.averaged(), []
        for source in self._kept:
            starts = range(0, source.clip.info.frames - WINDOW_FRAMES + 1, WINDOW_FRAMES)
            batch = _batch([(source, start) for start in starts]).to(self._hardware.device)
            assert batch.heard is not None
            faces = colour_mouths(batch.frames, batch.mesh, len(starts))
            with torch.inference_mode():
                cosines = (model.watch(faces) @ model.hear(batch.heard).T).cpu()
            own = cosines.diagonal()[:, None]
            better = (own > cosines).double() + 0.5 * (own == cosines).double()
            others = ~torch.eye(len(cosines), dtype=torch.bool)
            shares.append(float(better[others].mean()))
        return float(np.mean(shares)) if shares else None

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self._folder / RUN,
            kind=SYNCNET_COLOUR,
            config={},
            model=self.average,
            training={"config": asdict(self.config), "step": self.step},
            resume={
                "weights": self.model.state_dict(),
                "optimiser": self._optimiser.state_dict(),
                "step": self.step,
            },
        )

    def _write_weights(self) -> Path:
        """Write the averaged weights as imported ones are, for everything that takes those."""
        speakers = sorted({source.clip.info.speaker for source in self._learnt})
        facts: dict[str, Any] = {"source": RUN, "source_sha256": sha256_of(self._folder / RUN)}
        tensors = {name: value.detach().cpu().contiguous() for name, value in self.average.items()}
        save_weights(
            self._folder / FILE,
            Weights(
                kind=SYNCNET_COLOUR,
                config={},
                licence="as the clips that it learnt from allow",
                training_data=f"{self.clips} prepared clips of {', '.join(speakers)}",
                tensors=tensors,
                **facts,
            ),
        )
        return self._folder / FILE


def cosine_loss(watched: Tensor, heard: Tensor) -> Tensor:
    """Binary cross-entropy of cosines in [0, 1]: 1 for a window's own sound, 0 for its clip's rest.

    Args:
        watched: float32 (C, W, D) at length 1.
        heard: likewise.

    Returns:
        A scalar, in which both kinds of pairs count the same.
    """
    cosines = torch.einsum("cvd,cwd->cvw", watched, heard)
    own = torch.eye(cosines.shape[1], dtype=torch.bool, device=cosines.device).expand_as(cosines)
    together = -cosines[own].clamp(min=_LEAST).log().mean()
    apart = -(1 - cosines[~own]).clamp(min=_LEAST).log().mean()
    return 0.5 * (together + apart)


class _Source:
    """A clip, its sound, and whether it is kept for judging."""

    def __init__(self, clip: Clip, held_out: bool) -> None:
        self.clip = clip
        self.held_out = held_out
        self.mel: NDArray[np.float32] = log_mel(clip.samples())

    @property
    def places(self) -> int:
        """Windows that lie side by side in it."""
        return self.clip.info.frames // WINDOW_FRAMES

    def draw(self, windows: int, chance: np.random.Generator) -> list[int]:
        """First frames of windows, none over another."""
        spare = self.clip.info.frames - windows * WINDOW_FRAMES
        first = int(chance.integers(0, min(spare, WINDOW_FRAMES - 1) + 1))
        places = (self.clip.info.frames - first) // WINDOW_FRAMES
        return [first + WINDOW_FRAMES * int(p) for p in chance.permutation(places)[:windows]]


def _batch(windows: Sequence[tuple[_Source, int]]) -> Batch:
    """Windows as samples; the first frame of each stands in for an identity reference."""
    spans = [(source, slice(start, start + WINDOW_FRAMES)) for source, start in windows]
    heard = [
        cut_windows(source.mel, [FROM_FRAME.first_column(start / FPS)], COLUMNS)
        for source, start in windows
    ]
    frames = pictures_of_crops(np.concatenate([source.clip.crops[span] for source, span in spans]))
    mesh = points_of_mesh(np.concatenate([source.clip.mesh[span] for source, span in spans]))
    own = torch.from_numpy(np.concatenate(heard))
    first = slice(None, None, WINDOW_FRAMES)
    return Batch(own, frames, frames[first], mesh, mesh[first], heard=own)
