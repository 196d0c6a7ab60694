"""Media files in and out: sound, still pictures and video, whatever the container and codec.

Reading forgives (what decodes is used), writing does not (a file is whole or not there). Times
are seconds from the file's first picture; where there is no picture, from its first sample.
Every failure is a :class:`~engine.errors.MediaError`.
"""

import math
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Self, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

from engine import decoding
from engine.errors import MediaError
from engine.mel import SAMPLE_RATE
from engine.resample import Resampler
from engine.video_writer import VideoWriter

__all__ = [
    "MediaInfo",
    "VideoReader",
    "VideoWriter",
    "is_image",
    "probe",
    "read_audio",
    "read_image",
    "retime",
]

_Pictures: TypeAlias = Generator[tuple[float, NDArray[np.uint8]], None, None]

_LONGEST_GAP_S = 600.0  # a jump of the timestamps beyond this is damage, not a pause
_SHORTEST_GAP_S = 0.1  # a hole in the sound below this is rounding or jitter of the timestamps
_TIMESTAMP_NOISE_S = 0.002  # WebM and others round to milliseconds


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaInfo:
    """What a media file holds; 0 where it does not have the track.

    Attributes:
        has_video: whether there is a moving picture (cover art does not count).
        has_audio: whether there is sound.
        width: of the picture as shown, turned upright, in pixels.
        height: of the picture as shown, turned upright, in pixels.
        fps: pictures a second, the mean where the rate varies.
        duration_s: of the longest track; 0 where it can't be known.
        sample_rate: of the sound, in Hz.
    """

    has_video: bool
    has_audio: bool
    width: int = 0
    height: int = 0
    fps: Fraction = Fraction(0)
    duration_s: float = 0.0
    sample_rate: int = 0


def probe(path: str | Path) -> MediaInfo:
    """What a media file holds.

    Raises:
        MediaError: the file is missing, empty, damaged or no media file.
    """
    with decoding.opened(path) as container:
        picture = decoding.find_track(container, "video")
        sound = decoding.find_track(container, "audio")
        if picture is None and sound is None:
            raise MediaError(decoding.unreadable(path))
        width = height = 0
        if picture is not None:
            first = next(decoding.decoded(container, picture), None)
            if first is None:
                raise MediaError(f"No picture of {path} can be decoded; convert it to MP4 first.")
            sideways = decoding.orientation(first)[0]
            width, height = (first.height, first.width) if sideways else (first.width, first.height)
        sample_rate = 0 if sound is None else int(sound.codec_context.sample_rate or 0)
        fps = Fraction(0) if picture is None else decoding.stated_rate(picture)
        duration_s = decoding.stated_duration_s(container)
    if fps is None or duration_s is None:
        measured_fps, measured_s = decoding.measured(path)
        fps = measured_fps if fps is None else fps
        duration_s = measured_s if duration_s is None else duration_s
    return MediaInfo(
        has_video=picture is not None,
        has_audio=sound is not None,
        width=width,
        height=height,
        fps=fps,
        duration_s=duration_s,
        sample_rate=sample_rate,
    )


def read_audio(path: str | Path, rate: int = SAMPLE_RATE) -> NDArray[np.float32]:
    """The sound of a media file, mixed to mono.

    Where the file has pictures, sample 0 is the time of the first one: sound that starts later
    is preceded by silence, sound that starts earlier is cut. Holes in the sound become silence.
    Of damaged sound, what decodes is kept.

    Args:
        path: any audio or video file.
        rate: Hz of the result.

    Returns:
        float32 (N,) in [−1, 1].

    Raises:
        MediaError: the file can't be read, or has no sound that decodes.
    """
    parts: list[NDArray[np.float32]] = []
    lead_s = 0.0  # how much later than the picture the sound starts
    with decoding.opened(path) as container:
        sound = decoding.find_track(container, "audio")
        picture = decoding.find_track(container, "video")
        if sound is None:
            raise MediaError(f"{path} has no sound; choose a file with an audio track.")
        converter: Resampler | None = None
        in_rate, start_s, given_s = 0, None, 0.0
        for frame in decoding.decoded(container, sound):
            samples = decoding.mono(frame)
            if not samples.size:
                continue
            if start_s is None:
                start_s = decoding.frame_time_s(frame, default=0.0)
                if picture is not None:
                    lead_s = start_s - decoding.start_s(picture)
            if converter is None or frame.sample_rate != in_rate:
                if converter is not None:
                    parts.append(converter.finish())
                in_rate = frame.sample_rate
                converter = Resampler(in_rate, rate)
            gap_s = decoding.frame_time_s(frame, default=start_s + given_s) - start_s - given_s
            if _SHORTEST_GAP_S < gap_s < _LONGEST_GAP_S:
                silence = np.zeros(round(gap_s * in_rate), np.float32)
                parts.append(converter.push(silence))
                given_s += gap_s
            parts.append(converter.push(samples))
            given_s += len(samples) / in_rate
        if converter is None:
            raise MediaError(f"No sound of {path} can be decoded; convert it to WAV first.")
        parts.append(converter.finish())
    shift = round(lead_s * rate) if abs(lead_s) < _LONGEST_GAP_S else 0
    if shift > 0:
        parts.insert(0, np.zeros(shift, np.float32))
    return np.clip(np.concatenate(parts)[max(0, -shift) :], -1, 1)


