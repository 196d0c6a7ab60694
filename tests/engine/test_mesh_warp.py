from collections.abc import Callable

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.crop import cut, eye_centres
from engine.face_models import FaceModels
from engine.lips import mouth_opening
from engine.mesh_warp import (
    CHIN,
    LOWER_INNER_LIP,
    STILL_RING,
    UPPER_INNER_LIP,
    close_mouth,
    closed_mesh,
    moving_points,
    warp,
    warp_field,
)
from engine.tracker import FaceTracker
from tests.faces import Picture, found, move, similarity

pytestmark = pytest.mark.models

SIDE = 96
Mesh = NDArray[np.float32]


@pytest.fixture(scope="module")
def smile(face_models: FaceModels, astronaut: Picture) -> tuple[Picture, Mesh]:
    face = found(FaceTracker(face_models), astronaut)
    return face.crop(astronaut), face.crop_mesh()


@pytest.fixture(scope="module")
def look_again(face_models: FaceModels) -> Callable[[Picture, Mesh], Mesh]:
    """Give the mesh network's view of a crop whose old mesh shows where the eyes are."""

    def look(crop: Picture, mesh: Mesh) -> Mesh:
        seen, score = face_models.mesh(crop, mesh[[33, 263], :2])
        assert score > 0.5
        return seen

    return look


def test_unmoved_mesh_moves_no_pixel(smile: tuple[Picture, Mesh]) -> None:
    crop, mesh = smile
    field = warp_field(mesh, mesh, SIDE)
    x, y = np.meshgrid(np.arange(SIDE), np.arange(SIDE))
    np.testing.assert_allclose(field, np.stack([x, y], axis=-1), atol=1e-3)
    np.testing.assert_array_equal(warp(crop, np.round(field)), crop)


def test_field_leads_from_target_points_to_source_points(smile: tuple[Picture, Mesh]) -> None:
    _, mesh = smile
    moving = moving_points(mesh)
    target = mesh.copy()
    middle = mesh[moving, :2].mean(axis=0)
    target[moving, :2] = middle + (mesh[moving, :2] - middle) * 0.96 + (0.4, -0.3)
    field = warp_field(mesh, target, SIDE)
    inside = moving[(mesh[moving, :2] > 3).all(axis=1) & (mesh[moving, :2] < SIDE - 4).all(axis=1)]
    places = target[inside, None, :2].astype(np.float32)
    there = cv2.remap(field, places[..., 0], places[..., 1], cv2.INTER_LINEAR)[:, 0]
    distance = np.linalg.norm(there - mesh[inside, :2], axis=1)
    assert np.median(distance) < 0.05
    assert distance.max() < 1.0


def test_border_and_upper_face_stay(smile: tuple[Picture, Mesh]) -> None:
    crop, mesh = smile
    changed = np.abs(close_mouth(crop, mesh)[0].astype(int) - crop).max(axis=-1)
    eyes = eye_centres(mesh)[:, 1].mean()
    assert changed[: int(eyes) + 8].max() <= 1
    for edge in (changed[0], changed[-1], changed[:, 0], changed[:, -1]):
        assert edge.max() <= 1
    assert changed.max() > 50  # the teeth are gone


def test_moving_points_are_the_lower_face(smile: tuple[Picture, Mesh]) -> None:
    _, mesh = smile
    moving = set(moving_points(mesh).tolist())
    assert {CHIN, 13, 14, 61, 291, 17} <= moving
    assert not {33, 133, 362, 263, 6, 10, 168} & moving


def test_closed_mesh_has_its_lips_together_and_the_face_in_place(
    smile: tuple[Picture, Mesh],
) -> None:
    _, mesh = smile
    closed = closed_mesh(mesh)
    gap = closed[list(LOWER_INNER_LIP), 1] - closed[list(UPPER_INNER_LIP), 1]
    assert np.abs(gap).max() < 0.05
    assert mouth_opening(closed) < 0.005
    still = np.setdiff1d(np.arange(468), moving_points(mesh))
    np.testing.assert_array_equal(closed[still], mesh[still])
    assert np.abs(closed[list(STILL_RING)] - mesh[list(STILL_RING)]).max() < 0.1
    opened = mesh[14, 1] - mesh[13, 1]
    assert 0.3 * opened < mesh[CHIN, 1] - closed[CHIN, 1] < 0.6 * opened  # the jaw comes along
    below = closed[17, 1] - closed[14, 1]
    assert below == pytest.approx(mesh[17, 1] - mesh[14, 1], rel=0.3)  # the lip keeps its height


@pytest.mark.parametrize("roll", [0.0, 20.0])
@pytest.mark.parametrize("resolution", [96, 192])
def test_shut_mouth_is_seen_as_shut(
    face_models: FaceModels,
    look_again: Callable[[Picture, Mesh], Mesh],
    astronaut: Picture,
    roll: float,
    resolution: int,
) -> None:
    picture = move(astronaut, similarity(roll=roll, scale=2))
    face = found(FaceTracker(face_models, resolution=resolution), picture)
    assert mouth_opening(face.mesh) > 0.12
    shut, mesh = close_mouth(face.crop(picture), face.crop_mesh())
    assert shut.shape == (resolution, resolution, 3)
    assert mouth_opening(look_again(shut, mesh)) < 0.06
    bright = shut[int(mesh[13, 1]) - 2 : int(mesh[13, 1]) + 3, int(mesh[13, 0])].astype(int)
    assert bright.min() < 170  # no white row of teeth is left in the middle


def test_shutting_twice_changes_little(
    look_again: Callable[[Picture, Mesh], Mesh], smile: tuple[Picture, Mesh]
) -> None:
    once, mesh = close_mouth(*smile)
    seen = look_again(once, mesh)
    twice, _ = close_mouth(once, mesh)
    assert np.abs(twice.astype(int) - once).mean() < 0.6
    assert mouth_opening(look_again(twice, seen)) < mouth_opening(seen) + 0.02


def test_narrow_gap_is_shut_without_a_drawn_line(smile: tuple[Picture, Mesh]) -> None:
    """Nearly shut lips need no repair: the less is open, the less is changed."""
    crop, mesh = smile
    shut, closed = close_mouth(crop, mesh)
    ajar = closed + 0.1 * (mesh - closed)
    changed = np.abs(close_mouth(shut, ajar)[0].astype(int) - shut)
    assert changed.mean() < 0.25 * np.abs(shut.astype(int) - crop).mean()


def test_face_partly_outside_its_crop_is_shut_without_holes(
    smile: tuple[Picture, Mesh], astronaut: Picture
) -> None:
    _, mesh = smile
    shifted = mesh + np.array([30.0, 12.0, 0.0], dtype=np.float32)
    picture = cut(astronaut, np.array([[0.76, 0.0, -97.0], [0.0, 0.76, -48.0]]), SIDE)
    field = warp_field(shifted, closed_mesh(shifted), SIDE)
    assert np.isfinite(field).all()
    shut, _ = close_mouth(picture, shifted)
    assert shut.dtype == np.uint8
    assert (shut[:20] == picture[:20]).all()
