"""What is sent to a translator, and how far its speech lags behind the speaker's. Pure.

A position is a time in the source stream of one connection: its first sample has position 0.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.mel import SAMPLE_RATE
from stream.core.pcm_messages import End, Pcm, encode

PIECE_S: Final = 0.1
"""What one message to the translator holds at most."""
END_PAUSE_S: Final = 0.6
"""The speaker has stopped talking when it was silent for this long: pauses inside a sentence are
shorter."""

_PIECE: Final = round(PIECE_S * SAMPLE_RATE)
_JUMP_S: Final = 0.1  # the session's clock and the samples disagree: something was left out
_JUMPS: Final = 64  # kept of one connection
_MARK_EVERY_S: Final = 0.2
_MOST_MARKS: Final = 400  # for 60 s that wait and the delay


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Samples as they are sent.

    Args:
        samples: float32 (n,) in [−1, 1]; what is beyond is cut off, what is no number is silence.
    """
    sound = np.clip(np.nan_to_num(samples, posinf=1.0, neginf=-1.0), -1.0, 1.0)
    return np.minimum(np.round(sound * np.float32(32768)), 32767).astype(np.int16)


class SourceQueue:
    """Source audio that waits to be sent, with the ends of what the speaker says.

    Where more waits than it may hold, the oldest goes. As much silence is sent in its place, so
    that the translator, which counts samples, goes on knowing the time.

    Args:
        hold_s: how much may wait.
    """

    def __init__(self, *, hold_s: float = 10.0) -> None:
        self._hold = round(hold_s * SAMPLE_RATE)
        self._dropped = 0  # samples
        self.restart()

    def restart(self) -> None:
        """Forget everything: another connection begins."""
        self._waiting: deque[NDArray[np.int16] | None] = deque()  # None: an end
        self._samples = 0  # of what waits
        self._gap = 0  # samples of silence that come first
        self._gap_ends = False  # whether an end was dropped with the sound before it
        self._talked = False  # since the last end
        self._silent = 0  # samples since the last speech

    @property
    def behind_s(self) -> float:
        """Seconds of sound and silence that wait to be sent."""
        return (self._gap + self._samples) / SAMPLE_RATE

    @property
    def dropped_s(self) -> float:
        """Seconds of source audio that gave way to silence, of all connections."""
        return self._dropped / SAMPLE_RATE

    def push(self, samples: NDArray[np.int16], *, speaking: bool) -> None:
        """Take the next source audio.

        Args:
            samples: int16 (n,), mono at 16 kHz, not changed later.
            speaking: whether the speaker talks in it.
        """
        if not len(samples):
            return
        self._waiting.append(samples)
        self._samples += len(samples)
        self._silent = 0 if speaking else self._silent + len(samples)
        self._talked = self._talked or speaking
        if self._talked and self._silent >= END_PAUSE_S * SAMPLE_RATE:
            self._talked = False
            self._waiting.append(None)
        while self._samples > self._hold:
            self._drop()

    def take(self) -> bytes | None:
        """The next messages to send, 100 ms of sound at most; None where nothing waits."""
        if self._gap:
            samples = np.zeros(min(self._gap, _PIECE), np.int16)
            self._gap -= len(samples)
            ended = self._gap_ends and not self._gap
            self._gap_ends = self._gap_ends and not ended
            return _messages(samples, ended)
        parts: list[NDArray[np.int16]] = []
        room, ended = _PIECE, False
        while room and self._waiting:
            first = self._waiting.popleft()
            if first is None:
                ended = True
                break
            if len(first) > room:
                self._waiting.appendleft(first[room:])
                first = first[:room]
            parts.append(first)
            room -= len(first)
            self._samples -= len(first)
        return (
            _messages(np.concatenate(parts), ended) if parts else encode(End()) if ended else None
        )

    def _drop(self) -> None:
        first = self._waiting.popleft()
        if first is None:
            self._gap_ends = True
            return
        self._samples -= len(first)
        self._gap += len(first)
        self._dropped += len(first)


def _messages(samples: NDArray[np.int16], ended: bool) -> bytes:
    sound = encode(Pcm(samples[:, None], SAMPLE_RATE))
    return sound + encode(End()) if ended else sound


class SourceTimeline:
    """Says when, in session seconds, something at a position of the source stream was said."""

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Another connection begins."""
        self._samples = 0
        # From which sample on, and what is added to a position to get its time.
        self._offsets: deque[tuple[int, float]] = deque(maxlen=_JUMPS)

    @property
    def position_s(self) -> float:
        """The end of the stream so far."""
        return self._samples / SAMPLE_RATE

    def given(self, count: int, now: float) -> None:
        """So many samples came in, the last of them now.

        Args:
            count: at 16 kHz.
            now: session seconds, rising from call to call.
        """
        offset = now - (self._samples + count) / SAMPLE_RATE
        if not self._offsets or abs(offset - self._offsets[-1][1]) > _JUMP_S:
            self._offsets.append((self._samples, offset))
        self._samples += count

    def said_at(self, position_s: float) -> float | None:
        """When it was said, in session seconds; None for what is not in the stream (yet)."""
        if not self._offsets or not 0 <= position_s <= self.position_s:
            return None
        sample = position_s * SAMPLE_RATE
        known = [offset for start, offset in self._offsets if start <= sample]
        return position_s + (known[-1] if known else self._offsets[0][1])


class LagMeter:
    """How far the translation that is heard lags behind what it translates."""

    def __init__(self) -> None:
        self._coming: deque[tuple[float, float]] = deque()  # heard at, and its lag; rising
        self._lag_s: float | None = None

    def mark(self, said_at: float, heard_at: float) -> None:
        """What was said at one time will be heard at another, in session seconds.

        Marks closer than 0.2 s to the one before are left out, and all beyond some 80 s.
        """
        if self._coming and heard_at - self._coming[-1][0] < _MARK_EVERY_S:
            return
        if len(self._coming) < _MOST_MARKS:
            self._coming.append((heard_at, heard_at - said_at))

    def flush(self, after: float) -> None:
        """What was to be heard after this time is not heard any more."""
        while self._coming and self._coming[-1][0] > after:
            self._coming.pop()

    def lag_s(self, now: float) -> float | None:
        """The lag at the last mark that was heard, in seconds; None before the first."""
        while self._coming and self._coming[0][0] <= now:
            self._lag_s = self._coming.popleft()[1]
        return self._lag_s


class Pauses:
    """Growing pauses between attempts, spread so that many who try do not try together.

    Args:
        chance: gives a number from 0 to 1 each time, as ``random.random``.
        shortest_s: of the first one at least.
        longest_s: of all.
    """

    def __init__(
        self, chance: Callable[[], float], *, shortest_s: float = 0.5, longest_s: float = 15.0
    ) -> None:
        self._chance = chance
        self._shortest_s, self._longest_s = shortest_s, longest_s
        self.reset()

    def reset(self) -> None:
        """An attempt succeeded: the next pause is a short one."""
        self._most_s = 2 * self._shortest_s

    def next(self) -> float:
        """How long to wait now, in seconds: half of what is allowed at least."""
        allowed_s = min(self._most_s, self._longest_s)
        self._most_s = 2 * allowed_s
        return allowed_s * (1 + self._chance()) / 2
