"""Samples for the generator: an identity reference, k frames of the same person, their mel.

Everything random comes from (seed, step), so a resumed run sees what it would have seen.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.lips import mouth_opening
from engine.mel import SILENCE, cut_windows, log_mel
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.config import TrainConfig

OTHERS: Final = "*"


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples of k frames.

    Attributes:
        mel: float32 (B·k, 1, 80, 16).
        frames: float32 (B·k, 3, S, S) in 0..1, the targets.
        identity: float32 (B, 3, S, S) in 0..1.
        mesh: float32 (B·k, 468, 2) in pixels of the crop.
        identity_mesh: float32 (B, 468, 2).
    """

    mel: Tensor
    frames: Tensor
    identity: Tensor
    mesh: Tensor
    identity_mesh: Tensor


@dataclass(frozen=True, slots=True)
class _Source:
    clip: Clip
    mel: NDArray[np.float32]  # (80, columns)
    shut: NDArray[np.intp]  # frames fit for a reference
    rest: int  # first of the k frames with the mouth shut most


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
        return _Source(clip, log_mel(clip.samples()), np.argsort(opening)[:count], rest)

    def draw(self, step: int) -> Batch:
        """The batch of a step."""
        chance = np.random.default_rng((self._config.seed, step))
        drawn = [self._sample(chance) for _ in range(self._config.clips)]
        mel, frames, identity, mesh, identity_mesh = zip(*drawn, strict=True)
        return Batch(
            torch.from_numpy(np.concatenate(mel)),
            _pictures(np.concatenate(frames)),
            _pictures(np.stack(identity)),
            torch.from_numpy(np.concatenate(mesh)),
            torch.from_numpy(np.stack(identity_mesh)),
        )

    def _sample(
        self, chance: np.random.Generator
    ) -> tuple[
        NDArray[np.float32],
        NDArray[np.uint8],
        NDArray[np.uint8],
        NDArray[np.float32],
        NDArray[np.float32],
    ]:
        shares = [share for share, _ in self._groups]
        members = self._groups[chance.choice(len(shares), p=shares)][1]
        sources = self._speakers[members[chance.integers(len(members))]]
        target = sources[chance.integers(len(sources))]
        k = self._config.k
        start = int(chance.integers(target.clip.info.frames - k + 1))
        silent = bool(chance.random() < self._config.silent_share)
        if silent:
            start = target.rest
        reference, at = self._reference(sources, target, start, chance)
        window = slice(start, start + k)
        mel = self._windows(target, start, k)
        return (
            np.full_like(mel, SILENCE) if silent else mel,
            np.asarray(target.clip.crops[window]),
            np.asarray(reference.clip.crops[at]),
            target.clip.mesh[window, :, :2].astype(np.float32),
            reference.clip.mesh[at, :, :2].astype(np.float32),
        )

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


def _pictures(crops: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, S, S, 3) → float32 (n, 3, S, S) in 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255
