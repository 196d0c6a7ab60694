"""Samples for the generator: an identity reference, k frames of the same person, their mel.

Everything random comes from (seed, step), so a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.filterbank import VALUES
from engine.lips import mouth_opening
from engine.mel import COLUMNS, SILENCE, WindowPlacement, cut_windows, log_mel
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.config import TrainConfig
from training.surroundings import Context, hearing, surroundings

OTHERS: Final = "*"
ALL: Final = slice(None)

_FROM_FRAME: Final = WindowPlacement(0.0, rounding="floor")  # as Wav2Lip's lip expert has learnt


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples of k frames.

    Attributes:
        mel: float32 (B·k, 1, 80, 16).
        frames: float32 (B·k, 3, S, S) in 0..1, the targets.
        identity: float32 (B, 3, S, S) in 0..1.
        mesh: float32 (B·k, 468, 2) in pixels of the crop.
        identity_mesh: float32 (B, 468, 2).
        spoken: bool (B,), whether the sound is the frames' own; False for silence.
        context: the clips around the samples, where the run's lip expert needs them.
        heard: float32 (B, 1, 80, 16), the mel window that starts with a sample's first frame,
            where the run's lip expert is Wav2Lip's.
    """

    mel: Tensor
    frames: Tensor
    identity: Tensor
    mesh: Tensor
    identity_mesh: Tensor
    spoken: Tensor | None = None
    context: Context | None = None
    heard: Tensor | None = None

    def to(self, device: torch.device) -> Batch:
        """The same on a device."""
        context = self.context and replace(self.context, **_moved(self.context, device))
        return replace(self, context=context, **_moved(self, device))


def _moved(held: Batch | Context, device: torch.device) -> dict[str, Any]:
    """The tensors of a dataclass on a device, by name."""
    values = {item.name: getattr(held, item.name) for item in fields(held)}
    return {name: v.to(device) for name, v in values.items() if isinstance(v, Tensor)}


@dataclass(frozen=True, slots=True)
class _Source:
    clip: Clip
    mel: NDArray[np.float32]  # (80, columns)
    shut: NDArray[np.intp]  # frames fit for a reference
    rest: int  # first of the k frames with the mouth shut most
    hearing: NDArray[np.float32]  # (n, 104), or nothing where the run needs none


@dataclass(frozen=True, slots=True)
class _Choice:
    target: _Source
    start: int  # the first of k frames
    silent: bool
    reference: _Source
    at: int  # frame of the reference


class PairSampler:
    """Draws batches from prepared clips."""

    def __init__(self, root: Path, config: TrainConfig, *, held_out: bool = False) -> None:
        """Read the clips' sound and openings; pictures stay on disk until they are drawn.

        Args:
            root: prepared clips.
            config: the run.
            held_out: draw from the clips kept for judging instead of the others.

        Raises:
            ConfigError: there are no clips, or none of a speaker that the run asks for.
        """
        self._config = config
        objective = config.objective
        self._needs_hearing = objective.judges_sync and objective.sync != "syncnet"
        self._speakers: dict[str, list[_Source]] = defaultdict(list)
        for folder in find_clips(root):
            if is_held_out(folder.name) == held_out:
                clip = read_clip(folder)
                self._speakers[clip.info.speaker].append(self._source(clip))
        groups: dict[str, list[str]] = {
            share: [share] for share in config.speakers if share != OTHERS
        }
        if OTHERS in config.speakers:
            groups[OTHERS] = sorted(set(self._speakers) - set(groups))
        for name, members in groups.items():
            if not members or any(m not in self._speakers for m in members):
                raise ConfigError(f"{root} holds no clips of the speaker {name!r}: prepare them.")
        self._groups = [(config.speakers[name], members) for name, members in groups.items()]

    def _source(self, clip: Clip) -> _Source:
        opening = np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])
        count = max(1, round(self._config.shut_share * len(opening)))
        k = self._config.k
        rest = int(np.argmin(np.convolve(opening, np.ones(k), mode="valid")))
        heard = hearing(clip) if self._needs_hearing else np.zeros((0, VALUES), np.float32)
        return _Source(clip, log_mel(clip.samples()), np.argsort(opening)[:count], rest, heard)

    def draw(self, step: int, part: slice = ALL) -> Batch:
        """The batch of a step.

        Args:
            step: 1..steps.
            part: which of its samples; the others are not read.
        """
        chance = np.random.default_rng((self._config.seed, step))
        chosen = [self._choose(chance) for _ in range(self._config.clips)][part]
        k, objective = self._config.k, self._config.objective
        windows = [slice(c.start, c.start + k) for c in chosen]
        mel = [self._windows(c.target, c.start, k) for c in chosen]
        silenced = [
            np.full_like(m, SILENCE) if c.silent else m for c, m in zip(chosen, mel, strict=True)
        ]
        targets = [(c.target.clip, window) for c, window in zip(chosen, windows, strict=True)]
        context, heard = None, None
        if self._needs_hearing:
            context = surroundings(
                [(c.target.clip, c.target.hearing, c.start) for c in chosen],
                k,
                objective.sync_frames,
            )
        elif objective.judges_sync:
            heard = torch.from_numpy(
                np.concatenate([self._first_window(c.target, c.start) for c in chosen])
            )
        return Batch(
            torch.from_numpy(np.concatenate(silenced)),
            _pictures(np.concatenate([clip.crops[window] for clip, window in targets])),
            _pictures(np.stack([c.reference.clip.crops[c.at] for c in chosen])),
            _points(np.concatenate([clip.mesh[window] for clip, window in targets])),
            _points(np.stack([c.reference.clip.mesh[c.at] for c in chosen])),
            torch.tensor([not c.silent for c in chosen]),
            context,
            heard,
        )

    def _choose(self, chance: np.random.Generator) -> _Choice:
        shares = [share for share, _ in self._groups]
        members = self._groups[chance.choice(len(shares), p=shares)][1]
        sources = self._speakers[members[chance.integers(len(members))]]
        target = sources[chance.integers(len(sources))]
        start = int(chance.integers(target.clip.info.frames - self._config.k + 1))
        silent = bool(chance.random() < self._config.silent_share)
        if silent:
            start = target.rest
        reference, at = self._reference(sources, target, start, chance)
        return _Choice(target, start, silent, reference, at)

    def _reference(
        self,
        sources: Sequence[_Source],
        target: _Source,
        start: int,
        chance: np.random.Generator,
    ) -> tuple[_Source, int]:
        """A shut-mouth frame of the same person, of another clip or far enough in the same one."""
        apart = self._config.apart_s * FPS
        while True:
            source = sources[int(chance.integers(len(sources)))]
            at = int(chance.choice(source.shut))
            middle = start + self._config.k / 2
            if source is not target or abs(at - middle) >= apart or len(sources) == 1:
                return source, at

    def _windows(self, source: _Source, start: int, k: int) -> NDArray[np.float32]:
        placement = self._config.placement
        columns = [placement.first_column((start + i) / FPS) for i in range(k)]
        return cut_windows(source.mel, columns, placement.columns)

    @staticmethod
    def _first_window(source: _Source, start: int) -> NDArray[np.float32]:
        """(1, 1, 80, 16), from a frame's own time on."""
        return cut_windows(source.mel, [_FROM_FRAME.first_column(start / FPS)], COLUMNS)


def _pictures(crops: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, S, S, 3) → float32 (n, 3, S, S) in 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def _points(mesh: NDArray[np.float16]) -> Tensor:
    """float16 (n, 468, 3) → float32 (n, 468, 2)."""
    return torch.from_numpy(mesh[..., :2].astype(np.float32))
