"""Prepared mouth regions of nobody: a spot as bright as the tone that goes with it is high."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from engine.filterbank import ROW_SAMPLES
from engine.mel import SAMPLE_RATE
from engine.mouth_region import SIDE
from training.regions import RegionFile, write_regions

FRAMES = 40


def openings(seed: int, frames: int = FRAMES) -> NDArray[np.float64]:
    """How open a mouth is in each frame, 0..1, without any order."""
    return np.random.default_rng(seed).uniform(0, 1, frames)


def tones(opening: NDArray[np.float64]) -> NDArray[np.float32]:
    """A tone for each frame, 200 Hz for a shut mouth and 3200 Hz for an open one."""
    height = np.repeat(200 * 16**opening, ROW_SAMPLES)
    phase = 2 * np.pi * np.cumsum(height) / SAMPLE_RATE
    noise = np.random.default_rng(7).normal(0, 0.003, len(phase))
    return np.asarray(0.3 * np.sin(phase) + noise, np.float32)


def mouths(opening: NDArray[np.float64], seed: int = 0) -> NDArray[np.uint8]:
    """A picture for each frame, uint8 (T, 96, 96): the same skin around a mouth."""
    skin = np.random.default_rng(seed).integers(90, 110, (SIDE, SIDE))
    pictures = np.repeat(skin[None], len(opening), axis=0)
    pictures[:, 30:66, 24:72] = (20 + 200 * opening)[:, None, None]
    return pictures.astype(np.uint8)


def write_toy(root: Path, speaker: str, name: str, seed: int, frames: int = FRAMES) -> RegionFile:
    """Write one clip; both forms are the same but for one grey level."""
    opening = openings(seed, frames)
    lips = mouths(opening, seed)
    path = root / speaker / f"{name}.npz"
    write_regions(path, lips, lips + np.uint8(1), tones(opening))
    return RegionFile(path)
