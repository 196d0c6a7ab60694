"""Samples for the lip expert: lips and speech that belong together, and some that do not.

The windows of lips and of speech are cut with starts of their own, so that the place in a window
says nothing about what matches what. Around the lips' window lie the frames that the first
convolution also sees, around the speech's the samples that its first and last row also hear, as
in live use, where windows have no borders of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.filterbank import ROW_SAMPLES, ROW_TAIL, STACKED, log_filterbank, stack
from engine.lip_expert import AROUND
from training.clips import is_held_out
from training.regions import FORMS, RegionFile
from training.sync_augment import (
    SyncAugment,
    change_pictures,
    change_sound,
    draw_stretch,
    stretch_bands,
)

TENTH: Final = 10  # a speaker with fewer clips has no tenth to hold out


@dataclass(frozen=True, kw_only=True, slots=True)
class Windows:
    """Sizes of batches.

    Attributes:
        clips, frames: of a usual batch: windows within one clip each.
        long_clips, long_frames: of a long one: windows over two clips of one speaker, as long as
            those of live use.
        long_share: of batches that are long.
        shift: greatest distance in frames between the starts of lips and speech.
    """

    clips: int = 12
    frames: int = 48
    long_clips: int = 6
    long_frames: int = 100
    long_share: float = 0.0
    shift: int = 12

    def __post_init__(self) -> None:
        if min(self.clips, self.long_clips) < 2:
            raise ConfigError("A batch needs at least 2 clips: each is told from the others.")
        if min(self.frames, self.long_frames) <= self.shift or self.shift < 0:
            raise ConfigError("The windows must be longer than the shift, which is 0 or more.")


@dataclass(frozen=True, slots=True)
class SyncBatch:
    """Windows of lips and speech; B samples, T frames.

    Attributes:
        video: float32 (B, 1, T + 4, 88, 88), as the network takes it, two more frames on either
            side; zeros beyond a clip.
        audio: float32 (B, 104, T).
        shift: int64 (B,): what the lips say at t is heard at t + shift.
        moving: bool (B, T), False where the picture stands still though the speaker did not.
        audible: bool (B, T), False where the speech was muted or replaced by noise.
    """

    video: Tensor
    audio: Tensor
    shift: Tensor
    moving: Tensor
    audible: Tensor


def split(
    files: Sequence[RegionFile], judge: Sequence[str] = ()
) -> tuple[list[RegionFile], list[RegionFile]]:
    """Clips to learn from, and clips that are kept for judging.

    Kept are those that are named, and of each speaker with ten clips or more those whose name is
    held out (:func:`training.clips.is_held_out`).

    Args:
        files: all clips.
        judge: names of more clips to keep.

    Raises:
        ConfigError: a clip that is named is not there.
    """
    unknown = set(judge) - {file.name for file in files}
    if unknown:
        raise ConfigError(
            f"No clip is named {', '.join(sorted(unknown))}: correct the names after --judge."
        )
    counts: dict[str, int] = {}
    for file in files:
        counts[file.speaker] = counts.get(file.speaker, 0) + 1
    kept = [f.name in judge or (counts[f.speaker] >= TENTH and is_held_out(f.name)) for f in files]
    return (
        [file for file, out in zip(files, kept, strict=True) if not out],
        [file for file, out in zip(files, kept, strict=True) if out],
    )


@dataclass(frozen=True, slots=True)
class _Take:
    """A stretch of film: one clip, or two of one speaker that were joined."""

    lips: NDArray[np.uint8]  # (n, 96, 96)
    sound: NDArray[np.float32]  # (n · 640 or more,)


_Sample = tuple[NDArray[np.float32], NDArray[np.float32], int, NDArray[np.bool_], NDArray[np.bool_]]


class SyncSampler:
    """Draws batches; each follows from the seed and its step alone.

    Args:
        files: clips to learn from.
        windows: sizes.
        augment: how samples are changed.
        seed: of chance.

    Raises:
        ConfigError: too few clips.
    """

    def __init__(
        self,
        files: Sequence[RegionFile],
        windows: Windows,
        augment: SyncAugment,
        seed: int = 0,
    ) -> None:
        needed = max(windows.clips, windows.long_clips)
        if len(files) < needed:
            raise ConfigError(
                f"There are {len(files)} clips to learn from, but a batch takes {needed}:"
                " prepare more videos."
            )
        self._windows = windows
        self._augment = augment
        self._seed = seed
        self._speakers: dict[str, list[RegionFile]] = {}
        for file in files:
            self._speakers.setdefault(file.speaker, []).append(file)
        self._files = list(files)

    def draw(self, step: int) -> SyncBatch:
        """The batch of a step."""
        chance = np.random.default_rng((self._seed, step))
        windows = self._windows
        several = {name: own for name, own in self._speakers.items() if len(own) > 1}
        if several and chance.random() < windows.long_share:
            files = _pick(several, windows.long_clips, chance)
            pairs = [(file, _another(several[file.speaker], file, chance)) for file in files]
            takes = [_join(_take(a, chance), _take(b, chance)) for a, b in pairs]
            frames = windows.long_frames
        else:
            takes = [_take(f, chance) for f in _pick(self._speakers, windows.clips, chance)]
            frames = windows.frames
        frames = min(frames, *(len(take.lips) for take in takes))
        samples = [self._sample(take, frames, chance) for take in takes]
        video, audio, shift, moving, audible = zip(*samples, strict=True)
        return SyncBatch(
            video=torch.from_numpy(np.stack(video))[:, None],
            audio=torch.from_numpy(np.stack(audio)).transpose(1, 2).contiguous(),
            shift=torch.tensor(shift),
            moving=torch.from_numpy(np.stack(moving)),
            audible=torch.from_numpy(np.stack(audible)),
        )

    def _sample(self, take: _Take, frames: int, chance: np.random.Generator) -> _Sample:
        last, most = len(take.lips) - frames, self._windows.shift
        start = int(chance.integers(0, last + 1))
        heard_from = min(max(start + int(chance.integers(-most, most + 1)), 0), last)
        video, moving = self._watched(take.lips, start, frames, chance)
        audio, audible = self._heard(take.sound, heard_from, frames, chance)
        return video, audio, start - heard_from, moving, audible

    def _watched(
        self, lips: NDArray[np.uint8], start: int, frames: int, chance: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Pictures (frames + 4, 88, 88) and which of the frames move."""
        augment = self._augment
        first, end = start - AROUND, start + frames + AROUND
        inside = lips[max(0, first) : end]
        before, after = max(0, -first), max(0, end - len(lips))
        moving = np.ones(frames, np.bool_)
        offset = AROUND - before  # of the window's first frame among those inside
        if chance.random() < augment.stutter_share:
            at = offset + int(chance.integers(0, frames - 4))
            inside = _held(inside, at, at + int(chance.integers(2, 5)))
        if chance.random() < augment.frozen_share:
            still = draw_stretch(augment.long_from, frames, chance)
            inside = _held(inside, offset + still[0], offset + still[1])
            moving[still[0] + 1 : still[1]] = False
        values = change_pictures(inside, augment, chance)
        return np.pad(values, ((before, after), (0, 0), (0, 0))), moving

    def _heard(
        self, sound: NDArray[np.float32], start: int, frames: int, chance: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Rows (frames, 104) and which of them are of the speech."""
        augment = self._augment
        before = min(start, 1)  # a row before, for the filter that looks back by one sample
        length = (before + frames) * ROW_SAMPLES + ROW_TAIL
        piece = _cut(sound, (start - before) * ROW_SAMPLES, length)
        audible = np.ones(frames, np.bool_)
        if chance.random() < augment.muted_share:
            muted = draw_stretch(augment.long_from, frames, chance)
            audible[slice(*muted)] = False
            piece = piece.copy()
            piece[(before + muted[0]) * ROW_SAMPLES : (before + muted[1]) * ROW_SAMPLES] = 0
        other = self._files[int(chance.integers(len(self._files)))].sound()
        other = _cut(other, 0, length)
        changed = change_sound(piece, other, augment, chance)
        energies = log_filterbank(changed)[before * STACKED :]
        factor = 1 + float(chance.uniform(-augment.tract, augment.tract))
        return stack(stretch_bands(energies, factor), frames), audible


def _held(pictures: NDArray[np.uint8], first: int, end: int) -> NDArray[np.uint8]:
    """Pictures of which the first of a stretch stands still to its end."""
    held = pictures.copy()
    held[first:end] = held[first]
    return held


def _cut(sound: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    """So many samples from one on; zeros after the sound's end."""
    piece = sound[start : start + length]
    return np.pad(piece, (0, length - len(piece)))


def _take(file: RegionFile, chance: np.random.Generator) -> _Take:
    """A whole clip in one of the two forms."""
    return _Take(file.lips(FORMS[int(chance.integers(len(FORMS)))]), file.sound())


def _join(a: _Take, b: _Take) -> _Take:
    sound = np.concatenate([_cut(a.sound, 0, len(a.lips) * ROW_SAMPLES), b.sound])
    return _Take(np.concatenate([a.lips, b.lips]), sound)


def _pick(
    speakers: Mapping[str, Sequence[RegionFile]], count: int, chance: np.random.Generator
) -> list[RegionFile]:
    """Clips, none twice; a speaker's share grows with the square root of the number of clips."""
    weights = np.concatenate([np.full(len(own), len(own) ** -0.5) for own in speakers.values()])
    every = [file for own in speakers.values() for file in own]
    count = min(count, len(every))
    places = chance.choice(len(every), count, replace=False, p=weights / weights.sum())
    return [every[place] for place in places]


def _another(
    own: Sequence[RegionFile], file: RegionFile, chance: np.random.Generator
) -> RegionFile:
    """Another clip of the same speaker."""
    others = [candidate for candidate in own if candidate != file]
    return others[int(chance.integers(len(others)))]
