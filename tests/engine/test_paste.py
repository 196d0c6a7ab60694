import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.crop import HeadPlace, Matrix, UprightGeometry, cut
from engine.paste import colour_match, disagreement, paste, paste_mask
from tests.faces import FACE_WIDTH, HEAD, Picture, carry, inverted, move, similarity

pytestmark = pytest.mark.unit

SIDE = 96
ROWS = (40, 96)
GEOMETRY = UprightGeometry()


def crop_matrix(shown: Matrix) -> Matrix:
    """The crop of the portrait that was moved by ``shown``."""
    scale = float(np.sqrt(np.linalg.det(shown[:, :2])))
    turn = float(np.arctan2(shown[1, 0], shown[0, 0]))
    x, y = carry(np.array([[HEAD.x, HEAD.y]]), shown)[0]
    return GEOMETRY.matrix(HeadPlace(x, y, HEAD.unit * scale, HEAD.angle + turn), SIDE)


def scene(astronaut: Picture, width_px: float, roll: float = 0.0) -> tuple[Picture, Matrix]:
    """The portrait with a face of a given width, and the matrix of its crop."""
    side = int(3.5 * width_px)
    scale = width_px / (FACE_WIDTH * HEAD.unit)
    shown = similarity(scale=scale, roll=roll, to=(side / 2, 0.4 * side))
    return move(astronaut, shown, (side, side)), crop_matrix(shown)


def rows_of(crop: Picture) -> Picture:
    return crop[ROWS[0] : ROWS[1]].copy()


def touched(picture: Picture, matrix: Matrix) -> NDArray[np.bool_]:
    """Pixels of the picture that the mask may reach."""
    size = picture.shape[1::-1]
    inverse = inverted(matrix)
    reach = (paste_mask(SIDE) > 0).astype(np.float32)
    return np.asarray(cv2.warpAffine(reach, inverse, size) > 0)


def psnr(one: Picture, other: Picture) -> float:
    error = np.square(one.astype(float) - other).mean()
    return float(10 * np.log10(255**2 / max(float(error), 1e-12)))


def painted_mouth(crop: Picture) -> Picture:
    """The crop's rows with a mouth as no real one is."""
    rows = rows_of(crop)
    cv2.ellipse(rows, (48, 16), (14, 7), 0, 0, 360, (40, 90, 200), -1)
    return rows


FACES = [(60, 0), (60, 25), (100, -20), (220, 0), (220, 30), (600, 0), (600, -15)]


@pytest.mark.parametrize(("width_px", "roll"), FACES)
def test_pixels_outside_the_mask_are_untouched(
    astronaut: Picture, width_px: int, roll: int
) -> None:
    picture, matrix = scene(astronaut, width_px, roll)
    before = picture.copy()
    crop = cut(picture, matrix, SIDE)
    result = paste(picture, crop, 255 - rows_of(crop), ROWS, matrix)
    outside = ~touched(picture, matrix)
    np.testing.assert_array_equal(result[outside], before[outside])
    np.testing.assert_array_equal(picture, before)
    assert result.dtype == np.uint8
    changed = (result != before).any(axis=-1)
    assert 0.5 < changed.sum() / (~outside).sum() <= 1
    eyes = carry(np.array([[SIDE / 2, 0.0], [SIDE / 2, 34.0]]), inverted(matrix))
    line = np.linspace(eyes[0], eyes[1], 50).round().astype(int)
    np.testing.assert_array_equal(result[line[:, 1], line[:, 0]], before[line[:, 1], line[:, 0]])


@pytest.mark.parametrize(("width_px", "roll"), FACES)
def test_own_pixels_painted_back_cannot_be_seen(
    astronaut: Picture, width_px: int, roll: int
) -> None:
    picture, matrix = scene(astronaut, width_px, roll)
    crop = cut(picture, matrix, SIDE)
    result = paste(picture, crop, rows_of(crop), ROWS, matrix)
    assert psnr(result, picture) > 55
    assert np.abs(result.astype(int) - picture).max() <= 2


