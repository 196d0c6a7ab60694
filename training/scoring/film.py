"""A video as every metric sees it: where its face is in each picture, and what is cut out there.

Nothing is held but positions: the pictures are read again by whoever cuts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from engine.crop import BoxGeometry, Matrix, UprightGeometry, cut, head_place, mesh_box
from engine.errors import MediaError, NoFaceError
from engine.media import probe, read_audio
from engine.mel import SAMPLE_RATE
from engine.tracker import FaceTracker
from training.bench import pictures_of
from training.clips import FPS
from training.prepare import worker_models
from training.regions import ReferenceForm
from training.syncnet import SIDE as SYNCNET_SIDE

CROP: Final = 96
"""Pixels a side of the tight crop in which pictures and landmarks are compared."""

LEAST_FRAMES: Final = FPS
LEAST_FACES: Final = 0.5
"""Share of the pictures that must show a face."""

_SYNCNET_WIDER: Final = 0.4  # than the face's half side: SyncNet's own program calls it crop_scale
_SYNCNET_SMOOTHED: Final = 13  # frames of its median
_SYNCNET_BORDER: Final = 110  # gray beyond the picture

Mesh = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Moved:
    """How a face is displaced in what a network looks at, by pixels of the tight 96 crop.

    Attributes:
        right: shift in pixels of the 96 crop, + to the right.
        turn: degrees around the crop's middle, + clockwise as seen.
        scale: how much larger the face is.
    """

    right: float = 0.0
    turn: float = 0.0
    scale: float = 1.0

    @property
    def matrix(self) -> Matrix:
        """(2, 3): where the 96 crop's points go."""
        angle = np.deg2rad(self.turn)
        cos, sin = self.scale * np.cos(angle), self.scale * np.sin(angle)
        linear = np.array([[cos, -sin], [sin, cos]])
        middle = np.full(2, CROP / 2)
        shift = middle - linear @ middle + np.array([self.right, 0.0])
        return np.column_stack([linear, shift])


STILL: Final = Moved()


@dataclass(frozen=True, slots=True)
class Film:
    """A watched video at 25 frames a second.

    Attributes:
        path: of the file.
        shape: height and width of its pictures.
        meshes: of each picture, float32 (468, 3) in its pixels; None without a face.
        matrices: picture → tight crop of 96 pixels, (2, 3), smoothed as in live use; likewise.
    """

    path: Path
    shape: tuple[int, int]
    meshes: tuple[Mesh | None, ...]
    matrices: tuple[Matrix | None, ...]

    def __len__(self) -> int:
        return len(self.meshes)

    def pictures(self) -> Iterator[NDArray[np.uint8]]:
        """The pictures, RGB uint8 (H, W, 3)."""
        return pictures_of(self.path)

    def known_meshes(self) -> list[Mesh]:
        """A mesh for each picture, that of the nearest one before (or after) where it has none."""
        known = next(mesh for mesh in self.meshes if mesh is not None)
        filled = []
        for mesh in self.meshes:
            known = known if mesh is None else mesh
            filled.append(known)
        return filled

    def crops(
        self, matrices: Sequence[Matrix | None], side: int = CROP
    ) -> Iterator[NDArray[np.uint8] | None]:
        """Tight crops, uint8 (side, side, 3) RGB, None where there is no matrix.

        Args:
            matrices: picture → crop of 96 pixels, for as many pictures as are wanted.
            side: pixels a side of the crops that are given.
        """
        finer = side / CROP
        for matrix, picture in zip(matrices, self.pictures(), strict=False):
            yield None if matrix is None else cut(picture, matrix * finer, side)

    def regions(self, moved: Moved = STILL) -> NDArray[np.uint8]:
        """What the lip expert looks at, uint8 (T, 96, 96) gray, in the reference form."""
        form = ReferenceForm()
        for picture, mesh, found in zip(
            self.pictures(), self.known_meshes(), self.meshes, strict=True
        ):
            form.push(picture, _displaced(mesh, moved), found=found is not None)
        return form.finish()

    def syncnet_frames(self, moved: Moved = STILL) -> NDArray[np.uint8]:
        """What SyncNet v2 looks at, uint8 (T, 224, 224, 3) BGR.

        Square, 2.8 half sides of the face's box wide, from the box's middle less one half side
        down, with gray beyond the picture, as SyncNet's own program crops. The box is that of the
        face mesh, where its program has S3FD's; middle and half side are medians of 13 frames.
        """
        boxes = np.stack([mesh_box(mesh) for mesh in self.known_meshes()])
        middles = (boxes[:, :2] + boxes[:, 2:]) / 2
        halves = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
        places = np.column_stack([middles, halves])
        steady = ndimage.median_filter(places, size=(_SYNCNET_SMOOTHED, 1), mode="nearest")
        frames = []
        for picture, mesh, (x, y, half) in zip(
            self.pictures(), self.known_meshes(), steady, strict=True
        ):
            scale = SYNCNET_SIDE / (2 * (1 + _SYNCNET_WIDER) * half)
            corner = x - (1 + _SYNCNET_WIDER) * half, y - half
            matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]])
            cut_out = cv2.warpAffine(
                picture,
                _after(matrix, _in_picture(mesh, moved)),
                (SYNCNET_SIDE, SYNCNET_SIDE),
                flags=cv2.INTER_LINEAR,
                borderValue=(_SYNCNET_BORDER,) * 3,
            )
            frames.append(np.asarray(cut_out[..., ::-1], np.uint8))
        return np.stack(frames)

    def boxes_bgr(self, moved: Moved = STILL) -> NDArray[np.uint8]:
        """What Wav2Lip's lip expert looks at: the face's box, uint8 (T, 96, 96, 3) BGR."""
        geometry = BoxGeometry()
        frames = []
        for picture, mesh in zip(self.pictures(), self.known_meshes(), strict=True):
            matrix = geometry.matrix(mesh_box(mesh), CROP)
            frames.append(cut(picture, _after(matrix, _in_picture(mesh, moved)), CROP)[..., ::-1])
        return np.stack(frames)


