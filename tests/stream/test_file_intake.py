"""The sound of a file as a session's intake."""

import logging
import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import MediaError
from stream.core.file_intake import AHEAD_S
from stream.core.intake import FileIntake
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound

pytestmark = pytest.mark.media


def write_wav(path: Path, samples: NDArray[np.float64], rate: int) -> Path:
    """Samples (n, channels) in [−1, 1)."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples * 32_768).astype("<i2").tobytes())
    return path


def pulled(intake: FileIntake, seconds: float) -> Sound:
    """Pulls that never come before the decoder."""
    blocks = []
    for tick in range(round(seconds / TICK_S)):
        assert intake.wait()
        blocks.append(intake.pull(TICK_SAMPLES, tick * TICK_S))
    return np.concatenate(blocks)


def test_a_file_is_heard_as_it_is_again_and_again_with_a_gap(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).integers(-30_000, 30_000, (24_000, 2)) / 32_768
    intake = FileIntake(write_wav(tmp_path / "a.wav", samples, SOUND_RATE), gap_s=0.25)
    sound = pulled(intake, 3)
    intake.close()
    for start in (0, 36_000, 72_000, 108_000):
        np.testing.assert_array_equal(sound[start : start + 24_000], samples)
        assert not sound[start + 24_000 : start + 36_000].any()
    assert intake.starved_s == 0
    assert not intake.ended


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_any_rate_is_heard_at_its_own_pace_and_mono_on_both_sides(
    tmp_path: Path, rate: int
) -> None:
    level = 0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)[:, None]
    intake = FileIntake(write_wav(tmp_path / "a.wav", level, rate), loop=False)
    sound = pulled(intake, 2)
    intake.close()
    wanted = 0.5 * np.sin(2 * np.pi * 440 * np.arange(SOUND_RATE) / SOUND_RATE)
    inner = slice(2_400, -2_400)
    np.testing.assert_allclose(sound[:SOUND_RATE][inner, 0], wanted[inner], atol=1e-3)
    np.testing.assert_array_equal(sound[:, 0], sound[:, 1])
    assert not sound[SOUND_RATE:].any()
    assert intake.ended
    assert intake.starved_s == 0, "silence after the end is no fault"


def test_it_decodes_no_further_ahead_than_needed_and_closes(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "a.wav", np.ones((20 * 8_000, 1)) / 2, 8_000)
    intake = FileIntake(path)
    for _ in range(100):
        pulled(intake, 0.1)
        assert len(intake._queue) < (AHEAD_S + 1) * SOUND_RATE
    intake.close()
    assert not intake._thread.is_alive()
    intake.close()


def test_what_is_not_decoded_in_time_is_silence_and_counted(tmp_path: Path) -> None:
    intake = FileIntake(write_wav(tmp_path / "a.wav", np.ones((80_000, 1)) / 2, 8_000))
    assert intake.wait()
    there = len(intake._queue)
    with intake._changed:  # the decoder can't get on
        sound = intake.pull(there + 4_800, 0.0)
        assert intake.starved_s == pytest.approx(0.1)
    intake.close()
    assert sound[2_400:there].all()
    assert not sound[there:].any()


def test_a_file_that_vanishes_ends_with_a_reason(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_wav(tmp_path / "a.wav", np.ones((48_000 * 4, 1)) / 2, 48_000)
    intake = FileIntake(path)
    assert intake.wait()
    path.unlink()
    with caplog.at_level(logging.WARNING):
        sound = pulled(intake, 12)
    intake.close()
    assert isinstance(intake.failed, MediaError)
    assert "does not exist" in caplog.text
    assert intake.ended
    assert sound[: 4 * SOUND_RATE].all()
    assert not sound[-SOUND_RATE:].any()


def test_a_file_without_sound_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        FileIntake(tmp_path / "none.wav")
