"""Encoders as WebRTC needs them: each picture and each 20 ms becomes one packet, at once."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, Literal

import av
import numpy as np
from av import AudioFrame, VideoFrame
from av.video.frame import PictureType

from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound

PictureCodec = Literal["VP8", "H264"]

VIDEO_RATE: Final = 90_000  # Hz, RTP's clock for pictures
SOUND_BITS: Final = 96_000
"""Of sound in bits per second: music survives it, and it is little beside the picture."""

_FULL_SCALE: Final = 32767
_END_S: Final = 1.0

_FPS: Final = 25  # what H.264's rate control is told
_SHORTEST_S, _LONGEST_S = 1 / 100, 0.2  # that one step between two pictures counts for
_STEP_WEIGHT: Final = 0.1
_NO_KEY_FRAMES: Final = 1_000_000  # pictures from one key frame to the next: eleven hours

# At 640x480 and 1 Mb/s a talking face takes 2.5 ms of a core with either codec, at the same
# quality (PSNR 44 and 43.4 dB). libx264's ultrafast would take 1.5 ms, but lose 1 dB at 300 kb/s;
# its veryfast takes 4.7 ms for 0.1 dB more.
_VP8_OPTIONS: Final = {
    "deadline": "realtime",
    "cpu-used": "-6",
    "lag-in-frames": "0",
    "error-resilient": "default",  # costs no quality that could be measured
    "static-thresh": "1",
    "undershoot-pct": "100",
    "overshoot-pct": "15",
    "keyint_min": str(_NO_KEY_FRAMES),  # the same as the longest: none by itself
}
_H264_OPTIONS: Final = {
    "preset": "superfast",
    "tune": "zerolatency",
    "level": "31",  # what aiortc's SDP promises
    "forced-idr": "1",
    "sc_threshold": "0",
}
_H264_BUFFER_S: Final = 0.25  # at the full rate: how large a key frame can be


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture, encoded.

    Attributes:
        data: a VP8 frame, or H.264 as Annex B.
        pts: when the camera took it, in session seconds.
        key: whether it can be decoded without those before it.
    """

    data: bytes
    pts: float
    key: bool


class PictureEncoder:
    """Encodes pictures without delay; only the first is a key frame by itself. For one thread.

    Its bit rate can change from picture to picture without a new encoder, which would cost a key
    frame.

    Args:
        codec: of the pictures.
        most: the highest bit rate there will be, in bits/s.
    """

    def __init__(self, codec: PictureCodec, most: int) -> None:
        self._vp8 = codec == "VP8"
        self._most = most
        self._context: Any = None
        self._at: float | None = None
        self._ticks = 0
        self._step_s = 1 / _FPS  # between two pictures, smoothed: a pause is no treasure of bits

    def encode(self, frame: VideoFrame, *, at: float, pts: float, key: bool, rate: int) -> Encoded:
        """Encode the next picture.

        Args:
            frame: yuv420p, even sides; its time and type are written to. Another size than the
                last one's begins anew.
            at: when it is shown, in seconds: the bit rate is per second of this.
            pts: when it was taken, in session seconds.
            key: make it a key frame.
            rate: bits/s, up to ``most``.

        Raises:
            av.FFmpegError: the encoder failed; the next picture begins anew.
        """
        context = self._context
        if context is None or (context.width, context.height) != (frame.width, frame.height):
            make = _vp8_context if self._vp8 else _h264_context
            context = self._context = make(frame.width, frame.height, self._most)
        self._learn_step(at)
        if self._vp8:
            # FFmpeg can't change libvpx's rate, but a clock that goes slower makes it spend less.
            self._ticks += max(1, round(self._step_s * VIDEO_RATE * rate / self._most))
        else:
            # libx264 without delay takes all pictures for 1/25 s.
            context.bit_rate = round(rate * min(1.0, self._step_s * _FPS))
            self._ticks += VIDEO_RATE // _FPS
        frame.pts, frame.time_base = self._ticks, Fraction(1, VIDEO_RATE)
        frame.pict_type = PictureType.I if key else PictureType.NONE
        try:
            packets = context.encode(frame)
        except av.FFmpegError:
            self._context = None
            raise
        data = b"".join(bytes(packet) for packet in packets)
        return Encoded(data, pts, any(packet.is_keyframe for packet in packets))

    def _learn_step(self, at: float) -> None:
        if self._at is not None:
            step_s = min(max(at - self._at, _SHORTEST_S), _LONGEST_S)
            self._step_s += _STEP_WEIGHT * (step_s - self._step_s)
        self._at = at


