"""Stills that speak: pictures animated by the real mouths of prepared clips.

    python -m training animate PICTURES PREPARED -o PREPARED/stills

One speaker's videos alone teach a generator that one face. A still, its mouth shut, is warped by
the motion of the clip's lips and jaw, and what shows between the lips is taken from the clip. The
result is a prepared clip like any other, of a new person with real speech. Pictures can be blended
by twos for yet more people.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engine.crop import UprightGeometry
from engine.errors import ConfigError, LipstreamError, NoFaceError
from engine.face_models import FaceModels
from engine.lips import mouth_opening
from engine.media import read_image
from engine.mesh_warp import (
    LOWER_INNER_LIP,
    NOSE_BASE,
    UPPER_INNER_LIP,
    close_mouth,
    moving_points,
    warp,
    warp_field,
)
from engine.tracker import FaceTracker
from training.blend import blend
from training.clips import Clip, find_clips, is_held_out, read_clip, write_clip

Still = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A crop, uint8 (S, S, 3), and its mesh, float32 (468, 3) in its pixels."""

INNER_LIPS: Final = (*UPPER_INNER_LIP, *reversed(LOWER_INNER_LIP))
_CHEEKS: Final = (50, 280, 205, 425)
_CHEEK_PX: Final = 5
_FINER: Final = 8  # sub-pixels of the edge of the lips


def still_of(picture: NDArray[np.uint8], models: FaceModels, resolution: int) -> Still:
    """Crop and mesh of a picture's face with its mouth shut.

    Args:
        picture: uint8 (H, W, 3).
        models: the face models.
        resolution: pixels a side of the crop.

    Returns:
        uint8 (S, S, 3) and float32 (468, 3) in its pixels.

    Raises:
        NoFaceError: nobody is there.
    """
    tracker = FaceTracker(models, geometry=UprightGeometry(), resolution=resolution)
    face = tracker.update(picture, 0.0)
    if face is None:
        raise NoFaceError("The picture shows no face.")
    return close_mouth(face.crop(picture), face.crop_mesh())


def closed_frame(clip: Clip) -> int:
    """The frame of a clip in which its mouth is shut most."""
    return int(np.argmin([mouth_opening(m) for m in clip.mesh.astype(np.float32)]))


