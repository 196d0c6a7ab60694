from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine import sources
from engine.errors import MediaError
from engine.media import VideoReader, VideoWriter, read_audio
from engine.sources import Speech, back_and_forth, open_face
from tests.engine.test_media import CLICK_S, click, click_time_s, numbered, write_clip, write_media

pytestmark = pytest.mark.media


def joined(speech: Speech) -> NDArray[np.float32]:
    return np.concatenate(list(speech.blocks()))


# Speech


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_speech_keeps_its_rate_and_channels(tmp_path: Path, rate: int, channels: int) -> None:
    samples = click(rate, 0.7, channels)
    if channels == 2:
        samples[:, 1] *= 0.5
    path = write_media(tmp_path / "a.wav", sound=samples, rate=rate)
    speech = Speech(path)
    assert (speech.rate, speech.channels) == (rate, channels)
    np.testing.assert_allclose(joined(speech), samples.reshape(-1, channels), atol=1e-4)
    assert float(speech.duration) == pytest.approx(0.7, abs=1e-3)
    np.testing.assert_allclose(speech.mono, read_audio(path), atol=1e-4)


def test_sound_finer_than_heard_comes_down_to_48_khz(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", sound=click(96_000, 0.7), rate=96_000)
    speech = Speech(path)
    assert speech.rate == 48_000
    assert len(joined(speech)) == pytest.approx(0.7 * 48_000, abs=48)
    assert click_time_s(joined(speech)[:, 0], 48_000) == pytest.approx(CLICK_S, abs=0.001)
    assert click_time_s(speech.mono) == pytest.approx(CLICK_S, abs=0.001)


@pytest.mark.parametrize("starts", [(0.0,), (0.2,), (0.0, 0.85)], ids=["at", "later", "hole"])
def test_sound_of_a_film_lies_where_the_general_reader_puts_it(
    tmp_path: Path, starts: tuple[float, ...]
) -> None:
    path = write_media(
        tmp_path / "a.mkv",
        pts_ms=[80 * n for n in range(20)],
        sound=click(16_000, 1.0),
        audio_pts_s=starts,
    )
    speech = Speech(path)
    np.testing.assert_allclose(speech.mono, read_audio(path), atol=1e-4)
    assert click_time_s(speech.mono) == pytest.approx(CLICK_S + starts[0], abs=0.003)


def test_sound_before_the_first_picture_is_cut(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "a.mkv", pts_ms=[100 + 40 * n for n in range(20)], sound=click(16_000, 1.0)
    )
    speech = Speech(path)
    np.testing.assert_allclose(speech.mono, read_audio(path), atol=1e-4)
    assert click_time_s(speech.mono) == pytest.approx(CLICK_S - 0.1, abs=0.003)


@pytest.mark.parametrize("seconds", [0.3, 1.7])
def test_speech_is_cut_or_starts_again(tmp_path: Path, seconds: float) -> None:
    samples = click(16_000, 0.7)
    speech = Speech(write_media(tmp_path / "a.wav", sound=samples), seconds=seconds)
    expected = np.tile(samples, 3)[: round(seconds * 16_000)]
    np.testing.assert_allclose(joined(speech)[:, 0], expected, atol=1e-4)
    np.testing.assert_allclose(speech.mono, expected, atol=1e-4)


def test_too_little_speech_is_refused_with_what_is_enough(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", sound=click(16_000, 0.5)[:800])
    with pytest.raises(MediaError, match=r"only 0\.05 s of sound; give at least 0\.2 s"):
        Speech(path)


def test_film_without_sound_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="has no sound"):
        Speech(write_media(tmp_path / "a.mkv", pts_ms=[0, 40, 80]))


# Faces


@pytest.mark.parametrize(
    ("fps", "expected"),
    [
        (Fraction(30_000, 1001), Fraction(30_000, 1001)),
        (Fraction(60), Fraction(60)),
        (Fraction(100), Fraction(50)),
        (Fraction(120), Fraction(60)),
    ],
)
def test_rate_of_a_film_is_kept_up_to_60(tmp_path: Path, fps: Fraction, expected: Fraction) -> None:
    face = open_face(write_clip(tmp_path / "a.mp4", width=96, height=64, fps=fps, pictures=40))
    assert (face.width, face.height, face.fps) == (96, 64, expected)
    for _ in range(2):  # every call starts at the first picture
        assert len(list(face.pictures())) == pytest.approx(40 * expected / fps, abs=1)


def test_a_rate_that_varies_becomes_its_mean(tmp_path: Path) -> None:
    pts_ms = [0, 40, 80, 200, 240, 400, 480, 520, 600, 760, 800]
    face = open_face(write_media(tmp_path / "a.mkv", pts_ms=pts_ms))
    seconds = len(list(face.pictures())) / face.fps
    assert float(seconds) == pytest.approx(0.88, abs=0.1)


def test_a_still_is_one_picture_of_its_own_size(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), numbered(3))
    face = open_face(path)
    assert (face.width, face.height, face.fps) == (64, 48, Fraction(25))
    assert [picture.shape for picture in face.pictures()] == [(48, 64, 3)]


