"""A lip expert that names what it sees and hears: one of twelve sounds a frame."""

import numpy as np
from numpy.typing import NDArray

from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import AROUND, Alone
from engine.mel import SAMPLE_RATE
from engine.mouth_region import SIDE

SOUNDS = 12
TONES_HZ = np.geomspace(250, 6000, SOUNDS)


def named(which: NDArray[np.int64]) -> NDArray[np.float32]:
    return np.asarray(np.eye(SOUNDS)[which], np.float32)


class NamingExpert:
    """Each frame shows and each row holds one of twelve sounds; its features are its name.

    Attributes:
        embedded: how many frames the picture's part was run on.
    """

    dim = SOUNDS

    def __init__(self) -> None:
        self.embedded = 0

    def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        own = frames[AROUND : len(frames) - AROUND]
        self.embedded += len(own)
        gray = (own.mean(axis=(1, 2)) * 0.165 + 0.421) * 255
        return named(np.clip(gray / 20 - 1, 0, 11).round().astype(np.int64))

    def hear(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        mel = 2595 * np.log10(1 + TONES_HZ / 700) / (2840 / 27) - 1
        loudest = rows.reshape(-1, 4, 26)[:, :3].mean(axis=1).argmax(axis=1)
        return named(np.abs(mel[None] - loudest[:, None]).argmin(axis=1))

    def alone(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> Alone:
        return Alone(heard, watched)


def names(count: int, seed: int = 0) -> NDArray[np.int64]:
    return np.random.default_rng(seed).integers(0, SOUNDS, count)


def region(name: int) -> NDArray[np.uint8]:
    return np.full((SIDE, SIDE), 20 * (name + 1), np.uint8)


def tone(name: int, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """The sound of a frame, mono."""
    time = np.arange(ROW_SAMPLES * rate // SAMPLE_RATE) / rate
    return np.asarray(0.3 * np.sin(2 * np.pi * TONES_HZ[name] * time), np.float32)
