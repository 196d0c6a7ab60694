import numpy as np
import pytest
import python_speech_features
from numpy.typing import NDArray

from engine.filterbank import log_filterbank
from engine.mfcc import mfcc

pytestmark = pytest.mark.unit

CLOSE = 1e-4
LENGTHS = [1, 399, 400, 401, 560, 640, 16_001]


def integers(count: int) -> NDArray[np.int16]:
    """A chirp and noise, as a 16-bit file holds them."""
    times = np.arange(count) / 16_000
    noise = np.random.default_rng(0).normal(0, 300, count)
    return np.asarray(9000 * np.sin(2 * np.pi * (200 + 900 * times) * times) + noise, np.int16)


def samples(sound: NDArray[np.int16]) -> NDArray[np.float32]:
    return (sound / 32_768).astype(np.float32)


@pytest.mark.parametrize("count", LENGTHS)
def test_cepstra_are_those_of_python_speech_features(count: int) -> None:
    sound = integers(count)
    found = mfcc(samples(sound))
    expected = python_speech_features.mfcc(sound, 16_000)
    assert found.shape == expected.shape == (max(1, 1 + -((400 - count) // 160)), 13)
    np.testing.assert_allclose(found, expected, atol=CLOSE)


@pytest.mark.parametrize("count", LENGTHS)
def test_log_filterbank_is_that_of_python_speech_features(count: int) -> None:
    sound = integers(count)
    found = log_filterbank(samples(sound))
    expected = python_speech_features.logfbank(sound, 16_000)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=CLOSE)


def test_silence_is_finite() -> None:
    assert np.isfinite(mfcc(np.zeros(8000, np.float32))).all()
