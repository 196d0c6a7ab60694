"""Encoded pictures from packets that come late, twice, out of order or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from stream.core.running_time import RunningTime

MOST_PACKETS: Final = 1024
"""Packets that are held at most: 1.5 MB. A larger hole is not waited for."""

JUMP_S: Final = 0.1
"""A hole that has lasted this long is left behind for a whole key frame behind it: the first
retransmission did not come."""

ASK_S: Final = 0.15
"""A hole that has lasted this long makes a key frame wanted, which takes about as long again to
come: nothing is to stand still for half a second."""

ASK_AGAIN_S: Final = 1.0
"""A key frame is asked for at most this often, for each costs what many pictures do …"""

ASK_LOST_S: Final = 0.2
"""… but once more after this long and a round trip if there is nothing of it: the request can get
lost as well."""

GIVE_UP_S: Final = 0.35
"""What H.264 decoders conceal (24 dB) is better than a picture that stands; what VP8 makes of a
missing picture is not (12 dB): there only a key frame ends a hole."""

# Where these take longer than the times above.
_JUMP_ROUND_TRIPS, _ASK_ROUND_TRIPS, _GIVE_UP_ROUND_TRIPS = 1.5, 2.5, 3.5
_LATE_START: Final = 64  # packets before the first that came; they may still follow at the start …
_START_S: Final = 0.06  # … and for this long pictures may turn out to follow a key frame


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet of a picture, without its RTP header and what the payload format adds.

    Attributes:
        timestamp: of the picture, in units of the media clock, counting on.
        last: whether it is marked as the picture's last one.
        data: its part of the encoded picture; may be empty (padding).
        first: whether it is sure to be the picture's first one.
        key: whether it is of a key frame, and says so.
    """

    timestamp: int
    last: bool
    data: bytes
    first: bool
    key: bool


@dataclass(frozen=True, slots=True)
class Encoded:
    """A whole encoded picture.

    Attributes:
        timestamp: in units of the media clock, rising unless the sender's goes back.
        data: as a decoder takes it.
        key: whether it is a key frame.
        damaged: whether a picture that it refers to is missing.
    """

    timestamp: int
    data: bytes
    key: bool
    damaged: bool


