"""The sound of a media file as a session's intake."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import Final

import numpy as np
import soxr
from numpy.typing import NDArray

from engine.errors import LipstreamError
from engine.sources import Speech
from stream.core.sound import SOUND_RATE, Sound, as_sound
from stream.core.track import SoundQueue, silence

_log = logging.getLogger(__name__)

AHEAD_S: Final = 2.0
"""How much is decoded ahead."""


class FileIntake:
    """The sound of a media file at its own pace, decoded ahead in a thread of its own.

    Args:
        path: any audio or video file.
        loop: whether it starts again at its end.
        gap_s: silence before it starts again, in seconds.

    Attributes:
        starved_s: seconds of silence given because decoding fell behind.
        failed: why it ended too early, if it did.

    Raises:
        MediaError: the file can't be read or has no sound.
    """

    def __init__(self, path: Path, *, loop: bool = True, gap_s: float = 1.0) -> None:
        self._speech = Speech(path)
        # Only its length is of use here: the 16 kHz copy of an hour takes 230 MB.
        self._speech.mono = np.zeros(0, np.float32)
        self._loop, self._gap = loop, round(gap_s * SOUND_RATE)
        self._queue = SoundQueue()
        self._changed = threading.Condition()
        self._closed = self._done = False
        self.starved_s = 0.0
        self.failed: LipstreamError | None = None
        self._thread = threading.Thread(target=self._decode, name="sound file", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether all of it was pulled and nothing follows."""
        with self._changed:
            return self._done and not len(self._queue)

    def wait(self, timeout_s: float = 5.0) -> bool:
        """Block until two seconds, or all that is left, are decoded.

        Returns:
            Whether they are.
        """
        with self._changed:
            return self._changed.wait_for(lambda: self._done or self._full(), timeout_s)

    def pull(self, count: int, now: float) -> Sound:
        """The next samples; see :class:`Intake`."""
        with self._changed:
            part = self._queue.take(count)
            missing = count - len(part)
            if missing and not self._done:
                self.starved_s += missing / SOUND_RATE
            self._changed.notify_all()
        return np.concatenate([part, silence(missing)]) if missing else part

    def close(self) -> None:
        """End the thread; what is decoded can still be pulled."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _full(self) -> bool:
        return len(self._queue) >= AHEAD_S * SOUND_RATE

    def _decode(self) -> None:
        try:
            while self._once() and self._loop and self._put(silence(self._gap)):
                pass
        except LipstreamError as error:
            self.failed = error
            _log.warning("A sound file ends here: %s", error)
        with self._changed:
            self._done = True
            self._changed.notify_all()

    def _once(self) -> bool:
        """Decode the file from its start; whether to go on after it."""
        speech, some = self._speech, False
        convert = soxr.ResampleStream(speech.rate, SOUND_RATE, speech.channels, dtype="float32")
        for block in speech.blocks():
            some = some or len(block) > 0
            if not self._put(_sound(convert.resample_chunk(block))):
                return False
        nothing = np.zeros((0, speech.channels), np.float32)
        return self._put(_sound(convert.resample_chunk(nothing, last=True))) and some

    def _put(self, block: Sound) -> bool:
        """Queue a block once there is room; false where it was closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or not self._full())
            if self._closed:
                return False
            self._queue.append(block)
            self._changed.notify_all()
            return True


def _sound(converted: NDArray[np.float32]) -> Sound:
    return as_sound(np.clip(converted, -1, 1)) if len(converted) else silence(0)
