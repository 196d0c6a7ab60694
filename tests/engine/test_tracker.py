from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.crop import BoxGeometry, Matrix, UprightGeometry, cut, head_place, mesh_box, to_crop
from engine.face_models import FaceBox, FaceModels
from engine.media import VideoReader
from engine.mesh_warp import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    closed_mesh,
    moving_points,
    warp,
    warp_field,
)
from engine.tracker import FaceTracker, TrackedFace
from tests.faces import HEAD, Picture, carry, found, move, similarity

pytestmark = pytest.mark.models

SIDE = 96
CORNERS = np.array([[0.0, 0.0], [SIDE, 0.0], [0.0, SIDE], [SIDE, SIDE]])


def corners_in_picture(matrix: Matrix) -> NDArray[np.float64]:
    return np.asarray((CORNERS - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T)


def apart(one: Matrix, other: Matrix) -> float:
    """Return by how many pixels of the crop two crops of one picture differ at their corners."""
    return float(np.linalg.norm(carry(corners_in_picture(one), other) - CORNERS, axis=1).max())


def placed(matrix: Matrix, shown: Matrix) -> Matrix:
    """Return the crop of a moved picture as a crop of the unmoved portrait."""
    whole = np.vstack([matrix, [0, 0, 1]]) @ np.vstack([shown, [0, 0, 1]])
    return np.asarray(whole[:2])


@pytest.fixture
def tracker(face_models: FaceModels) -> FaceTracker:
    return FaceTracker(face_models)


def test_crop_stays_on_a_head_in_motion(tracker: FaceTracker, astronaut: Picture) -> None:
    """At usual speed; after a second at rest, when the mesh has settled."""
    for i in range(-25, 1):
        rest = found(tracker, astronaut, i / 25)
    for i in range(1, 25):
        at = HEAD.x + 1.5 * HEAD.unit * i / 25, HEAD.y + 5 * np.sin(i / 4)
        shown = similarity(scale=1 + i / 250, roll=i / 3, to=at)
        face = found(tracker, move(astronaut, shown), i / 25)
        assert apart(rest.matrix, placed(face.matrix, shown)) < 4.5
        assert face.score > 0.9


def test_eyes_are_level_in_the_crop(tracker: FaceTracker, astronaut: Picture) -> None:
    face = found(tracker, move(astronaut, similarity(roll=25)))
    mesh = face.crop_mesh()
    row = SIDE * 0.55 / 2.85
    left, right = mesh[[33, 133], :2].mean(axis=0), mesh[[362, 263], :2].mean(axis=0)
    np.testing.assert_allclose([left[1], right[1]], row, atol=0.1)
    assert (left[0] + right[0]) / 2 == pytest.approx(SIDE / 2, abs=0.1)
    picture = move(astronaut, similarity(roll=25))
    np.testing.assert_array_equal(face.crop(picture), cut(picture, face.matrix, SIDE))


def test_resolution_sets_the_size_of_the_crop(face_models: FaceModels, astronaut: Picture) -> None:
    face = found(FaceTracker(face_models, resolution=64), astronaut)
    assert face.crop(astronaut).shape == (64, 64, 3)
    whole = found(FaceTracker(face_models), astronaut)
    np.testing.assert_allclose(face.matrix * 1.5, whole.matrix, atol=1e-9)


def test_a_resting_head_gives_a_resting_crop(tracker: FaceTracker, astronaut: Picture) -> None:
    chance = np.random.default_rng(0)
    raw, steady = [], []
    for i in range(50):
        noise = chance.normal(0, 12, astronaut.shape)
        picture = np.clip(astronaut + noise, 0, 255).astype(np.uint8)
        face = found(tracker, picture, i / 25)
        measured = UprightGeometry().matrix(head_place(face.mesh), SIDE)
        raw.append(corners_in_picture(measured))
        steady.append(corners_in_picture(face.matrix))
    jitter = np.std(raw[10:], axis=0).mean(), np.std(steady[10:], axis=0).mean()
    assert jitter[1] < jitter[0] / 2


def test_irregular_time_steps_keep_the_crop_on_the_head(
    tracker: FaceTracker, astronaut: Picture
) -> None:
    for i in range(-25, 1):
        rest = found(tracker, astronaut, i / 25)
    for now in (0.01, 0.09, 0.1, 0.22, 0.23, 0.23, 0.4):
        shown = similarity(to=(HEAD.x + HEAD.unit * now, HEAD.y))
        face = found(tracker, move(astronaut, shown), now)
        assert apart(rest.matrix, placed(face.matrix, shown)) < 3.5


def test_lost_face_is_found_again_without_a_memory_of_its_old_place(
    face_models: FaceModels, tracker: FaceTracker, astronaut: Picture
) -> None:
    for i in range(3):
        found(tracker, astronaut, i / 25)
    assert tracker.update(np.full_like(astronaut, 90), 0.12) is None
    elsewhere = move(astronaut, similarity(scale=0.8, roll=10, to=(300.0, 240.0)))
    again = found(tracker, elsewhere, 0.16)
    fresh = found(FaceTracker(face_models), elsewhere)
    np.testing.assert_allclose(again.matrix, fresh.matrix)


@pytest.mark.parametrize("away", [1.0, 1.5, 3.0])
def test_smoothing_does_not_drag_across_a_cut(
    face_models: FaceModels, tracker: FaceTracker, astronaut: Picture, away: float
) -> None:
    for i in range(5):
        found(tracker, astronaut, i / 25)
    shown = similarity(to=(HEAD.x + away * HEAD.unit, HEAD.y))
    after = found(tracker, move(astronaut, shown), 0.2)
    fresh = found(FaceTracker(face_models), move(astronaut, shown))
    assert apart(after.matrix, fresh.matrix) < 4.0  # what a single look at a face may be off by


def pair(astronaut: Picture, left: Matrix, right: Matrix) -> Picture:
    return np.hstack([move(astronaut, left), move(astronaut, right)])


def is_left(matrix: Matrix) -> bool:
    return bool(corners_in_picture(matrix)[:, 0].max() < 512)


def test_the_largest_face_is_chosen_and_then_kept(tracker: FaceTracker, astronaut: Picture) -> None:
    for i in range(8):
        right = similarity(scale=0.7 + 0.1 * i)
        picture = pair(astronaut, similarity(scale=1.0), right)
        assert is_left(found(tracker, picture, i / 25).matrix)


def test_after_a_jerk_the_nearest_face_is_kept_not_the_largest(
    tracker: FaceTracker, astronaut: Picture
) -> None:
    found(tracker, pair(astronaut, similarity(), similarity(scale=0.5)), 0.0)
    jerked = similarity(to=(256.0 - 3 * HEAD.unit, 200.0))
    face = found(tracker, pair(astronaut, jerked, similarity(scale=1.4)), 0.04)
    assert is_left(face.matrix)


# Choosing a face


def test_the_chosen_face_is_followed_from_the_next_picture_on(
    face_models: FaceModels, tracker: FaceTracker, astronaut: Picture
) -> None:
    picture = pair(astronaut, similarity(), similarity(scale=0.7))
    before = found(tracker, picture, 0.0)
    assert is_left(before.matrix)
    tracker.choose(760.0, 180.0)
    chosen = found(tracker, picture, 0.04)
    assert not is_left(chosen.matrix)
    assert chosen.person > before.person
    for i in range(2, 6):
        after = found(tracker, picture, i / 25)
        assert not is_left(after.matrix)
        assert after.person == chosen.person
    blank = np.full_like(astronaut, 90)
    alone = np.hstack([blank, picture[:, 512:]])
    fresh = found(FaceTracker(face_models), alone)
    assert apart(chosen.matrix, fresh.matrix) < 1.5  # smoothing knows nothing of the old place


def test_choosing_counts_once(tracker: FaceTracker, astronaut: Picture) -> None:
    picture = pair(astronaut, similarity(), similarity(scale=0.7))
    tracker.choose(760.0, 180.0)
    found(tracker, picture, 0.0)
    jerked = pair(astronaut, similarity(), similarity(scale=0.7, to=(380.0, 300.0)))
    assert not is_left(found(tracker, jerked, 0.04).matrix)


class Blind:
    """Face models whose detector finds nothing."""

    def __init__(self, models: FaceModels) -> None:
        self.mesh = models.mesh
        self.searches = 0

    def detect(self, *_: object, **__: object) -> list[FaceBox]:
        self.searches += 1
        return []


def test_where_no_face_is_found_the_present_one_is_kept(
    tracker: FaceTracker, astronaut: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = found(tracker, astronaut, 0.0)
    tracker.choose(500.0, 500.0)
    with monkeypatch.context() as patch:
        patch.setattr(tracker, "_models", Blind(tracker._models))
        kept = found(tracker, astronaut, 0.04)
    assert apart(kept.matrix, before.matrix) < 2
    assert kept.person == before.person


def test_all_faces_are_listed_and_the_followed_one_stays(
    tracker: FaceTracker, astronaut: Picture
) -> None:
    picture = pair(astronaut, similarity(scale=0.7), similarity())
    before = found(tracker, picture, 0.0)
    boxes = tracker.faces(picture)
    assert [box.x0 > 512 for box in boxes] == [True, False]  # the larger one first
    assert found(tracker, picture, 0.04).person == before.person


# A face that is lost


@pytest.fixture
def live(face_models: FaceModels) -> FaceTracker:
    return FaceTracker(face_models, live=True)


def shown(astronaut: Picture, *, speaker: bool) -> Picture:
    """The speaker on the left, or a wall; a larger bystander on the right."""
    left = move(astronaut, similarity(scale=0.7)) if speaker else np.full_like(astronaut, 90)
    return np.hstack([left, move(astronaut, similarity(scale=1.0))])


def start(tracker: FaceTracker, astronaut: Picture) -> TrackedFace:
    wall = np.full_like(astronaut, 90)
    alone = np.hstack([move(astronaut, similarity(scale=0.7)), wall])
    return found(tracker, alone, 0.0)


def test_a_bystander_is_not_taken_for_a_speaker_who_hides_for_a_moment(
    live: FaceTracker, astronaut: Picture
) -> None:
    before = start(live, astronaut)
    for i in range(1, 50):
        assert live.update(shown(astronaut, speaker=False), i / 25) is None
    times = [2.0 + i / 25 for i in range(6)]
    faces = [live.update(shown(astronaut, speaker=True), now) for now in times]
    back = faces[-1]
    assert back is not None  # within 0.2 s
    assert is_left(back.matrix)
    assert back.person == before.person


def test_after_three_seconds_anybody_is_followed_and_known_as_another(
    live: FaceTracker, astronaut: Picture
) -> None:
    before = start(live, astronaut)
    faces = [live.update(shown(astronaut, speaker=False), i / 25) for i in range(1, 85)]
    taken = [face for face in faces if face is not None]
    assert 0 < len(taken) <= 85 - 75
    assert not is_left(taken[0].matrix)
    assert {face.person for face in taken} == {before.person + 1}


def test_offline_the_next_picture_with_any_face_is_taken(
    tracker: FaceTracker, astronaut: Picture
) -> None:
    before = start(tracker, astronaut)
    face = found(tracker, shown(astronaut, speaker=False), 0.04)
    assert not is_left(face.matrix)
    assert face.person > before.person


@pytest.mark.parametrize(("is_live", "least", "most"), [(True, 8, 11), (False, 50, 50)])
def test_live_an_empty_picture_is_searched_at_most_five_times_a_second(
    face_models: FaceModels, astronaut: Picture, is_live: bool, least: int, most: int
) -> None:
    models = Blind(face_models)
    tracker = FaceTracker(models, live=is_live)  # type: ignore[arg-type]
    for i in range(50):
        assert tracker.update(astronaut, i / 25) is None
    assert least <= models.searches <= most  # in two seconds


def test_live_only_a_few_of_a_crowd_are_looked_at_closely(
    face_models: FaceModels, astronaut: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (box,) = face_models.detect(astronaut)
    meshes = 0

    def mesh(*_: object) -> tuple[NDArray[np.float32], float]:
        nonlocal meshes
        meshes += 1
        return np.random.default_rng(0).normal(100, 50, (468, 3)).astype(np.float32), 0.1

    monkeypatch.setattr(face_models, "detect", lambda *_, **__: [box] * 30)
    monkeypatch.setattr(face_models, "mesh", mesh)
    assert FaceTracker(face_models, live=True).update(astronaut, 0.0) is None
    assert meshes <= 8


def test_face_too_small_to_have_lips_is_none(tracker: FaceTracker, astronaut: Picture) -> None:
    matrix = similarity(scale=5.0 / HEAD.unit, to=(64.0, 50.0))
    assert tracker.update(move(astronaut, matrix, (128, 128)), 0.0) is None


def test_box_crop_is_the_smoothed_box_of_the_mesh(
    face_models: FaceModels, astronaut: Picture
) -> None:
    geometry = BoxGeometry(top=0.0, bottom=0.1, left=0.05, right=0.05)
    face = found(FaceTracker(face_models, geometry=geometry), astronaut)
    np.testing.assert_allclose(face.matrix, geometry.matrix(mesh_box(face.mesh), SIDE))
    assert face.crop(astronaut).shape == (SIDE, SIDE, 3)


def opened_mesh(mesh: NDArray[np.float32], by: float) -> NDArray[np.float32]:
    """Drop the lower lip and the jaw by pixels, less towards the nose and the sides."""
    moved = mesh.copy()
    below = moving_points(mesh)
    below = below[mesh[below, 1] > mesh[13, 1] + 0.5 * (mesh[14, 1] - mesh[13, 1])]
    wide = abs(mesh[below, 0] - mesh[14, 0]) / (mesh[263, 0] - mesh[33, 0])
    moved[below, 1] += by * np.clip(1 - 1.5 * wide, 0, 1)
    corners = [LOWER_INNER_LIP[0], LOWER_INNER_LIP[-1], LOWER_OUTER_LIP[0], LOWER_OUTER_LIP[-1]]
    moved[corners] = mesh[corners]
    return moved


@pytest.mark.parametrize("by", [-1.0, 0.15, 0.25])
def test_mouth_and_chin_in_speech_do_not_move_the_crop(
    face_models: FaceModels, tracker: FaceTracker, astronaut: Picture, by: float
) -> None:
    """Lips that shut, or a jaw that drops by a share of the inter-ocular distance, 3 Hz."""
    side = 240
    near = UprightGeometry(above=1.2, below=2.8).matrix(HEAD, side)
    picture = cut(astronaut, near, side)
    mesh = found(FaceTracker(face_models), picture).mesh
    unit = head_place(mesh).unit
    target = closed_mesh(mesh) if by < 0 else opened_mesh(mesh, by * unit)
    moved = warp(picture, warp_field(mesh, target, side))
    matrices, gaps = [], []
    for i in range(50):
        is_moved = i / 25 * 3 % 1 > 0.5
        face = found(tracker, moved if is_moved else picture, i / 25)
        gaps.append((face.mesh[14, 1] - face.mesh[13, 1]) / unit)
        matrices.append(face.matrix)
    assert np.ptp(gaps[15:]) > 0.08  # the mesh does see it
    middle = np.mean(matrices[15:], axis=0)
    assert max(apart(middle, matrix) for matrix in matrices[15:]) < 0.5


@pytest.mark.data
def test_every_frame_of_a_real_clip_has_a_steady_crop(
    face_models: FaceModels, data_dir: Path
) -> None:
    tracker = FaceTracker(face_models)
    matrices = []
    with VideoReader(data_dir / "grid" / "s1" / "bbaf2n.mp4") as video:
        for index, (_, picture) in zip(range(40), video, strict=False):
            face = found(tracker, picture, index / 25)
            assert face.score > 0.9
            mouth = to_crop(face.mesh, face.matrix)[[13, 14, 61, 291, 152], :2]
            assert mouth.min() > 4
            assert mouth.max() < SIDE - 4
            matrices.append(face.matrix)
    steps = [apart(a, b) for a, b in pairwise(matrices)]
    assert max(steps) < 2.0
    assert np.mean(steps) < 0.7
