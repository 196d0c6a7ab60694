"""SyncNet v2 (Chung & Zisserman, 2016) and its figures: LSE-D, LSE-C and the offset.

Names and shapes of the parameters are those of the public weights. The figures are those that
papers of this field report: the network sees five frames at 25 a second and 0.2 s of sound.

Legend of shapes: B windows, T frames of a clip, n windows of a clip.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from engine.errors import MediaError
from engine.filterbank import ROW_SAMPLES
from engine.mfcc import CEPSTRA, mfcc

SIDE: Final = 224  # px of a frame
WINDOW_FRAMES: Final = 5
WINDOW_STEPS: Final = 20  # of 10 ms
STEPS_A_FRAME: Final = 4
FEATURES: Final = 1024
REACH: Final = 15  # frames that the sound is moved to either side
_BATCH: Final = 20  # windows: bounds the memory
_EPS: Final = 1e-6  # added to every difference, as torch's own pairwise distance does


def _head() -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Linear(512, FEATURES)
    )


class SyncNet(nn.Module):
    """Features of lips and of speech that lie close where both belong together."""

    def __init__(self) -> None:
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *_normalised(nn.Conv2d(1, 64, 3, padding=1)),
            nn.MaxPool2d(1, 1),  # does nothing; the public names count it
            *_normalised(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, (1, 2)),  # 13×20 → 11×9
            *_normalised(nn.Conv2d(192, 384, 3, padding=1)),
            *_normalised(nn.Conv2d(384, 256, 3, padding=1)),
            *_normalised(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, 2),  # → 5×4
            *_normalised(nn.Conv2d(256, 512, (5, 4))),
        )
        self.netfcaud = _head()
        self.netcnnlip = nn.Sequential(
            *_normalised(nn.Conv3d(3, 96, (5, 7, 7), (1, 2, 2))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),  # 224 → 109 → 54
            *_normalised(nn.Conv3d(96, 256, (1, 5, 5), (1, 2, 2), (0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2), (0, 1, 1)),  # → 26 → 13
            *_normalised(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_normalised(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *_normalised(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), (1, 2, 2)),  # → 6
            *_normalised(nn.Conv3d(256, 512, (1, 6, 6))),
        )
        self.netfclip = _head()

    def hear(self, cepstra: Tensor) -> Tensor:
        """Map (B, 1, 13, 20) of :func:`engine.mfcc.mfcc` to (B, 1024)."""
        features: Tensor = self.netfcaud(self.netcnnaud(cepstra).flatten(1))
        return features

    def watch(self, frames: Tensor) -> Tensor:
        """Map (B, 3, 5, 224, 224), BGR in [0, 255], to (B, 1024)."""
        features: Tensor = self.netfclip(self.netcnnlip(frames).flatten(1))
        return features


def _normalised(convolution: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, nn.Module, nn.Module]:
    """A convolution, its batch normalisation and a ReLU."""
    flat = isinstance(convolution, nn.Conv2d)
    normalisation = (nn.BatchNorm2d if flat else nn.BatchNorm3d)(convolution.out_channels)
    return convolution, normalisation, nn.ReLU()


@dataclass(frozen=True, slots=True)
class SyncScores:
    """How well the lips of a clip follow its speech, by SyncNet.

    Attributes:
        lse_d: the mean distance at the best shift; lower is better.
        lse_c: the median over all shifts minus that; higher is better.
        offset: frames by which the sound is late at the best shift, -15..15: the other way round
            than SyncNet's own program prints it.
    """

    lse_d: float
    lse_c: float
    offset: int


def measure(model: SyncNet, frames: NDArray[np.uint8], samples: NDArray[np.float32]) -> SyncScores:
    """The figures of one clip.

    Args:
        model: the network, in ``eval``.
        frames: uint8 (T, 224, 224, 3), BGR at 25 a second.
        samples: float32 (N,), mono at 16 kHz in [-1, 1], from the first frame on.

    Raises:
        MediaError: the clip has less than six frames or their sound.
    """
    return scores(distances(*features(model, frames, samples)))


def features(
    model: SyncNet, frames: NDArray[np.uint8], samples: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Features of a clip's windows, lips and sound; a window starts with each frame.

    Args:
        model: the network, in ``eval``.
        frames: as for :func:`measure`.
        samples: as for :func:`measure`.

    Returns:
        Two float32 (n, 1024), n = min(T, N // 640) - 5.

    Raises:
        MediaError: n is below 1.
    """
    count = min(len(frames), len(samples) // ROW_SAMPLES) - WINDOW_FRAMES
    if count < 1:
        raise MediaError(
            f"A clip of {len(frames)} frames and {len(samples)} samples is too short for SyncNet;"
            f" it needs {WINDOW_FRAMES + 1} frames and {(WINDOW_FRAMES + 1) * ROW_SAMPLES} samples."
        )
    lips = watch_clip(model, frames[: count + WINDOW_FRAMES])
    return lips, hear_clip(model, samples)[:count]


@torch.no_grad()
def watch_clip(model: SyncNet, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features of a clip's lips, float32 (T - 5, 1024); none where there are less frames."""
    found = [np.zeros((0, FEATURES), np.float32)]
    for starts in _batches(len(frames) - WINDOW_FRAMES):
        seen = np.stack([frames[i : i + WINDOW_FRAMES] for i in starts])
        pictures = torch.from_numpy(seen).permute(0, 4, 1, 2, 3).float()  # (B, 3, 5, 224, 224)
        found.append(model.watch(pictures).numpy())
    return np.concatenate(found)


@torch.no_grad()
def hear_clip(model: SyncNet, samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features of a clip's sound, float32 (N // 640 - 5, 1024); none where there is less."""
    cepstra = np.ascontiguousarray(mfcc(samples).T, np.float32)  # (13, steps)
    found = [np.zeros((0, FEATURES), np.float32)]
    for starts in _batches(len(samples) // ROW_SAMPLES - WINDOW_FRAMES):
        heard = np.stack([_steps(cepstra, i * STEPS_A_FRAME) for i in starts])
        found.append(model.hear(torch.from_numpy(heard)[:, None]).numpy())
    return np.concatenate(found)


def _batches(count: int) -> Iterator[range]:
    """The windows, so many at a time."""
    for first in range(0, count, _BATCH):
        yield range(first, min(first + _BATCH, count))


def _steps(cepstra: NDArray[np.float32], first: int) -> NDArray[np.float32]:
    """(13, 20) from a step on."""
    return cepstra[:CEPSTRA, first : first + WINDOW_STEPS]


def distances(lips: NDArray[np.float32], sounds: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each window of lips is from the sound around it.

    Args:
        lips: float32 (n, 1024).
        sounds: float32 (n, 1024); beyond its ends are zeros.

    Returns:
        float32 (n, 31): column 15 is the same window's sound, column 15 + d that d frames later.
    """
    padded = np.pad(sounds, ((REACH, REACH), (0, 0)))
    columns = [
        np.linalg.norm(lips - padded[shift : shift + len(lips)] + np.float32(_EPS), axis=1)
        for shift in range(2 * REACH + 1)
    ]
    return np.stack(columns, axis=1).astype(np.float32)


def scores(between: NDArray[np.float32]) -> SyncScores:
    """The figures that follow from :func:`distances`, float32 (n, 31)."""
    mean = between.mean(axis=0, dtype=np.float64)
    best = int(mean.argmin())
    return SyncScores(
        lse_d=float(mean[best]),
        lse_c=float(np.median(mean) - mean[best]),
        offset=best - REACH,
    )
