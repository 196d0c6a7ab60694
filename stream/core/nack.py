"""Which lost packets to ask for again, and when (NACK, RFC 4585 §6.2.1)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from statistics import median
from typing import Final

REPEAT_S: Final = 0.1
"""A request is repeated after this long while the round trip is not known."""

TRIES: Final = 8
"""How often a packet is asked for at most. From the second time on this is done three times as
often: requests get lost as packets do, and what is needed now is worth a second copy."""

MOST_MISSING: Final = 128
"""A longer hole is not asked for: aiortc's senders keep no more packets, and a key frame is
smaller."""

_LEAST_REPEAT_S, _MOST_REPEAT_S = 0.04, 0.3
_HURRY: Final = 3
_LATE_START: Final = 64
_MARGIN: Final = 1.5  # of the round trip, after which a retransmission is held to be lost
_ROUND_TRIPS: Final = 9  # of which the median counts
_OUTAGE_S: Final = 0.4  # after a silence this long …
_OUTAGE_PACKETS: Final = 8  # … a hole longer than this is not worth repairing


@dataclass(slots=True)
class _Missing:
    since: float
    asked_at: float
    times: int = 1


class Nacks:
    """Asks at once for what is missing, and again where that or its answer was lost too.

    A retransmission that gets lost would otherwise stop the picture until the buffer overflows.
    For numbers that count on; see :class:`stream.core.rtp_source.RtpSource`.

    Attributes:
        asked: packets asked for the first time.
        repeated: further requests, one for each packet in them.
        recovered: packets that came after they were asked for.
        hopeless: set where a hole is too long to be asked for; to be cleared by its reader.
    """

    def __init__(self) -> None:
        self.asked = self.repeated = self.recovered = 0
        self.hopeless = False
        # To packets asked for once, and to those of which nobody knows which request was answered.
        self._round_trips: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._doubtful: deque[float] = deque(maxlen=_ROUND_TRIPS)
        self._missing: dict[int, _Missing] = {}  # in rising order
        self._highest: int | None = None
        self._lowest = 0
        self._arrived_at = 0.0

    def __len__(self) -> int:
        return len(self._missing)

    @property
    def rtt_s(self) -> float | None:
        """The usual time from a request to its answer; None before the first one."""
        known = self._round_trips or self._doubtful
        return median(known) if known else None

    @property
    def repeat_s(self) -> float:
        """After how long a first request is repeated now."""
        rtt_s = self.rtt_s
        if rtt_s is None:
            return REPEAT_S
        return min(max(_MARGIN * rtt_s, _LEAST_REPEAT_S), _MOST_REPEAT_S)

    def restart(self) -> None:
        """Another stream begins: nothing is missing of it."""
        self._missing.clear()
        self._highest = None

    def take(self, sequence: int, now: float, *, retransmitted: bool = False) -> list[int]:
        """A packet arrived.

        Args:
            sequence: its number.
            now: seconds, rising.
            retransmitted: whether it is known to be an answer, not only late.

        Returns:
            The packets to ask for at once, rising.
        """
        before, self._arrived_at = self._arrived_at, now
        if self._highest is None:
            self._lowest = self._highest = sequence
            return []
        if sequence <= self._highest:
            self._found(sequence, now, retransmitted)
            return self._begins_before(sequence, now)
        hole = range(self._highest + 1, sequence)
        self._highest = sequence
        outage = now - before > _OUTAGE_S and len(hole) > _OUTAGE_PACKETS
        if outage or len(hole) > MOST_MISSING:
            self._missing.clear()
            self.hopeless = True
            return []
        return self._miss(hole, now)

    def again(self, now: float) -> list[int]:
        """The packets to ask for once more, rising; to be asked every few hundredths of a second.

        Args:
            now: seconds, rising.
        """
        first_s = self.repeat_s
        due = [
            number
            for number, missing in self._missing.items()
            if now - missing.asked_at >= (first_s if missing.times == 1 else first_s / _HURRY)
        ]
        for number in due:
            missing = self._missing[number]
            if missing.times >= TRIES:
                del self._missing[number]
            else:
                missing.times += 1
                missing.asked_at = now
        due = [number for number in due if number in self._missing]
        self.repeated += len(due)
        return due

    def forget(self, before: int) -> None:
        """Packets before this one are of no use any more."""
        while self._missing and (first := next(iter(self._missing))) < before:
            del self._missing[first]

    def _miss(self, hole: range, now: float) -> list[int]:
        self._missing.update((number, _Missing(now, now)) for number in hole)
        while len(self._missing) > MOST_MISSING:
            del self._missing[next(iter(self._missing))]
        self.asked += len(hole)
        return [*hole]

    def _begins_before(self, sequence: int, now: float) -> list[int]:
        """Whether the stream turns out to begin before its first packet that came; what is missing.

        What comes while the connection is being set up is lost.
        """
        hole = range(sequence + 1, self._lowest)
        self._lowest = min(self._lowest, sequence)
        if not 0 < len(hole) <= _LATE_START:
            return []
        asked = self._miss(hole, now)
        self._missing = dict(sorted(self._missing.items()))
        return asked

    def _found(self, sequence: int, now: float, retransmitted: bool) -> None:
        missing = self._missing.pop(sequence, None)
        if missing is None:
            return
        self.recovered += 1
        if retransmitted:
            known = self._round_trips if missing.times == 1 else self._doubtful
            known.append(now - missing.since)