@pytest.mark.parametrize(("width_px", "roll"), FACES)
@pytest.mark.parametrize("shift", [-25, (12, -8, 18)])
def test_other_light_on_the_painted_rows_is_taken_out(
    astronaut: Picture, width_px: int, roll: int, shift: int | tuple[int, int, int]
) -> None:
    base, matrix = scene(astronaut, width_px, roll)
    # Away from black and white, where a shift is cut off and so no matter of light alone.
    picture = (40 + base * 0.65).astype(np.uint8)
    crop = cut(picture, matrix, SIDE)
    lit = (rows_of(crop).astype(int) + np.array(shift)).astype(np.uint8)
    difference = paste(picture, crop, lit, ROWS, matrix).astype(int) - picture
    assert np.abs(difference).max() <= 2


def test_light_that_falls_off_to_one_side_is_followed(astronaut: Picture) -> None:
    base, matrix = scene(astronaut, 220)
    picture = (40 + base * 0.65).astype(np.uint8)
    crop = cut(picture, matrix, SIDE)
    ramp = np.linspace(-10, 10, SIDE)[None, :, None]
    lit = (rows_of(crop) + ramp).round().astype(np.uint8)
    difference = np.abs(paste(picture, crop, lit, ROWS, matrix).astype(int) - picture)
    assert difference[touched(picture, matrix)].mean() < 2.5
    assert difference.max() < 8


def test_a_hand_at_the_edge_does_not_tint_the_mouth(astronaut: Picture) -> None:
    crop = cut(astronaut, crop_matrix(similarity(to=(HEAD.x, HEAD.y))), SIDE)
    painted = rows_of(crop)
    real = painted.copy()
    real[8:30, 8:24] = (230, 40, 40)
    mask = paste_mask(SIDE)[ROWS[0] :]
    matched = colour_match(painted, real, (4 * mask * (1 - mask)).astype(np.float32))
    assert np.abs(matched - painted)[:, 34:62].max() < 4


@pytest.mark.parametrize("width_px", [60, 220, 600])
def test_the_painted_mouth_is_what_is_seen(astronaut: Picture, width_px: int) -> None:
    picture, matrix = scene(astronaut, width_px)
    crop = cut(picture, matrix, SIDE)
    painted = painted_mouth(crop)
    result = paste(picture, crop, painted, ROWS, matrix)
    shown = cut(result, matrix, SIDE)[ROWS[0] : ROWS[1]].astype(int)
    mouth = (slice(12, 21), slice(38, 59))
    assert np.abs(shown[mouth] - painted[mouth]).mean() < 8
    lower_face = (slice(8, 50), slice(26, 70))  # all of it, the real chin included
    assert np.abs(shown[lower_face] - painted[lower_face]).mean() < 8


@pytest.mark.parametrize("width_px", [220, 600])
def test_skin_beside_the_mouth_keeps_its_grain(astronaut: Picture, width_px: int) -> None:
    picture, matrix = scene(astronaut, width_px)
    grain = np.random.default_rng(0).normal(0, 8, picture.shape)
    picture = np.clip(picture + grain, 0, 255).astype(np.uint8)
    crop = cut(picture, matrix, SIDE)
    result = paste(picture, crop, painted_mouth(crop), ROWS, matrix)
    inverse = inverted(matrix)

    def sharpness(image: Picture, at: tuple[float, float]) -> float:
        x, y = carry(np.array([at]), inverse)[0].astype(int)
        reach = width_px // 16
        part = image[y - reach : y + reach, x - reach : x + reach].astype(np.float32)
        return float((part - cv2.GaussianBlur(part, (0, 0), 1.5)).std())

    cheek, mouth = (24.0, 54.0), (48.0, 56.0)
    assert sharpness(result, cheek) > 0.9 * sharpness(picture, cheek)
    assert sharpness(result, mouth) < 0.5 * sharpness(picture, mouth)  # not the real lips' own


