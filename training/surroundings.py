"""The clip around a sample's frames, for a lip expert that needs to see and hear whole clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.filterbank import VALUES, audio_features
from training.clips import Clip
from training.mouth_cut import CUT_POINTS


@dataclass(frozen=True, slots=True)
class Context:
    """The clips of B samples, or as much of them as the run asks for; T frames of the longest.

    Attributes:
        frames: float32 (B, T, 3, S, S) in 0..1, the true crops; of no meaning after a clip's end.
        points: float32 (B, T, 25, 2), :data:`~training.mouth_cut.CUT_POINTS` in pixels of the
            crops.
        sound: float32 (B, 104, T), what the lip expert hears.
        lengths: int64 (B,), frames of each clip.
        starts: int64 (B,), the first of the sample's own k frames.
    """

    frames: Tensor
    points: Tensor
    sound: Tensor
    lengths: Tensor
    starts: Tensor


def hearing(clip: Clip) -> NDArray[np.float32]:
    """What a lip expert hears of a clip: float32 (n, 104), a row a frame."""
    return audio_features(clip.samples(), clip.info.frames)


def surroundings(
    samples: Sequence[tuple[Clip, NDArray[np.float32], int]], k: int, most: int
) -> Context:
    """Read what surrounds samples.

    Args:
        samples: clip, its :func:`hearing`, and the first of the sample's frames, for each.
        k: frames of a sample.
        most: frames that are read; of a longer clip those around the sample's.
    """
    spans = []
    for clip, _, start in samples:
        size = min(clip.info.frames, most)
        first = min(max(start + k // 2 - size // 2, 0), clip.info.frames - size)
        spans.append(slice(first, first + size))
    longest = max(span.stop - span.start for span in spans)
    side = samples[0][0].info.resolution
    frames = np.zeros((len(samples), longest, side, side, 3), np.uint8)
    points = np.zeros((len(samples), longest, len(CUT_POINTS), 2), np.float32)
    sound = np.zeros((len(samples), longest, VALUES), np.float32)
    for index, ((clip, heard, _), span) in enumerate(zip(samples, spans, strict=True)):
        size = span.stop - span.start
        frames[index, :size] = clip.crops[span]
        points[index, :size] = clip.mesh[span][:, CUT_POINTS, :2]
        sound[index, :size] = heard[span]
    return Context(
        frames=torch.from_numpy(frames).permute(0, 1, 4, 2, 3).float() / 255,
        points=torch.from_numpy(points),
        sound=torch.from_numpy(sound).transpose(1, 2),
        lengths=torch.tensor([span.stop - span.start for span in spans]),
        starts=torch.tensor(
            [start - span.start for (_, _, start), span in zip(samples, spans, strict=True)]
        ),
    )
