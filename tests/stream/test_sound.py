"""Samples in the session's form."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, as_sound

pytestmark = pytest.mark.unit


def test_a_tick_is_twenty_milliseconds() -> None:
    assert TICK_SAMPLES / SOUND_RATE == TICK_S == 0.02


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_one_channel_is_heard_on_both_sides(shape: tuple[int, ...]) -> None:
    samples = np.array([0.1, -0.2, 0.3, 1.0], np.float32)
    sound = as_sound(samples.reshape(shape))
    np.testing.assert_array_equal(sound, np.stack([samples, samples], axis=1))
    assert sound.dtype == np.float32
    assert sound.flags.c_contiguous


def test_two_channels_stay_and_more_become_their_mean() -> None:
    two = np.array([[0.1, 0.2], [0.3, -0.4]], np.float32)
    np.testing.assert_array_equal(as_sound(two), two)
    three = np.array([[0.1, 0.2, 0.6], [0.0, -0.3, 0.0]], np.float32)
    np.testing.assert_allclose(as_sound(three), [[0.3, 0.3], [-0.1, -0.1]], atol=1e-7)


def test_int16_counts_as_full_scale() -> None:
    sound = as_sound(np.array([-32_768, 0, 16_384], np.int16))
    np.testing.assert_array_equal(sound[:, 0], [-1, 0, 0.5])


def test_the_result_is_the_callers_own() -> None:
    samples = np.zeros((4, 2), np.float32)
    assert not np.shares_memory(as_sound(samples), samples)


@pytest.mark.parametrize(
    "samples", [np.zeros((2, 2, 2), np.float32), np.zeros(4, np.int32)], ids=str
)
def test_what_is_no_sound_is_refused(samples: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="samples must be"):
        as_sound(samples)
