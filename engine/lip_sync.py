"""How well lips and speech belong together, from the features that a lip expert gives both.

Features are those after its last normalisation, 25 a second. Offsets are in such frames; a positive
one says that the sound is late: what the lips say at t is heard at t + offset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_OFFSET: Final = 15
"""Frames either way that are looked at, as for LSE: 0.6 s."""

_EPS: Final = 1e-8


@dataclass(frozen=True, slots=True)
class Offset:
    """Where speech fits lips best.

    Attributes:
        frames: + where the sound is late.
        confidence: how far the best score stands above the median of all, 0..2.
        score: the mean cosine there, −1..1.
    """

    frames: int
    confidence: float
    score: float


def unit(features: NDArray[np.float32]) -> NDArray[np.float32]:
    """Features (…, D) at length 1; zeros stay zeros."""
    length = np.linalg.norm(features, axis=-1, keepdims=True)
    return np.asarray(features / np.maximum(length, _EPS), np.float32)


def frame_cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Cosine of each frame's features: (T, D) and (T, D) to (T,), −1..1."""
    return np.asarray((unit(a) * unit(b)).sum(axis=-1), np.float32)


def avs(a: NDArray[np.float32], b: NDArray[np.float32], *, flatten: bool = False) -> float:
    """The paper's audio-visual score of two sequences of features (eqs. 4 to 6).

    AVSu compares lips alone with sound alone, AVSm both together with the true pair, AVSv lips
    alone with the true lips.

    Args:
        a: float32 (T, D).
        b: float32 (T, D).
        flatten: take one cosine of all frames together. By default it is the mean of the frames'
            cosines, in which quiet features count as much as loud ones; the paper leaves it open.

    Returns:
        −1..1.

    Raises:
        ValueError: the sequences differ in length, or are empty.
    """
    if a.shape != b.shape or not len(a):
        raise ValueError(f"two sequences of equal length are compared, not {a.shape} and {b.shape}")
    if flatten:
        a, b = a.reshape(1, -1), b.reshape(1, -1)
    return float(frame_cosines(a, b).mean())


def offset_scores(
    sound: NDArray[np.float32],
    lips: NDArray[np.float32],
    most: int = MOST_OFFSET,
    counts: NDArray[np.bool_] | None = None,
) -> NDArray[np.float32]:
    """Mean cosine for each offset from −most to most, over the frames that both have there.

    Args:
        sound: float32 (T, D), sound alone.
        lips: float32 (T, D), lips alone.
        most: the greatest offset; less than T.
        counts: (T,), which frames of the lips count; all by default.

    Returns:
        float32 (2 · most + 1,); −1 where no frame counts.

    Raises:
        ValueError: the sequences differ in length, or are not longer than ``most``.
    """
    length = len(lips)
    if sound.shape != lips.shape or length <= most:
        raise ValueError(
            f"sound {sound.shape} and lips {lips.shape} must be equal and longer than {most}"
        )
    said, heard = unit(lips), unit(sound)
    kept = np.ones(length, np.bool_) if counts is None else counts
    scores = np.full(2 * most + 1, -1.0, np.float32)
    for offset in range(-most, most + 1):
        first, end = max(0, -offset), length - max(0, offset)
        own = kept[first:end]
        if own.any():
            # Not a product of matrices: its threads would spin beside a running session.
            pairs = np.einsum("td,td->t", said[first:end], heard[first + offset : end + offset])
            scores[offset + most] = pairs[own].mean()
    return scores


def estimate_offset(
    sound: NDArray[np.float32],
    lips: NDArray[np.float32],
    most: int = MOST_OFFSET,
    counts: NDArray[np.bool_] | None = None,
) -> Offset:
    """Where speech fits lips best; the arguments are those of :func:`offset_scores`."""
    scores = offset_scores(sound, lips, most, counts)
    best = int(np.argmax(scores))
    return Offset(best - most, float(scores[best] - np.median(scores)), float(scores[best]))
