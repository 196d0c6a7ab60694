import sys
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.media import (
    VideoReader,
    VideoWriter,
    is_image,
    probe,
    read_audio,
    read_image,
    retime,
)

pytestmark = pytest.mark.media

COLOURS = [(220, 30, 40), (30, 200, 60), (40, 60, 210), (200, 190, 60)]
CLICK_S = 0.3


def quadrants(width: int, height: int) -> NDArray[np.uint8]:
    """Red, green / blue, yellow: shows colour errors, turns and mirrorings."""
    picture = np.zeros((height, width, 3), np.uint8)
    top, left = height // 2, width // 2
    picture[:top, :left], picture[:top, left:] = COLOURS[:2]
    picture[top:, :left], picture[top:, left:] = COLOURS[2:]
    return picture


def assert_same_picture(found: NDArray[np.uint8], expected: NDArray[np.uint8]) -> None:
    """The middles of the quadrants agree; coding blurs the edges."""
    assert found.shape == expected.shape
    height, width = expected.shape[:2]
    for y in (height // 4, 3 * height // 4):
        for x in (width // 4, 3 * width // 4):
            np.testing.assert_allclose(found[y, x].astype(int), expected[y, x], atol=8)


def numbered(number: int) -> NDArray[np.uint8]:
    """A grey picture that tells its number."""
    return np.full((48, 64, 3), 20 + 10 * number, np.uint8)


def number_of(picture: NDArray[np.uint8]) -> int:
    return round((float(picture.mean()) - 20) / 10)


def click(rate: int, seconds: float, channels: int = 1) -> NDArray[np.float32]:
    """Silence with 10 ms of 1 kHz at CLICK_S, alike in all channels: (n,) or (n, channels)."""
    samples = np.zeros(round(rate * seconds), np.float32)
    burst = np.arange(rate // 100)
    samples[round(rate * CLICK_S) :][: rate // 100] = 0.8 * np.sin(2 * np.pi * 1000 * burst / rate)
    return samples if channels == 1 else np.stack([samples] * channels, axis=1)


def click_time_s(samples: NDArray[np.float32], rate: int = 16_000) -> float:
    """Where the click starts."""
    return float(np.flatnonzero(np.abs(samples) > 0.3)[0] / rate)


def write_media(
    path: Path,
    *,
    codec: str = "mpeg4",
    pts_ms: Sequence[int] = (),
    sound: NDArray[np.float32] | None = None,
    rate: int = 16_000,
    audio_codec: str = "pcm_s16le",
    audio_pts_s: Sequence[float] = (0.0,),
) -> Path:
    """A file as other programs write it: numbered pictures, and sound in parts at any times."""
    with av.open(str(path), "w") as container:
        streams: list[tuple[Any, list[Any]]] = []
        if pts_ms:
            video: Any = container.add_stream(codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000)
            frames: list[Any] = []
            for number, pts in enumerate(pts_ms):
                picture = VideoFrame.from_ndarray(numbered(number), format="rgb24")
                picture.pts, picture.time_base = pts, Fraction(1, 1000)
                frames.append(picture)
            streams.append((video, frames))
        if sound is not None:
            audio: Any = container.add_stream(audio_codec, rate=rate)
            audio.layout = "mono" if sound.ndim == 1 else "stereo"
            frames = []
            for part, start_s in zip(
                np.array_split(sound, len(audio_pts_s)), audio_pts_s, strict=True
            ):
                packed = np.ascontiguousarray(part.reshape(1, -1))
                frame = AudioFrame.from_ndarray(packed, format="flt", layout=audio.layout.name)
                frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
                frame.pts = round(start_s * rate)
                frames.append(frame)
            streams.append((audio, frames))
        for stream, frames in streams:
            for frame in [*frames, None]:
                container.mux(stream.encode(frame))
    return path


def write_clip(
    path: Path,
    *,
    width: int = 64,
    height: int = 48,
    fps: Fraction = Fraction(25),
    pictures: int = 20,
) -> Path:
    """A file of our own with quadrants and a click."""
    with VideoWriter(path, width=width, height=height, fps=fps, audio_rate=16_000) as writer:
        for _ in range(pictures):
            writer.write_frame(quadrants(width, height))
        writer.write_audio(click(16_000, float(pictures / fps)))
    return path


# Writing and reading back


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30), Fraction(24_000, 1001)])
@pytest.mark.parametrize("size", [(64, 48), (97, 61), (1280, 720)])
def test_pictures_come_back_in_number_time_and_colour(
    tmp_path: Path, fps: Fraction, size: tuple[int, int]
) -> None:
    width, height = size
    path = write_clip(tmp_path / "out.mp4", width=width, height=height, fps=fps, pictures=10)
    with VideoReader(path) as reader:
        read = list(reader)
    assert reader.info.fps == fps
    assert (reader.info.width, reader.info.height) == (width + width % 2, height + height % 2)
    np.testing.assert_allclose([t for t, _ in read], [float(n / fps) for n in range(10)], atol=1e-4)
    for _, picture in read:
        assert picture.dtype == np.uint8
        assert_same_picture(picture[:height, :width], quadrants(width, height))


def test_odd_sizes_are_filled_up_with_their_edge(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "out.mp4", width=97, height=61)
    _, picture = next(iter(VideoReader(path)))
    np.testing.assert_allclose(picture[10, 97].astype(int), COLOURS[1], atol=8)
    np.testing.assert_allclose(picture[61, 10].astype(int), COLOURS[2], atol=8)


@pytest.mark.parametrize("rate", [16_000, 37_000, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_sound_comes_back_in_place(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "out.mov"
    samples = click(rate, 1.0, channels)
    with VideoWriter(
        path, width=64, height=48, fps=Fraction(25), audio_rate=rate, audio_channels=channels
    ) as writer:
        for number in range(25):
            writer.write_frame(numbered(number % 20))
            writer.write_audio(samples[number * rate // 25 : (number + 1) * rate // 25])
    read = read_audio(path)
    assert read.dtype == np.float32
    assert 1.0 <= len(read) / 16_000 < 1.0 + 2 * 1024 / 16_000  # whole AAC frames
    assert click_time_s(read) == pytest.approx(CLICK_S, abs=0.003)
    assert 0.6 < np.abs(read).max() <= 1
    assert probe(path).sample_rate == (48_000 if rate == 37_000 else rate)


def test_files_start_with_their_index_and_state_their_colours(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "out.mp4")
    content = path.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert context.name == "h264"
        assert context.pix_fmt == "yuv420p"
        tags = context.colorspace, context.color_primaries, context.color_trc
        assert (*tags, context.color_range) == (1, 1, 1, 1)
        assert container.streams.audio[0].codec_context.name == "aac"


def test_a_sound_track_may_stay_empty(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width=64, height=48, fps=Fraction(25), audio_rate=48_000) as writer:
        writer.write_frame(numbered(3))
    assert [number_of(picture) for _, picture in VideoReader(path)] == [3]


def test_broken_samples_become_harmless(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoWriter(path, width=64, height=48, fps=Fraction(25), audio_rate=16_000) as writer:
        writer.write_frame(numbered(0))
        writer.write_audio(np.array([np.nan, np.inf, -np.inf, 9.0] * 500, np.float32))
    assert np.abs(read_audio(path)).max() <= 1


# Whole or not at all


def folder_after(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def test_until_the_end_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"old")
    with VideoWriter(path, width=64, height=48, fps=Fraction(25)) as writer:
        writer.write_frame(numbered(1))
        assert path.read_bytes() == b"old"
        writer.commit()
        assert probe(path).has_video
        with pytest.raises(ValueError, match="finished"):
            writer.write_frame(numbered(1))
    assert folder_after(path) == ["out.mp4"]


@pytest.mark.parametrize("pictures", [0, 1, 100])
def test_an_exception_leaves_nothing(tmp_path: Path, pictures: int) -> None:
    path = tmp_path / "out.mp4"

    def interrupted() -> None:
        with VideoWriter(path, width=64, height=48, fps=Fraction(25), audio_rate=16_000) as writer:
            for _ in range(pictures):
                writer.write_frame(numbered(1))
                writer.write_audio(np.zeros(640, np.float32))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert folder_after(path) == []


def test_a_file_without_pictures_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    writer = VideoWriter(path, width=64, height=48, fps=Fraction(25))
    with pytest.raises(MediaError, match="no pictures"):
        writer.commit()
    assert folder_after(path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    import resource

    path = tmp_path / "out.mp4"
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)

    def fill() -> None:
        with VideoWriter(path, width=320, height=240, fps=Fraction(25)) as writer:
            for _ in range(60):
                writer.write_frame(noise)

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    try:
        with pytest.raises(MediaError, match="disk"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert folder_after(path) == []


@pytest.mark.parametrize("name", ["out.mkv", "out", "out.mp4.txt"])
def test_other_endings_are_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(MediaError, match=r"\.mp4, \.m4v or \.mov"):
        VideoWriter(tmp_path / name, width=64, height=48, fps=Fraction(25))
    assert folder_after(tmp_path / name) == []


def test_impossible_folders_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="does not exist"):
        VideoWriter(tmp_path / "no" / "out.mp4", width=64, height=48, fps=Fraction(25))
    (tmp_path / "file").write_text("x")
    with pytest.raises(MediaError, match="can't be written to"):
        VideoWriter(tmp_path / "file" / "out.mp4", width=64, height=48, fps=Fraction(25))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(MediaError, match="is a folder"):
        VideoWriter(tmp_path / "folder.mp4", width=64, height=48, fps=Fraction(25))


def test_misuse_of_the_writer_is_named(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", width=64, height=48, fps=Fraction(25))
    with pytest.raises(ValueError, match="expected uint8"):
        writer.write_frame(np.zeros((64, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="audio_rate"):
        writer.write_audio(np.zeros(10, np.float32))
    writer.discard()
    writer.discard()
    with pytest.raises(ValueError, match="finished"):
        writer.commit()


# Other programs' files


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.wav", "pcm_s16le", 44_100, 2),
        ("a.wav", "pcm_u8", 8_000, 1),
        ("a.wav", "pcm_s32le", 48_000, 2),
        ("a.wav", "pcm_f32le", 16_000, 1),
        ("a.flac", "flac", 44_100, 2),
        ("a.ogg", "libopus", 48_000, 2),
        ("a.mp3", "libmp3lame", 44_100, 2),
        ("a.m4a", "aac", 44_100, 2),
    ],
)
def test_any_sound_is_read_in_place_and_at_its_level(
    tmp_path: Path, name: str, codec: str, rate: int, channels: int
) -> None:
    samples = click(rate, 0.6, channels)
    path = write_media(tmp_path / name, sound=samples, rate=rate, audio_codec=codec)
    read = read_audio(path)
    assert click_time_s(read) == pytest.approx(CLICK_S, abs=0.003)
    assert len(read) / 16_000 == pytest.approx(0.6, abs=0.06)
    assert 0.65 < np.abs(read).max() < 0.95
    info = probe(path)
    assert (info.has_video, info.has_audio, info.sample_rate) == (False, True, rate)
    assert info.duration_s == pytest.approx(0.6, abs=0.06)
    with pytest.raises(MediaError, match="no picture"):
        VideoReader(path)


def test_channels_are_averaged(tmp_path: Path) -> None:
    samples = click(16_000, 0.6, 2)
    samples[:, 1] = 0
    path = write_media(tmp_path / "a.wav", sound=samples)
    np.testing.assert_allclose(read_audio(path), samples.mean(axis=1), atol=1e-4)


def test_the_asked_rate_is_given(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.wav", sound=click(44_100, 0.6), rate=44_100)
    assert len(read_audio(path, rate=48_000)) == 28_800


@pytest.mark.parametrize(
    ("first_picture_ms", "first_sample_s"), [(0, 0.5), (500, 0.0), (240, 0.24), (300, 1.0)]
)
def test_sample_0_is_the_time_of_the_first_picture(
    tmp_path: Path, first_picture_ms: int, first_sample_s: float
) -> None:
    path = write_media(
        tmp_path / "a.mkv",
        pts_ms=[first_picture_ms + 40 * n for n in range(20)],
        sound=click(16_000, 0.8),
        audio_pts_s=[first_sample_s],
    )
    lead_s = first_sample_s - first_picture_ms / 1000
    read = read_audio(path)
    assert len(read) / 16_000 == pytest.approx(0.8 + lead_s, abs=0.002)
    if CLICK_S + lead_s > 0:
        assert click_time_s(read) == pytest.approx(CLICK_S + lead_s, abs=0.002)
    with VideoReader(path) as reader:
        assert [t for t, _ in reader] == pytest.approx([0.04 * n for n in range(20)])


def test_holes_in_the_sound_become_silence(tmp_path: Path) -> None:
    sound = np.full(8_000, 0.5, np.float32)
    path = write_media(tmp_path / "a.mkv", sound=sound, audio_pts_s=[0.0, 0.75])
    read = read_audio(path)
    assert len(read) / 16_000 == pytest.approx(1.0, abs=0.002)
    loud = np.abs(read) > 0.25
    assert [loud[2_000], loud[8_000], loud[14_000]] == [True, False, True]


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mpeg4"), ("a.webm", "libvpx")])
def test_varying_rates_keep_their_times(tmp_path: Path, name: str, codec: str) -> None:
    pts_ms = [0, 40, 80, 200, 233, 267, 600]
    path = write_media(tmp_path / name, codec=codec, pts_ms=pts_ms)
    with VideoReader(path) as reader:
        read = list(reader)
    assert [t for t, _ in read] == pytest.approx([t / 1000 for t in pts_ms])
    assert [number_of(picture) for _, picture in read] == list(range(7))
    steady = [number_of(picture) for picture in retime(read, Fraction(25))]
    assert steady[:16] == [0, 1, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 5, 5, 5, 6]


def test_a_reader_starts_anew_each_time(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", pts_ms=range(0, 400, 40))
    with VideoReader(path) as reader:
        begun = [number_of(picture) for _, picture in islice(reader, 3)]
        whole = [number_of(picture) for _, picture in reader]
        left = iter(reader)
        next(left)
    assert (begun, whole) == ([0, 1, 2], list(range(10)))
    assert list(left) == []  # closed with the reader


Turn = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
TURNS: dict[
    str, tuple[tuple[int, int, int, int], Turn]
] = {  # display matrices as phones write them: (a, b, c, d) and what they ask for
    "upright": ((1, 0, 0, 1), lambda p: p),
    "right": ((0, 1, -1, 0), lambda p: np.rot90(p, -1)),
    "left": ((0, -1, 1, 0), lambda p: np.rot90(p)),
    "upside down": ((-1, 0, 0, -1), lambda p: np.rot90(p, 2)),
    "mirrored": ((-1, 0, 0, 1), lambda p: p[:, ::-1]),
    "right and mirrored": ((0, 1, 1, 0), lambda p: np.transpose(p, (1, 0, 2))),
}


@pytest.mark.parametrize("turn", TURNS)
def test_turned_videos_are_shown_upright(tmp_path: Path, turn: str) -> None:
    (a, b, c, d), expected = TURNS[turn]
    path = write_clip(tmp_path / "phone.mp4", width=64, height=48)
    content = bytearray(path.read_bytes())
    matrix_at = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2, version 0
    matrix = np.array([a, b, 0, c, d, 0, 0, 0, 1 << 14], ">i4") * (1 << 16)
    content[matrix_at : matrix_at + 36] = matrix.astype(">i4").tobytes()
    path.write_bytes(content)
    upright = expected(quadrants(64, 48))
    with VideoReader(path) as reader:
        assert (reader.info.height, reader.info.width) == upright.shape[:2]
        for _, picture in reader:
            assert picture.flags.c_contiguous
            assert_same_picture(picture, upright)


def write_quadrants(path: Path, codec: str, size: tuple[int, int], **conversion: Any) -> Path:
    """Three pictures whose colours are converted as told, in a container that does not say how."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = conversion["format"]
        stream.bit_rate = 4_000_000
        for number in range(3):
            frame = VideoFrame.from_ndarray(quadrants(*size), "rgb24").reformat(**conversion)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_full_range_colours_are_read_right(tmp_path: Path) -> None:
    path = write_quadrants(tmp_path / "webcam.avi", "mjpeg", (64, 48), format="yuvj420p")
    for _, picture in VideoReader(path):
        assert_same_picture(picture, quadrants(64, 48))


@pytest.mark.parametrize(
    ("size", "matrix"), [((640, 480), Colorspace.ITU601), ((1280, 720), Colorspace.ITU709)]
)
def test_untagged_colours_are_read_as_players_do(
    tmp_path: Path, size: tuple[int, int], matrix: Colorspace
) -> None:
    path = write_quadrants(
        tmp_path / "old.avi", "mpeg4", size, format="yuv420p", dst_colorspace=matrix
    )
    for _, picture in VideoReader(path):
        assert_same_picture(picture, quadrants(*size))


def test_a_header_without_rate_and_duration_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "browser.webm"
    # A live WebM, as browsers record it, is written without going back to the header.
    with av.open(str(path), "w", format="webm", options={"live": "1"}) as container:
        stream: Any = container.add_stream("libvpx", rate=1000)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(20):
            frame = VideoFrame.from_ndarray(numbered(number), "rgb24")
            frame.pts, frame.time_base = number * 50, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    info = probe(path)
    assert float(info.fps) == pytest.approx(20, abs=0.1)
    assert info.duration_s == pytest.approx(0.975, abs=0.03)


# Constant rate


def frames_at(*times_s: float) -> list[tuple[float, NDArray[np.uint8]]]:
    return [(time_s, numbered(number)) for number, time_s in enumerate(times_s)]


@pytest.mark.parametrize(
    ("times_s", "fps", "shown"),
    [
        ([n / 25 for n in range(6)], 25, [0, 1, 2, 3, 4, 5]),
        ([0, 0.033, 0.067, 0.1, 0.133], 30, [0, 1, 2, 3, 4]),
        ([n / 50 for n in range(6)], 25, [0, 2, 4]),
        ([n / 10 for n in range(3)], 20, [0, 0, 1, 1, 2, 2]),
        ([0.1, 0.2], 10, [0, 0, 1]),
        ([0.0], 25, [0]),
        ([], 25, []),
    ],
)
def test_the_picture_of_its_time_is_shown(times_s: list[float], fps: int, shown: list[int]) -> None:
    steady = retime(frames_at(*times_s), Fraction(fps))
    assert [number_of(picture) for picture in steady] == shown


@pytest.mark.parametrize("fps", [Fraction(25), Fraction(30_000, 1001), Fraction(60)])
def test_retiming_keeps_the_duration(fps: Fraction) -> None:
    pictures = list(retime(frames_at(*(n * 1001 / 24_000 for n in range(20))), fps))
    assert len(pictures) / float(fps) == pytest.approx(20 * 1001 / 24_000, abs=float(1 / fps))


# Still pictures


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.bmp"])
def test_images_are_known_by_content_and_read_as_rgb(tmp_path: Path, name: str) -> None:
    cv2.imwrite(str(tmp_path / name), quadrants(65, 47)[..., ::-1])
    path = (tmp_path / name).rename(tmp_path / "photo.mp4")
    assert is_image(path)
    assert_same_picture(read_image(path), quadrants(65, 47))


def test_videos_and_text_are_no_images(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "a.mp4").rename(tmp_path / "a.jpg")
    text = tmp_path / "b.png"
    text.write_text("not a picture")
    assert not is_image(video)
    assert not is_image(text)
    with pytest.raises(MediaError, match="picture"):
        read_image(text)


def test_a_phones_photo_is_turned_upright(tmp_path: Path) -> None:
    coded = cv2.imencode(".jpg", quadrants(64, 48)[..., ::-1])[1].tobytes()
    # An Exif segment that holds one entry: Orientation (0x0112) = 6, "turn right to show".
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    exif = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    path = tmp_path / "photo.jpg"
    path.write_bytes(coded[:2] + segment + coded[2:])
    assert_same_picture(read_image(path), np.rot90(quadrants(64, 48), -1))


# What can't be read

READERS: list[Callable[[Path], object]] = [probe, read_audio, VideoReader]


@pytest.mark.parametrize("read", [*READERS, is_image, read_image])
def test_missing_empty_and_folder_are_named(tmp_path: Path, read: Any) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(MediaError, match=r"missing\.mp4 does not exist"):
        read(tmp_path / "missing.mp4")
    with pytest.raises(MediaError, match=r"empty\.mp4 is empty"):
        read(tmp_path / "empty.mp4")
    with pytest.raises(MediaError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.mp4", "Dear diary,\nthis is no film.\n" * 50),
        ("notes.txt", "Dear diary,\nthis is no film.\n" * 50),
        ("list.m3u8", "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.wav\n#EXT-X-ENDLIST\n"),
        ("list.mp4", "ffconcat version 1.0\nfile a.wav\n"),
        ("call.sdp", "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=-\nm=audio 5004 RTP/AVP 0\n"),
    ],
)
def test_text_is_no_media_and_leads_to_no_other_file(
    tmp_path: Path, read: Any, name: str, content: str
) -> None:
    write_media(tmp_path / "a.wav", sound=click(16_000, 0.6))
    (tmp_path / name).write_text(content)
    with pytest.raises(MediaError, match="can't be read"):
        read(tmp_path / name)


def test_files_without_the_track_are_named(tmp_path: Path) -> None:
    silent = write_media(tmp_path / "silent.mkv", pts_ms=range(0, 400, 40))
    with pytest.raises(MediaError, match=r"silent\.mkv has no sound"):
        read_audio(silent)
    assert not probe(silent).has_audio


def test_a_file_cut_off_before_its_index_is_refused(tmp_path: Path) -> None:
    path = write_media(
        tmp_path / "a.mp4", pts_ms=range(0, 800, 40), sound=click(16_000, 0.8), audio_codec="aac"
    )
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov") - 8])
    for read in READERS:
        with pytest.raises(MediaError, match="cut off"):
            read(path)


def test_of_a_file_cut_off_later_the_rest_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    noise = np.random.default_rng(1)
    with VideoWriter(path, width=64, height=48, fps=Fraction(25), audio_rate=16_000) as writer:
        for _ in range(100):
            writer.write_frame(noise.integers(0, 256, (48, 64, 3), np.uint8))
            writer.write_audio(noise.uniform(-0.5, 0.5, 640))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    assert 20 < len(list(VideoReader(path))) < 90
    assert 1 < len(read_audio(path)) / 16_000 < 3.5


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.wav", "a.webm"])
def test_damage_anywhere_raises_nothing_but_our_errors(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    pts_ms = [] if name == "a.wav" else range(0, 400, 40)
    codecs = {"a.mp4": ("mpeg4", "aac"), "a.webm": ("libvpx", "libopus")}
    codec, audio_codec = codecs.get(name, ("mpeg4", "pcm_s16le"))
    sound = click(48_000, 0.4)
    write_media(path, codec=codec, pts_ms=pts_ms, sound=sound, rate=48_000, audio_codec=audio_codec)
    content = np.frombuffer(path.read_bytes(), np.uint8)
    random = np.random.default_rng(5)
    readable = 0
    messages = []
    for _ in range(25):
        damaged = content.copy()
        # Headers lie at both ends, so that damage has to reach these too.
        for start in (0, random.integers(len(content)), max(0, len(content) - 1_000)):
            places = start + random.integers(0, 1_000, 4)
            damaged[places[places < len(content)]] = random.integers(0, 256)
        path.write_bytes(damaged.tobytes())
        for read in (read_audio, VideoReader):
            try:
                readable += len(list(read(path))) > 0
            except MediaError as error:
                messages.append(str(error))
    assert readable > 0
    assert all(str(path) in message for message in messages)
