import time

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from stream.portrait import Portrait

pytestmark = pytest.mark.unit

EYES = (slice(170, 240), slice(210, 365))
MOUTH = (slice(265, 315), slice(235, 340))


@pytest.fixture(scope="module")
def portrait() -> Portrait:
    return Portrait()


def test_pictures_are_rgb_even_sized_and_repeatable(portrait: Portrait) -> None:
    picture = portrait.frame(1.234)
    assert picture.dtype == np.uint8
    assert picture.shape == (portrait.height, portrait.width, 3)
    assert portrait.height % 2 == portrait.width % 2 == 0
    np.testing.assert_array_equal(picture, Portrait().frame(1.234))
    face = picture[200:300, 230:340].reshape(-1, 3).mean(0)
    assert face[0] > face[2] + 20  # skin: more red than blue


def test_a_caller_may_draw_on_a_picture(portrait: Portrait) -> None:
    before = portrait.frame(0.5).copy()
    portrait.frame(0.5)[:] = 0
    np.testing.assert_array_equal(portrait.frame(0.5), before)


def test_the_head_moves_and_the_border_stays_still(portrait: Portrait) -> None:
    pictures = np.stack([portrait.frame(t) for t in np.arange(0.0, 12.0, 0.5)]).astype(np.int16)
    spread = pictures.max(0) - pictures.min(0)
    assert spread[:2].max() == spread[-2:].max() == spread[:, :2].max() == spread[:, -2:].max() == 0
    assert spread[MOUTH].mean() > 20


def gray(portrait: Portrait, time_s: float, area: tuple[slice, slice]) -> NDArray[np.float32]:
    picture = np.ascontiguousarray(portrait.frame(time_s)[area])
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32)


def test_motion_is_small_and_never_abrupt(portrait: Portrait) -> None:
    area = (slice(220, 348), slice(222, 350))  # nose, mouth and chin: nothing that blinks
    window = cv2.createHanningWindow((128, 128), cv2.CV_32F)
    steps, before = [], gray(portrait, 0.0, area)
    for i in range(1, 300):
        now = gray(portrait, i / 25, area)
        steps.append(cv2.phaseCorrelate(before, now, window)[0])
        before = now
    path = np.cumsum(steps, axis=0)
    assert 3.0 < np.ptp(path, axis=0).max() < 20.0
    assert np.abs(steps).max() < 0.8


def test_it_blinks_briefly_about_every_four_seconds(portrait: Portrait) -> None:
    eyes = [gray(portrait, i / 25, EYES) for i in range(25 * 24)]
    dark = np.array([np.count_nonzero(eye < 70) for eye in eyes])  # irises and lashes
    shut = dark < 0.7 * np.median(dark)
    blinks = np.flatnonzero(np.diff(shut.astype(np.int8)) == 1) / 25
    assert 5 <= len(blinks) <= 7
    assert np.diff(blinks).min() > 1.5
    assert shut.mean() < 0.08


def test_sixty_pictures_a_second_leave_time_to_spare(portrait: Portrait) -> None:
    start = time.perf_counter()
    for i in range(60):
        portrait.frame(i / 60)
    assert time.perf_counter() - start < 1.0
