"""One RTP source among what arrives: whose packets are followed, and their numbers without wraps.

An RTP sequence number has 16 bits and a timestamp 32 (RFC 3550 §5.1); both wrap. Everything
behind this class sees numbers that count on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SILENT_S: Final = 1.0
"""Another source is followed only once the one that is followed was silent for so long."""

_FAR: Final = 3000  # RFC 3550 A.1: a packet this far ahead or behind may begin another count
_SEQUENCE_BITS, _TIMESTAMP_BITS = 16, 32


@dataclass(frozen=True, slots=True)
class Numbered:
    """A packet's numbers.

    Attributes:
        sequence: counts packets; negative where packets came out of order at the start.
        timestamp: in units of the media clock.
        fresh: another source, or another count, begins here: nothing before it belongs to it.
    """

    sequence: int
    timestamp: int
    fresh: bool


class RtpSource:
    """Follows one source, so that packets of others can't disturb its stream.

    A single packet with numbers far off is not believed; two in a row begin a new count.

    Attributes:
        ssrc: of the source that is followed; None before the first packet.
        foreign: packets of other sources, and strays, that were left out.
    """

    def __init__(self) -> None:
        self.ssrc: int | None = None
        self.foreign = 0
        self._sequence = self._timestamp = 0  # the highest so far, and a timestamp near it
        self._taken_at = 0.0
        self._stray: int | None = None

    def take(self, ssrc: int, sequence: int, timestamp: int, now: float) -> Numbered | None:
        """A packet arrived.

        Args:
            ssrc: its source.
            sequence: 0 to 2¹⁶ − 1.
            timestamp: 0 to 2³² − 1.
            now: seconds of any steady clock.

        Returns:
            Its numbers; None where it does not belong to what is followed.
        """
        if self.ssrc is None or (ssrc != self.ssrc and now - self._taken_at > SILENT_S):
            self.ssrc = ssrc
            return self._begin(sequence, timestamp, now)
        if ssrc != self.ssrc:
            self.foreign += 1
            return None
        counted = nearest(sequence, self._sequence, _SEQUENCE_BITS)
        if abs(counted - self._sequence) > _FAR:
            if self._stray is not None and sequence == (self._stray + 1) % (1 << _SEQUENCE_BITS):
                return self._begin(sequence, timestamp, now)
            self._stray = sequence
            self.foreign += 1
            return None
        self._stray, self._taken_at = None, now
        timed = self.near(timestamp)
        if counted > self._sequence:
            self._sequence, self._timestamp = counted, timed
        return Numbered(counted, timed, fresh=False)

    def near(self, timestamp: int) -> int:
        """A timestamp of 32 bits as one that counts on: the one nearest to the newest packet's."""
        return nearest(timestamp, self._timestamp, _TIMESTAMP_BITS)

    def _begin(self, sequence: int, timestamp: int, now: float) -> Numbered:
        self._stray, self._taken_at = None, now
        self._sequence, self._timestamp = sequence, timestamp
        return Numbered(sequence, timestamp, fresh=True)


def nearest(value: int, reference: int, bits: int) -> int:
    """The number nearest to a reference that has these lowest bits.

    Args:
        value: the lowest bits, 0 to 2 ** bits − 1.
        reference: any number.
        bits: how many.
    """
    half = 1 << (bits - 1)
    return reference + ((value - reference + half) & ((1 << bits) - 1)) - half
