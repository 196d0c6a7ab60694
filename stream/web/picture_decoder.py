"""A thread that decodes a peer's pictures."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Final, cast

import av
from av.codec.context import Flags
from av.video.frame import VideoFrame

log = logging.getLogger(__name__)

MOST_WAITING: Final = 30
"""Encoded pictures that wait at most: a second's."""

MOST_PIXELS: Final = 4096 * 2304
"""Larger pictures are refused before any memory is taken for them."""

DECODERS: Final = {"VP8": "vp8", "H264": "h264"}
"""FFmpeg's decoders by the names that SDP uses."""


class PictureDecoder:
    """Decodes pictures in order, in a daemon thread of its own.

    aiortc's own thread is not used: its queues have no bound, and aiortc waits for it on the event
    loop.

    Args:
        deliver: takes each picture and the time that came with it, in the decoder's thread.

    Attributes:
        decoded: pictures delivered.
        errors: pictures that could not be decoded.
    """

    def __init__(self, deliver: Callable[[VideoFrame, float], None]) -> None:
        self.decoded = self.errors = 0
        self._deliver = deliver
        self._change = threading.Condition()
        self._waiting: deque[tuple[str, bytes, float]] = deque()
        self._closed = False
        self._failed = False
        self._thread = threading.Thread(target=self._work, name="picture-decoder", daemon=True)
        self._thread.start()

    def put(self, codec: str, data: bytes, pts: float) -> bool:
        """Leave an encoded picture; returns at once.

        Args:
            codec: a key of ``DECODERS``.
            data: of the picture.
            pts: handed on.

        Returns:
            False where the decoder is too far behind: nothing it gets is of use then before the
            next key frame.
        """
        with self._change:
            if self._closed or len(self._waiting) >= MOST_WAITING:
                return False
            self._waiting.append((codec, data, pts))
            self._change.notify()
        return True

    def take_failure(self) -> bool:
        """Whether a picture could not be decoded since the last call."""
        with self._change:
            failed, self._failed = self._failed, False
        return failed

    def close(self) -> None:
        """Let the thread end after the picture it has; what waits is thrown away."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify()

    def _work(self) -> None:
        name, context = "", None
        while (task := self._next()) is not None:
            codec, data, pts = task
            if context is None or codec != name:
                name, context = codec, _open(codec)
            packet = av.Packet(data)
            packet.opaque = pts
            try:
                frames = context.decode(packet)
            except av.FFmpegError as error:
                log.debug("a picture could not be decoded: %r", error)
                frames = []
                self._fail()
            for frame in frames:
                self.decoded += 1
                try:
                    self._deliver(frame, cast(float, frame.opaque))
                except Exception:
                    log.exception("a decoded picture could not be delivered")

    def _next(self) -> tuple[str, bytes, float] | None:
        with self._change:
            self._change.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()

    def _fail(self) -> None:
        self.errors += 1
        with self._change:
            self._failed = True


def _open(codec: str) -> av.VideoCodecContext:
    context = av.CodecContext.create(DECODERS[codec], "r")
    assert isinstance(context, av.VideoCodecContext)
    context.thread_count = 1
    context.flags |= Flags.low_delay | Flags.copy_opaque
    context.options = {"max_pixels": str(MOST_PIXELS)}
    return context
