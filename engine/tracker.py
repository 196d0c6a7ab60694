"""Follow one face through a stream of pictures and say where its crop is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.crop import (
    BoxGeometry,
    CropGeometry,
    HeadPlace,
    Matrix,
    UprightGeometry,
    cut,
    head_place,
    mesh_box,
    to_crop,
)
from engine.face_models import OUTER_EYE_CORNERS, FaceModels
from engine.smoothing import OneEuro

MIN_FACE_SCORE: Final = 0.5
"""Below this belief of the mesh network the face counts as lost."""

# The outer eye corners lie this much further apart than the eye centres that the detector gives.
CORNERS_PER_CENTRES: Final = 1.45
# A head that moves further than this share of its inter-ocular distance between two pictures is
# a cut in the film; smoothing across it would drag the crop.
CUT_JUMP: Final = 0.5
# After a leap of this share of the distance between the outer eye corners the mesh is off by a good
# part of it, though believed; it is placed again where it came out, this often at most.
LEAP: Final = 0.15
LEAP_PASSES: Final = 3
# A smaller face than this (pixels between the eyes) has no lips to speak of.
MIN_UNIT_PX: Final = 6.0


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """The face in one picture.

    Attributes:
        mesh: float32 (468, 3) in pixels of the picture, as measured (not smoothed).
        matrix: (2, 3), picture → crop, smoothed.
        resolution: pixels a side of the crop.
        score: belief of the mesh network that this is a face, 0..1.
    """

    mesh: NDArray[np.float32]
    matrix: Matrix
    resolution: int
    score: float

    def crop(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The face's crop, uint8 (resolution, resolution, 3), out of its (H, W, 3) picture."""
        return cut(picture, self.matrix, self.resolution)

    def crop_mesh(self) -> NDArray[np.float32]:
        """The mesh in pixels of the crop, float32 (468, 3)."""
        return to_crop(self.mesh, self.matrix)


class FaceTracker:
    """Takes pictures in order and follows the largest face of the first one that shows any.

    The smoothing is causal, so training, offline and live use get the same crops.
    """

    def __init__(
        self,
        models: FaceModels,
        *,
        geometry: CropGeometry | None = None,
        resolution: int = 96,
    ) -> None:
        """Start with no face.

        Args:
            models: may be shared by trackers of the same thread.
            geometry: the bundle's crop; upright by default.
            resolution: pixels a side of the crop.
        """
        self._models = models
        self._geometry = geometry or UprightGeometry()
        self._resolution = resolution
        # The values are in inter-ocular distances and radians (upright: x, y, log scale, roll); at
        # rest they jitter by some 0.3 %, and heads in talk move at up to 1.5 units a second. The
        # scale is held firmer: what little the mesh's eyes know of the mouth shows there first.
        rest = [0.6, 0.6, 0.15, 0.6] if isinstance(self._geometry, UprightGeometry) else [0.6] * 4
        self._smooth = OneEuro(rest_hz=np.array(rest), gain=6.0)
        self._eyes: NDArray[np.float32] | None = None
        self._place: HeadPlace | None = None
        self._scale = 1.0

    def choose(self, x: float, y: float) -> None:
        """Follow the face nearest to this place from the next picture on.

        Args:
            x: from the left, in pixels.
            y: from the top, in pixels.
        """
        self._eyes = None
        self._place = HeadPlace(x, y, MIN_UNIT_PX, 0.0)

    def update(self, picture: NDArray[np.uint8], now: float) -> TrackedFace | None:
        """Find the face in the next picture.

        Args:
            picture: uint8 (H, W, 3).
            now: its time in seconds, rising from call to call.

        Returns:
            The face, or None where there is none.
        """
        found = self._follow(picture) or self._search(picture)
        if found is None:
            self._eyes, self._place = None, None
            return None
        mesh, score = found
        self._eyes = mesh[list(OUTER_EYE_CORNERS), :2]
        return TrackedFace(mesh, self._matrix(mesh, now), self._resolution, score)

    def _follow(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float] | None:
        if self._eyes is None:
            return None
        eyes = self._eyes
        for _ in range(LEAP_PASSES):
            mesh, score = self._models.mesh(picture, eyes)
            before, eyes = eyes, mesh[list(OUTER_EYE_CORNERS), :2]
            leap = np.hypot(*(eyes - before).mean(axis=0)) / np.hypot(*(before[1] - before[0]))
            if leap < LEAP:
                break
        return self._checked(mesh, score)

    def _search(self, picture: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float] | None:
        last = self._place
        faces = self._models.detect(picture, every=last is not None)
        if last is not None:  # the face was there a picture ago: another one may be larger
            faces.sort(key=lambda face: np.hypot(*(face.eyes.mean(axis=0) - (last.x, last.y))))
        for face in faces:
            middle = face.eyes.mean(axis=0)
            corners = middle + (face.eyes - middle) * np.float32(CORNERS_PER_CENTRES)
            rough, _ = self._models.mesh(picture, corners)
            fine = self._models.mesh(picture, rough[list(OUTER_EYE_CORNERS), :2])
            if (found := self._checked(*fine)) is not None:
                return found
        return None

    @staticmethod
    def _checked(
        mesh: NDArray[np.float32], score: float
    ) -> tuple[NDArray[np.float32], float] | None:
        small = head_place(mesh).unit < MIN_UNIT_PX
        return None if small or score < MIN_FACE_SCORE else (mesh, score)

    def _matrix(self, mesh: NDArray[np.float32], now: float) -> Matrix:
        place = head_place(mesh)
        last = self._place
        jump = 0.0 if last is None else np.hypot(place.x - last.x, place.y - last.y) / last.unit
        if last is None or jump > CUT_JUMP:
            self._smooth.reset()
            self._scale = place.unit
        self._place = place
        scale = self._scale
        match self._geometry:
            case UprightGeometry() as upright:
                raw = [place.x / scale, place.y / scale, np.log(place.unit), place.angle]
                x, y, log_unit, angle = self._smooth(np.array(raw), now)
                steady = HeadPlace(x * scale, y * scale, float(np.exp(log_unit)), angle)
                return upright.matrix(steady, self._resolution)
            case BoxGeometry() as box:
                edges = self._smooth(mesh_box(mesh) / scale, now)
                return box.matrix(edges * scale, self._resolution)
