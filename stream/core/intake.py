"""Where a session's sound comes in: live from another clock, pushed in bursts, or from a file.

``pull`` is called by the session; ``push`` may be called from any other thread.
"""

from __future__ import annotations

import math
import threading
from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from stream.core.drift import DriftServo, VariableRate
from stream.core.file_intake import FileIntake
from stream.core.pump import QUIET_LEVEL
from stream.core.sound import SOUND_RATE, Sound, as_sound
from stream.core.track import FADE_SAMPLES, Seam, SoundQueue, silence

__all__ = ["BIG_ERROR_S", "FileIntake", "LiveIntake", "PushedIntake"]

BIG_ERROR_S: Final = 0.06
"""A buffer that is further from its target is corrected at once, not by its rate."""

_LOOK_S = 0.5  # for silence, before it is corrected anyway
_NOTICE_S = 0.08  # time constant of the level's fast mean
_ENOUGH_S = 0.005
_SILENCE_SAMPLES = 480  # 10 ms: shorter ones are in any voice
_AGAIN_S = 120.0  # starving twice within this long: the packets come later than the target allows
_RAISE_S, _RAISE_TIMES = 0.02, 4  # by how much the target then grows, and up to how many times it

_PIECE_S = 1.0  # a burst is converted in pieces, so that its start can already be heard


