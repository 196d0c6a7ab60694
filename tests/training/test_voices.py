import sys
import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.mel import SAMPLE_RATE
from training.voices import Voice, change_voice

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("pyworld", reason="other voices need pyworld, which is not installed")

pytestmark = pytest.mark.unit

PITCH_HZ, TRACT_HZ = 120.0, 700.0


def vowel(pitch_hz: float = PITCH_HZ) -> NDArray[np.float32]:
    """Half a second of silence, then half a second of a vowel with one formant."""
    at = np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE
    harmonics = np.arange(1, 40) * pitch_hz
    levels = np.exp(-(((harmonics - TRACT_HZ) / 250) ** 2)) + 60 / harmonics
    wave = (levels[:, None] * np.cos(2 * np.pi * harmonics[:, None] * at)).sum(axis=0)
    return np.concatenate([np.zeros_like(wave), 0.3 * wave / np.abs(wave).max()]).astype(np.float32)


def pitch_of(wave: NDArray[np.float32]) -> float:
    """By the first peak of the autocorrelation, Hz."""
    middle = wave[10_000:14_000].astype(np.float64)
    same = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lags = slice(SAMPLE_RATE // 400, SAMPLE_RATE // 60)
    return SAMPLE_RATE / (lags.start + int(np.argmax(same[lags])))


def centre_of(wave: NDArray[np.float32]) -> float:
    """The mean frequency of a sound's power, Hz."""
    power = np.abs(np.fft.rfft(wave[10_000:14_000] * np.hanning(4000))) ** 2
    return float((power * np.fft.rfftfreq(4000, 1 / SAMPLE_RATE)).sum() / power.sum())


def test_pitch_rises_by_its_factor_and_the_tract_stays() -> None:
    changed = change_voice(vowel(), Voice(pitch=1.5))
    assert pitch_of(changed) == pytest.approx(1.5 * PITCH_HZ, rel=0.03)
    assert centre_of(changed) == pytest.approx(centre_of(vowel()), rel=0.1)


def test_formants_rise_by_their_factor_and_the_pitch_stays() -> None:
    changed = change_voice(vowel(), Voice(formants=1.25))
    assert pitch_of(changed) == pytest.approx(PITCH_HZ, rel=0.03)
    assert centre_of(changed) == pytest.approx(1.25 * centre_of(vowel()), rel=0.1)


def test_every_sound_stays_where_it_was() -> None:
    own = vowel()
    changed = change_voice(own, Voice(pitch=1.8, formants=1.2))
    assert changed.shape == own.shape
    assert changed.dtype == np.float32
    half = len(own) // 2
    assert np.abs(changed[: half - 400]).max() < 0.01 < 0.1 < np.abs(changed[half + 400 :]).max()


def test_people_differ_and_are_drawn_again_alike() -> None:
    first, again = (Voice.draw(np.random.default_rng(3)) for _ in range(2))
    assert first == again
    drawn = [Voice.draw(np.random.default_rng(i)) for i in range(50)]
    high = [v for v in drawn if v.formants > 1.1]
    assert 0.4 < len(high) / len(drawn) < 0.9
    assert all(v.pitch >= 1.4 for v in high)


def test_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyworld", None)
    with pytest.raises(ConfigError, match="pyworld"):
        change_voice(vowel(), Voice())
