"""Samples for the generator: an identity reference, k frames of the same person, their mel.

Everything random comes from (seed, step), so a resumed run sees what it would have seen. Samples
are drawn from prepared clips, or from the shards that are open at a step.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.mel import COLUMNS, SILENCE, WindowPlacement, cut_windows, log_mel
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.config import TrainConfig
from training.shard_reading import Lanes, read_shard
from training.shards import is_sharded, opening_of_frames, read_index
from training.surroundings import Context, hearing, surroundings

OTHERS: Final = "*"
ALL: Final = slice(None)

FROM_FRAME: Final = WindowPlacement(0.0, rounding="floor")
"""The mel window that starts with a frame, as Wav2Lip's lip expert has learnt."""


@dataclass(frozen=True, slots=True)
class Batch:
    """B samples of k frames.

    Attributes:
        mel: float32 (B·k, 1, 80, columns).
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


class _Source:
    """A clip, and what is worked out of it once.

    Attributes:
        clip: the clip.
        by_opening: its frames, the most shut ones first.
        shut: frames fit for a reference.
        openness: sum of the openings of k frames, by the first of them.
        rest: first of the k frames with the mouth shut most.
    """

    def __init__(self, clip: Clip, opening: NDArray[np.float64], config: TrainConfig) -> None:
        count = max(1, round(config.shut_share * len(opening)))
        self.clip = clip
        self.by_opening: NDArray[np.intp] = np.argsort(opening)
        self.shut = self.by_opening[:count]
        self.openness = np.convolve(opening, np.ones(config.k), mode="valid")
        self.rest = int(np.argmin(self.openness))

    @cached_property
    def mel(self) -> NDArray[np.float32]:
        """(80, columns)."""
        return log_mel(self.clip.samples())

    @cached_property
    def hearing(self) -> NDArray[np.float32]:
        """(n, 104)."""
        return hearing(self.clip)


@dataclass(frozen=True, slots=True)
class _Choice:
    target: _Source
    start: int  # the first of k frames
    silent: bool
    reference: _Source
    at: int  # frame of the reference


class _Pool:
    """Clips at hand, all prepared ones or those of one shard, and choices among them."""

    def __init__(
        self,
        clips: Iterable[tuple[Clip, NDArray[np.float64]]],
        groups: Sequence[tuple[float, list[str]]],
        config: TrainConfig,
    ) -> None:
        """Take clips with the opening of their frames, and the share of each group of speakers."""
        self._config = config
        self._groups = groups
        self._speakers: dict[str, list[_Source]] = defaultdict(list)
        for clip, opening in clips:
            self._speakers[clip.info.speaker].append(_Source(clip, opening, config))

    def choose(self, chance: np.random.Generator) -> _Choice:
        """One sample's."""
        shares = [share for share, _ in self._groups]
        members = self._groups[chance.choice(len(shares), p=shares)][1]
        sources = self._speakers[members[chance.integers(len(members))]]
        target = sources[chance.integers(len(sources))]
        start = int(chance.integers(target.clip.info.frames - self._config.k + 1))
        if self._config.open_share and chance.random() < self._config.open_share:
            rivals = chance.integers(target.clip.info.frames - self._config.k + 1, size=2)
            start = max(start, *map(int, rivals), key=lambda first: target.openness[first])
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
        middle = start + self._config.k / 2
        if len(sources) == 1 and np.abs(target.shut - middle).max() < apart:
            # A short clip on its own: as far away as its more shut half allows.
            half = target.by_opening[: (len(target.by_opening) + 1) // 2]
            return target, int(half[np.argmax(np.abs(half - middle))])
        while True:
            source = sources[int(chance.integers(len(sources)))]
            at = int(chance.choice(source.shut))
            if source is not target or abs(at - middle) >= apart:
                return source, at


class _Prepared:
    """Choices among all prepared clips."""

    def __init__(self, root: Path, config: TrainConfig, *, held_out: bool) -> None:
        self._config = config
        folders = [f for f in find_clips(root) if is_held_out(f.name) == held_out]
        clips = [read_clip(folder) for folder in folders]
        groups = _groups(root, {clip.info.speaker for clip in clips}, config)
        shares = [(config.speakers[name], members) for name, members in groups.items()]
        self._pool = _Pool([(c, opening_of_frames(c)) for c in clips], shares, config)

    def choose(self, step: int, part: slice) -> list[_Choice]:
        """What the samples of a step are made of, or some of them."""
        chance = np.random.default_rng((self._config.seed, step))
        return [self._pool.choose(chance) for _ in range(self._config.clips)][part]


class _Sharded:
    """Choices among the clips of the shards that are open at a step."""

    def __init__(self, root: Path, config: TrainConfig, *, held_out: bool) -> None:
        self._root, self._config = root, config
        shards = read_index(root, "judge" if held_out else "train")
        self._members = _groups(root, {name for s in shards for name in s.speakers}, config)
        wanted = {name for members in self._members.values() for name in members}
        self._shards = [s for s in shards if wanted & s.speakers.keys()]
        self._lanes = Lanes(self._shards, seed=config.seed, samples=config.clips)
        self._open: dict[int, _Pool] = {}

    def choose(self, step: int, part: slice) -> list[_Choice]:
        """What the samples of a step are made of, or some of them; others' shards stay shut."""
        now = self._lanes.open_at(step)
        self._open = {shard: pool for shard, pool in self._open.items() if shard in now}
        chosen = []
        for sample in range(self._config.clips)[part]:
            shard = now[self._lanes.lane(sample)]
            if shard not in self._open:
                self._open[shard] = self._read(shard)
            chance = np.random.default_rng((self._config.seed, step, sample))
            chosen.append(self._open[shard].choose(chance))
        return chosen

    def _read(self, number: int) -> _Pool:
        """A shard's clips; the shares of groups that have none in it go to the others."""
        shard = self._shards[number]
        present = [
            (self._config.speakers[name], [m for m in members if m in shard.speakers])
            for name, members in self._members.items()
        ]
        whole = sum(share for share, members in present if members)
        groups = [(share / whole, members) for share, members in present if members]
        return _Pool(read_shard(self._root, shard), groups, self._config)


def _groups(root: Path, present: Iterable[str], config: TrainConfig) -> Mapping[str, list[str]]:
    """The speakers that each share of a run is drawn from.

    Raises:
        ConfigError: there are none of one.
    """
    known = set(present)
    groups: dict[str, list[str]] = {n: [n] for n in config.speakers if n != OTHERS}
    if OTHERS in config.speakers:
        groups[OTHERS] = sorted(known - set(groups))
    for name, members in groups.items():
        if not members or any(m not in known for m in members):
            raise ConfigError(f"{root} holds no clips of the speaker {name!r}: prepare them.")
    return groups


class PairSampler:
    """Draws batches from prepared clips, or from shards of them."""

    def __init__(self, root: Path, config: TrainConfig, *, held_out: bool = False) -> None:
        """Read the openings of prepared clips; sound and pictures stay on disk until drawn.

        Args:
            root: prepared clips, or shards.
            config: the run.
            held_out: draw from the clips kept for judging instead of the others.

        Raises:
            ConfigError: there are no clips, none of a speaker that the run asks for, or shards
                that are not finished.
        """
        self._config = config
        objective = config.objective
        self._needs_hearing = objective.judges_sync and objective.sync != "syncnet"
        at_hand = _Sharded if is_sharded(root) else _Prepared
        self._clips: _Sharded | _Prepared = at_hand(root, config, held_out=held_out)

    def draw(self, step: int, part: slice = ALL) -> Batch:
        """The batch of a step.

        Args:
            step: 1..steps.
            part: which of its samples; the others are not read.

        Raises:
            ConfigError: a shard is not the one that was written.
        """
        chosen = self._clips.choose(step, part)
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
            pictures_of_crops(np.concatenate([clip.crops[window] for clip, window in targets])),
            pictures_of_crops(np.stack([c.reference.clip.crops[c.at] for c in chosen])),
            points_of_mesh(np.concatenate([clip.mesh[window] for clip, window in targets])),
            points_of_mesh(np.stack([c.reference.clip.mesh[c.at] for c in chosen])),
            torch.tensor([not c.silent for c in chosen]),
            context,
            heard,
        )

    def _windows(self, source: _Source, start: int, k: int) -> NDArray[np.float32]:
        placement = self._config.placement
        columns = [placement.first_column((start + i) / FPS) for i in range(k)]
        return cut_windows(source.mel, columns, placement.columns)

    @staticmethod
    def _first_window(source: _Source, start: int) -> NDArray[np.float32]:
        """(1, 1, 80, 16), from a frame's own time on."""
        return cut_windows(source.mel, [FROM_FRAME.first_column(start / FPS)], COLUMNS)


def pictures_of_crops(crops: NDArray[np.uint8]) -> Tensor:
    """uint8 (n, S, S, 3) → float32 (n, 3, S, S) in 0..1."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def points_of_mesh(mesh: NDArray[np.float16]) -> Tensor:
    """float16 (n, 468, 3) → float32 (n, 468, 2)."""
    return torch.from_numpy(mesh[..., :2].astype(np.float32))