def sound_of(path: Path) -> NDArray[np.float32] | None:
    """A video's sound, float32 (n,), mono at 16 kHz from the first picture on; None without any.

    Raises:
        MediaError: the video can't be read.
    """
    return read_audio(path, SAMPLE_RATE) if probe(path).has_audio else None


def watch(path: Path) -> Film:
    """Follow the face through a video.

    Args:
        path: of the video, at any rate.

    Raises:
        MediaError: it can't be read, or is shorter than 1 s.
        NoFaceError: less than half of its pictures show a face.
        ConfigError: the face models are missing.
    """
    tracker = FaceTracker(worker_models(), resolution=CROP)
    meshes: list[Mesh | None] = []
    matrices: list[Matrix | None] = []
    shape = 0, 0
    for index, picture in enumerate(pictures_of(path)):
        shape = picture.shape[0], picture.shape[1]
        face = tracker.update(picture, index / FPS)
        meshes.append(None if face is None else face.mesh)
        matrices.append(None if face is None else face.matrix)
    if len(meshes) < LEAST_FRAMES:
        raise MediaError(f"{path.name} is shorter than {LEAST_FRAMES / FPS:.0f} s.")
    found = sum(mesh is not None for mesh in meshes)
    if found < LEAST_FACES * len(meshes):
        raise NoFaceError(f"{path.name} shows no face in {len(meshes) - found} frames.")
    return Film(path, shape, tuple(meshes), tuple(matrices))


def _in_picture(mesh: Mesh, moved: Moved) -> Matrix:
    """(2, 3): where a picture's points go when its face is displaced."""
    if moved == STILL:
        return np.eye(2, 3)
    crop = UprightGeometry().matrix(head_place(mesh), CROP)
    return _after(_inverse(crop), _after(moved.matrix, crop))


def _displaced(mesh: Mesh, moved: Moved) -> Mesh:
    """The mesh that lies where a cutter must look for the face to come out displaced."""
    if moved == STILL:
        return mesh
    back = _inverse(_in_picture(mesh, moved))
    away = mesh.copy()
    away[:, :2] = mesh[:, :2] @ back[:, :2].T + back[:, 2]
    return away


def _after(second: Matrix, first: Matrix) -> Matrix:
    """The map that does one and then the other."""
    linear = second[:, :2] @ first[:, :2]
    return np.column_stack([linear, second[:, :2] @ first[:, 2] + second[:, 2]])


def _inverse(matrix: Matrix) -> Matrix:
    linear = np.linalg.inv(matrix[:, :2])
    return np.column_stack([linear, -linear @ matrix[:, 2]])
