"""The demo: a built-in speaker says a built-in speech, so that a first look needs no file."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.crop import UprightGeometry, cut, head_place, to_crop
from engine.face_models import FaceModels
from engine.mesh_warp import close_mouth
from engine.paste import paste_mask
from engine.sources import FaceSource, Picture
from engine.tracker import FaceTracker
from stream.portrait import Portrait, portrait_photo

FPS: Final = Fraction(25)
SPEECH_FILE: Final = Path(__file__).parent / "assets" / "demo_speech.flac"
_SIDE: Final = 192  # of the crop in which the mouth is shut: finer than the portrait's own pixels
NOTICE: Final = (
    "What you will see is a modified picture of a real person, the astronaut Eileen Collins"
    " (portrait: NASA, public domain);\nshe never said these words, and the voice is synthetic."
)


def speaker() -> FaceSource:
    """The built-in speaker: a portrait at rest that sways and blinks, without end."""
    portrait = Portrait(_at_rest(portrait_photo()))

    def pictures() -> Iterator[Picture]:
        return (portrait.frame(float(number / FPS)) for number in count())

    return FaceSource(
        name="the built-in portrait",
        width=portrait.width,
        height=portrait.height,
        fps=FPS,
        pictures=pictures,
    )


def _at_rest(photo: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The portrait with its mouth shut: between two sentences nobody goes on laughing.

    Args:
        photo: uint8 (H, W, 3) with one face.
    """
    face = FaceTracker(FaceModels(threads=1)).update(photo, 0.0)
    if face is None:
        return photo
    matrix = UprightGeometry().matrix(head_place(face.mesh), _SIDE)
    shut, _ = close_mouth(cut(photo, matrix, _SIDE), to_crop(face.mesh, matrix))
    size = photo.shape[1], photo.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    new = cv2.warpAffine(shut.astype(np.float32), matrix, size, flags=flags)
    share = cv2.warpAffine(paste_mask(_SIDE), matrix, size, flags=flags)[..., None]
    return np.asarray(np.clip(np.rint(photo + share * (new - photo)), 0, 255), np.uint8)