def is_image(path: str | Path) -> bool:
    """Whether a file is a still picture, judged by its content.

    Raises:
        MediaError: the file is missing, empty or not readable.
    """
    decoding.check_readable(path)
    try:
        if not cv2.haveImageReader(str(path)):
            return False
        with open(path, "rb") as file:
            may_move = file.read(4) in (b"GIF8", b"\x89PNG")
        return not may_move or cv2.imcount(str(path)) == 1
    except (OSError, cv2.error) as error:
        raise MediaError(
            f"{path} can't be opened ({decoding.reason(error)}); check its rights."
        ) from error


def read_image(path: str | Path) -> NDArray[np.uint8]:
    """A still picture (JPEG, PNG, WebP, …), turned upright as its EXIF data say.

    Returns:
        RGB uint8 (H, W, 3); transparency is dropped.

    Raises:
        MediaError: the file is missing, empty or no picture that can be read.
    """
    decoding.check_readable(path)
    no_image = f"{path} can't be read as a picture; save it as JPEG or PNG."
    try:
        bgr = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (OSError, cv2.error) as error:
        raise MediaError(no_image) from error
    if bgr is None:
        raise MediaError(no_image)
    rgb: NDArray[np.uint8] = np.ascontiguousarray(bgr[..., ::-1])
    return rgb


class VideoReader:
    """The pictures of a video file, upright and with their times.

    Iterating gives ``(pts_s, rgb)``: seconds from the first picture, never falling, and RGB uint8
    (info.height, info.width, 3), each an array of its own. Every iteration starts at the first
    picture. Damaged pictures are left out; a size that changes on the way is scaled to the first.

    Args:
        path: any video file.

    Attributes:
        info: what the file holds.

    Raises:
        MediaError: the file can't be read or has no moving picture; while iterating, nothing of
            it decodes.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._open: list[_Pictures] = []
        self.info = probe(path)
        if not self.info.has_video:
            raise MediaError(f"{path} has no picture; choose a video or an image.")

    def __iter__(self) -> _Pictures:
        pictures = self._pictures()
        self._open.append(pictures)
        return pictures

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends every iteration and closes the file."""
        while self._open:
            self._open.pop().close()

    def _pictures(self) -> _Pictures:
        step_s = float(1 / self.info.fps)
        convert = decoding.RgbConverter()
        with decoding.opened(self._path) as container:
            track = decoding.find_track(container, "video")
            start_s = decoding.start_s(track)
            last_s = -step_s
            for frame in decoding.decoded(container, track):
                time_s = decoding.frame_time_s(frame, default=math.inf) - start_s
                if time_s > last_s + _LONGEST_GAP_S:
                    time_s = last_s + step_s
                last_s = max(0.0, last_s, time_s)
                yield last_s, convert(frame)


def retime(
    frames: Iterable[tuple[float, NDArray[np.uint8]]], fps: Fraction
) -> Iterator[NDArray[np.uint8]]:
    """Pictures at a constant rate from pictures at any times.

    Picture n is the one shown at n / fps: the last whose time is not later (by more than 2 ms,
    the rounding of timestamps). The last picture stays for the mean distance of pictures.

    Args:
        frames: (seconds, picture) in rising order, as from :class:`VideoReader`.
        fps: pictures a second, > 0.

    Yields:
        The pictures themselves; a repeated one is the same array again.
    """
    shown: NDArray[np.uint8] | None = None
    first_s = last_s = 0.0
    count = given = 0
    for time_s, picture in frames:
        if shown is None:
            first_s = time_s
        else:
            while given / fps < time_s - _TIMESTAMP_NOISE_S:
                yield shown
                given += 1
        shown, last_s = picture, time_s
        count += 1
    if shown is None:
        return
    stays_s = (last_s - first_s) / (count - 1) if last_s > first_s else float(1 / fps)
    while given == 0 or given / fps < last_s + stays_s - _TIMESTAMP_NOISE_S:
        yield shown
        given += 1
