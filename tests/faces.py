"""A real portrait, moved about."""

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.crop import HeadPlace, Matrix
from engine.tracker import FaceTracker, TrackedFace

Picture = NDArray[np.uint8]

HEAD = HeadPlace(x=225.3, y=103.3, unit=44.2, angle=0.055)
"""Where the head is in the astronaut's portrait."""
FACE_WIDTH = 2.2
"""Width of a face in inter-ocular distances."""


def similarity(
    *, scale: float = 1.0, roll: float = 0.0, to: tuple[float, float] = (256.0, 200.0)
) -> Matrix:
    """Map the portrait's eyes to ``to``, rolled by degrees (counter-clockwise) and scaled."""
    turn = cv2.getRotationMatrix2D((HEAD.x, HEAD.y), roll, scale)
    matrix = np.array(turn, dtype=np.float64)
    matrix[:, 2] += np.array(to) - (HEAD.x, HEAD.y)
    return matrix


def move(picture: Picture, matrix: Matrix, size: tuple[int, int] = (512, 512)) -> Picture:
    """Draw a picture on a canvas of ``size`` (width, height), without aliasing."""
    scale = float(np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if scale < 1:
        picture = np.asarray(cv2.GaussianBlur(picture, (0, 0), 0.4 / scale), dtype=np.uint8)
    how = cv2.INTER_LINEAR if scale < 1 else cv2.INTER_CUBIC
    moved = cv2.warpAffine(picture, matrix, size, flags=how, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, dtype=np.uint8)


def found(tracker: FaceTracker, picture: Picture, now: float = 0.0) -> TrackedFace:
    """Track a picture in which there must be a face."""
    face = tracker.update(picture, now)
    assert face is not None
    return face


def carry(points: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float64]:
    """Move (n, 2+) points like a picture; (n, 2)."""
    return np.asarray(points[:, :2] @ matrix[:, :2].T + matrix[:, 2], dtype=np.float64)


def inverted(matrix: Matrix) -> Matrix:
    """The way back of an affine map."""
    back: Matrix = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    return back
