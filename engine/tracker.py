"""Follow one face through a stream of pictures and say where its crop is."""

from __future__ import annotations

import math
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
from engine.face_models import OUTER_EYE_CORNERS, FaceBox, FaceModels
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

SEARCH_S: Final = 0.2
"""Live, from one search to the next while there is no face: one takes 6 ms at 1280 by 720."""
HOLD_S: Final = 3.0
"""Live, for so long after a loss only a face near the old place is taken."""
# Near: within this many inter-ocular distances, and of a size that differs by this factor at most.
NEAR: Final = 3.0
NEAR_SIZE: Final = 2.0
# Live, of all the faces that were found so many at most are looked at closely, 5 ms each.
MOST_TRIED: Final = 4


@dataclass(frozen=True, slots=True)
class TrackedFace:
    """The face in one picture.

    Attributes:
        mesh: float32 (468, 3) in pixels of the picture, as measured (not smoothed).
        matrix: (2, 3), picture → crop, smoothed.
        resolution: pixels a side of the crop.
        score: belief of the mesh network that this is a face, 0..1.
        person: rises whenever this may be somebody else than in the picture before.
    """

    mesh: NDArray[np.float32]
    matrix: Matrix
    resolution: int
    score: float
    person: int = 0

    def crop(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The face's crop, uint8 (resolution, resolution, 3), out of its (H, W, 3) picture."""
        return cut(picture, self.matrix, self.resolution)

    def crop_mesh(self) -> NDArray[np.float32]:
        """The mesh in pixels of the crop, float32 (468, 3)."""
        return to_crop(self.mesh, self.matrix)


_Found = tuple[NDArray[np.float32], float]
"""A mesh in pixels of the picture and the belief in it."""


class FaceTracker:
    """Takes pictures in order and follows the largest face of the first one that shows any.

    The smoothing is causal, so training, offline and live use get the same crops. A lost face is
    sought in every picture, and the largest is taken. Live, a search must not cost more than
    following does, and a speaker who hides their face for a moment must not turn into a bystander:
    there it is sought five times a second, near its old place for three seconds.
    """

    def __init__(
        self,
        models: FaceModels,
        *,
        geometry: CropGeometry | None = None,
        resolution: int = 96,
        live: bool = False,
    ) -> None:
        """Start with no face.

        Args:
            models: may be shared by trackers of the same thread.
            geometry: the bundle's crop; upright by default.
            resolution: pixels a side of the crop.
            live: hold on to a face that is lost for a moment, and search less often.
        """
        self._models = models
        self._live = live
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
        self._wanted: tuple[float, float] | None = None
        self._lost: HeadPlace | None = None  # where the face was lost
        self._lost_at = self._searched_at = -math.inf
        self._person = 0

    def choose(self, x: float, y: float) -> None:
        """Follow the face nearest to this place from the next picture on.

        If that picture shows none, the present one is followed further.

        Args:
            x: from the left, in pixels.
            y: from the top, in pixels.
        """
        self._wanted = x, y

    def faces(self, picture: NDArray[np.uint8]) -> list[FaceBox]:
        """All faces of a (H, W, 3) picture, largest first; what is followed stays as it is."""
        return self._models.detect(picture, every=True)

    def update(self, picture: NDArray[np.uint8], now: float) -> TrackedFace | None:
        """Find the face in the next picture.

        Args:
            picture: uint8 (H, W, 3).
            now: its time in seconds, rising from call to call.

        Returns:
            The face, or None where there is none.
        """
        found = self._choose(picture) or self._follow(picture) or self._seek(picture, now)
        if found is None:
            self._eyes, self._place = None, None
            return None
        mesh, score = found
        self._eyes, self._lost = mesh[list(OUTER_EYE_CORNERS), :2], None
        matrix = self._matrix(mesh, now)
        return TrackedFace(mesh, matrix, self._resolution, score, self._person)

    def _choose(self, picture: NDArray[np.uint8]) -> _Found | None:
        if self._wanted is None:
            return None
        found = self._search(picture, near=self._wanted)
        self._wanted = None
        if found is not None:  # the smoothing starts anew, as after any jump
            self._person += 1
        return found

    def _follow(self, picture: NDArray[np.uint8]) -> _Found | None:
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

    def _seek(self, picture: NDArray[np.uint8], now: float) -> _Found | None:
        """Look for the face that was lost, or for any."""
        just_lost = self._place is not None
        if just_lost:
            self._lost, self._lost_at = self._place, now
        elif self._live and now - self._searched_at < SEARCH_S:
            return None
        self._searched_at = now
        lost, held = self._lost, self._live and now - self._lost_at <= HOLD_S
        near = (lost.x, lost.y) if lost is not None and (just_lost or held) else None
        found = self._search(picture, near)
        if found is None:
            return None
        is_near = lost is not None and _is_near(head_place(found[0]), lost)
        if held and not is_near:
            return None
        if not (is_near and near):
            self._person += 1
        return found

    def _search(
        self, picture: NDArray[np.uint8], near: tuple[float, float] | None = None
    ) -> _Found | None:
        faces = self._models.detect(picture, every=near is not None)
        if near is not None:  # another one may be larger
            faces.sort(key=lambda face: np.hypot(*(face.eyes.mean(axis=0) - near)))
        for face in faces[:MOST_TRIED] if self._live else faces:
            middle = face.eyes.mean(axis=0)
            corners = middle + (face.eyes - middle) * np.float32(CORNERS_PER_CENTRES)
            rough, _ = self._models.mesh(picture, corners)
            fine = self._models.mesh(picture, rough[list(OUTER_EYE_CORNERS), :2])
            if (found := self._checked(*fine)) is not None:
                return found
        return None

    @staticmethod
    def _checked(mesh: NDArray[np.float32], score: float) -> _Found | None:
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


def _is_near(place: HeadPlace, lost: HeadPlace) -> bool:
    away = math.hypot(place.x - lost.x, place.y - lost.y)
    larger = max(place.unit, lost.unit)
    return away < NEAR * larger and larger < NEAR_SIZE * min(place.unit, lost.unit)
