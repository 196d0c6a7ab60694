import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.crop import (
    BoxGeometry,
    CropGeometry,
    HeadPlace,
    Matrix,
    UprightGeometry,
    cut,
    eye_centres,
    geometry_from_dict,
    geometry_to_dict,
    head_place,
    mesh_box,
    to_crop,
)
from engine.errors import BundleError
from tests.faces import HEAD, Picture, carry

pytestmark = pytest.mark.unit

SIDE = 96


Point = tuple[float, float, float]


def mesh_with_eyes(left: Point, right: Point) -> NDArray[np.float32]:
    mesh = np.zeros((468, 3), dtype=np.float32)
    for centre, corners in ((left, (33, 133)), (right, (362, 263))):
        for corner, side in zip(corners, (-1, 1), strict=True):
            mesh[corner] = centre[0] + 5 * side, centre[1], centre[2]
    return mesh


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.7])
@pytest.mark.parametrize("unit", [12.0, 44.0, 300.0])
def test_eyes_lie_level_on_their_row_and_one_unit_apart(angle: float, unit: float) -> None:
    place = HeadPlace(x=320.0, y=200.0, unit=unit, angle=angle)
    geometry = UprightGeometry()
    matrix = geometry.matrix(place, SIDE)
    middle = np.array([320.0, 200.0])
    half = np.array([math.cos(angle), math.sin(angle)]) * unit / 2
    left, right = carry(np.stack([middle - half, middle + half]), matrix)
    row = SIDE * 0.55 / 2.85
    np.testing.assert_allclose([left[1], right[1]], row, atol=1e-6)
    np.testing.assert_allclose((left[0] + right[0]) / 2, SIDE / 2, atol=1e-6)
    assert right[0] - left[0] == pytest.approx(SIDE / 2.85)
    chin = middle[None] + np.array([-math.sin(angle), math.cos(angle)]) * 1.95 * unit
    assert carry(chin, matrix)[0, 1] == pytest.approx(row + 1.95 * SIDE / 2.85)


def test_head_place_reads_position_roll_and_true_distance_from_the_eyes() -> None:
    mesh = mesh_with_eyes((100.0, 50.0, 0.0), (140.0, 80.0, 0.0))
    place = head_place(mesh)
    assert (place.x, place.y) == (120.0, 65.0)
    assert place.unit == pytest.approx(50.0)
    assert place.angle == pytest.approx(math.atan2(30, 40))
    np.testing.assert_allclose(eye_centres(mesh), [[100, 50, 0], [140, 80, 0]])
    # A turned head shows its eyes closer together; its unit stays what it was.
    turned = mesh_with_eyes((100.0, 50.0, -15.0), (130.0, 50.0, 25.0))
    assert head_place(turned).unit == pytest.approx(50.0)


def test_no_point_but_the_eyes_shapes_the_upright_crop() -> None:
    mesh = mesh_with_eyes((100.0, 50.0, 0.0), (140.0, 50.0, 0.0))
    other = mesh + np.random.default_rng(0).normal(0, 30, mesh.shape).astype(np.float32)
    eyes = [33, 133, 362, 263]
    other[eyes] = mesh[eyes]
    assert head_place(other) == head_place(mesh)


def test_box_crop_holds_the_box_and_its_pads() -> None:
    box = np.array([100.0, 40.0, 180.0, 140.0])
    matrix = BoxGeometry(top=0.1, bottom=0.2, left=0.25, right=0.5).matrix(box, SIDE)
    corners = carry(np.array([[80.0, 30.0], [220.0, 160.0]]), matrix)
    np.testing.assert_allclose(corners, [[0, 0], [SIDE, SIDE]], atol=1e-9)


def test_mesh_box_bounds_the_mesh() -> None:
    mesh = np.random.default_rng(0).uniform(10, 90, (468, 3)).astype(np.float32)
    mesh[0, :2], mesh[1, :2] = (5, 95), (99, 2)
    np.testing.assert_array_equal(mesh_box(mesh), [5, 2, 99, 95])


def shrink(by: float, *, at: tuple[float, float] = (0.0, 0.0)) -> Matrix:
    return np.array([[1 / by, 0, -at[0] / by], [0, 1 / by, -at[1] / by]])


