"""The camera's thread: takes pictures, follows the face, and gives both to the event loop."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import LipstreamError
from engine.identity import reference_cost
from engine.tracker import FaceTracker, TrackedFace
from stream.live.cameras import Camera
from stream.live.worker import END_S

log = logging.getLogger(__name__)

MOST_UNDELIVERED: Final = 10  # pictures on their way to an event loop that does not keep up
_RETRY_S: Final = 1.0
_COST_EVERY: Final = 5  # pictures: how often one is judged as identity reference


@dataclass(frozen=True, slots=True)
class Seen:
    """A camera's picture with its face.

    Attributes:
        pts: when it was taken, in session seconds.
        picture: uint8 (H, W, 3) RGB.
        face: where the face is, if there is one.
        crop: uint8 (S, S, 3), the face's.
        cost: how unfit it is as identity reference; None where it was not judged.
        track_s: how long finding the face took.
    """

    pts: float
    picture: NDArray[np.uint8]
    face: TrackedFace | None
    crop: NDArray[np.uint8] | None
    cost: float | None
    track_s: float


class Eye:
    """Reads a camera for as long as the session lasts; opens it again when it is gone.

    Args:
        open_camera: opens it; raises a LipstreamError where it can't.
        make_tracker: a new face tracker, made in the camera's thread.
        deliver: takes each picture, on the event loop.

    Attributes:
        tracking: whether faces are looked for; may be switched at any time.
        trouble: one sentence while the camera is gone, else None.
        dropped: pictures that the event loop was too slow for.
    """

    def __init__(
        self,
        open_camera: Callable[[], Camera],
        make_tracker: Callable[[], FaceTracker],
        deliver: Callable[[Seen], None],
    ) -> None:
        self._open_camera = open_camera
        self._make_tracker = make_tracker
        self._deliver = deliver
        self._sent = self._taken = 0  # each written by one thread only
        self._stop = threading.Event()
        self._chosen: tuple[float, float] | None = None
        self.tracking = True
        self.trouble: str | None = None
        self.dropped = 0

    def choose(self, x: float, y: float) -> None:
        """Follow the face nearest to this place from the next picture on; shares of the picture."""
        self._chosen = x, y

    async def run(self) -> None:
        """Work until cancelled."""
        loop = asyncio.get_running_loop()
        thread = threading.Thread(target=self._look, args=(loop,), name="camera", daemon=True)
        thread.start()
        try:
            await asyncio.Event().wait()
        finally:
            self._stop.set()
            await asyncio.to_thread(thread.join, END_S)

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        tracker = self._make_tracker()
        while not self._stop.is_set():
            try:
                camera = self._open_camera()
            except LipstreamError as error:
                self.trouble = str(error)
                self._stop.wait(_RETRY_S)
                continue
            try:
                self._read(camera, tracker, loop)
            except LipstreamError as error:
                self.trouble = str(error)
                self._stop.wait(_RETRY_S)
            except Exception:
                log.exception("the camera's thread failed")
                self.trouble = "The camera failed and is being opened again."
                self._stop.wait(_RETRY_S)
            finally:
                camera.close()

    def _read(self, camera: Camera, tracker: FaceTracker, loop: asyncio.AbstractEventLoop) -> None:
        count = 0
        while not self._stop.is_set():
            captured = camera.read()
            self.trouble = None
            if self._sent - self._taken >= MOST_UNDELIVERED:
                self.dropped += 1
                continue
            started = time.perf_counter()
            picture = captured.picture
            if (chosen := self._chosen) is not None:
                self._chosen = None
                height, width = picture.shape[:2]
                tracker.choose(chosen[0] * width, chosen[1] * height)
            face = tracker.update(picture, captured.time) if self.tracking else None
            crop = None if face is None else face.crop(picture)
            judged = face is not None and crop is not None and count % _COST_EVERY == 0
            cost = reference_cost(face, crop) if judged and face and crop is not None else None
            count += 1
            track_s = time.perf_counter() - started
            seen = Seen(captured.time, picture, face, crop, cost, track_s)
            self._sent += 1
            if loop.is_closed():
                return
            loop.call_soon_threadsafe(self._hand_over, seen)

    def _hand_over(self, seen: Seen) -> None:
        self._taken += 1
        self._deliver(seen)
