import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face_models import MESH_POINTS
from engine.mouth_region import (
    LIPS,
    POINTS_68,
    SIDE,
    SMOOTHED,
    STABLE,
    MouthStream,
    mouth_regions,
    network_input,
    points_68,
    similarity,
)
from tests.mean_face import mean_points, mesh_of, moved

pytestmark = pytest.mark.unit

RNG = np.random.default_rng(0)


def picture() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(1).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (480, 360), interpolation=cv2.INTER_CUBIC), np.uint8)


def test_each_of_the_68_points_has_a_place_in_the_mesh() -> None:
    assert len(POINTS_68) == 68
    assert max(POINTS_68) < MESH_POINTS
    points = RNG.uniform(0, 400, (68, 2))
    for index in {*STABLE, *range(LIPS.start, LIPS.stop)}:
        twins = [i for i, place in enumerate(POINTS_68) if place == POINTS_68[index]]
        points[twins] = points[index]
    found = points_68(mesh_of(points))
    np.testing.assert_allclose(found[list(STABLE)], points[list(STABLE)], atol=1e-4)
    np.testing.assert_allclose(found[LIPS], points[LIPS], atol=1e-4)


def test_left_and_right_of_the_face_are_mirrored_in_the_mesh() -> None:
    """The points of one side and of the other have swapped numbers in the scheme's order."""
    outer_eyes, mouth_corners = (POINTS_68[36], POINTS_68[45]), (POINTS_68[48], POINTS_68[54])
    assert outer_eyes == (33, 263)
    assert mouth_corners == (61, 291)


def test_the_similarity_is_found_again() -> None:
    points = RNG.uniform(0, 100, (5, 2))
    target = moved(points, 0.3, 1.7)
    matrix = similarity(points, target)
    np.testing.assert_allclose(points @ matrix[:, :2].T + matrix[:, 2], target, atol=1e-9)


def test_the_similarity_never_mirrors() -> None:
    points = RNG.uniform(0, 100, (5, 2))
    assert np.linalg.det(similarity(points, points * [-1, 1])[:, :2]) >= 0


def test_the_region_lies_on_the_mouth_whatever_the_heads_roll_and_size() -> None:
    points = mean_points()
    regions = []
    for turn, scale in ((0.0, 1.0), (0.2, 1.3)):
        matrix = similarity(points, moved(points, turn, scale))
        shown = cv2.warpAffine(picture(), matrix, (720, 560), flags=cv2.INTER_CUBIC)
        own = moved(points, turn, scale)
        regions.append(mouth_regions([np.asarray(shown, np.uint8)], [mesh_of(own)])[0])
    assert regions[0].shape == (SIDE, SIDE)
    assert np.abs(regions[0].astype(int) - regions[1]).mean() < 4


def test_the_reference_form_smooths_over_the_frames_that_follow() -> None:
    """A head that shifts once: before the shift the smoothed points lie between both places."""
    points = mean_points()
    meshes = [mesh_of(points)] * 20 + [mesh_of(points + np.array([8, 0]))] * 20
    regions = mouth_regions([picture()] * 40, meshes)
    still = mouth_regions([picture()] * 8, meshes[:8])[0]
    changed = [bool((region != still).any()) for region in regions]
    assert changed.index(True) == 20 - SMOOTHED + 1
    np.testing.assert_array_equal(regions[20], regions[-1])


def test_the_causal_form_knows_only_what_was() -> None:
    points = mean_points()
    meshes = [mesh_of(points)] * 20 + [mesh_of(points + np.array([8, 0]))] * 20
    stream = MouthStream()
    regions = [stream.push(picture(), mesh) for mesh in meshes]
    changed = [bool((region != regions[0]).any()) for region in regions]
    assert changed.index(True) == 20
    np.testing.assert_array_equal(regions[20 + SMOOTHED - 1], regions[-1])
    stream.forget()
    np.testing.assert_array_equal(stream.push(picture(), meshes[-1]), regions[-1])


def test_both_forms_are_one_where_the_head_is_still() -> None:
    mesh = mesh_of(mean_points())
    stream = MouthStream()
    causal = [stream.push(picture(), mesh) for _ in range(3)]
    np.testing.assert_array_equal(mouth_regions([picture()] * 3, [mesh] * 3), causal)


def test_missing_faces_are_filled_in_from_their_neighbours() -> None:
    points = mean_points()
    known = [
        mesh_of(points),
        mesh_of(points + np.array([4, 0])),
        mesh_of(points + np.array([8, 0])),
    ]
    with_gap = mouth_regions([picture()] * 3, [known[0], None, known[2]])
    np.testing.assert_array_equal(with_gap, mouth_regions([picture()] * 3, known))
    with pytest.raises(ValueError, match="no picture has a face"):
        mouth_regions([picture()], [None])


def test_the_network_sees_the_middle_in_gray_around_nought() -> None:
    regions = np.zeros((2, SIDE, SIDE), np.uint8)
    regions[:, 4:92, 4:92] = 255
    seen = network_input(regions)
    assert seen.shape == (2, 88, 88)
    np.testing.assert_allclose(seen, (1 - 0.421) / 0.165, rtol=1e-5)
