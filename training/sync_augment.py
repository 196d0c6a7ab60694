"""Make one speaker's lips and voice look and sound like many, for the lip expert's lesson."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.filterbank import BANDS
from engine.mouth_region import DEVIATION, INNER, MEAN, SIDE


@dataclass(frozen=True, kw_only=True, slots=True)
class SyncAugment:
    """How far a sample is changed; each is drawn anew.

    Attributes:
        turn: greatest angle in degrees.
        scale: greatest change of size.
        shift: greatest shift in pixels of the mouth region.
        shear: greatest change of each entry of the linear map besides, for other faces.
        flip: share of mirrored samples.
        gamma, contrast: greatest change of their logarithms.
        light: greatest change of brightness, as a share of white.
        blur: share of blurred samples.
        grain: greatest deviation of the pixels' noise, as a share of white.
        stutter_share: of samples in which two to four pictures are the same, as on a slow line.
        frozen_share: of samples in which the picture stands still for long.
        muted_share: of samples whose speech is muted for long.
        long_from: frames of the shortest such stretch; the longest is the window.
        level_db: greatest change of loudness, downwards; half as much upwards.
        noise_share: of samples with noise; at a signal-to-noise ratio of ``noise_db`` or more.
        noise_db: of the loudest noise.
        speech_share: of samples with another clip's speech behind, 10 to 30 dB below.
        tilt: greatest factor of a first-order filter, for other microphones.
        tract: greatest change of the vocal tract's length.
    """

    turn: float = 6.0
    scale: float = 0.12
    shift: float = 5.0
    shear: float = 0.06
    flip: float = 0.5
    gamma: float = 0.4
    contrast: float = 0.35
    light: float = 0.12
    blur: float = 0.3
    grain: float = 0.03
    stutter_share: float = 0.3
    frozen_share: float = 0.0
    muted_share: float = 0.0
    long_from: int = 8
    level_db: float = 14.0
    noise_share: float = 0.5
    noise_db: float = 3.0
    speech_share: float = 0.3
    tilt: float = 0.5
    tract: float = 0.0

    def __post_init__(self) -> None:
        if self.long_from < 1:
            raise ConfigError("long_from must be at least 1 frame.")


PLAIN: Final = SyncAugment(
    turn=0, scale=0, shift=0, shear=0, flip=0, gamma=0, contrast=0, light=0, blur=0, grain=0,
    stutter_share=0, frozen_share=0, muted_share=0, level_db=0, noise_share=0, speech_share=0,
    tilt=0, tract=0,
)  # fmt: skip
"""No change at all."""


def change_pictures(
    regions: NDArray[np.uint8], settings: SyncAugment, chance: np.random.Generator
) -> NDArray[np.float32]:
    """Change a window's pictures alike and make them what the network takes.

    Args:
        regions: uint8 (n, 96, 96).
        settings: how far.
        chance: the source of chance.

    Returns:
        float32 (n, 88, 88), normalised as :func:`engine.mouth_region.network_input` does.
    """

    def uniform(most: float) -> float:
        return float(chance.uniform(-most, most))

    middle = (SIDE - 1) / 2
    place = cv2.getRotationMatrix2D(
        (middle, middle), uniform(settings.turn), 1 + uniform(settings.scale)
    )
    shear = np.eye(2) + chance.uniform(-settings.shear, settings.shear, (2, 2))
    if chance.random() < settings.flip:
        shear[:, 0] *= -1
    linear = place[:, :2] @ shear
    to = middle + chance.uniform(-settings.shift, settings.shift, 2)
    matrix = np.column_stack([linear, to - linear @ (middle, middle)])
    edge = (SIDE - INNER) // 2
    matrix[:, 2] -= edge  # only what the network looks at is drawn
    border = cv2.BORDER_REPLICATE
    moved = np.stack(
        [cv2.warpAffine(p, matrix, (INNER, INNER), borderMode=border) for p in regions]
    )

    levels = (np.arange(256) / 255) ** math.exp(uniform(settings.gamma))
    mean = levels[moved[len(moved) // 2]].mean()
    levels = (levels - mean) * math.exp(uniform(settings.contrast)) + mean
    levels += uniform(settings.light)
    values = ((levels - MEAN) / DEVIATION).astype(np.float32)[moved]
    if chance.random() < settings.blur:
        width = chance.uniform(0.4, 1.2)  # px
        values = np.stack([cv2.GaussianBlur(picture, (0, 0), width) for picture in values])
    grain = np.float32(chance.uniform(0, settings.grain) / DEVIATION)
    if grain:
        values += grain * chance.standard_normal(values.shape, np.float32)
    return np.asarray(values, np.float32)


def change_sound(
    samples: NDArray[np.float32],
    other: NDArray[np.float32],
    settings: SyncAugment,
    chance: np.random.Generator,
) -> NDArray[np.float32]:
    """Change level, microphone and room of a window's sound.

    Args:
        samples: float32 (n,), in [−1, 1].
        other: float32 (n,), speech of another clip.
        settings: how far.
        chance: the source of chance.

    Returns:
        float32 (n,), in [−1, 1].
    """
    power = float(np.mean(samples.astype(np.float64) ** 2))
    sound = samples
    if chance.random() < settings.noise_share:
        noise = chance.standard_normal(len(samples), np.float32)
        if chance.random() < 0.6:  # most rooms rumble more than they hiss
            noise = np.convolve(noise, np.full(8, 1 / 8, np.float32), "same")
        sound = sound + noise * _level(noise, power, chance.uniform(settings.noise_db, 30))
    if chance.random() < settings.speech_share:
        sound = sound + other * _level(other, power, chance.uniform(10, 30))
    tilt = np.float32(chance.uniform(-settings.tilt, settings.tilt))
    sound = np.concatenate([sound[:1], sound[1:] - tilt * sound[:-1]])
    gain_db = chance.uniform(-settings.level_db, settings.level_db / 2)
    return np.asarray(np.clip(sound * 10 ** (gain_db / 20), -1, 1), np.float32)


def _level(sound: NDArray[np.float32], power: float, below_db: float) -> np.float32:
    """The factor that brings a sound so far below a power."""
    own = float(np.mean(sound.astype(np.float64) ** 2))
    return np.float32(math.sqrt(power / max(own, 1e-12)) * 10 ** (-below_db / 20))


def stretch_bands(energies: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Log energies (n, 26) of a vocal tract of another length: band b is read at b · factor."""
    places = np.minimum(np.arange(BANDS) * factor, BANDS - 1)
    low = places.astype(int)
    high = np.minimum(low + 1, BANDS - 1)
    share = (places - low).astype(np.float32)
    return np.asarray(energies[:, low] * (1 - share) + energies[:, high] * share, np.float32)


def draw_stretch(first: int, last: int, chance: np.random.Generator) -> tuple[int, int]:
    """A stretch that crosses a window: its length is from ``first`` to ``last`` frames.

    Returns:
        The first frame of the stretch and the frame after its last, within 0..last.
    """
    length = int(chance.integers(min(first, last), last + 1))
    start = int(chance.integers(0, last - length + 1))
    return start, start + length
