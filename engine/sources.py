"""What a dub is made from: the pictures of a face, and a speech at its own quality."""

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, TypeAlias

import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from numpy.typing import NDArray

from engine import decoding
from engine.errors import MediaError
from engine.media import VideoReader, is_image, read_image, retime
from engine.mel import SAMPLE_RATE
from engine.resample import Resampler

Picture: TypeAlias = NDArray[np.uint8]

LEAST_SPEECH_S: Final = 0.2  # one mel window
LEAST_SIDE_PX: Final = 32  # no face that small has lips
STILL_FPS: Final = Fraction(25)
HIGHEST_FPS: Final = 60
LONGEST_STILL_SIDE_PX: Final = 1920  # larger photos are beyond what H.264 players take

_HIGHEST_RATE = 48_000  # Hz of the sound; nobody hears more
_LONGEST_GAP_S = 600.0  # a jump of the timestamps beyond this is damage, not a pause
_SHORTEST_GAP_S = 0.1  # a hole in the sound below this is rounding of the timestamps
_KEPT_BYTES = 512 << 20  # of pictures, for playing a film backward
_PACKED_QUALITY = 97  # JPEG quality of kept pictures that would not fit raw


@dataclass(frozen=True, kw_only=True, slots=True)
class FaceSource:
    """Where a face's pictures come from.

    Attributes:
        name: for messages.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
        fps: pictures a second.
        pictures: gives them, RGB uint8 (height, width, 3), from the first one at every call; one
            for a still, without end where they are made.
    """

    name: str
    width: int
    height: int
    fps: Fraction
    pictures: Callable[[], Iterator[Picture]]


class Speech:
    """The sound of a media file, at its own rate (48 kHz at most), in mono or stereo.

    Sample 0 belongs to the file's first picture; where it has none, to its first sample. Holes in
    the sound become silence.

    Args:
        path: any audio or video file.
        seconds: how much of it is wanted; it starts again where it is shorter. All of it by
            default.

    Attributes:
        path: the file.
        rate: Hz.
        channels: 1 or 2.
        mono: float32 (N,) in [−1, 1] at 16 kHz, the copy that drives the mouth.
        duration: N / 16 000, seconds.

    Raises:
        MediaError: the file can't be read, has no sound, or less than 0.2 s of it.
    """

    def __init__(self, path: Path, *, seconds: float | None = None) -> None:
        self.path = path
        with decoding.opened(path) as container:
            track = decoding.find_track(container, "audio")
            if track is None:
                raise MediaError(f"{path} has no sound; choose a file with an audio track.")
            first = next(decoding.decoded(container, track), None)
            if first is None:
                raise MediaError(f"No sound of {path} can be decoded; convert it to WAV first.")
            self.rate = min(first.sample_rate, _HIGHEST_RATE)
            self.channels = min(first.layout.nb_channels, 2)
        self._wanted = None if seconds is None else round(seconds * self.rate)
        resampler = Resampler(self.rate, SAMPLE_RATE, self.channels)
        parts = [resampler.push(block) for block in self.blocks()]
        self.mono = np.clip(np.concatenate([*parts, resampler.finish()]), -1, 1)
        self.duration = Fraction(len(self.mono), SAMPLE_RATE)
        if self.duration < LEAST_SPEECH_S:
            raise MediaError(
                f"{path} holds only {float(self.duration):.2f} s of sound; give at least"
                f" {LEAST_SPEECH_S} s of speech."
            )

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """The sound from its start, float32 (n, channels) at ``rate``, piece by piece."""
        if self._wanted is None:
            yield from self._once()
            return
        given, before = 0, -1
        while before < given < self._wanted:  # a file that holds nothing ends it as well
            before = given
            for block in self._once():
                yield block[: self._wanted - given]
                given = min(given + len(block), self._wanted)
                if given == self._wanted:
                    return

    def _once(self) -> Iterator[NDArray[np.float32]]:
        with decoding.opened(self.path) as container:
            track = decoding.find_track(container, "audio")
            picture = decoding.find_track(container, "video")
            zero_s = math.nan if picture is None else decoding.start_s(picture)
            convert: AudioResampler | None = None
            form, given = None, 0
            for frame in decoding.decoded(container, track):
                if not frame.samples:
                    continue
                start_s = decoding.frame_time_s(frame, default=math.nan)
                if convert is None and not abs(start_s - zero_s) < _LONGEST_GAP_S:
                    zero_s = start_s
                gap_s = start_s - zero_s - given / self.rate
                if convert is None and gap_s < 0:  # heard before the picture is there
                    given = round(gap_s * self.rate)
                elif (_SHORTEST_GAP_S if convert else 0) < gap_s < _LONGEST_GAP_S:
                    silence = round(gap_s * self.rate)
                    yield np.zeros((silence, self.channels), np.float32)
                    given += silence
                found = frame.format.name, frame.layout.name, frame.sample_rate
                if convert is None or form != found:
                    form = found
                    layout = "mono" if self.channels == 1 else "stereo"
                    convert = AudioResampler(format="fltp", layout=layout, rate=self.rate)
                frame.pts = None
                block = _samples(convert, frame)
                yield block[min(max(0, -given), len(block)) :]
                given += len(block)
            if convert is not None:
                yield _samples(convert, None)


