"""How often an encoder may begin anew."""

import pytest

from stream.core.key_frames import KeyFrames

pytestmark = pytest.mark.unit


def made(keys: KeyFrames, asked: set[int], pictures: int = 100) -> list[int]:
    """Which of the pictures, 25 a second, are key frames; some were asked for just before."""
    found = []
    for number in range(pictures):
        if number in asked:
            keys.ask()
        if keys.due(number / 25):
            found.append(number)
    return found


def test_only_the_first_is_one_by_itself() -> None:
    assert made(KeyFrames(), set()) == [0]


def test_one_that_is_asked_for_late_enough_comes_at_once() -> None:
    assert made(KeyFrames(), {40, 70}) == [0, 40, 70]


def test_a_request_that_comes_too_soon_waits_and_is_not_lost() -> None:
    assert made(KeyFrames(), {3}) == [0, 25]


def test_a_storm_of_requests_makes_one_a_second() -> None:
    assert made(KeyFrames(), set(range(100))) == [0, 25, 50, 75]


def test_one_that_was_made_answers_all_that_were_asked_before() -> None:
    assert made(KeyFrames(), {26, 30, 31}) == [0, 26, 51]


def test_another_interval() -> None:
    assert made(KeyFrames(2.0), set(range(100))) == [0, 50]
