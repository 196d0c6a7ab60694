"""What every reader of media files needs: opening, tracks, frames that decode, upright RGB."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from engine.errors import MediaError

# Demuxers that take text for media or follow it to other files.
_REFUSED_FORMATS = {"hls", "concat", "dash", "tty", "sdp"}
_LOWEST_FPS, _USUAL_FPS, _HIGHEST_FPS = Fraction(1), Fraction(25), Fraction(240)


@contextmanager
def opened(path: str | Path) -> Iterator[InputContainer]:
    """An open media file; what fails in FFmpeg while it is used becomes a MediaError.

    Raises:
        MediaError: the file is missing, empty, damaged or no media file.
    """
    check_readable(path)
    try:
        # "file:" and the whitelist keep names and playlists from reaching the network.
        with av.open(
            f"file:{os.fspath(path)}",
            metadata_errors="replace",
            options={"protocol_whitelist": "file"},
        ) as container:
            if _REFUSED_FORMATS & set(container.format.name.split(",")):
                raise MediaError(unreadable(path))
            yield container
    except (av.FFmpegError, OSError) as error:
        raise MediaError(unreadable(path)) from error


def check_readable(path: str | Path) -> None:
    """Makes sure that there is a file and that it holds something.

    Raises:
        MediaError: it is missing, a folder, empty or not permitted.
    """
    try:
        if Path(path).is_dir():
            raise MediaError(f"{path} is a folder; name a file in it.")
        with open(path, "rb") as file:
            if not file.read(1):
                raise MediaError(f"{path} is empty; record or copy it again.")
    except FileNotFoundError as error:
        raise MediaError(f"{path} does not exist; check its name and folder.") from error
    except (OSError, ValueError) as error:
        raise MediaError(
            f"{path} can't be opened ({reason(error)}); check its name and rights."
        ) from error


def reason(error: Exception) -> str:
    """What the system says about a failure, without numbers and paths."""
    return getattr(error, "strerror", None) or str(error)


def unreadable(path: str | Path) -> str:
    """The message for a file that FFmpeg makes nothing of."""
    return (
        f"{path} can't be read: it is damaged, cut off or no media file;"
        " copy it again or convert it to MP4 or WAV."
    )


def find_track(container: InputContainer, kind: str) -> Any:
    """The first decodable track of a kind, cover art left out; None if there is none."""
    for stream in container.streams:
        wanted = stream.type == kind and stream.codec_context is not None
        if wanted and not stream.disposition & Disposition.attached_pic:
            return stream
    return None


def decoded(container: InputContainer, track: Any) -> Iterator[Any]:
    """The frames of a track that decode; damage is skipped."""
    track.thread_type = "AUTO"
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
        except av.FFmpegError:
            packet = None
        try:
            yield from track.decode(packet)
        except av.FFmpegError:
            if packet is not None:
                continue
        if packet is None:
            return


def frame_time_s(frame: VideoFrame | AudioFrame, *, default: float) -> float:
    """When a frame is due, in seconds of its file; ``default`` where it does not say."""
    if frame.pts is None or frame.time_base is None:
        return default
    return float(frame.pts * frame.time_base)


def start_s(track: Any) -> float:
    """When a track starts, in seconds of its file."""
    return float((track.start_time or 0) * track.time_base)


def stated_rate(track: Any) -> Fraction | None:
    """Pictures a second as the header says; None where that is missing or implausible."""
    for rate in (track.average_rate, track.guessed_rate):
        if rate and _LOWEST_FPS <= rate <= _HIGHEST_FPS:
            return Fraction(rate)
    return None


def stated_duration_s(container: InputContainer) -> float | None:
    """Seconds of the longest track as the header says; None where it does not."""
    return float(container.duration / av.time_base) if container.duration else None


def measured(path: str | Path) -> tuple[Fraction, float]:
    """Pictures a second and seconds of the longest track, counted over all packets.

    Browsers record WebM whose header states neither.
    """
    spans: dict[int, list[Fraction]] = {}  # track → first start, last start, last end, packets
    with opened(path) as container:
        picture = find_track(container, "video")
        packets = container.demux()
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packet = None
            if packet is None:
                break
            if packet.pts is None or packet.time_base is None:
                continue
            begins = packet.pts * packet.time_base
            ends = begins + (packet.duration or 0) * packet.time_base
            span = spans.setdefault(packet.stream_index, [begins, begins, ends, Fraction(0)])
            span[:] = min(span[0], begins), max(span[1], begins), max(span[2], ends), span[3] + 1
        first, last, _, count = spans.get(picture.index, [0, 0, 0, 0]) if picture else [0, 0, 0, 0]
    rate = (count - 1) / Fraction(last - first) if last > first else _USUAL_FPS
    rate = min(max(rate, _LOWEST_FPS), _HIGHEST_FPS).limit_denominator(1001)
    return rate, max((float(span[2] - span[0]) for span in spans.values()), default=0.0)


def mono(frame: AudioFrame) -> NDArray[np.float32]:
    """The mean of a frame's channels as float32 (n,), integers scaled to [−1, 1)."""
    values = frame.to_ndarray()  # (channels, n), or (1, n · channels) where interleaved
    if not frame.format.is_planar:
        values = values.reshape(-1, frame.layout.nb_channels).T
    mixed = values.mean(axis=0, dtype=np.float64)
    if values.dtype == np.uint8:
        mixed = (mixed - 128) / 128
    elif np.issubdtype(values.dtype, np.integer):
        mixed /= 2.0 ** (8 * values.dtype.itemsize - 1)
    result: NDArray[np.float32] = np.nan_to_num(mixed, posinf=1, neginf=-1).astype(np.float32)
    return result


class RgbConverter:
    """Video frames as upright RGB arrays, all of the first one's size."""

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()  # one for all: each holds megabytes
        self._size: tuple[int, int] | None = None

    def __call__(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """RGB uint8 (H, W, 3), an array of its own."""
        if self._size is None:
            self._size = frame.width, frame.height
        width, height = self._size
        untagged = frame.colorspace in (0, 2)  # RGB or unspecified in ISO/IEC 23091-2
        high_definition = frame.width >= 1280 or frame.height > 576
        matrix = Colorspace.ITU709 if untagged and high_definition else None  # as players guess
        rgb = self._reformatter.reformat(
            frame, width, height, format="rgb24", src_colorspace=matrix, threads=1
        ).to_ndarray()
        transposed, upside_down, mirrored = orientation(frame)
        if transposed:
            rgb = rgb.transpose(1, 0, 2)
        if upside_down:
            rgb = rgb[::-1]
        if mirrored:
            rgb = rgb[:, ::-1]
        upright: NDArray[np.uint8] = np.ascontiguousarray(rgb, dtype=np.uint8)
        return upright


def orientation(frame: VideoFrame) -> tuple[bool, bool, bool]:
    """How to turn a frame upright: (transpose first, then flip rows, then flip columns).

    The display matrix, 3×3 whole numbers row by row, shows pixel (x, y) at
    (m0·x + m3·y, m1·x + m4·y).
    """
    sides: Iterable[Any] = frame.side_data
    matrix = next((side for side in sides if side.type.name == "DISPLAYMATRIX"), None)
    if matrix is None:
        return False, False, False
    m = np.frombuffer(bytes(matrix), np.int32).astype(np.int64)
    if abs(m[1]) > abs(m[0]):
        return True, bool(m[1] < 0), bool(m[3] < 0)
    return False, bool(m[4] < 0), bool(m[0] < 0)
