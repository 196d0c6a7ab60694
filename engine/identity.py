"""The identity reference: which picture serves, and how its mouth is shut."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.agreement import head_turn
from engine.lips import mouth_opening
from engine.mesh_warp import close_mouth
from engine.tracker import TrackedFace

# A mouth open further than this is shut before the picture serves as identity reference.
SHUT_OPENING: Final = 0.05
# How much a head turned by one radian, and a crop without any detail, count against a picture, in
# mouth openings.
_TURN_COST: Final = 0.15
_BLUR_COST: Final = 0.05
_SHARP: Final = 100.0  # variance of the Laplacian from which on a crop counts as half sharp


@dataclass(frozen=True, slots=True)
class Identity:
    """An identity reference.

    Attributes:
        crop: uint8 (S, S, 3) with the mouth shut.
        opening: of the mouth in the picture it was taken from.
        index: which of the pictures that was, from 0.
    """

    crop: NDArray[np.uint8]
    opening: float
    index: int


def reference_cost(face: TrackedFace, crop: NDArray[np.uint8]) -> float:
    """How unfit a picture is as identity reference: open mouth, turned head, blur; 0 is best."""
    turn = abs(head_turn(face.mesh)[0])
    detail = float(cv2.Laplacian(cv2.cvtColor(crop, cv2.COLOR_RGB2GRAY), cv2.CV_32F).var())
    return mouth_opening(face.mesh) + _TURN_COST * turn + _BLUR_COST * _SHARP / (_SHARP + detail)


def make_identity(face: TrackedFace, crop: NDArray[np.uint8], index: int = 0) -> Identity:
    """An identity reference from one picture; an open mouth is shut by a warp.

    Args:
        face: where the face is.
        crop: uint8 (S, S, 3), the face's; it may be the one that is kept.
        index: which of the pictures it is.
    """
    opening = mouth_opening(face.mesh)
    if opening > SHUT_OPENING:
        crop, _ = close_mouth(crop, face.crop_mesh())
    return Identity(crop, opening, index)
