"""Sound that is kept: what a session heard, what waits, and joints that do not click."""

from __future__ import annotations

from collections import deque
from typing import Final

import numpy as np

from stream.core.sound import CHANNELS, SOUND_RATE, Sound

FADE_SAMPLES: Final = 240
"""Length of every joint: 5 ms."""

_RISE: Final = ((np.arange(FADE_SAMPLES, dtype=np.float32) + 0.5) / FADE_SAMPLES)[:, None]


def silence(count: int) -> Sound:
    """Float32 (count, 2) of zeros."""
    return np.zeros((count, CHANNELS), np.float32)


class SoundTrack:
    """The last seconds of a session's sound; sample 0 is the session's start.

    The memory is taken once and never grows. For one thread.

    Args:
        keep_s: how many seconds can still be read.
    """

    def __init__(self, keep_s: float = 4.0) -> None:
        self._size = max(1, round(keep_s * SOUND_RATE))
        self._ring = silence(self._size)  # sample i lies at i modulo the size
        self._end = 0

    @property
    def end(self) -> int:
        """Samples so far: the number of the next one."""
        return self._end

    def append(self, block: Sound) -> None:
        """Take the next samples, float32 (n, 2), any n."""
        self._end += len(block)
        kept = block[-self._size :]
        start = (self._end - len(kept)) % self._size
        before_wrap = min(len(kept), self._size - start)
        self._ring[start : start + before_wrap] = kept[:before_wrap]
        self._ring[: len(kept) - before_wrap] = kept[before_wrap:]

    def read(self, start: int, count: int) -> Sound:
        """Any stretch of the sound.

        Args:
            start: number of the first sample; may be negative.
            count: how many.

        Returns:
            float32 (count, 2), the caller's own; zeros where there is no sound yet or any more.
        """
        result = silence(count)
        first = max(start, self._end - self._size, 0)
        last = min(start + count, self._end)
        place = first % self._size
        while first < last:
            run = min(last - first, self._size - place)
            result[first - start : first - start + run] = self._ring[place : place + run]
            first, place = first + run, 0
        return result

    def level(self, start: int, count: int) -> float:
        """The peak of a stretch, 0..1, as :meth:`read` would give it."""
        part = self.read(start, count)
        return float(max(part.max(initial=0.0), -part.min(initial=0.0)))


class SoundQueue:
    """Sound that waits, first in first out. Its bound is its user's matter. For one thread."""

    def __init__(self) -> None:
        self._blocks: deque[Sound] = deque()
        self._taken = 0  # samples of the first block that are gone
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def append(self, block: Sound) -> None:
        """Take float32 (n, 2); it is kept, not copied."""
        if len(block):
            self._blocks.append(block)
            self._length += len(block)

    def peek(self, count: int) -> Sound:
        """The first samples, float32 (m, 2), m ≤ count; they stay, and must not be written to."""
        parts, wanted, start = [silence(0)], min(count, self._length), self._taken
        for block in self._blocks:
            if wanted <= 0:
                break
            part = block[start : start + wanted]
            parts.append(part)
            wanted, start = wanted - len(part), 0
        return parts[-1] if len(parts) <= 2 else np.concatenate(parts)

    def drop(self, count: int) -> int:
        """Remove the first samples.

        Returns:
            How many there were, ≤ count.
        """
        left = dropped = min(count, self._length)
        self._length -= dropped
        while left:
            rest = len(self._blocks[0]) - self._taken
            if left < rest:
                self._taken += left
                break
            self._blocks.popleft()
            self._taken = 0
            left -= rest
        return dropped

    def remove(self, start: int, count: int) -> int:
        """Remove samples from the middle.

        Returns:
            How many there were, ≤ count.
        """
        before, length = self.take(start), self._length
        dropped = self.drop(count)
        if len(before):
            rest = self.take(length)
            self.append(before)
            self.append(rest)
        return dropped

    def take(self, count: int) -> Sound:
        """The first samples, float32 (m, 2), m ≤ count, removed."""
        part = self.peek(count)
        self.drop(count)
        return part

    def clear(self) -> int:
        """Remove all and say how many samples that were."""
        return self.drop(self._length)


class Seam:
    """Joins what does not belong together: 5 ms of cross-fade wherever a sound is cut.

    Everything that leaves goes through :meth:`join`, in order.
    """

    def __init__(self) -> None:
        self._place = FADE_SAMPLES  # within the cross-fade; at its end nothing is to be done
        self._old = silence(FADE_SAMPLES)  # what fades out
        self._last = silence(1)

    def cut(self, next_samples: Sound | None = None) -> None:
        """What leaves from here on does not follow what left so far.

        Args:
            next_samples: float32 (n, 2), what would have come; only its start is used. By default
                the last sample, held.
        """
        old = self._last if next_samples is None or not len(next_samples) else next_samples
        old = old[:FADE_SAMPLES]
        padding = np.broadcast_to(old[-1:], (FADE_SAMPLES - len(old), CHANNELS))
        # A cut within a cross-fade: what would have come is still faded.
        self._old = self._faded(np.concatenate([old, padding]))
        self._place = 0

    def join(self, part: Sound) -> Sound:
        """The next samples, float32 (n, 2), as they are to be heard; ``part`` stays as it is."""
        if not len(part):
            return part
        if self._place < FADE_SAMPLES:
            joined = self._faded(part)
            self._place += min(len(part), FADE_SAMPLES - self._place)
            part = joined
        self._last = part[-1:]
        return part

    def _faded(self, part: Sound) -> Sound:
        count = min(len(part), FADE_SAMPLES - self._place)
        if not count:
            return part
        within = slice(self._place, self._place + count)
        result = part.copy()
        result[:count] = self._old[within] + _RISE[within] * (part[:count] - self._old[within])
        return result
