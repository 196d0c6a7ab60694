import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import BundleError
from engine.mel import (
    COLUMNS_PER_S,
    DEFAULT_SETTINGS,
    SAMPLE_RATE,
    SILENCE,
    MelSettings,
    MelStream,
    WindowPlacement,
    cut_windows,
    log_mel,
    mel_basis,
)

pytestmark = pytest.mark.unit


def voice(seconds: float) -> NDArray[np.float32]:
    """Harmonics of a gliding pitch over noise, with a silent stretch."""
    count = round(seconds * SAMPLE_RATE)
    time_s = np.arange(count) / SAMPLE_RATE
    phase = 2 * np.pi * (120 * time_s + 15 * np.sin(2 * np.pi * time_s))
    tone = sum(np.sin(phase * n) / n for n in range(1, 20))
    noise = np.random.default_rng(7).standard_normal(count) * 0.02
    loud = (time_s % 1.0) > 0.3
    samples: NDArray[np.float32] = ((0.2 * tone + noise) * loud).astype(np.float32)
    return samples


def streamed(samples: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    stream = MelStream()
    parts = [stream.push(samples[i : i + size]) for i in range(0, len(samples), size)]
    return np.concatenate([*parts, stream.finish()], axis=1)


def test_columns_equal_librosa() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import librosa

        samples = voice(2.03)
        emphasised = np.append(samples[0], samples[1:] - 0.97 * samples[:-1])
        stft = librosa.stft(
            emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode="reflect"
        )
        basis = librosa.filters.mel(sr=16_000, n_fft=800, n_mels=80, fmin=55, fmax=7600)
    level_db = 20 * np.log10(np.maximum(1e-5, basis @ np.abs(stft))) - 20
    expected = np.clip(8 * (level_db + 100) / 100 - 4, -4, 4)
    columns = log_mel(samples)
    assert columns.dtype == np.float32
    assert columns.min() == -4  # the silent stretch reaches the floor
    np.testing.assert_allclose(columns, expected, atol=1e-4)


def test_mel_basis_has_the_published_sums() -> None:
    basis = mel_basis()
    assert basis.shape == (80, 401)
    assert basis.sum() == pytest.approx(3.999498, abs=1e-5)
    assert basis.max() == pytest.approx(0.0268788, abs=1e-6)
    assert np.flatnonzero(basis[0]).tolist() == [3, 4, 5, 6]
    assert np.flatnonzero(basis[79])[[0, -1]].tolist() == [353, 379]


@pytest.mark.parametrize("size", [7, 160, 200, 320, 401, 800, 3_200, 50_000])
def test_stream_equals_whole_to_the_last_bit(size: int) -> None:
    samples = voice(1.337)
    np.testing.assert_array_equal(streamed(samples, size), log_mel(samples))


def test_stream_of_single_samples_equals_whole() -> None:
    samples = voice(0.2)
    np.testing.assert_array_equal(streamed(samples, 1), log_mel(samples))


def test_a_column_leaves_when_half_a_window_after_it_has_arrived() -> None:
    stream = MelStream()
    samples = voice(0.1)
    assert stream.push(samples[:400]).shape == (80, 0)
    assert stream.push(samples[400:401]).shape == (80, 1)
    assert stream.push(samples[401:599]).shape == (80, 0)
    assert stream.push(samples[599:600]).shape == (80, 1)


def test_stream_state_stays_below_one_window() -> None:
    stream = MelStream()
    for packet in np.array_split(voice(5.0), 250):
        stream.push(packet)
        held = sum(v.nbytes for v in vars(stream).values() if isinstance(v, np.ndarray))
        assert held < DEFAULT_SETTINGS.n_fft * 8


@pytest.mark.parametrize("count", [0, 1, 2, 199, 200, 399, 400, 401, 402, 599, 801])
def test_short_sounds_have_columns_too(count: int) -> None:
    samples = voice(1.0)[8_000 : 8_000 + count]
    columns = log_mel(samples)
    assert columns.shape == (80, 1 + count // 200)
    assert np.isfinite(columns).all()
    if count < 401:
        extended = np.append(samples, np.zeros(401 - count, np.float32))
        np.testing.assert_array_equal(columns, log_mel(extended)[:, : columns.shape[1]])
    np.testing.assert_array_equal(streamed(samples, 3), columns)


def test_silence_is_the_floor() -> None:
    assert (log_mel(np.zeros(16_000)) == SILENCE).all()


def test_a_finished_stream_takes_nothing_more() -> None:
    stream = MelStream()
    stream.finish()
    with pytest.raises(ValueError, match="finished"):
        stream.push(np.zeros(10))
    with pytest.raises(ValueError, match="finished"):
        stream.finish()


def test_stereo_is_refused() -> None:
    with pytest.raises(ValueError, match="one row"):
        log_mel(np.zeros((100, 2)))


def test_settings_survive_json_form() -> None:
    settings = MelSettings(n_fft=512, hop=160, pre_emphasis=0.0)
    assert MelSettings.from_dict(settings.to_dict()) == settings
    assert log_mel(voice(0.5), settings).shape == (80, 1 + 8_000 // 160)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"hop": None}, "hop"),
        ({"hop": "200"}, "hop"),
        ({"bands": True}, "bands"),
        ({"n_fft": 801}, "n_fft"),
        ({"fmax_hz": 9_000}, "half the sample rate"),
        ({"colour": 1}, "colour"),
    ],
)
def test_wrong_settings_are_named(change: dict[str, object], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        MelSettings.from_dict({**DEFAULT_SETTINGS.to_dict(), **change})


def test_a_missing_setting_is_named() -> None:
    values = DEFAULT_SETTINGS.to_dict()
    del values["fmin_hz"]
    with pytest.raises(BundleError, match="fmin_hz"):
        MelSettings.from_dict(values)


def test_placement_is_robust_against_float_noise() -> None:
    for rounding in ("nearest", "floor"):
        placement = WindowPlacement.from_dict({"start_s": 0, "columns": 16, "rounding": rounding})
        for column in range(5_000):
            # The two ways a time comes about: a quotient, and a sum of steps.
            assert placement.first_column(column / COLUMNS_PER_S) == column
            assert placement.first_column(sum([column * 0.01, column * 0.0025])) == column


def test_placement_rounds_as_it_says() -> None:
    floor = WindowPlacement(-0.1, rounding="floor")
    nearest = WindowPlacement(-0.1, rounding="nearest")
    frames = [n / 25 for n in range(6)]  # 3.2 columns apart, 8 columns early
    assert [floor.first_column(t) for t in frames] == [-8, -5, -2, 1, 4, 8]
    assert [nearest.first_column(t) for t in frames] == [-8, -5, -2, 2, 5, 8]
    assert WindowPlacement(0.0).first_column(0.5 / COLUMNS_PER_S) == 1  # halves go up


@pytest.mark.parametrize("rounding", ["nearest", "floor"])
@pytest.mark.parametrize("start_s", [-0.1, 0.0, -0.04])
def test_lookahead_is_enough_for_every_frame(start_s: float, rounding: str) -> None:
    placement = WindowPlacement.from_dict({"start_s": start_s, "columns": 16, "rounding": rounding})
    needed = [
        ((placement.first_column(t) + 15) * 200 + 400) / SAMPLE_RATE - t
        for t in np.arange(0, 4, 1 / 30)
    ]
    assert placement.lookahead_s - 0.5 / COLUMNS_PER_S - 0.01 < max(needed)
    assert max(needed) <= placement.lookahead_s + 1e-6


def test_windows_in_the_past_need_no_lookahead() -> None:
    assert WindowPlacement(-1.0).lookahead_s == 0


def test_placement_survives_json_form() -> None:
    placement = WindowPlacement(-0.0875, columns=20, rounding="floor")
    assert WindowPlacement.from_dict(placement.to_dict()) == placement


@pytest.mark.parametrize(
    "values",
    [
        {"start_s": 0.0, "columns": 16},
        {"start_s": 0.0, "columns": 16, "rounding": "up"},
        {"start_s": float("nan"), "columns": 16, "rounding": "floor"},
        {"start_s": 0.0, "columns": 0, "rounding": "floor"},
        {"start_s": 0.0, "columns": 16, "rounding": 1},
    ],
)
def test_wrong_placements_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="mel window placement"):
        WindowPlacement.from_dict(values)


def test_windows_are_cut_where_they_start_and_silent_outside() -> None:
    mel = np.arange(80 * 20, dtype=np.float32).reshape(80, 20)
    windows = cut_windows(mel, [2, -3, 10, 50, -40])
    assert windows.shape == (5, 1, 80, 16)
    assert windows.dtype == np.float32
    np.testing.assert_array_equal(windows[0, 0], mel[:, 2:18])
    assert (windows[1, 0, :, :3] == SILENCE).all()
    np.testing.assert_array_equal(windows[1, 0, :, 3:], mel[:, :13])
    np.testing.assert_array_equal(windows[2, 0, :, :10], mel[:, 10:])
    assert (windows[2, 0, :, 10:] == SILENCE).all()
    assert (windows[3:] == SILENCE).all()


def test_no_columns_wanted_gives_no_windows() -> None:
    assert cut_windows(np.zeros((80, 4), np.float32), []).shape == (0, 1, 80, 16)
