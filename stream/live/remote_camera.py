"""A peer's pictures as a session's camera."""

from __future__ import annotations

import math
import threading
from collections import deque
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, Interpolation, VideoReformatter
from numpy.typing import NDArray

from engine.errors import MediaError
from stream.live.cameras import Captured

LONGEST_SIDE: Final = 1280
"""Larger pictures are scaled down to it, in pixels: what follows is made for calls."""

MOST_WAITING: Final = 2
"""Pictures that wait for the reader."""

_FPS: Final = Fraction(30)
_SLICE_S: Final = 0.5
_UNTAGGED: Final = (0, 2)  # RGB or unspecified in ISO/IEC 23091-2: what browsers send as BT.601


@dataclass(frozen=True, slots=True)
class RemotePicture:
    """A decoded picture of a peer.

    Attributes:
        frame: in the decoder's own format and size.
        pts: when it was taken, in the room's seconds, rising.
    """

    frame: VideoFrame
    pts: float


class RemoteCamera:
    """A mailbox that is a :class:`stream.live.cameras.Camera`: the newest pictures win.

    It outlives those who fill it: a speaker who comes again goes on where the last one ended.
    Any thread puts, one reads, any may close.

    Args:
        name: for messages.

    Attributes:
        name: as given.
        width: of the last picture read, in pixels; 0 before the first.
        height: of the last picture read, in pixels.
        fps: a nominal rate; peers don't say theirs.
        dropped: pictures that the reader was too slow for.
        stale: pictures that were not later than the one before.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.width = self.height = 0
        self.fps = _FPS
        self.dropped = self.stale = 0
        self._change = threading.Condition()
        self._waiting: deque[RemotePicture] = deque()
        self._last_pts = -math.inf
        self._closed = self._ended = False
        self._reformatter = VideoReformatter()  # one for all: it holds megabytes

    def put(self, picture: RemotePicture) -> None:
        """Leave a picture; returns at once."""
        with self._change:
            if self._closed:
                return
            if picture.pts <= self._last_pts:
                self.stale += 1
                return
            self._last_pts = picture.pts
            if len(self._waiting) >= MOST_WAITING:
                self._waiting.popleft()
                self.dropped += 1
            self._waiting.append(picture)
            self._change.notify_all()

    def open(self) -> RemoteCamera:
        """Let it be read again after it was closed.

        Raises:
            MediaError: it has ended.
        """
        with self._change:
            if self._ended:
                raise MediaError(self._gone())
            self._closed = False
        return self

    def read(self) -> Captured:
        """Wait for the next picture, however long nobody sends one.

        Returns:
            The picture, RGB in memory of its own, at most ``LONGEST_SIDE`` on its longer side.

        Raises:
            MediaError: the camera is closed.
        """
        with self._change:
            while not self._waiting and not self._closed:
                self._change.wait(_SLICE_S)
            if self._closed:
                raise MediaError(self._gone())
            picture = self._waiting.popleft()
        captured = Captured(self._rgb(picture.frame), picture.pts)
        self.height, self.width = captured.picture.shape[:2]
        return captured

    def close(self) -> None:
        """Let the reader go; what waits is thrown away."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()

    def end(self) -> None:
        """Close it for good."""
        with self._change:
            self._ended = True
        self.close()

    def _gone(self) -> str:
        return f"{self.name} has ended; the speaker has to join again."

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        scale = min(1.0, LONGEST_SIDE / max(frame.width, frame.height))
        converted = self._reformatter.reformat(
            frame,
            max(1, round(frame.width * scale)),
            max(1, round(frame.height * scale)),
            format="rgb24",
            src_colorspace=Colorspace.ITU601 if frame.colorspace in _UNTAGGED else None,
            interpolation=Interpolation.AREA if scale < 1 else Interpolation.POINT,
            threads=1,
        )
        return np.asarray(converted.to_ndarray(), np.uint8)
