"""Writing a video file, whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, VideoReformatter
from numpy.typing import ArrayLike, NDArray

from engine.errors import MediaError

_FORMATS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov"}
_AAC_RATES = {8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000}
_AAC_FALLBACK_RATE = 48_000
_BT709 = 1  # matrix, primaries and transfer alike, in ISO/IEC 23091-2


class VideoWriter:
    """An MP4 or QuickTime file of H.264 pictures and, if wanted, AAC sound.

    Everything goes to a hidden file in the same folder, which takes the final name on
    :meth:`commit` or a clean end of the ``with`` block, and is removed on an exception or
    :meth:`discard`. Write pictures and sound in step (a few seconds apart at most): what runs
    ahead waits in memory as encoded packets, and far ahead makes a file that plays badly.

    Args:
        path: ends in .mp4, .m4v or .mov; an existing file is replaced.
        width: of the pictures; an odd one is filled up to even by repeating the edge.
        height: of the pictures; likewise.
        fps: pictures a second.
        audio_rate: Hz of the sound that will be written; None writes no sound track. A rate that
            AAC does not know is converted to 48 kHz.
        audio_channels: 1 or 2.
        audio_bit_rate: bits a second of the sound.
        crf: x264's constant rate factor: 0 is lossless, 18 looks like the source.
        preset: x264's preset: how much time is spent on a smaller file.

    Raises:
        MediaError: the name's ending is not one of the three, or the folder is missing or not
            writable: known before any work is done.
        ValueError: a size, rate or channel count that can't be.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        width: int,
        height: int,
        fps: Fraction,
        audio_rate: int | None = None,
        audio_channels: int = 1,
        audio_bit_rate: int = 128_000,
        crf: int = 18,
        preset: str = "veryfast",
    ) -> None:
        if min(width, height) < 1 or fps <= 0 or audio_channels not in (1, 2):
            raise ValueError("a video needs a size, a rate and one or two channels")
        self._path = Path(path)
        self._size = width, height
        self._fps = Fraction(fps)
        self._pictures = 0
        self._reformatter = VideoReformatter()
        self._partial = _reserve(self._path)
        self._container: Any = None
        self._sound: Any = None
        self._samples = 0
        try:
            with self._reporting():
                self._container = av.open(
                    f"file:{self._partial}",
                    "w",
                    format=_FORMATS[self._path.suffix.lower()],
                    options={"movflags": "+faststart"},
                )
                self._video = self._add_video(crf, preset)
                if audio_rate is not None:
                    self._sound = self._add_sound(audio_rate, audio_channels, audio_bit_rate)
        except BaseException:
            self.discard()
            raise
        self._audio_rate = audio_rate or 0
        self._channels = audio_channels

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is not None:
            self.discard()
        elif self._container is not None:
            self.commit()

    def write_frame(self, rgb: NDArray[np.uint8]) -> None:
        """Writes the next picture.

        Args:
            rgb: uint8 (height, width, 3).

        Raises:
            MediaError: the disk is full or gone.
            ValueError: another shape or kind, or the file is already finished.
        """
        self._require_open()
        width, height = self._size
        if rgb.shape != (height, width, 3) or rgb.dtype != np.uint8:
            raise ValueError(f"expected uint8 {(height, width, 3)}, got {rgb.dtype} {rgb.shape}")
        if width % 2 or height % 2:
            rgb = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        with self._reporting():
            source = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
            frame = self._reformatter.reformat(
                source,
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            frame.pts = self._pictures
            frame.time_base = 1 / self._fps
            self._mux(self._video, frame)
        self._pictures += 1

    def write_audio(self, samples: ArrayLike) -> None:
        """Writes the next samples; sample 0 is heard with picture 0.

        Args:
            samples: floats (n,) for one channel or (n, channels), any n; what lies beyond
                [−1, 1] is clipped.

        Raises:
            MediaError: the disk is full or gone.
            ValueError: the writer has no sound track, another number of channels, or the file is
                already finished.
        """
        self._require_open()
        values = np.asarray(samples, dtype=np.float32)
        if self._sound is None:
            raise ValueError("the writer was made without audio_rate")
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != self._channels:
            raise ValueError(f"expected (n, {self._channels}) samples, got {values.shape}")
        values = np.clip(np.nan_to_num(values), -1, 1)
        layout = "mono" if self._channels == 1 else "stereo"
        with self._reporting():
            for start in range(0, len(values), self._audio_rate):  # a second at a time
                block = np.ascontiguousarray(values[start : start + self._audio_rate].T)
                frame = AudioFrame.from_ndarray(block, format="fltp", layout=layout)
                frame.sample_rate = self._audio_rate
                frame.time_base = Fraction(1, self._audio_rate)
                frame.pts = self._samples
                self._mux(self._sound, frame)
                self._samples += block.shape[1]

    def commit(self) -> None:
        """Ends the file and gives it its name.

        Raises:
            MediaError: no picture was written, or the file can't be completed; nothing is left.
            ValueError: the file is already finished.
        """
        self._require_open()
        try:
            with self._reporting():
                if not self._pictures:
                    raise MediaError(f"{self._path} was not written: there were no pictures.")
                self._mux(self._video, None)
                if self._sound is not None:
                    self._mux(self._sound, None)
                container, self._container = self._container, None
                container.close()
                with av.open(f"file:{self._partial}") as written:
                    if written.streams.video[0].frames != self._pictures:
                        raise OSError("pictures are missing")
                os.replace(self._partial, self._path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        """Gives up and removes what was written; does nothing after :meth:`commit`."""
        container, self._container = self._container, None
        if container is not None:
            with suppress(av.FFmpegError, OSError):
                container.close()
        self._partial.unlink(missing_ok=True)

    def _add_video(self, crf: int, preset: str) -> Any:
        options = {"crf": str(crf), "preset": preset}
        video = self._container.add_stream("libx264", rate=self._fps, options=options)
        video.width, video.height = (side + side % 2 for side in self._size)
        video.pix_fmt = "yuv420p"
        context = video.codec_context
        context.time_base = 1 / self._fps
        context.color_range = ColorRange.MPEG
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        return video

    def _add_sound(self, rate: int, channels: int, bit_rate: int) -> Any:
        aac_rate = rate if rate in _AAC_RATES else _AAC_FALLBACK_RATE
        sound = self._container.add_stream("aac", rate=aac_rate)
        sound.layout = "mono" if channels == 1 else "stereo"
        sound.bit_rate = min(bit_rate, 6 * aac_rate * channels)  # AAC's limit: 6 bits a sample
        return sound

    def _require_open(self) -> None:
        if self._container is None:
            raise ValueError("the file is already finished")

    def _mux(self, stream: Any, frame: VideoFrame | AudioFrame | None) -> None:
        for packet in stream.encode(frame):
            self._container.mux(packet)

    @contextmanager
    def _reporting(self) -> Iterator[None]:
        try:
            yield
        except (av.FFmpegError, OSError) as error:
            said = getattr(error, "strerror", None) or error
            raise MediaError(
                f"{self._path} can't be written ({said}); check the disk's space and rights."
            ) from error


def _reserve(path: Path) -> Path:
    """An empty hidden file beside ``path``, so that trouble shows at once."""
    if path.suffix.lower() not in _FORMATS:
        raise MediaError(f"{path} can't be written: name a file ending in .mp4, .m4v or .mov.")
    if path.is_dir():
        raise MediaError(f"{path} is a folder; name another file.")
    partial = path.parent / f".lipstream-{secrets.token_hex(8)}.part"
    try:
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileNotFoundError as error:
        raise MediaError(f"The folder {path.parent} does not exist; create it first.") from error
    except OSError as error:
        raise MediaError(
            f"The folder {path.parent} can't be written to ({error.strerror}); choose another."
        ) from error
    return partial
