import numpy as np
import pytest
from numpy.typing import NDArray

from engine.filterbank import (
    BANDS,
    STACKED,
    VALUES,
    FilterbankStream,
    audio_features,
    log_filterbank,
    normalise,
    stack,
)

pytestmark = pytest.mark.unit


def noise(count: int, seed: int = 0) -> NDArray[np.float32]:
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "rows"), [(0, 1), (1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (640 * 75, 299)]
)
def test_there_is_a_row_for_each_window_that_begins(samples: int, rows: int) -> None:
    assert log_filterbank(noise(samples)).shape == (rows, BANDS)


def test_a_tone_sounds_in_its_own_band() -> None:
    time = np.arange(16_000) / 16_000
    low, high = (
        int(log_filterbank(np.sin(2 * np.pi * f * time).astype(np.float32))[5].argmax())
        for f in (300, 3000)
    )
    assert (low, high) == (3, 17)


def test_silence_has_finite_energies() -> None:
    assert np.isfinite(log_filterbank(np.zeros(1600, np.float32))).all()


def test_each_row_is_normalised_by_itself() -> None:
    rows = audio_features(noise(640 * 10), 10)
    assert rows.shape == (10, VALUES)
    np.testing.assert_allclose(rows.mean(axis=1), 0, atol=1e-5)
    np.testing.assert_allclose(rows.var(axis=1), 1, atol=1e-3)


def test_the_last_row_of_a_clip_lacks_a_step_and_hears_the_scale_of_samples() -> None:
    """640 · T samples give 4 · T − 1 steps: the missing one is 0, which is near no energy's log."""
    sound = noise(640 * 5)
    loud = audio_features(sound, 5)
    quiet = audio_features(sound / np.float32(32768), 5)
    np.testing.assert_allclose(loud[:-1], quiet[:-1], atol=1e-4)
    assert np.abs(loud[-1] - quiet[-1]).max() > 1


def test_a_sound_is_cut_or_filled_up_to_the_pictures() -> None:
    steps = log_filterbank(noise(640 * 8))
    assert stack(steps, 5).shape == (5, VALUES)
    np.testing.assert_array_equal(stack(steps, 5), stack(steps)[:5])
    longer = stack(steps, 12)
    np.testing.assert_array_equal(longer[8:], 0)


@pytest.mark.parametrize("packet", [1, 7, 160, 320, 959, 40_000])
def test_a_stream_gives_what_the_whole_sound_gives(packet: int) -> None:
    sound = noise(640 * 12 + 33) if packet > 1 else noise(640 * 3)
    stream = FilterbankStream()
    rows = [stream.push(sound[i : i + packet]) for i in range(0, len(sound), packet)]
    streamed = np.concatenate(rows)
    whole = normalise(
        log_filterbank(sound)[: len(streamed) * STACKED].reshape(-1, VALUES).astype(np.float32)
    )
    assert len(streamed) == (len(sound) - 240) // 640
    np.testing.assert_allclose(streamed, whole, atol=1e-6)