def between_lips(lips: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Share of each pixel that lies between the lips.

    Args:
        lips: float32 (22, 2), the :data:`INNER_LIPS` in pixels of the crop.
        side: pixels a side of the crop.

    Returns:
        float32 (side, side, 1) in 0..1.
    """
    fine = np.zeros((side * _FINER, side * _FINER), dtype=np.uint8)
    places = (lips + 0.5) * _FINER - 0.5
    cv2.fillPoly(fine, [np.round(places).astype(np.int32)], 255)
    share = cv2.resize(fine, (side, side), interpolation=cv2.INTER_AREA)
    return np.asarray(share[..., None].astype(np.float32) / 255, dtype=np.float32)


def _skin(crop: NDArray[np.uint8], mesh: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean colour of the cheeks, float64 (3,): by it teeth are lit like the face around them."""
    x, y = np.clip(np.round(mesh[list(_CHEEKS), :2]).astype(int), 0, len(crop) - 1).T
    return np.asarray(cv2.blur(crop, (_CHEEK_PX, _CHEEK_PX))[y, x].mean(axis=0))


def animate_frame(
    still: NDArray[np.uint8],
    mesh: NDArray[np.float32],
    clip_crop: NDArray[np.uint8],
    clip_mesh: NDArray[np.float32],
    shut_mesh: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Give a still the mouth of one frame.

    Args:
        still: uint8 (S, S, 3), its mouth shut.
        mesh: float32 (468, 3), its mesh.
        clip_crop: uint8 (S, S, 3), the frame whose mouth is wanted.
        clip_mesh: float32 (468, 3), its mesh.
        shut_mesh: float32 (468, 3), the same speaker with the mouth shut.

    Returns:
        The animated crop and its mesh.
    """
    side = len(still)
    moving = moving_points(mesh)
    motion = clip_mesh - shut_mesh
    target = mesh.copy()
    target[moving] += (motion - motion[NOSE_BASE])[moving]
    moved = warp(still, warp_field(mesh, target, side)).astype(np.float32)

    # What lies between the lips, carried over by the affine map between both inner lips.
    lips, source = target[list(INNER_LIPS), :2], clip_mesh[list(INNER_LIPS), :2]
    share = between_lips(lips, side)
    if share.any():
        # Each axis for itself: a wide mouth must not show the lips of the narrow one it is from.
        grow = np.ptp(source, axis=0) / np.maximum(np.ptp(lips, axis=0), 1.0)
        grow = np.clip(grow, 0.6, 1.4)
        shift = source.mean(axis=0) - grow * lips.mean(axis=0)
        matrix = np.array([[grow[0], 0, shift[0]], [0, grow[1], shift[1]]], dtype=np.float64)
        inner = cv2.warpAffine(
            clip_crop, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        )
        light = np.clip(_skin(still, mesh) / np.maximum(_skin(clip_crop, clip_mesh), 1), 0.5, 1.6)
        moved = share * np.clip(inner * light, 0, 255) + (1 - share) * moved
    return np.round(moved).astype(np.uint8), target


def animate(
    pictures: list[Path],
    clips_root: Path,
    out: Path,
    *,
    clips_each: int,
    blends: int = 0,
    resolution: int = 96,
    seed: int = 0,
) -> list[str]:
    """Animate stills by clips drawn from those that may be learnt from.

    Args:
        pictures: images with one face each.
        clips_root: prepared clips of one speaker.
        out: folder of the new clips.
        clips_each: clips made of each face.
        blends: faces to make besides, each of two of the pictures; with one picture there are none.
        resolution: pixels a side of the crops.
        seed: which clips are drawn.

    Returns:
        A sentence for each picture that could not be used.

    Raises:
        ConfigError: there are no clips, or fewer than ``clips_each`` that may be learnt from.
    """
    chance = np.random.default_rng(seed)
    sources = [f for f in find_clips(clips_root) if not is_held_out(f.name)]
    if clips_root.resolve() in out.resolve().parents:  # no stills of an earlier call
        sources = [f for f in sources if out.resolve() not in f.resolve().parents]
    if not 1 <= clips_each <= len(sources):
        raise ConfigError(
            f"{clips_root} holds {len(sources)} clips that may be learnt from: ask for 1 to"
            f" {len(sources)} of each picture, not {clips_each}."
        )
    stills, problems = _stills(pictures, resolution)
    stills |= _blends(stills, blends, chance)
    for name, (still, mesh) in track(stills.items(), "Animating"):
        for index in chance.choice(len(sources), size=clips_each, replace=False):
            clip = read_clip(sources[int(index)])
            shut = clip.mesh[closed_frame(clip)].astype(np.float32)
            pairs = [
                animate_frame(still, mesh, clip.crops[i], clip.mesh[i].astype(np.float32), shut)
                for i in range(clip.info.frames)
            ]
            info = replace(clip.info, speaker=name, source=f"{name}+{clip.info.source}")
            crops, meshes = zip(*pairs, strict=True)
            folder = out / name / clip.info.name
            write_clip(folder, info, np.stack(crops), np.stack(meshes), clip.samples())
    return problems


def _stills(pictures: list[Path], resolution: int) -> tuple[dict[str, Still], list[str]]:
    """Faces by their pictures' names, and a sentence for each picture without one."""
    models = FaceModels()
    stills, problems = {}, []
    for path in pictures:
        try:
            stills[path.stem] = still_of(read_image(path), models, resolution)
        except LipstreamError as error:
            problems.append(f"{path.name}: {error}")
    return stills, problems


def _blends(stills: dict[str, Still], count: int, chance: np.random.Generator) -> dict[str, Still]:
    """Faces of two each, by the names of both; no pair twice."""
    pairs = list(combinations(stills, 2))
    drawn = chance.permutation(len(pairs))[:count]
    return {f"{a}-{b}": blend(stills[a], stills[b]) for a, b in (pairs[i] for i in drawn)}