def open_face(path: Path) -> FaceSource:
    """A face from a file: a video's own rate and size, or a still at 25 pictures a second.

    A rate that varies becomes its mean, one above 60 is divided; a still larger than 1920 pixels
    is scaled down to that.

    Raises:
        MediaError: the file can't be read, has no picture, or is smaller than 32 pixels a side.
    """
    if is_image(path):
        picture = _within_longest_side(read_image(path))
        height, width = picture.shape[:2]
        _check_size(path, width, height)
        return FaceSource(
            name=str(path),
            width=width,
            height=height,
            fps=STILL_FPS,
            pictures=lambda: iter([picture]),
        )
    reader = VideoReader(path)
    _check_size(path, reader.info.width, reader.info.height)
    fps = (reader.info.fps / math.ceil(reader.info.fps / HIGHEST_FPS)).limit_denominator(1001)
    return FaceSource(
        name=str(path),
        width=reader.info.width,
        height=reader.info.height,
        fps=fps,
        pictures=lambda: retime(reader, fps),
    )


def back_and_forth(pictures: Callable[[], Iterator[Picture]]) -> Iterator[Picture]:
    """Pictures without end: once through, then backward and forward with no jump.

    Memory is bounded: of a long film, only as much of the end as fits is played backward.

    Args:
        pictures: gives them from the first one, at every call.
    """
    yield from pictures()
    kept = _Kept(_KEPT_BYTES)
    for picture in pictures():  # decoded again, only where the film was too short
        kept.add(picture)
    if not len(kept):
        return
    last = len(kept) - 1
    turns = [*range(last - 1, -1, -1), *range(1, last + 1)] or [0]
    while True:
        for place in turns:
            yield kept[place]


class _Kept:
    """The last pictures of a film: raw while all fit, as JPEG where they do not."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._items: deque[Picture] = deque()
        self._packed = False

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, place: int) -> Picture:
        item = self._items[place]
        return _unpack(item) if self._packed else item

    def add(self, picture: Picture) -> None:
        self._put(_pack(picture) if self._packed else picture)
        if self._bytes > self._most_bytes and not self._packed:
            raw, self._items, self._bytes, self._packed = self._items, deque(), 0, True
            while raw:
                self._put(_pack(raw.popleft()))
        while self._bytes > self._most_bytes and len(self._items) > 1:
            self._bytes -= self._items.popleft().nbytes

    def _put(self, item: Picture) -> None:
        self._items.append(item)
        self._bytes += item.nbytes


def _pack(picture: Picture) -> Picture:
    settings = [cv2.IMWRITE_JPEG_QUALITY, _PACKED_QUALITY]
    settings += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    return np.asarray(cv2.imencode(".jpg", picture[..., ::-1], settings)[1], np.uint8)


def _unpack(packed: Picture) -> Picture:
    bgr = np.asarray(cv2.imdecode(packed, cv2.IMREAD_COLOR), np.uint8)
    return np.ascontiguousarray(bgr[..., ::-1])


def _samples(convert: AudioResampler, frame: AudioFrame | None) -> NDArray[np.float32]:
    """What a frame (None: the end) completes, float32 (n, channels)."""
    blocks = [converted.to_ndarray().T for converted in convert.resample(frame)]
    channels = convert.layout.nb_channels
    joined = np.concatenate([np.zeros((0, channels), np.float32), *blocks])
    return np.asarray(np.nan_to_num(joined, posinf=1, neginf=-1), np.float32)


def _within_longest_side(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    shrink = LONGEST_STILL_SIDE_PX / max(height, width)
    if shrink >= 1:
        return picture
    size = max(1, round(width * shrink)), max(1, round(height * shrink))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _check_size(path: Path, width: int, height: int) -> None:
    if min(width, height) < LEAST_SIDE_PX:
        raise MediaError(
            f"{path} is only {width} x {height} pixels; choose a picture of at least"
            f" {LEAST_SIDE_PX} x {LEAST_SIDE_PX} that shows a face."
        )
