import numpy as np
import pytest

from engine.mark import Badge

pytestmark = pytest.mark.unit

SIZES = [(360, 288), (640, 480), (1920, 1080), (1080, 1920), (97, 61), (32, 32), (33, 400)]


@pytest.mark.parametrize("size", SIZES)
def test_badge_lies_in_the_lower_left_corner_and_touches_nothing_else(
    size: tuple[int, int],
) -> None:
    width, height = size
    picture = np.full((height, width, 3), 128, np.uint8)
    badge = Badge(width, height)
    marked = badge.on(picture)
    assert (picture == 128).all()
    rows, columns = np.nonzero((marked != picture).any(2))
    assert rows.min() > height * 0.4
    assert columns.min() < width * 0.3
    outside = marked.copy()
    outside[badge.rows, badge.columns] = 128
    assert (outside == 128).all()


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("height", [288, 480, 1080])
def test_letters_stand_out_from_any_picture(level: int, height: int) -> None:
    width = height * 4 // 3
    badge = Badge(width, height)
    patch = badge.on(np.full((height, width, 3), level, np.uint8))[badge.rows, badge.columns, 0]
    assert patch.max() > 220  # the letters
    assert np.percentile(patch, 20) < 120  # what they stand on
    letters = np.flatnonzero((patch > 180).any(1))
    assert len(letters) >= 10  # pixels high
    assert 0.02 < (patch > 180).mean() < 0.5


def test_badge_grows_with_the_picture_and_stays_small() -> None:
    areas = []
    for height in (480, 1080, 2160):
        badge = Badge(height * 16 // 9, height)
        area = (badge.rows.stop - badge.rows.start) * (badge.columns.stop - badge.columns.start)
        areas.append(area / (height * height * 16 / 9))
    assert all(0.002 < area < 0.03 for area in areas)
    assert areas[1] == pytest.approx(areas[2], rel=0.1)
