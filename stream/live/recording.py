"""What leaves a session, as a video file of a constant rate."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.video_writer import VideoWriter
from stream.core.sinks import Shown
from stream.core.sound import CHANNELS, SOUND_RATE, Sound
from stream.live.picture_fit import fit

log = logging.getLogger(__name__)

Left: TypeAlias = Callable[[float, float], object]
"""Takes when something came in and when it leaves, both in session seconds."""

_AUDIO_BIT_RATE: Final = 192_000
_WAITING_BYTES: Final = 96 << 20  # of pictures that wait for the encoder
_LEAST_WAITING, _MOST_WAITING = 4, 50  # pictures
_MOST_SOUND_S: Final = 60.0  # that waits for the encoder; then the computer is too slow for it
_BLIND_S: Final = 5.0  # of sound without any picture; then the file begins with a dark one
_BLIND_SIZE: Final = 1280, 720
_BLIND_LEVEL: Final = 28
# A jump of the positions is a hole only where the clock shows it too; steps of the delay are up to
# 40 ms, and the event loop is that late at times.
_LEAST_HOLE_S: Final = 0.05
# A picture within this of the next slot takes it, so that jitter at the edge of two slots neither
# drops nor repeats one.
_STICKY_SLOTS: Final = 0.7


@dataclass(slots=True)
class _PictureItem:
    picture: NDArray[np.uint8] | None  # None: the one before once more
    count: int  # slots that it fills
    content_s: float
    at: float


@dataclass(frozen=True, slots=True)
class _SoundItem:
    block: Sound
    content_s: float
    at: float


class Recording:
    """A sink for pictures and sound that writes an MP4 or QuickTime file, whole or not at all.

    The file begins when the first sound is due, and sound is its clock: it is written as it
    comes, without a break. A picture takes the slot nearest to when it was shown; empty slots
    repeat the picture before (at the start, the one after), and of two in a slot the later wins.

    Encoding has a thread of its own. Where it can't follow, the oldest pictures are dropped; where
    it is a minute behind, the recording ends there and what it has is kept.

    Args:
        path: ends in .mp4, .m4v or .mov; an existing file is replaced.
        fps: pictures a second.
        clock: session seconds.
        size: width and height in pixels; the first picture's by default. Others are fitted in.
        crf: x264's constant rate factor.
        preset: x264's preset.
        on_picture_left: called in the encoder's thread for every picture that is written, with its
            pts and the session time at which the file shows it.
        on_sound_left: the same for every block of sound.

    Attributes:
        trouble: one sentence, once the recording has failed or ended early.

    Raises:
        MediaError: a file of this name can't be written in this folder.
    """

    lead_s = 0.0

    def __init__(
        self,
        path: Path,
        fps: Fraction,
        *,
        clock: Callable[[], float],
        size: tuple[int, int] | None = None,
        crf: int = 18,
        preset: str = "veryfast",
        on_picture_left: Left | None = None,
        on_sound_left: Left | None = None,
    ) -> None:
        VideoWriter(path, width=16, height=16, fps=fps).discard()  # trouble shows at once
        self.trouble: str | None = None
        self._path, self._fps, self._size = path, Fraction(fps), size
        self._crf, self._preset = crf, preset
        self._clock = clock
        self._on_picture_left = on_picture_left or _ignore
        self._on_sound_left = on_sound_left or _ignore
        # The event loop's: where the file's time begins, how much sound it has, the newest picture
        # and its slot, the first slot that has none, and where the next block should come from.
        self._zero: float | None = None
        self._samples = 0
        self._held: tuple[int, Shown] | None = None
        self._next_slot = 0
        self._expected_s: float | None = None
        self._holes = 0
        # Shared with the encoder's thread.
        self._change = threading.Condition()
        self._items: deque[_PictureItem | _SoundItem] = deque()
        self._waiting: deque[_PictureItem] = deque()  # those of the items that hold a picture
        self._sound_waiting = 0  # samples
        self._ended = self._given_up = False
        self._dropped: Counter[str] = Counter()
        self._pictures = self._repeated = 0

    # Called on the event loop

    def show(self, shown: Shown) -> None:
        """Take a picture; it is placed by ``shown.at``."""
        if self._ended:
            return
        slot = self._slot(shown.at)
        if self._held is not None and slot == self._held[0]:
            self._dropped["slot"] += 1
        elif self._held is not None:
            self._hand_on(slot)
        self._held = slot, shown

    def hear(self, block: Sound, position_s: float) -> None:
        """Take the next 20 ms, which are due now.

        Args:
            block: float32 (n, 2).
            position_s: session seconds at which the block's first sample came in.
        """
        if self._ended:
            return
        now = self._clock()
        start = now - self._samples / SOUND_RATE
        # The loop is never early, so the least that was seen is nearest to when sound was due.
        self._zero = start if self._zero is None else min(self._zero, start)
        self._fill_hole(position_s, late_s=start - self._zero)
        self._write_sound(np.array(block, np.float32), position_s)
        self._expected_s = position_s + len(block) / SOUND_RATE
        if self._held is None and self._samples > _BLIND_S * SOUND_RATE:
            self.show(_blind(now, self._size or _BLIND_SIZE))

    async def run(self) -> None:
        """Encode until cancelled; then write what waits and give the file its name.

        A second cancellation gives the file up.
        """
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def finished() -> None:
            with suppress(RuntimeError):  # the loop may be gone
                loop.call_soon_threadsafe(done.set)

        threading.Thread(target=self._work, args=(finished,), name="recording", daemon=True).start()
        try:
            await asyncio.Event().wait()
        finally:
            self._finish()
            try:
                await done.wait()
            except asyncio.CancelledError:
                self._given_up = True
                raise

    @property
    def waiting(self) -> int:
        """Pictures and blocks of sound that wait for the encoder."""
        return len(self._items)

    def facts(self) -> dict[str, Any]:
        """What the file holds so far, for the report; JSON values."""
        with self._change:
            return {
                "pictures": self._pictures,
                "repeated": self._repeated,
                "dropped": dict(self._dropped),
                "sound_s": self._samples / SOUND_RATE,
                "holes": self._holes,
                "trouble": self.trouble,
            }

    def _slot(self, at: float) -> int:
        zero = at if self._zero is None else self._zero
        place = (at - zero) * float(self._fps)
        if self._held is None:
            return max(0, round(place))
        last = self._held[0]
        if abs(place - (last + 1)) <= _STICKY_SLOTS:
            return last + 1
        return max(last, round(place))

    def _hand_on(self, until: int) -> None:
        """Give the encoder the held picture, for the slots up to ``until``."""
        assert self._held is not None
        slot, shown = self._held
        at = (self._zero or 0.0) + float(slot / self._fps)
        item = _PictureItem(shown.picture, until - self._next_slot, shown.pts, at)
        self._next_slot = until
        most = max(_LEAST_WAITING, min(_MOST_WAITING, _WAITING_BYTES // shown.picture.nbytes))
        with self._change:
            self._items.append(item)
            self._waiting.append(item)
            if len(self._waiting) > most:
                self._waiting.popleft().picture = None
                self._dropped["slow"] += 1
            self._change.notify()

    def _fill_hole(self, position_s: float, *, late_s: float) -> None:
        if self._expected_s is None:
            return
        hole_s = min(position_s - self._expected_s, late_s)
        if hole_s >= _LEAST_HOLE_S:
            self._holes += 1
            silence = np.zeros((round(hole_s * SOUND_RATE), CHANNELS), np.float32)
            self._write_sound(silence, self._expected_s)

    def _write_sound(self, block: Sound, position_s: float) -> None:
        assert self._zero is not None
        item = _SoundItem(block, position_s, self._zero + self._samples / SOUND_RATE)
        self._samples += len(block)
        with self._change:
            self._items.append(item)
            self._sound_waiting += len(block)
            self._change.notify()
            too_slow = self._sound_waiting > _MOST_SOUND_S * SOUND_RATE
        if too_slow:
            seconds = round(self._samples / SOUND_RATE)
            self.trouble = (
                f"The recording ended after {seconds} s, as this computer can't write it fast"
                " enough; choose a faster x264_preset."
            )
            log.warning("the recording fell behind and was ended")
            self._finish()

    def _finish(self) -> None:
        """No more comes in: hand on what is held, to the end of the sound."""
        if self._ended:
            return
        with self._change:  # the encoder must not see the end before the last picture
            if self._held is not None:
                sound_end = round(self._samples * self._fps / SOUND_RATE)
                self._hand_on(max(self._held[0] + 1, sound_end))
            self._ended = True
            self._change.notify()

    # The encoder's thread

    def _work(self, finished: Callable[[], None]) -> None:
        encoder = _Encoder(self._open)
        try:
            while (item := self._take()) is not None:
                if isinstance(item, _SoundItem):
                    encoder.sound(item.block)
                    self._on_sound_left(item.content_s, item.at)
                    continue
                encoder.pictures(item.picture, item.count)
                with self._change:
                    self._pictures += item.count
                    self._repeated += item.count - (item.picture is not None)
                if item.picture is not None:
                    self._on_picture_left(item.content_s, item.at)
            if self._given_up:
                encoder.discard()
            else:
                encoder.commit(self._path)
        except Exception as error:
            encoder.discard()
            if not isinstance(error, MediaError):
                log.exception("the recording failed")
                error = MediaError(f"{self._path} can't be written; the log says why.")
            self.trouble = str(error)
            self._ended = True
            with self._change:
                self._items.clear()
                self._waiting.clear()
        finally:
            finished()

    def _take(self) -> _PictureItem | _SoundItem | None:
        """The next item, waiting for it; None at the end."""
        with self._change:
            self._change.wait_for(lambda: self._items or self._ended)
            if self._given_up or not self._items:
                return None
            item = self._items.popleft()
            if isinstance(item, _SoundItem):
                self._sound_waiting -= len(item.block)
            elif item.picture is not None:
                self._waiting.popleft()
            return item

    def _open(self, picture: NDArray[np.uint8]) -> tuple[VideoWriter, int, int]:
        width, height = self._size or (picture.shape[1], picture.shape[0])
        writer = VideoWriter(
            self._path,
            width=width,
            height=height,
            fps=self._fps,
            audio_rate=SOUND_RATE,
            audio_channels=CHANNELS,
            audio_bit_rate=_AUDIO_BIT_RATE,
            crf=self._crf,
            preset=self._preset,
        )
        return writer, width, height


class _Encoder:
    """Writes items to the file, which is opened when its size is known."""

    def __init__(
        self, open_writer: Callable[[NDArray[np.uint8]], tuple[VideoWriter, int, int]]
    ) -> None:
        self._open_writer = open_writer
        self._writer: VideoWriter | None = None
        self._size = 0, 0
        self._last: NDArray[np.uint8] | None = None
        self._early: list[Sound] = []  # sound before the first picture, which comes in seconds
        self._owed = 0  # slots before the first picture

    def pictures(self, picture: NDArray[np.uint8] | None, count: int) -> None:
        if picture is not None:
            if self._writer is None:
                self._writer, *size = self._open_writer(picture)
                self._size = size[0], size[1]
                for block in self._early:
                    self._writer.write_audio(block)
                self._early.clear()
            width, height = self._size
            fits = picture.shape[:2] == (height, width)
            self._last = picture if fits else fit(picture, width, height)
        if self._writer is None or self._last is None:
            self._owed += count
            return
        for _ in range(self._owed + count):
            self._writer.write_frame(self._last)
        self._owed = 0

    def sound(self, block: Sound) -> None:
        if self._writer is None:
            self._early.append(block)
        else:
            self._writer.write_audio(block)

    def commit(self, path: Path) -> None:
        if self._writer is None:
            raise MediaError(f"{path} was not written: there were no pictures.")
        self._writer.commit()

    def discard(self) -> None:
        if self._writer is not None:
            self._writer.discard()


def _blind(now: float, size: tuple[int, int]) -> Shown:
    width, height = size
    card = np.full((height, width, 3), _BLIND_LEVEL, np.uint8)
    return Shown(number=-1, pts=now, picture=card, original=card, modified=False, at=now)


def _ignore(content_s: float, at: float) -> None:
    """Nobody wants to know."""