@pytest.mark.parametrize("to", [(0.0, 60.0), (380.0, 60.0), (190.0, -120.0), (190.0, 330.0)])
@pytest.mark.parametrize("roll", [0.0, 40.0])
def test_face_partly_outside_the_picture_is_pasted_where_it_is_seen(
    astronaut: Picture, to: tuple[float, float], roll: float
) -> None:
    shown = similarity(roll=roll, to=to)
    picture, matrix = move(astronaut, shown, (380, 340)), crop_matrix(shown)
    crop = cut(picture, matrix, SIDE)
    result = paste(picture, crop, 255 - rows_of(crop), ROWS, matrix)
    assert result.shape == picture.shape
    outside = ~touched(picture, matrix)
    np.testing.assert_array_equal(result[outside], picture[outside])


def test_face_wholly_outside_the_picture_changes_nothing(astronaut: Picture) -> None:
    matrix = crop_matrix(similarity(to=(-500.0, -500.0)))
    crop = cut(astronaut, matrix, SIDE)
    np.testing.assert_array_equal(
        paste(astronaut, crop, 255 - rows_of(crop), ROWS, matrix), astronaut
    )


def test_part_of_a_picture_is_pasted_like_the_whole(astronaut: Picture) -> None:
    matrix = crop_matrix(similarity(to=(HEAD.x, HEAD.y)))
    crop = cut(astronaut, matrix, SIDE)
    painted = painted_mouth(crop)
    whole = paste(astronaut, crop, painted, ROWS, matrix)
    part = matrix.copy()
    part[:, 2] += matrix[:, :2] @ np.array([100.0, 60.0])
    corner = np.ascontiguousarray(astronaut[60:300, 100:330])
    pasted = paste(corner, crop, painted, ROWS, part).astype(int)
    assert np.abs(pasted - whole[60:300, 100:330]).max() <= 2


def test_picture_of_the_box_crop_may_be_stretched(astronaut: Picture) -> None:
    matrix = np.array([[0.6, 0.0, -90.0], [0.0, 0.8, -60.0]])
    crop = cut(astronaut, matrix, SIDE)
    result = paste(astronaut, crop, crop, (0, SIDE), matrix)
    assert psnr(result, astronaut) > 55