class SoundEncoder:
    """Encodes sound as Opus, 48 kHz stereo, in packets of 20 ms.

    What is decoded comes 2.5 ms later than what was encoded. A block takes 0.15 ms, less than to
    hand it to a thread and back, so it is encoded on the event loop, where no picture delays it.
    """

    def __init__(self) -> None:
        context = av.CodecContext.create("libopus", "w")
        context.bit_rate = SOUND_BITS
        context.format, context.layout, context.sample_rate = "s16", "stereo", SOUND_RATE
        context.time_base = Fraction(1, SOUND_RATE)
        # The other modes are no better at this rate, and 6.5 ms late.
        context.options = {"application": "lowdelay", "frame_duration": "20"}
        self._context = context
        self._samples = 0

    def encode(self, block: Sound) -> bytes:
        """Encode the next 20 ms; what is too loud is clipped.

        Args:
            block: float32 (960, 2).

        Raises:
            av.FFmpegError: the encoder failed.
        """
        samples = (np.clip(block, -1.0, 1.0) * np.float32(_FULL_SCALE)).astype(np.int16)
        frame = AudioFrame(format="s16", layout="stereo", samples=TICK_SAMPLES)
        frame.planes[0].update(samples.tobytes())
        frame.sample_rate = SOUND_RATE
        frame.pts, frame.time_base = self._samples, Fraction(1, SOUND_RATE)
        self._samples += TICK_SAMPLES
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class EncodingThread:
    """One daemon thread that does one job after the other, for the running event loop.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        # Bounded by its user, who gives a job only when the last one is done.
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._ended = asyncio.Event()
        threading.Thread(target=self._work, name=name, daemon=True).start()

    def put(self, job: Callable[[], None]) -> None:
        """Give it a job, which must not raise; returns at once."""
        self._jobs.put(job)

    def tell(self, what: Callable[..., None], *arguments: object) -> None:
        """For jobs: have something called on the event loop; nothing where that has ended."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(what, *arguments)

    async def end(self) -> None:
        """Let it end, and wait a moment for it: native code must not outlive Python."""
        self._jobs.put(None)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._ended.wait(), _END_S)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()
            del job  # holds pictures
        self.tell(self._ended.set)


def _vp8_context(width: int, height: int, rate: int) -> Any:
    context = _context("libvpx", width, height, rate)
    context.qmin, context.qmax = 2, 56
    # The three equal rates mean a constant one; the buffer is FFmpeg's way to say one second.
    same = {name: str(rate) for name in ("minrate", "maxrate", "bufsize")}
    context.options = {**_VP8_OPTIONS, **same}
    return context


def _h264_context(width: int, height: int, rate: int) -> Any:
    context = _context("libx264", width, height, rate)
    context.profile = "Baseline"
    limits = {"maxrate": str(rate), "bufsize": str(round(rate * _H264_BUFFER_S))}
    context.options = {**_H264_OPTIONS, **limits}
    return context


def _context(name: str, width: int, height: int, rate: int) -> Any:
    context: Any = av.CodecContext.create(name, "w")
    context.width, context.height, context.pix_fmt = width, height, "yuv420p"
    context.bit_rate = rate
    context.time_base, context.framerate = Fraction(1, VIDEO_RATE), Fraction(_FPS)
    context.gop_size = _NO_KEY_FRAMES
    context.thread_count = 1  # other sessions use the other cores
    return context
