"""Prepared clips on disk: what ``prepare`` writes and everything else in training reads.

A clip is a folder: ``crops.npy`` uint8 (n, S, S, 3), ``mesh.npy`` float16 (n, 468, 3) in pixels
of the crop, ``audio.npy`` int16 (samples,) at 16 kHz, and ``clip.json``, written last, so that a
folder without it is unfinished.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError

FPS: Final = 25
"""Frame rate of everything that is learnt from."""

HELD_OUT_ONE_IN: Final = 10


def is_held_out(name: str) -> bool:
    """Whether a clip is kept for judging: its name's SHA-1 is 0 modulo 10.

    Args:
        name: the clip's file name without suffix.
    """
    return int(hashlib.sha1(name.encode()).hexdigest(), 16) % HELD_OUT_ONE_IN == 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipInfo:
    """What ``clip.json`` holds.

    Attributes:
        name: file name of the source without suffix.
        speaker: who it is; pairs of pictures are drawn within one speaker.
        source: path of the source as given to ``prepare``.
        frames: number of crops.
        resolution: pixels a side of a crop.
        crop: the crop's geometry as a bundle writes it.
        split: part of the data set that it belongs to, where there are such.
        offset: frames by which the sound was late as recorded, where it was measured.
        offset_confidence: of that figure.
        offset_treatment: what was made of it: ``in sync``, ``repaired`` (the sound was moved),
            ``unclear`` or ``too short``; None where offsets were left as they are.
    """

    name: str
    speaker: str
    source: str
    frames: int
    resolution: int
    crop: dict[str, str | float]
    split: str | None = None
    offset: int | None = None
    offset_confidence: float | None = None
    offset_treatment: str | None = None


@dataclass(frozen=True, slots=True)
class Clip:
    """One prepared clip, its arrays mapped from disk."""

    info: ClipInfo
    crops: NDArray[np.uint8]
    mesh: NDArray[np.float16]
    audio: NDArray[np.int16]

    def samples(self) -> NDArray[np.float32]:
        """The audio as float32 in [-1, 1]."""
        return self.audio.astype(np.float32) / 32768.0


def write_clip(
    folder: Path,
    info: ClipInfo,
    crops: NDArray[np.uint8],
    mesh: NDArray[np.float32],
    samples: NDArray[np.float32],
) -> None:
    """Write one clip; a reader sees it whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "crops.npy", crops)
    np.save(folder / "mesh.npy", mesh.astype(np.float16))
    np.save(folder / "audio.npy", np.clip(samples * 32768, -32768, 32767).astype(np.int16))
    partial = folder / "clip.json.partial"
    partial.write_text(json.dumps(asdict(info), indent=1))
    partial.replace(folder / "clip.json")


def read_clip(folder: Path) -> Clip:
    """Map one clip's arrays.

    Raises:
        ConfigError: the folder holds no finished clip.
    """
    try:
        info = ClipInfo(**json.loads((folder / "clip.json").read_text()))
        arrays = (np.load(folder / f"{n}.npy", mmap_mode="r") for n in ("crops", "mesh", "audio"))
        return Clip(info, *arrays)
    except (OSError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{folder} holds no prepared clip ({error}): run `python -m training prepare` again."
        ) from error


def find_clips(root: Path) -> Iterator[Path]:
    """Folders of finished clips under ``root``, in order of their names.

    Raises:
        ConfigError: there are none.
    """
    folders = sorted(path.parent for path in root.rglob("clip.json"))
    if not folders:
        raise ConfigError(f"{root} holds no prepared clips: run `python -m training prepare`.")
    yield from folders
