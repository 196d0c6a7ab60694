import numpy as np
import pytest

from training.leakage import leak_figures, moving_share, open_share

pytestmark = pytest.mark.unit


def test_mouth_is_open_above_the_limit() -> None:
    assert open_share(np.array([0.0, 0.04, 0.06, 0.3])) == 0.5


def test_mouth_moves_where_its_opening_spans_much_within_five_frames() -> None:
    assert moving_share(np.full(20, 0.2)) == 0
    assert moving_share(np.linspace(0, 0.1, 20)) == 0  # 0.021 in five frames
    step = np.where(np.arange(20) < 10, 0.0, 0.1)
    assert moving_share(step) == 4 / 20  # two frames on either side of it


def test_figures_tell_the_leak_from_the_mouth_that_came_in() -> None:
    real = 0.1 + 0.1 * np.sin(np.arange(50) / 3)
    copied = leak_figures("a", "a", real, real, 0)
    still = leak_figures("a", "b", np.full(50, 0.02), real, 3)
    assert copied.following == pytest.approx(1)
    assert copied.moving_share == copied.real_moving_share > 0.5
    assert (still.open_share, still.moving_share, still.following) == (0, 0, 0)
    assert still.real_open_share == copied.open_share
    assert (still.frames, still.lost) == (50, 3)