class LiveIntake:
    """A jitter buffer between a device's or a network's clock and the session's.

    It fills to its target, then plays, and follows the source's clock by its rate. Where it
    starves it gives silence and fills again. A source that comes back is as late as before; one
    whose packets keep coming late gets a higher target, up to four times the one asked for.

    Args:
        rate: of the source in Hz.
        channels: of the source.
        target_s: mean level of the buffer, in seconds; a packet of the source must fit.
        limit_s: beyond this the oldest is dropped.

    Attributes:
        starved_s: seconds of silence given instead of sound, once there had been sound.
        dropped_s: seconds of sound that came in and are never heard.

    Raises:
        ValueError: an impossible rate or channel count, or a limit below the target.
    """

    def __init__(
        self, rate: int, channels: int, *, target_s: float = 0.04, limit_s: float = 0.5
    ) -> None:
        if not 0 < target_s <= limit_s:
            raise ValueError("target_s must be above 0 and at most limit_s")
        self._rate = rate
        self._converter = VariableRate(rate, channels)
        self._asked_s = target_s
        self._limit = round(limit_s * SOUND_RATE)
        self._servo = DriftServo(target_s)
        self._lock = threading.Lock()
        self._queue, self._seam = SoundQueue(), Seam()
        self.starved_s = self.dropped_s = 0.0
        self._forget()

    def _forget(self) -> None:
        self._playing = self._heard = False
        self._packet_s = self._pushed_at = 0.0
        self._mean_s = self._seen = 0.0  # the level's fast mean, and up to when
        self._noticed: float | None = None
        self._starved_at: float | None = None
        self._keeps_starving = False

    @property
    def target_s(self) -> float:
        """The mean level that is aimed at now, in seconds."""
        return self._servo.target_s

    @property
    def level_s(self) -> float:
        """The mean level over the last seconds; while it fills, the level now."""
        return self._servo.level_s if self._playing else len(self._queue) / SOUND_RATE

    @property
    def latency_s(self) -> float:
        """The whole delay of this intake now, in seconds: what waits and what the filter holds."""
        return self.level_s + self._converter.delay_s

    @property
    def ppm(self) -> float:
        """How much faster than the session's the source's clock is held to be, in 1e-6."""
        return self._servo.ppm

    def restart(self) -> None:
        """A device is there again: another clock, and what still waits is old."""
        with self._lock:
            self.dropped_s += self._queue.clear() / SOUND_RATE
            self._seam.cut()
            self._converter.reset()
            self._servo.target_s = self._asked_s
            self._servo.reset()
            self._forget()

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], now: float) -> None:
        """Take a packet of the source.

        Args:
            samples: (n,) or (n, channels), floats in [−1, 1] or int16, any n.
            now: session seconds.

        Raises:
            ValueError: another number of channels or kind of number.
        """
        with self._lock:
            self._observe(now)
            self._queue.append(self._converter.push(samples))
            self._packet_s, self._pushed_at = len(samples) / self._rate, now
            if (excess := len(self._queue) - self._limit) > 0:
                self._drop(excess)

    def pull(self, count: int, now: float) -> Sound:
        """The next samples; see :class:`Intake`."""
        with self._lock:
            self._observe(now)
            if self._playing:
                self._correct(count, now)
            played = self._playing
            waiting = 0 if played else self._fill(count, now)
            parts = [self._seam.join(silence(waiting))]
            count -= waiting
            if self._playing:
                if not played:
                    self._seam.cut()  # fades in
                parts.append(self._seam.join(self._queue.take(count)))
                count -= len(parts[-1])
                if count:
                    self._starve(count, now)
                    parts.append(self._seam.join(silence(count)))
            return np.concatenate(parts)

    def _observe(self, now: float) -> None:
        """The level has been what it is until now."""
        if not self._playing:
            return
        level_s = len(self._queue) / SOUND_RATE
        share = 1 - math.exp(-max(now - self._seen, 0.0) / _NOTICE_S)
        self._mean_s += share * (level_s - self._mean_s)
        self._seen = max(now, self._seen)
        self._converter.set_ratio(self._servo.update(level_s, now))

    def _begin(self, level_s: float, now: float) -> None:
        self._servo.start(level_s, now)
        self._mean_s, self._seen = level_s, now

    def _fill(self, count: int, now: float) -> int:
        """Start to play if it is time; how many samples of silence come first, ``count`` if not."""
        silent = self._silent_samples(count, now)
        if self._heard:
            self.starved_s += silent / SOUND_RATE
        self._heard = self._heard or self._playing
        return silent

    def _silent_samples(self, count: int, now: float) -> int:
        # The level's mean from here on, if it played now: packets come in steps, pulls go in steps.
        age_s = min(max(now - self._pushed_at, 0.0), self._packet_s)
        steps_s = age_s - self._packet_s / 2 - count / SOUND_RATE / 2
        level_s = len(self._queue) / SOUND_RATE + steps_s
        short = round((self.target_s - level_s) * SOUND_RATE)
        if not len(self._queue) or short >= count:
            return count
        self._playing, self._noticed = True, None
        excess_s = level_s - self.target_s
        if excess_s > BIG_ERROR_S:
            self.dropped_s += self._queue.drop(-short) / SOUND_RATE
            level_s = self.target_s
        elif excess_s > _ENOUGH_S and self._keeps_starving:
            raised_s = self.target_s + min(excess_s, _RAISE_S)
            self._servo.target_s = min(raised_s, _RAISE_TIMES * self._asked_s)
        self._begin(level_s + max(short, 0) / SOUND_RATE, now)
        return max(short, 0)

    def _starve(self, missing: int, now: float) -> None:
        self._seam.cut()
        self._playing = False
        self.starved_s += missing / SOUND_RATE
        before, self._starved_at = self._starved_at, now
        self._keeps_starving = before is not None and now - before < _AGAIN_S

    def _correct(self, count: int, now: float) -> None:
        """Where the level is far off: cut out silence, or, if there is none for long, anything."""
        error_s = self._mean_s - self.target_s
        if self._noticed is None:
            if abs(error_s) > BIG_ERROR_S:
                self._noticed = now
            return
        waited_s = now - self._noticed
        if abs(error_s) < _ENOUGH_S or (waited_s > _LOOK_S and abs(error_s) <= BIG_ERROR_S):
            self._noticed = None
        else:
            self._resize(error_s, count, now, anyway=waited_s >= _LOOK_S)

    def _resize(self, error_s: float, count: int, now: float, *, anyway: bool) -> None:
        start, quiet = _longest_silence(self._queue.peek(len(self._queue)))
        if quiet < _SILENCE_SAMPLES:
            start, quiet = 0, 0
            if not anyway:
                return
        if error_s < 0:
            if anyway or start == 0:
                self._seam.cut(self._queue.peek(FADE_SAMPLES))
                self._playing = False
            return
        surplus = min(round(error_s * SOUND_RATE), max(len(self._queue) - count, 0))
        if quiet:
            dropped_s = self._queue.remove(start, min(quiet, surplus)) / SOUND_RATE
            self.dropped_s += dropped_s
        else:
            dropped_s = self._drop(surplus)
        self._begin(self._mean_s - dropped_s, now)

    def _drop(self, count: int) -> float:
        if self._playing:
            self._seam.cut(self._queue.peek(FADE_SAMPLES))
        dropped_s = self._queue.drop(count) / SOUND_RATE
        self.dropped_s += dropped_s
        return dropped_s


