"""Whether the face that comes in tells a generator how to move: a bundle driven by silence.

Digital silence is no reason to move the mouth. What moves all the same was taken from the pose
face, whose mouth should be hidden, or comes of the identity reference; so each face is driven once
with its own reference and once with another clip's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.lips import correlation

OPEN: Final = 0.05
"""A mouth open further than this (inner-lip over inter-ocular distance) is open."""

MOVING: Final = 0.03
"""An opening that spans more than this within :data:`AROUND` frames moves."""

AROUND: Final = 5
"""Frames around one, itself in the middle, in which it moves or not: 0.2 s at 25 fps."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LeakFigures:
    """One face driven by silence.

    Attributes:
        face: the clip whose face is seen.
        reference: the clip of the identity reference.
        frames: frames measured.
        lost: of them, those in which no face was found in the generated picture.
        open_share: of them, those with an open mouth.
        moving_share: those with a mouth that moves.
        real_open_share: the same of the mouth that came in, which speaks.
        real_moving_share: likewise.
        following: correlation of the generated opening with the one that came in.
    """

    face: str
    reference: str
    frames: int
    lost: int
    open_share: float
    moving_share: float
    real_open_share: float
    real_moving_share: float
    following: float


def open_share(opening: NDArray[np.float64]) -> float:
    """Share of frames with an open mouth, of openings (n,), n ≥ 1."""
    return float(np.mean(opening > OPEN))


def moving_share(opening: NDArray[np.float64]) -> float:
    """Share of frames in which a mouth moves, of openings (n,), n ≥ 1."""
    side = AROUND // 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(opening, side, mode="edge"), AROUND)
    return float(np.mean(np.ptp(windows, axis=1) > MOVING))


def leak_figures(
    face: str, reference: str, made: NDArray[np.float64], real: NDArray[np.float64], lost: int
) -> LeakFigures:
    """Figures of one face.

    Args:
        face: the clip's name.
        reference: the reference's clip.
        made: float64 (n,), the generated opening.
        real: float64 (n,), the opening that came in.
        lost: frames without a face in the generated picture.
    """
    return LeakFigures(
        face=face,
        reference=reference,
        frames=len(made),
        lost=lost,
        open_share=open_share(made),
        moving_share=moving_share(made),
        real_open_share=open_share(real),
        real_moving_share=moving_share(real),
        following=correlation(real, made),
    )
