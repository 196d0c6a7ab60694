"""Where the face's square is: from mesh points to a crop and back.

Two kinds, named in every bundle:

* ``upright-landmarks``: eyes level, from the brow to well below the resting chin, placed by the
  eye corners alone. Nothing that moves with the mouth or the chin shapes it, so the crop can't
  tell the generator how far the mouth is open.
* ``box+pads``: the upright rectangle around the face, squeezed into a square, as models of the
  Wav2Lip family were trained.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.errors import BundleError

Matrix = NDArray[np.float64]
"""(2, 3): pixels of the picture → pixels of the crop."""

LEFT_EYE: Final = (33, 133)
RIGHT_EYE: Final = (362, 263)
"""Mesh points of the corners of the eyes, by their side in the picture."""


@dataclass(frozen=True, slots=True)
class HeadPlace:
    """Where the head is, from the eyes.

    Attributes:
        x, y: the point midway between the eyes, in pixels of the picture.
        unit: inter-ocular distance in pixels, freed of the head's turn by the mesh's depth.
        angle: roll in radians, positive when the eye on the right of the picture is lower.
    """

    x: float
    y: float
    unit: float
    angle: float


def eye_centres(mesh: NDArray[np.float32]) -> NDArray[np.float64]:
    """The eyes' centres, float64 (2, 3), from a (468, 3) mesh; left in the picture first."""
    points = mesh[[*LEFT_EYE, *RIGHT_EYE]].astype(np.float64)
    return np.asarray(points.reshape(2, 2, 3).mean(axis=1))


def head_place(mesh: NDArray[np.float32]) -> HeadPlace:
    """Place the head from a float32 (468, 3) mesh in pixels of the picture."""
    left, right = eye_centres(mesh)
    across = right - left
    middle = (left + right) / 2
    return HeadPlace(
        x=float(middle[0]),
        y=float(middle[1]),
        unit=float(np.linalg.norm(across)),
        angle=math.atan2(across[1], across[0]),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class UprightGeometry:
    """The ``upright-landmarks`` crop, in inter-ocular distances.

    Measured on 18 speakers: the brow lies up to 0.53 above the eyes, the inner lips 0.88 to
    1.25 and the resting chin 1.57 to 1.95 below; an open jaw drops the chin by some 0.3 more.

    Attributes:
        above: from the eyes up to the crop's upper edge.
        below: from the eyes down to its lower edge; above + below is the side.
    """

    kind: Literal["upright-landmarks"] = field(default="upright-landmarks", init=False)
    above: float = 0.55
    below: float = 2.30

    @property
    def side(self) -> float:
        """Side of the square in inter-ocular distances."""
        return self.above + self.below

    def matrix(self, place: HeadPlace, resolution: int) -> Matrix:
        """The map from the picture to a crop of ``resolution`` pixels a side."""
        scale = resolution / (self.side * place.unit)
        cos, sin = math.cos(place.angle) * scale, math.sin(place.angle) * scale
        rotation = np.array([[cos, sin], [-sin, cos]])
        target = np.array([resolution / 2, resolution * self.above / self.side])
        shift = target - rotation @ np.array([place.x, place.y])
        return np.concatenate([rotation, shift[:, None]], axis=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class BoxGeometry:
    """The ``box+pads`` crop: pads as shares of the box's height or width.

    Attributes:
        top, bottom, left, right: how far the crop reaches beyond the face's box.
    """

    kind: Literal["box+pads"] = field(default="box+pads", init=False)
    top: float = 0.0
    bottom: float = 0.05
    left: float = 0.0
    right: float = 0.0

    def matrix(self, box: NDArray[np.float64], resolution: int) -> Matrix:
        """The map from the picture to the crop.

        Args:
            box: float64 (4,), x0 y0 x1 y1 of the face in pixels of the picture.
            resolution: pixels a side of the crop.
        """
        width, height = box[2] - box[0], box[3] - box[1]
        x0, x1 = box[0] - self.left * width, box[2] + self.right * width
        y0, y1 = box[1] - self.top * height, box[3] + self.bottom * height
        sx, sy = resolution / max(x1 - x0, 1e-6), resolution / max(y1 - y0, 1e-6)
        return np.array([[sx, 0.0, -x0 * sx], [0.0, sy, -y0 * sy]])


CropGeometry = UprightGeometry | BoxGeometry


def geometry_to_dict(geometry: CropGeometry) -> dict[str, str | float]:
    """The geometry as a bundle writes it."""
    return asdict(geometry)


def geometry_from_dict(fields: dict[str, str | float]) -> CropGeometry:
    """Read a geometry from a bundle.

    Raises:
        BundleError: the kind is unknown, a field is unknown or no number, or no crop comes of it.
    """
    values = {key: value for key, value in fields.items() if key != "kind"}
    try:
        numbers = {key: float(value) for key, value in values.items()}
        if not all(map(math.isfinite, numbers.values())):
            raise ValueError("a number is not finite")
        match fields.get("kind"):
            case "upright-landmarks":
                upright = UprightGeometry(**numbers)
                if upright.side <= 0:
                    raise ValueError("above + below must be above 0")
                return upright
            case "box+pads":
                box = BoxGeometry(**numbers)
                if min(1 + box.left + box.right, 1 + box.top + box.bottom) <= 0:
                    raise ValueError("the pads leave nothing of the box")
                return box
    except (TypeError, ValueError) as error:
        raise BundleError(f"The bundle's crop geometry can't be read ({error}).") from error
    raise BundleError(
        f"The bundle asks for a crop of kind {fields.get('kind')!r}; this program has"
        " 'upright-landmarks' and 'box+pads': use a bundle made for this version."
    )


def mesh_box(mesh: NDArray[np.float32]) -> NDArray[np.float64]:
    """The box around a (468, 3) mesh, float64 x0 y0 x1 y1, in pixels of the picture."""
    xy = mesh[:, :2].astype(np.float64)
    return np.concatenate([xy.min(axis=0), xy.max(axis=0)])


def cut(picture: NDArray[np.uint8], matrix: Matrix, resolution: int) -> NDArray[np.uint8]:
    """Cut the crop out of the picture.

    Large faces are averaged down, not sampled, so that fine texture does not flicker; beyond the
    picture's border its edge is repeated.

    Args:
        picture: uint8 (H, W, 3).
        matrix: picture → crop.
        resolution: pixels a side.

    Returns:
        uint8 (resolution, resolution, 3).
    """
    shrink = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))  # picture pixels a crop pixel
    finer = max(1, math.ceil(shrink - 0.25))
    # Pixel centres: the crop's pixel i covers the finer pixels finer*i .. finer*i + finer - 1.
    fine = matrix * finer
    fine[:, 2] += (finer - 1) / 2
    side = resolution * finer
    patch = cv2.warpAffine(
        picture, fine, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    if finer > 1:
        patch = cv2.resize(patch, (resolution, resolution), interpolation=cv2.INTER_AREA)
    return np.asarray(patch, dtype=np.uint8)


def to_crop(points: NDArray[np.floating], matrix: Matrix) -> NDArray[np.float32]:
    """Carry points of a picture into the crop's pixels.

    Args:
        points: (n, 2 or 3); a third column (depth) is scaled like the picture.
        matrix: picture → crop.
    """
    xy = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    scale = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    return np.concatenate([xy, points[:, 2:] * scale], axis=1).astype(np.float32)