@pytest.mark.parametrize("side", [64, 96, 192, 384])
def test_mask_covers_the_jaw_softly_and_leaves_the_rest(side: int) -> None:
    mask = paste_mask(side)
    assert mask.shape == (side, side)
    assert mask.dtype == np.float32
    assert mask.min() == 0.0
    assert mask.max() <= 1.0
    for edge in (mask[:2], mask[-1:], mask[:, :2], mask[:, -2:]):
        assert edge.max() == 0.0
    np.testing.assert_allclose(mask, mask[:, ::-1], atol=1e-6)

    unit = side / GEOMETRY.side
    eyes = round(GEOMETRY.above * unit)
    assert mask[: eyes + round(0.4 * unit)].max() == 0.0  # eyes and bridge of the nose
    middle = mask[:, side // 2]
    assert middle[eyes + round(1.0 * unit) : eyes + round(1.85 * unit)].min() > 0.9  # lips, chin
    assert middle[eyes + round(2.0 * unit)] > 0.5  # a chin that drops
    lips = mask[eyes + round(1.1 * unit)]
    assert lips[round(side / 2 - 0.6 * unit) : round(side / 2 + 0.6 * unit)].min() > 0.9
    ear = round(1.25 * unit)
    assert lips[side // 2 - ear] < 0.1
    assert lips[side // 2 + ear] < 0.1

    slope = max(float(np.abs(np.diff(mask, axis=axis)).max()) for axis in (0, 1))
    assert slope < 22 / side  # even at the chin it takes a good twentieth of the crop


def test_mask_cannot_be_changed_by_its_users() -> None:
    with pytest.raises(ValueError, match="read-only"):
        paste_mask(SIDE)[0, 0] = 1.0


# Shares of a painted mouth, for cross-fades


@pytest.mark.parametrize(("width_px", "roll"), FACES)
def test_fade_runs_evenly_from_the_real_to_the_painted_mouth(
    astronaut: Picture, width_px: int, roll: int
) -> None:
    picture, matrix = scene(astronaut, width_px, roll)
    crop = cut(picture, matrix, SIDE)
    painted = painted_mouth(crop)
    whole = paste(picture, crop, painted, ROWS, matrix).astype(float)
    for amount in (0.0, 0.25, 0.8, 1.0):
        part = paste(picture, crop, painted, ROWS, matrix, amount=amount)
        expected = picture + amount * (whole - picture)
        # A change that is cut off at black or white is cut off after the fade, not before.
        inside = (whole > 0) & (whole < 255)
        assert np.abs(part - expected)[inside].max() <= 1
        assert part is not picture
    np.testing.assert_array_equal(paste(picture, crop, painted, ROWS, matrix, amount=1.0), whole)


@pytest.mark.parametrize("amount", [0.0, -0.5])
def test_nothing_of_the_painted_mouth_leaves_the_picture_as_it_is(
    astronaut: Picture, amount: float
) -> None:
    picture, matrix = scene(astronaut, 220)
    crop = cut(picture, matrix, SIDE)
    none = paste(picture, crop, painted_mouth(crop), ROWS, matrix, amount=amount)
    np.testing.assert_array_equal(none, picture)


def test_more_than_the_whole_mouth_is_the_whole_mouth(astronaut: Picture) -> None:
    picture, matrix = scene(astronaut, 220)
    crop = cut(picture, matrix, SIDE)
    over = paste(picture, crop, painted_mouth(crop), ROWS, matrix, amount=1.5)
    np.testing.assert_array_equal(over, paste(picture, crop, painted_mouth(crop), ROWS, matrix))


# What lies before a mouth


@pytest.fixture
def crop(astronaut: Picture) -> Picture:
    matrix = crop_matrix(similarity())
    return cut(move(astronaut, similarity()), matrix, SIDE)


def test_own_pixels_in_other_light_agree(crop: Picture) -> None:
    mild = (30 + crop * 0.7).astype(np.uint8)
    assert disagreement(mild, rows_of(mild), ROWS) == 0.0
    lit = (rows_of(mild) + np.array([20, -15, 10])).astype(np.uint8)
    assert disagreement(mild, lit, ROWS) == 0.0


def test_lips_a_little_elsewhere_agree(crop: Picture) -> None:
    """Speech moves lips and jaw by some pixels."""
    assert disagreement(crop, np.roll(crop, 3, axis=0)[ROWS[0] : ROWS[1]], ROWS) < 0.05


@pytest.mark.parametrize("colour", [(128, 128, 128), (60, 90, 160), (250, 250, 250), (20, 20, 20)])
@pytest.mark.parametrize("reach", [14, 30])
def test_a_thing_before_the_mouth_disagrees_even_inside_the_rim(
    crop: Picture, colour: tuple[int, int, int], reach: int
) -> None:
    painted = rows_of(crop)
    cv2.circle(crop, (48, 64), reach, colour, -1)
    assert disagreement(crop, painted, ROWS) > 0.13


def test_what_is_above_or_beside_the_paste_counts_nothing(crop: Picture) -> None:
    painted = rows_of(crop)
    crop[:36] = 0
    crop[:, :8] = crop[:, -8:] = 255
    crop[90:] = 128
    assert disagreement(crop, painted, ROWS) == 0.0


@pytest.mark.parametrize("side", [64, 96, 192])
def test_disagreement_does_not_hang_on_the_resolution(crop: Picture, side: int) -> None:
    painted = crop.copy()
    cv2.circle(crop, (48, 64), 20, (60, 90, 160), -1)
    live, other = (
        np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA), np.uint8)
        for image in (crop, painted)
    )
    rows = (round(ROWS[0] * side / SIDE), side)
    reference = disagreement(crop, painted[ROWS[0] :], ROWS)
    assert disagreement(live, other[rows[0] :], rows) == pytest.approx(reference, abs=0.05)