def test_a_large_photo_is_scaled_down(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), np.zeros((2400, 3200, 3), np.uint8))
    face = open_face(path)
    assert (face.width, face.height) == (1920, 1440)
    assert next(face.pictures()).shape == (1440, 1920, 3)


def test_a_picture_too_small_for_a_face_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(MediaError, match="only 8 x 8 pixels"):
        open_face(path)


# Back and forth


def film(length: int) -> Iterator[NDArray[np.uint8]]:
    return (np.full((40, 40, 3), 10 * number, np.uint8) for number in range(length))


def shown(length: int, count: int) -> list[int]:
    pictures = islice(back_and_forth(lambda: film(length)), count)
    return [round(float(picture.mean()) / 10) for picture in pictures]


def test_a_short_film_turns_round_at_its_ends() -> None:
    assert shown(4, 12) == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1]
    assert shown(2, 5) == [0, 1, 0, 1, 0]
    assert shown(1, 3) == [0, 0, 0]


def test_a_film_without_pictures_stays_empty() -> None:
    assert shown(0, 5) == []


def test_a_film_that_fits_is_kept_exactly() -> None:
    pictures = list(islice(back_and_forth(lambda: film(20)), 60))
    assert all(np.ptp(picture) == 0 for picture in pictures)


def test_memory_for_the_way_back_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    # Raw, one picture would fit; as JPEG, about twelve.
    monkeypatch.setattr(sources, "_KEPT_BYTES", 8_000)
    numbers = shown(25, 200)
    assert numbers[:25] == list(range(25))
    steps = np.diff(numbers)
    assert set(np.abs(steps)) == {1}
    lowest = min(numbers[25:])
    assert 5 < lowest < 21
    kept = sources._Kept(8_000)
    for picture in film(25):
        kept.add(picture)
        assert sum(item.nbytes for item in kept._items) <= 8_000


def test_packed_pictures_look_the_same() -> None:
    rows, columns = np.mgrid[0:64, 0:64]
    picture = np.stack([rows * 3, columns * 3, 255 - rows * 2], axis=-1).astype(np.uint8)
    again = sources._unpack(sources._pack(picture))
    assert np.abs(again.astype(int) - picture).max() <= 6
    assert np.abs(again.astype(int) - picture).mean() < 1


def test_a_film_is_read_back_and_forth(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with VideoWriter(path, width=64, height=48, fps=Fraction(25)) as writer:
        for number in range(6):
            writer.write_frame(numbered(number))
    assert len(list(VideoReader(path))) == 6
    pictures = islice(back_and_forth(open_face(path).pictures), 14)
    numbers = [round((float(picture.mean()) - 20) / 10) for picture in pictures]
    assert numbers == [0, 1, 2, 3, 4, 5, 4, 3, 2, 1, 0, 1, 2, 3]
