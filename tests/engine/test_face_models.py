import importlib.util

import cv2
import numpy as np
import pytest

from engine.crop import eye_centres, head_place
from engine.errors import ConfigError
from engine.face_models import OUTER_EYE_CORNERS, FaceBox, FaceModels
from engine.tracker import FaceTracker
from tests.faces import FACE_WIDTH, HEAD, Picture, carry, found, move, similarity

pytestmark = pytest.mark.models


def only(faces: list[FaceBox]) -> FaceBox:
    assert len(faces) == 1
    return faces[0]


@pytest.mark.parametrize("width_px", [30, 60, 120, 250, 600])
def test_detector_finds_faces_of_every_size(
    face_models: FaceModels, astronaut: Picture, width_px: int
) -> None:
    scale = width_px / (FACE_WIDTH * HEAD.unit)
    side = max(512, 2 * width_px)
    matrix = similarity(scale=scale, to=(side / 2, 0.4 * side))
    face = only(face_models.detect(move(astronaut, matrix, (side, side))))
    assert np.abs(face.eyes.mean(axis=0) - (side / 2, 0.4 * side)).max() < 0.12 * width_px
    assert 0.7 * width_px < face.x1 - face.x0 < 1.4 * width_px
    assert face.eyes[0, 0] < face.eyes[1, 0]


@pytest.mark.parametrize("to", [(60.0, 60.0), (452.0, 60.0), (60.0, 430.0), (452.0, 430.0)])
def test_detector_finds_faces_at_the_border(
    face_models: FaceModels, astronaut: Picture, to: tuple[float, float]
) -> None:
    face = only(face_models.detect(move(astronaut, similarity(to=to))))
    np.testing.assert_allclose(face.eyes.mean(axis=0), to, atol=0.2 * HEAD.unit)


@pytest.mark.parametrize("roll", [-30, -15, 15, 30])
def test_detector_finds_rolled_faces(
    face_models: FaceModels, astronaut: Picture, roll: int
) -> None:
    face = only(face_models.detect(move(astronaut, similarity(roll=roll))))
    across = face.eyes[1] - face.eyes[0]
    angle = np.degrees(np.arctan2(across[1], across[0]))
    assert angle == pytest.approx(np.degrees(HEAD.angle) - roll, abs=5)


def test_faces_come_largest_first(face_models: FaceModels, astronaut: Picture) -> None:
    small = move(astronaut, similarity(scale=0.7))
    faces = face_models.detect(np.hstack([small, astronaut]))
    assert [face.x0 > 512 for face in faces] == [True, False]
    assert faces[0].area > 1.5 * faces[1].area


