"""A peer's sound as one stretch after the other, without a gap, from packets that get lost.

What is lost is filled, so that as many seconds leave as the sender sent and nothing after a gap
comes too early.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from stream.core.running_time import RunningTime
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.core.track import Seam, silence

MOST_WAIT_S: Final = 0.06
"""How long at most a missing packet holds up those behind it; browsers send no sound twice."""

MOST_FILL_S: Final = 1.0
"""A longer gap is not filled: the sender paused or began anew."""

_MARGIN_S: Final = 0.01
_MEMORY_S: Final = 60.0  # for how long a packet that came late tells how long to wait
_MOST_PENDING: Final = 100  # packets
_MOST_LOST: Final = 64  # packets of which is remembered that they are missing, or came late
_MOST_AHEAD: Final = round(0.12 * SOUND_RATE)  # Opus's longest packet (RFC 6716 §2.1.4)
_MIRRORED: Final = 960  # samples of the last sound that are played backward into a gap
_DTX_BYTES: Final = 2  # a packet of only a header begins a pause in which none are sent
_JITTER_SHARE: Final = 1 / 16  # RFC 3550 §6.4.1

_FALL: Final = np.linspace(1, 0, _MIRRORED, dtype=np.float32)[:, None]


@dataclass(frozen=True, slots=True)
class Stretch:
    """The next part of the sound.

    Attributes:
        samples: float32 (n, 2) at 48 kHz.
        start: the timestamp of its first sample, at 48 kHz, counting on.
        heard: whether it is the peer's sound, and not a fill.
    """

    samples: Sound
    start: int
    heard: bool


@dataclass(frozen=True, slots=True)
class _Waiting:
    timestamp: int
    payload: bytes
    arrived: float
    running_s: float  # when it arrived, in running time


class SoundTimeline:
    """Orders packets, has them decoded, and fills gaps with what does not click.

    A gap begins with the last 20 ms backward, fading, and goes on silent. A missing packet is
    waited for as long as that costs nothing; then no longer than packets have come late before.
    Time counts while packets are read (:mod:`stream.core.running_time`). For numbers that count
    on; see :class:`stream.core.rtp_source.RtpSource`.

    Args:
        decode: gives a payload's samples, float32 (n, 2) at 48 kHz; none where it can't. Called
            in order, once for each payload.

    Attributes:
        heard_s: seconds of the peer's sound given.
        filled_s: seconds of fill given.
        lost: packets that never came, or too late.
        late: of them, those that did come.
        twice: packets that came more than once.
        jumps: gaps that were too long to be filled, and times at which the sender began anew.
        jitter_s: how unevenly packets arrive, as RFC 3550 §6.4.1 has it.
    """

    def __init__(self, decode: Callable[[bytes], Sound]) -> None:
        self._decode = decode
        self.heard_s = self.filled_s = self.jitter_s = 0.0
        self.lost = self.late = self.twice = self.jumps = 0
        self._seam = Seam()
        self._tail = silence(_MIRRORED)
        self._lateness: deque[tuple[float, float]] = deque(
            maxlen=_MOST_LOST
        )  # when (running time), by how much
        self._running = RunningTime()
        self._position: int | None = None
        self._head: int | None = None
        self._pausing_since: float | None = None
        self._transit_s: float | None = None
        self._forget()

    @property
    def pending(self) -> int:
        """Packets that wait for one before them."""
        return len(self._pending)

    def restart(self) -> None:
        """Another stream begins."""
        if self._position is not None:
            self.jumps += 1
        self._position = None
        self._seam.cut()
        self._forget()

    def add(
        self, sequence: int, timestamp: int, payload: bytes, now: float, *, dry: bool = False
    ) -> list[Stretch]:
        """A packet arrived.

        Args:
            sequence: its number.
            timestamp: of its first sample.
            payload: for ``decode``.
            now: seconds, rising.
            dry: whether the listener is about to have nothing to play.

        Returns:
            What can be given now, in order.
        """
        if self._head is None:
            self._head = sequence
        self._measure_jitter(timestamp, now)
        running_s = self._running(now)
        if sequence < self._head:
            self._came_late(sequence, running_s)
        elif sequence in self._pending:
            self.twice += 1
        elif len(self._pending) < _MOST_PENDING:
            if self._pending and sequence < max(self._pending):
                behind = [packet for number, packet in self._pending.items() if number > sequence]
                since_s = min(packet.running_s for packet in behind)
                self._lateness.append((running_s, running_s - since_s))
            self._pending[sequence] = _Waiting(timestamp, payload, now, running_s)
        return self.wait(now, dry=dry)

    def wait(self, now: float, *, dry: bool = False) -> list[Stretch]:
        """Time passes: what is given now without a packet that was waited for in vain.

        Args:
            now: seconds, rising.
            dry: whether the listener is about to have nothing to play.
        """
        given: list[Stretch] = []
        running_s = self._running(now)
        while self._pending and self._head is not None:
            packet = self._pending.pop(self._head, None)
            if packet is not None:
                self._head += 1
                given += self._give(packet)
                continue
            since_s = min(waiting.running_s for waiting in self._pending.values())
            if running_s - since_s < self._wait_s(running_s, dry):
                break
            self._leave_out(min(self._pending), since_s)
        return given or self._pause(now)

    def _forget(self) -> None:
        self._head = self._pausing_since = self._transit_s = None
        self._pending: dict[int, _Waiting] = {}
        self._lost_at: dict[int, float] = {}  # number → since when it was missed, in running time
        self._ahead = 0  # samples filled before the packet behind them came

    # Waiting

    def _wait_s(self, running_s: float, dry: bool) -> float:
        """How long a missing packet is waited for now."""
        while self._lateness and running_s - self._lateness[0][0] > _MEMORY_S:
            self._lateness.popleft()
        needed_s = max((late_s for _, late_s in self._lateness), default=0.0) + _MARGIN_S
        return min(needed_s, MOST_WAIT_S) if dry else MOST_WAIT_S

    def _leave_out(self, first: int, since_s: float) -> None:
        """Wait no more for what is missing before a packet."""
        assert self._head is not None
        self.lost += first - self._head
        for number in range(max(self._head, first - _MOST_LOST), first):
            self._lost_at[number] = since_s
        while len(self._lost_at) > _MOST_LOST:
            del self._lost_at[next(iter(self._lost_at))]
        self._head = first

    def _came_late(self, sequence: int, running_s: float) -> None:
        missed_at = self._lost_at.pop(sequence, None)
        if missed_at is None:
            self.twice += 1
        else:
            self.late += 1
            self._lateness.append((running_s, running_s - missed_at))

    def _measure_jitter(self, timestamp: int, now: float) -> None:
        transit_s = now - timestamp / SOUND_RATE
        if self._transit_s is not None:
            change_s = min(abs(transit_s - self._transit_s), MOST_FILL_S)
            self.jitter_s += _JITTER_SHARE * (change_s - self.jitter_s)
        self._transit_s = transit_s

    # Giving

    def _give(self, packet: _Waiting) -> list[Stretch]:
        given: list[Stretch] = []
        gap = 0 if self._position is None else packet.timestamp - self._position
        if gap > MOST_FILL_S * SOUND_RATE or gap < -_MOST_AHEAD:
            self.jumps += 1
            self._seam.cut()
            self._position = None
        elif gap > self._ahead:
            given.append(self._fill(gap - self._ahead))
        if self._position is None or gap > 0:
            self._position = packet.timestamp
        # What was filled too much, because the packet came late, is made up for in later gaps.
        self._ahead = max(self._ahead - max(gap, 0), 0)
        pauses = 0 < len(packet.payload) <= _DTX_BYTES
        self._pausing_since = packet.arrived if pauses else None
        samples = self._decode(packet.payload)
        if len(samples):
            joined = self._seam.join(samples)
            given.append(Stretch(joined, self._position, heard=True))
            self._position += len(samples)
            self._tail = np.concatenate([self._tail, joined])[-_MIRRORED:]
            self.heard_s += len(samples) / SOUND_RATE
        return given

    def _fill(self, count: int) -> Stretch:
        assert self._position is not None
        samples = silence(count)
        mirrored = (self._tail[::-1] * _FALL)[:count]
        samples[: len(mirrored)] = mirrored
        start = self._position + self._ahead
        self._tail = silence(_MIRRORED)  # a longer gap does not sound again
        self.filled_s += count / SOUND_RATE
        joined = self._seam.join(samples)
        self._seam.cut()
        return Stretch(joined, start, heard=False)

    def _pause(self, now: float) -> list[Stretch]:
        """The sender said that it pauses: fill as time goes by, so that nothing runs dry."""
        if self._pausing_since is None or self._pending or self._position is None:
            return []
        ticks = int((now - self._pausing_since) / TICK_S) - 1
        due = min(ticks * TICK_SAMPLES, round(MOST_FILL_S * SOUND_RATE)) - self._ahead
        if due < TICK_SAMPLES:
            return []
        stretch = self._fill(due)
        self._ahead += due
        return [stretch]