class PictureBuffer:
    """Puts pictures together and gives each as soon as it is whole, in order.

    Nothing is given before the first key frame. For numbers that count on; see
    :class:`stream.core.rtp_source.RtpSource`.

    Attributes:
        rtt_s: how long a packet that was asked for takes to come; to be kept up to date.
        give_up_s: a hole that has lasted this long is left behind for any whole picture; None:
            only for a key frame.
        given: pictures given.
        damaged: of them, those that refer to a missing one.
        left_out: holes that were left behind, but for those before a stream's first key frame,
            when there is nothing yet to have a hole in.
        late: packets that came twice, or after they were given up.
        key_frames: how often one was asked for.
    """

    def __init__(self) -> None:
        self.given = self.damaged = self.left_out = self.late = self.key_frames = 0
        self.rtt_s = 0.0
        self.give_up_s: float | None = None
        self._packets: dict[int, Packet] = {}
        self._head = self._end = 0  # the next number to give, and the one after the highest
        self._running = RunningTime()
        self._asked_at: float | None = None
        self._asked_again = self._coming = False  # since then, and whether a key frame began
        self._blocked_at: float | None = None
        self._begun_s: float | None = None  # running time at the first packet
        self._empty = self._fresh = True
        self._begin()

    def __len__(self) -> int:
        return len(self._packets)

    @property
    def head(self) -> int:
        """Packets with lower numbers are of no use any more."""
        return self._head

    def restart(self) -> None:
        """Another stream, or a decoder that knows nothing: give nothing before a key frame."""
        self._begin()

    def want_key_frame(self) -> None:
        """Nothing that comes before the next key frame can be whole."""
        self._wanted, self._whole_since_key = True, False

    def ask(self, now: float) -> bool:
        """Whether to ask the sender for a key frame now; it counts as asked for."""
        if not self._wanted:
            return False
        if self._asked_at is not None and now - self._asked_at < ASK_AGAIN_S:
            patient = now - self._asked_at < ASK_LOST_S + self.rtt_s
            if patient or self._coming or self._asked_again:
                return False
            self._asked_again = True
        else:
            self._asked_at, self._asked_again, self._coming = now, False, False
        self.key_frames += 1
        return True

    def add(self, sequence: int, packet: Packet, now: float) -> list[Encoded]:
        """A packet arrived.

        Args:
            sequence: its number.
            packet: what is in it.
            now: seconds, rising.

        Returns:
            The pictures that it makes whole, in order.
        """
        if self._empty:
            self._head = self._end = sequence
            self._empty = False
        if sequence < self._head and self._fresh and self._head - sequence <= _LATE_START:
            self._head = sequence
        if sequence < self._head or sequence in self._packets:
            self.late += 1
            return []
        if sequence - self._head >= MOST_PACKETS:
            self._begin()
            self._head, self._empty = sequence, False
            self._wanted = True
        self._end = max(self._end, sequence + 1)
        self._packets[sequence] = packet
        self._coming = self._coming or packet.key
        return self.wait(now)

    def wait(self, now: float) -> list[Encoded]:
        """Time passes: the pictures that are given now, after a hole was waited for in vain.

        Args:
            now: seconds, rising.
        """
        running_s = self._running(now)
        if self._begun_s is None and not self._empty:
            self._begun_s = running_s
        given = self._whole(running_s)
        if given:
            self._blocked_at = None
        if len(self._packets) == self._end - self._head:
            self._blocked_at = None
            return given
        if self._blocked_at is None:
            self._blocked_at = running_s
        waited_s = running_s - self._blocked_at
        self._wanted = self._wanted or waited_s >= max(ASK_S, _ASK_ROUND_TRIPS * self.rtt_s)
        place = self._behind(waited_s)
        if place is not None:
            self._leave(place)
            given += self.wait(now)
        return given

    def _begin(self) -> None:
        self._packets.clear()
        self._empty = self._fresh = True
        self._whole_since_key = False  # whether every picture since a key frame was given
        self._synchronised = False  # whether a key frame was given
        self._begun_s = None
        self._wanted = False
        self._blocked_at = None

    def _whole(self, running_s: float) -> list[Encoded]:
        """The pictures at the head that are whole; they are taken out."""
        given: list[Encoded] = []
        while (end := self._picture_end(self._head)) is not None:
            if self._may_follow_a_key_frame(running_s):
                break
            packets = [self._packets.pop(number) for number in range(self._head, end)]
            self._head = end
            data = b"".join(packet.data for packet in packets)
            if not data:
                continue
            key = any(packet.key for packet in packets)
            if key:
                self._synchronised = self._whole_since_key = True
                self._wanted = False
            elif not self._synchronised:
                self._wanted = True
                continue
            elif self._whole_since_key:
                self._wanted = False
            self._fresh = False
            self.given += 1
            self.damaged += not self._whole_since_key
            given.append(Encoded(packets[0].timestamp, data, key, not self._whole_since_key))
        return given

    def _may_follow_a_key_frame(self, running_s: float) -> bool:
        """Whether the start of the stream is still to be seen, so that it is too early to tell."""
        if self._synchronised or self._packets[self._head].key or self._begun_s is None:
            return False
        return running_s - self._begun_s < _START_S and self._find(_begins, whole=False) is None

    def _picture_end(self, start: int) -> int | None:
        """The number after the last packet of the picture that starts here, if it is whole."""
        first = self._packets.get(start)
        if first is None:
            return None
        number = start
        while (packet := self._packets.get(number)) is not None:
            if packet.timestamp != first.timestamp:
                return number
            number += 1
            if packet.last:
                return number
        return None

    def _behind(self, waited_s: float) -> int | None:
        """Where to go on behind a hole that was waited for so long, if anywhere."""
        head = self._packets.get(self._head)
        if not self._synchronised and (head is None or not head.key):
            # Pictures before a key frame can't be shown, whole or not.
            return self._find(_begins, whole=False)
        if waited_s >= max(JUMP_S, _JUMP_ROUND_TRIPS * self.rtt_s):
            place = self._find(lambda packet: packet.key, whole=True)
            if place is not None:
                return place
        give_up_s = self.give_up_s if self._synchronised else None
        if give_up_s is None or waited_s < max(give_up_s, _GIVE_UP_ROUND_TRIPS * self.rtt_s):
            return None
        return self._find(lambda packet: True, whole=True)

    def _find(self, wanted: Callable[[Packet], bool], *, whole: bool) -> int | None:
        """The start of the first picture behind the head whose first packet is as wanted."""
        for number in sorted(self._packets):
            packet = self._packets[number]
            if number == self._head or not wanted(packet) or not self._starts(number, packet):
                continue
            if not whole or self._picture_end(number) is not None:
                return number
        return None

    def _starts(self, number: int, packet: Packet) -> bool:
        before = self._packets.get(number - 1)
        return packet.first or (
            before is not None and (before.last or before.timestamp != packet.timestamp)
        )

    def _leave(self, place: int) -> None:
        for number in [number for number in self._packets if number < place]:
            del self._packets[number]
        self._head = place
        self._blocked_at = None
        self.left_out += self._synchronised
        self._wanted, self._whole_since_key = True, False


def _begins(packet: Packet) -> bool:
    """Whether a key frame begins with this packet."""
    return packet.key and packet.first
