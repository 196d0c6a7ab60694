import numpy as np
import pytest
from numpy.typing import NDArray

from engine.resample import Resampler, resample, to_mono

pytestmark = pytest.mark.unit

RATES = [(48_000, 16_000), (44_100, 16_000), (16_000, 48_000), (22_050, 16_000), (16_000, 16_000)]


def tone(rate: int, seconds: float, hz: float = 440.0) -> NDArray[np.float32]:
    time_s = np.arange(round(rate * seconds)) / rate
    samples: NDArray[np.float32] = (0.5 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)
    return samples


def streamed(
    samples: NDArray[np.float32], rates: tuple[int, int], size: int
) -> NDArray[np.float32]:
    channels = samples.shape[1] if samples.ndim == 2 else 1
    resampler = Resampler(*rates, channels)
    parts = [resampler.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    return np.concatenate([*parts, resampler.finish()])


@pytest.mark.parametrize("rates", RATES)
def test_tone_keeps_pitch_level_and_place(rates: tuple[int, int]) -> None:
    converted = resample(tone(rates[0], 1.0), *rates)
    expected = tone(rates[1], 1.0)
    assert converted.dtype == np.float32
    assert len(converted) == len(expected)
    inner = slice(rates[1] // 10, -rates[1] // 10)
    np.testing.assert_allclose(converted[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("size", [1, 160, 441, 1_024, 9_999])
def test_stream_equals_whole(rates: tuple[int, int], size: int) -> None:
    noise = np.random.default_rng(3).uniform(-1, 1, 5_000).astype(np.float32)
    np.testing.assert_allclose(streamed(noise, rates, size), resample(noise, *rates), atol=1e-5)


def test_what_is_above_the_new_band_is_removed() -> None:
    aliased = resample(tone(48_000, 0.5, hz=11_000), 48_000, 16_000)
    assert np.abs(aliased[800:-800]).max() < 1e-3


def test_channels_are_averaged() -> None:
    left, right = tone(48_000, 0.3), tone(48_000, 0.3, hz=1_000)
    mean = ((left + right) / 2).astype(np.float32)
    both = streamed(np.stack([left, right], axis=1), (48_000, 16_000), 480)
    np.testing.assert_allclose(both, resample(mean, 48_000, 16_000), atol=1e-5)


def test_int16_counts_as_full_scale() -> None:
    samples = np.array([[-32_768, -32_768], [16_384, 0], [0, 0]], np.int16)
    expected = np.array([-1, 0.25, 0], np.float32)
    np.testing.assert_array_equal(to_mono(samples), expected)
    np.testing.assert_array_equal(resample(samples, 16_000, 16_000), expected)


def test_equal_rates_pass_at_once() -> None:
    resampler = Resampler(16_000, 16_000)
    samples = tone(16_000, 0.1)
    np.testing.assert_array_equal(resampler.push(samples), samples)
    assert resampler.finish().shape == (0,)


def test_nothing_in_nothing_out() -> None:
    assert resample(np.zeros(0, np.float32), 48_000, 16_000).shape == (0,)
    assert Resampler(48_000, 16_000).push(np.zeros(0, np.float32)).shape == (0,)


def test_what_does_not_fit_is_refused() -> None:
    resampler = Resampler(48_000, 16_000, channels=2)
    with pytest.raises(ValueError, match="channels"):
        resampler.push(np.zeros(10, np.float32))
    with pytest.raises(ValueError, match="int16"):
        resampler.push(np.zeros((10, 2), np.int32))  # type: ignore[arg-type]
    resampler.finish()
    with pytest.raises(ValueError, match="finished"):
        resampler.push(np.zeros((10, 2), np.float32))
    with pytest.raises(ValueError, match="at least 1"):
        Resampler(0, 16_000)
