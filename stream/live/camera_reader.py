"""A camera's own thread: it takes every picture at once, so that the newest one is never old."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from fractions import Fraction
from typing import Any, Final

import av
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Colorspace, VideoReformatter
from numpy.typing import NDArray

from engine import decoding
from engine.errors import MediaError
from stream.live.cameras import Captured, Clock

log = logging.getLogger(__name__)

SILENCE_S: Final = 1.0
"""A camera that gives no picture for so long counts as gone."""
OPEN_S: Final = 8.0  # some cameras take seconds until their first picture

_USUAL_FPS: Final = Fraction(30)
_CLOSE_S: Final = 0.5
_POLL_S: Final = 0.002  # AVFoundation does not wait for a picture but says that there is none yet
_UNTAGGED: Final = (0, 2)  # RGB or unspecified in ISO/IEC 23091-2

# Threads that hang in a camera's driver, by device: it can't be opened again before they return.
_hanging: dict[str, threading.Thread] = {}


class Stamps:
    """Tells when pictures were taken, on the session's clock, from the device's own time stamps.

    A picture reaches us some time after its stamp: a steady part, and a part that depends on how
    busy the computer is. The quickest of the last pictures tells the steady one.
    """

    _RECENT = 60  # pictures
    _MOST_LATE_S = 0.25  # beyond it, the stamps do not follow this clock

    def __init__(self) -> None:
        self._apart: deque[float] = deque(maxlen=self._RECENT)
        self._last: float | None = None

    def taken(self, stamp_s: float | None, arrived: float) -> float:
        """When a picture was taken: session seconds, rising unless the clock is set back.

        Args:
            stamp_s: the device's own time in seconds; None where it gives none.
            arrived: session seconds.
        """
        taken = arrived
        if stamp_s is not None:
            apart = arrived - stamp_s
            if self._apart and abs(apart - min(self._apart)) > self._MOST_LATE_S:
                self._apart.clear()
            self._apart.append(apart)
            taken = stamp_s + min(self._apart)
        if self._last is not None and self._last >= taken > self._last - self._MOST_LATE_S:
            taken = self._last + 1e-6
        self._last = taken
        return taken


class CameraReader:
    """A camera at work, until it is closed or lost.

    Args:
        name: for messages.
        device: tells cameras apart.
        open_device: opens it and may take long; raises a MediaError where it can't.
        clock: session seconds.
        matrix: how pictures are encoded that do not say so.
        open_s: how long the first picture may take.
        silence_s: how long every other one may take.

    Attributes:
        name: as given.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
        fps: pictures a second, as the camera promises.
        skipped: pictures that were too old when the next one was asked for.

    Raises:
        MediaError: it can't be opened, or gives no picture.
    """

    def __init__(
        self,
        name: str,
        device: str,
        open_device: Callable[[], InputContainer],
        clock: Clock,
        *,
        matrix: Colorspace = Colorspace.ITU601,
        open_s: float = OPEN_S,
        silence_s: float = SILENCE_S,
    ) -> None:
        self.name = name
        self.fps = _USUAL_FPS
        self.skipped = 0
        self._device = device
        self._open_device = open_device
        self._clock = clock
        self._matrix = matrix
        self._silence_s = silence_s
        self._reformatter = VideoReformatter()  # one for all: it holds megabytes
        self._size: tuple[int, int] | None = None
        self._change = threading.Condition()
        self._newest: Captured | None = None
        self._lost: str | None = None
        self._closed = threading.Event()
        if device in _hanging and _hanging[device].is_alive():
            raise MediaError(self._silent())
        _hanging.pop(device, None)
        self._thread = threading.Thread(target=self._work, name="webcam", daemon=True)
        self._thread.start()
        self.width, self.height = self._first_size(open_s)

    def read(self) -> Captured:
        """Wait for a picture that was not given yet; of several the newest.

        Raises:
            MediaError: the camera is gone, gives none for a second, or is closed.
        """
        with self._change:
            self._wait(self._silence_s)
            newest, self._newest = self._newest, None
            if newest is None or self._closed.is_set():
                raise MediaError(self._lost or self._silent())
        return newest

    def close(self) -> None:
        """Free the camera; one whose driver hangs is freed when that returns."""
        with self._change:
            self._closed.set()
            self._lost = self._lost or f"{self.name} is closed; open it again."
            self._change.notify_all()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _hanging[self._device] = self._thread

    def _first_size(self, open_s: float) -> tuple[int, int]:
        with self._change:
            self._wait(open_s)
            newest, lost = self._newest, self._lost
        if newest is None:
            self.close()
            raise MediaError(lost or self._silent())
        height, width = newest.picture.shape[:2]
        return width, height

    def _wait(self, seconds: float) -> None:
        self._change.wait_for(lambda: self._newest or self._lost, seconds)

    def _gone(self) -> str:
        return f"{self.name} is gone; plug it in again, or choose another camera."

    def _silent(self) -> str:
        return f"{self.name} gives no picture; unplug it, plug it in again and switch it on."

    # The thread

    def _work(self) -> None:
        try:
            container = self._open_device()
            try:
                lost = self._read_until_lost(container)
            finally:
                container.close()
        except MediaError as error:
            lost = str(error)
        except Exception:
            log.exception("the camera's reader failed")
            lost = self._gone()
        with self._change:
            self._lost = self._lost or lost
            self._change.notify_all()

    def _read_until_lost(self, container: InputContainer) -> str:
        """Read until the camera is closed or lost; returns why, in one sentence.

        Packets and raw frames lie in the driver's memory, which is gone with the container: when
        this returns, none of them may be left, in a traceback neither.
        """
        track = decoding.find_track(container, "video")
        if track is None:
            return f"{self.name} gives no pictures; choose another camera."
        track.thread_type = "SLICE"  # threads by picture would hold pictures back
        self.fps = decoding.stated_rate(track) or _USUAL_FPS
        stamps = Stamps()
        while not self._closed.is_set():
            try:
                for packet in container.demux(track):
                    if self._closed.is_set():
                        break
                    self._take(packet, track, stamps)
                    del packet
                else:
                    break
            except av.BlockingIOError:
                time.sleep(_POLL_S)
            except Exception as error:  # unplugged, above all
                log.info("the camera was lost: %r", error)
                break
        return self._gone()

    def _take(self, packet: Any, track: Any, stamps: Stamps) -> None:
        """Decode a packet and offer what it shows."""
        arrived = self._clock()
        try:
            frames: list[VideoFrame] = track.decode(packet)
        except av.InvalidDataError:  # cameras do send damaged JPEG
            return
        for frame in frames:
            stamp_s = decoding.frame_time_s(frame, default=math.nan)
            taken = stamps.taken(None if math.isnan(stamp_s) else stamp_s, arrived)
            captured = Captured(self._rgb(frame), taken)
            with self._change:
                self.skipped += self._newest is not None
                self._newest = captured
                self._change.notify_all()

    def _rgb(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """A frame as RGB uint8 (H, W, 3) in memory of its own.

        Not by :class:`engine.decoding.RgbConverter`: it looks for a display matrix, which cameras
        never send, and a frame that was asked for one lives until the garbage collector comes.
        """
        size = self._size = self._size or (frame.width, frame.height)
        matrix = self._matrix if frame.colorspace in _UNTAGGED else None
        converted = self._reformatter.reformat(
            frame, *size, format="rgb24", src_colorspace=matrix, threads=1
        )
        picture = np.asarray(converted.to_ndarray(), np.uint8)
        return picture.copy() if converted is frame else picture