class PushedIntake:
    """Speech that a translator pushes in bursts, utterance by utterance, faster than it is heard.

    Nothing is dropped but by :meth:`flush`; who pushes stops while there is no room.

    Args:
        hold_s: how much may wait.
        start_s: an utterance starts once this much of it is there, or all of it.

    Attributes:
        starved_s: seconds of silence within utterances that had begun.
        flushed_s: seconds of sound discarded by flushes.
    """

    def __init__(self, *, hold_s: float = 60.0, start_s: float = 0.06) -> None:
        self._hold_s = hold_s
        self._start = max(1, round(start_s * SOUND_RATE))
        self._pushing = threading.Lock()  # around the conversion: a burst of 60 s takes 0.2 s
        self._lock = threading.Lock()  # around the queue, always short; taken last
        self._waiting: deque[_Utterance] = deque()
        self._current: _Utterance | None = None
        self._seam = Seam()
        self._playing = False
        self.starved_s = self.flushed_s = 0.0

    @property
    def level_s(self) -> float:
        """Seconds that wait to be heard."""
        with self._lock:
            return sum(len(utterance.queue) for utterance in self._waiting) / SOUND_RATE

    @property
    def room_s(self) -> float:
        """How many seconds may be pushed now; at 0 read no more from the translator."""
        return max(0.0, self._hold_s - self.level_s)

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], rate: int) -> None:
        """Take the next samples of an utterance; about 2 ms of work a second of speech.

        Another rate or number of channels ends the utterance and begins the next.

        Args:
            samples: (n,) or (n, channels), floats in [−1, 1] or int16, any n.
            rate: Hz.

        Raises:
            ValueError: samples of another shape or kind, or an impossible rate.
        """
        form = rate, samples.shape[1] if samples.ndim == 2 else 1
        with self._pushing:
            if self._current is not None and self._current.form != form:
                self._end()
            utterance = self._current
            if utterance is None or utterance.flushed:
                utterance = self._current = _Utterance(*form)
                with self._lock:
                    self._waiting.append(utterance)
            piece = max(1, round(_PIECE_S * rate))
            for start in range(0, len(samples), piece):
                self._add(utterance, utterance.convert(samples[start : start + piece]))

    def end_utterance(self) -> None:
        """All of the utterance was pushed; also to be called where the translator goes away."""
        with self._pushing:
            self._end()

    def flush(self) -> None:
        """Discard everything that was not heard yet; what sounds fades out in 5 ms."""
        with self._lock:
            if self._playing and self._waiting:
                self._seam.cut(self._waiting[0].queue.peek(FADE_SAMPLES))
            for utterance in self._waiting:
                utterance.flushed = True
                self.flushed_s += utterance.queue.clear() / SOUND_RATE
            self._waiting.clear()
            self._playing = False

    def pull(self, count: int, now: float) -> Sound:
        """The next samples; see :class:`Intake`."""
        parts = []
        with self._lock:
            while count and self._waiting:
                utterance = self._waiting[0]
                if not self._playing:
                    if not utterance.ended and len(utterance.queue) < self._start:
                        break
                    self._playing = True
                    if utterance.starving:
                        self._seam.cut()
                parts.append(self._seam.join(utterance.queue.take(count)))
                count -= len(parts[-1])
                if len(utterance.queue):
                    break
                if utterance.ended:
                    self._waiting.popleft()
                    self._playing = False
                elif count:
                    utterance.starving = True
                    self._playing = False
                    self._seam.cut()
            if count and self._waiting and self._waiting[0].starving:
                self.starved_s += count / SOUND_RATE
            parts.append(self._seam.join(silence(count)))
        return np.concatenate(parts)

    def _end(self) -> None:
        if self._current is not None:
            self._add(self._current, self._current.rest(), ended=True)
            self._current = None

    def _add(self, utterance: _Utterance, block: Sound, *, ended: bool = False) -> None:
        with self._lock:
            if utterance.flushed:
                self.flushed_s += len(block) / SOUND_RATE
                return
            utterance.queue.append(block)
            utterance.ended = ended


class _Utterance:
    """One utterance on its way: its sound so far, and how it becomes the session's."""

    def __init__(self, rate: int, channels: int) -> None:
        self.form = rate, channels
        self.queue = SoundQueue()
        self.ended = self.flushed = self.starving = False
        self._converter = None if rate == SOUND_RATE else VariableRate(rate, channels)

    def convert(self, samples: NDArray[np.float32] | NDArray[np.int16]) -> Sound:
        if self._converter is None:
            return np.clip(np.nan_to_num(as_sound(samples)), -1, 1)
        return self._converter.push(samples)

    def rest(self) -> Sound:
        converter, self._converter = self._converter, None  # it may wait for a minute
        return silence(0) if converter is None else converter.finish()


def _longest_silence(sound: Sound) -> tuple[int, int]:
    """Where the longest silence of a sound starts, and how many samples it has."""
    loud = np.flatnonzero(np.abs(sound).max(axis=1, initial=0.0) >= QUIET_LEVEL)
    edges = np.concatenate([[-1], loud, [len(sound)]])
    gaps = np.diff(edges) - 1
    longest = int(gaps.argmax())
    return int(edges[longest]) + 1, int(gaps[longest])