@pytest.mark.parametrize("by", [2.0, 3.0, 4.5, 8.0])
def test_fine_texture_is_averaged_not_sampled(by: float) -> None:
    side = int(SIDE * by) + 8
    checker = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    picture = np.repeat(checker[..., None], 3, axis=2)
    crop = cut(picture, shrink(by, at=(-4.0, -4.0)), SIDE)[4:-4, 4:-4].astype(float)
    sampled = cv2.warpAffine(picture, shrink(by, at=(-4.3, -4.3)), (SIDE, SIDE))[4:-4, 4:-4]
    assert crop.mean() == pytest.approx(127.5, abs=2)
    assert crop.std() < 20
    assert crop.std() <= sampled.std()


def test_whole_checker_squares_average_to_flat_grey() -> None:
    checker = (np.indices((400, 400)).sum(axis=0) % 2 * 255).astype(np.uint8)
    crop = cut(np.repeat(checker[..., None], 3, axis=2), shrink(4, at=(1.5, 1.5)), 90)
    assert np.ptp(crop.astype(int)) <= 1


@pytest.mark.parametrize("by", [0.5, 1.0, 2.0, 3.0, 6.0])
def test_crop_pixels_show_the_place_that_the_matrix_names(by: float) -> None:
    """On a ramp every pixel tells its own place, so a shift by part of a pixel would show."""
    y, x = np.indices((200, 240))
    ramp = np.stack([x, y, 0 * x], axis=-1).astype(np.uint8)
    matrix = shrink(by, at=(20.0, 10.0))
    side = int(160 / by)
    crop = cut(ramp, matrix, side).astype(float)
    pixel = np.arange(side)
    np.testing.assert_allclose(crop[3, 3:-3, 0], pixel[3:-3] * by + 20, atol=0.51)
    np.testing.assert_allclose(crop[3:-3, 3, 1], pixel[3:-3] * by + 10, atol=0.51)


@pytest.mark.parametrize("by", [1.0, 4.0])
def test_beyond_the_border_the_edge_is_repeated(by: float) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    picture[0], picture[:, 0] = (10, 200, 30), (200, 10, 30)
    crop = cut(picture, shrink(by, at=(-40.0 * by, 0.0)), 60)
    np.testing.assert_array_equal(crop[:, :38], np.broadcast_to((200, 10, 30), (60, 38, 3)))
    far = cut(picture, shrink(by, at=(-1e4, -1e4)), 8)
    assert (far == picture[0, 0]).all()


def test_points_go_where_the_pixels_go(astronaut: Picture) -> None:
    matrix = UprightGeometry().matrix(HEAD, SIDE)
    marked = astronaut.copy()
    point = np.array([[230.0, 150.0, 7.0]], dtype=np.float32)
    cv2.circle(marked, (230, 150), 3, (0, 255, 0), -1)
    green = cut(marked, matrix, SIDE).astype(int) - cut(astronaut, matrix, SIDE)
    weight = np.clip(green[..., 1] - green[..., 0], 0, None)
    y, x = (np.indices((SIDE, SIDE)) * weight).sum(axis=(1, 2)) / weight.sum()
    carried = to_crop(point, matrix)
    np.testing.assert_allclose(carried[0, :2], (x, y), atol=0.4)
    assert carried[0, 2] == pytest.approx(7 * SIDE / (2.85 * HEAD.unit), rel=1e-4)
    np.testing.assert_allclose(to_crop(point[:, :2], matrix), carried[:, :2])


@pytest.mark.parametrize(
    "geometry", [UprightGeometry(above=0.4, below=2.0), BoxGeometry(top=0.1, right=-0.2)]
)
def test_geometry_survives_its_bundle(geometry: CropGeometry) -> None:
    assert geometry_from_dict(geometry_to_dict(geometry)) == geometry


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"kind": "tilted"},
        {"kind": "upright-landmarks", "above": "wide"},
        {"kind": "upright-landmarks", "beyond": 1.0},
        {"kind": "upright-landmarks", "above": 0.5, "below": -0.5},
        {"kind": "upright-landmarks", "above": math.nan},
        {"kind": "box+pads", "left": -1.0},
        {"kind": "box+pads", "top": math.inf},
    ],
)
def test_geometry_that_makes_no_crop_is_refused(fields: dict[str, str | float]) -> None:
    with pytest.raises(BundleError, match="crop"):
        geometry_from_dict(fields)