def test_grain_of_a_large_picture_does_not_hide_the_face(
    face_models: FaceModels, astronaut: Picture
) -> None:
    fine = np.kron(astronaut, np.ones((5, 5, 1), np.uint8))
    noise = np.random.default_rng(0).integers(-60, 61, fine.shape, dtype=np.int16)
    face = only(face_models.detect(np.clip(fine + noise, 0, 255).astype(np.uint8)))
    small = only(face_models.detect(astronaut))
    np.testing.assert_allclose(face.eyes / 5, small.eyes, atol=0.1 * HEAD.unit)
    assert face.area / 25 == pytest.approx(small.area, rel=0.1)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 2), (8, 8), (1, 3000), (3000, 1), (2, 5000), (31, 33), (240, 320)]
)
@pytest.mark.parametrize("kind", ["noise", "black", "white"])
def test_no_face_is_seen_where_there_is_none(
    face_models: FaceModels, shape: tuple[int, int], kind: str
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    picture = {"noise": noise, "black": noise * 0, "white": noise * 0 + 255}[kind]
    for face in face_models.detect(picture):
        assert face.score < 0.6  # a guess that the mesh network refuses:
    assert FaceTracker(face_models).update(picture, 0.0) is None


@pytest.mark.parametrize(
    ("scale", "roll", "to"),
    [
        (1.0, 0.0, (225.3, 103.3)),
        (1.0, 0.0, (260.65, 190.15)),
        (1.0, 30.0, (256.0, 200.0)),
        (1.0, -30.0, (256.0, 200.0)),
        (0.5, 10.0, (256.0, 200.0)),
        (1.7, -10.0, (256.0, 150.0)),
    ],
)
def test_mesh_moves_with_the_picture(
    face_models: FaceModels,
    astronaut: Picture,
    scale: float,
    roll: float,
    to: tuple[float, float],
) -> None:
    matrix = similarity(scale=scale, roll=roll, to=to)
    mesh = found(FaceTracker(face_models), astronaut).mesh
    moved = found(FaceTracker(face_models), move(astronaut, matrix)).mesh
    distance = np.linalg.norm(moved[:, :2] - carry(mesh, matrix), axis=1)
    assert distance.mean() < 0.5 * max(scale, 1)
    assert distance.max() < 1.0 * max(scale, 1)
    depth = np.polyfit(mesh[:, 2], moved[:, 2], 1)[0]
    assert depth == pytest.approx(scale, rel=0.05)


def test_mesh_of_the_mirrored_picture_is_the_mirrored_mesh(
    face_models: FaceModels, astronaut: Picture
) -> None:
    place = head_place(found(FaceTracker(face_models), astronaut).mesh)
    mirrored = np.ascontiguousarray(astronaut[:, ::-1])
    other = head_place(found(FaceTracker(face_models), mirrored).mesh)
    assert other.x == pytest.approx(511 - place.x, abs=1.5)
    assert other.y == pytest.approx(place.y, abs=1)
    assert other.unit == pytest.approx(place.unit, rel=0.03)
    assert other.angle == pytest.approx(-place.angle, abs=0.03)


def test_mesh_does_not_believe_in_a_wall(face_models: FaceModels, astronaut: Picture) -> None:
    eyes = np.array([[30, 450], [70, 450]], np.float32)
    assert face_models.mesh(astronaut, eyes)[1] < 0.5
    right = np.array([[HEAD.x - 32, HEAD.y], [HEAD.x + 32, HEAD.y]], np.float32)
    mesh, score = face_models.mesh(astronaut, right)
    assert score > 0.9
    assert mesh.shape == (468, 3)
    assert mesh.dtype == np.float32
    np.testing.assert_allclose(eye_centres(mesh)[:, :2].mean(axis=0), (HEAD.x, HEAD.y), atol=1.5)


def test_eyes_in_one_place_give_no_face(face_models: FaceModels, astronaut: Picture) -> None:
    mesh, score = face_models.mesh(astronaut, np.full((2, 2), 100, np.float32))
    assert np.isfinite(mesh).all()
    assert score < 0.5


def test_opening_the_mouth_leaves_the_mesh_region_alone(
    face_models: FaceModels, astronaut: Picture
) -> None:
    """The region is placed by the eyes' outer corners, whatever the rest of the mesh does."""
    mesh = found(FaceTracker(face_models), astronaut).mesh
    eyes = mesh[list(OUTER_EYE_CORNERS), :2]
    blank = astronaut.copy()
    cv2.circle(blank, (226, 148), 14, (90, 40, 40), -1)
    other = face_models.mesh(blank, eyes)[0]
    again = face_models.mesh(blank, other[list(OUTER_EYE_CORNERS), :2])[0]
    shift = np.abs(again - mesh)[list(OUTER_EYE_CORNERS), :2]
    assert shift.max() < 0.05 * HEAD.unit


@pytest.mark.parametrize("installed", [True, False])
def test_missing_model_files_are_one_sentence_with_the_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, installed: bool
) -> None:
    spec = importlib.util.spec_from_loader("mediapipe", loader=None, is_package=True)
    assert spec is not None
    spec.submodule_search_locations = [str(tmp_path_factory.mktemp("mediapipe"))]
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: spec if installed else None)
    with pytest.raises(ConfigError, match=r"run `python -m pip install .*mediapipe==") as caught:
        FaceModels()
    assert ("carries none" in str(caught.value)) == installed
