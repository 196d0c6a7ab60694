"""A bad line between two WebRTC peers, without a network of its own.

``impair(connection, out=Line(…), into=Line(…))`` lets everything that aiortc sends and receives on
a connection pass through two lines, one for each direction; so one peer is enough, whoever the
other is: aiortc or a browser. To be called once addresses are gathered (after
``setLocalDescription``) and before or while the peers are connected.

A line loses datagrams at random from a seed or by a repeating pattern, delays them, jitters,
reorders, doubles, and can be cut. By default only media (SRTP and SRTCP) is treated like that:
STUN and DTLS are just delayed, for a handshake that loses packets takes seconds. What a single test
needs is chosen by functions: ``lose`` by packet, ``hold_s`` for the delay of some. RTP headers are
not encrypted; :func:`rtp` reads them.

Nothing here is exact to more than a few milliseconds: timers are the event loop's.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import unpack_from
from typing import Any, Final, NamedTuple

from aiortc import RTCPeerConnection

REORDER_S: Final = 0.03
"""By how much a reordered datagram is later than others."""

_MEDIA: Final = range(128, 192)  # RFC 7983: the first byte of RTP and RTCP
_RTCP: Final = range(192, 224)  # RFC 5761: the second byte of RTCP


@dataclass(frozen=True, kw_only=True)
class Impairment:
    """What a line does to each datagram.

    Attributes:
        loss: share that is lost at random.
        pattern: which are lost, from the first one on and again from the start; beside ``loss``.
        delay_s: how long each takes.
        jitter_s: how much more or less than that, evenly spread; at most ``delay_s``.
        reorder: share that takes ``REORDER_S`` longer.
        duplicate: share that comes twice.
        seed: of all that is random.
    """

    loss: float = 0.0
    pattern: Sequence[bool] = ()
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    duplicate: float = 0.0
    seed: int = 1


class Rtp(NamedTuple):
    """The header of an RTP packet."""

    marker: bool
    payload_type: int
    sequence: int
    timestamp: int
    ssrc: int


def rtp(data: bytes) -> Rtp | None:
    """The header of a datagram that is an RTP packet; None for RTCP, DTLS and STUN."""
    if len(data) < 12 or data[0] not in _MEDIA or data[1] in _RTCP:
        return None
    sequence, timestamp, ssrc = unpack_from("!HLL", data, 2)
    return Rtp(data[1] >= 128, data[1] & 127, sequence, timestamp, ssrc)


class Line:
    """One direction of a bad line. For one event loop; use one for each direction and connection.

    Args:
        impairment: may be exchanged at any time.
        lose: of media; whether this datagram is lost, whatever else happens.
        hold_s: of media; by how many seconds more this datagram is delayed.
        all_kinds: whether STUN and DTLS are lost, jittered and so on as media is.

    Attributes:
        cut: while true nothing passes, of whatever kind.
        counts: ``sent``, ``lost``, ``reordered``, ``doubled``; media only, unless ``all_kinds``.
    """

    def __init__(
        self,
        impairment: Impairment | None = None,
        *,
        lose: Callable[[bytes], bool] = lambda data: False,
        hold_s: Callable[[bytes], float] = lambda data: 0.0,
        all_kinds: bool = False,
    ) -> None:
        self.impairment = impairment or Impairment()
        self.cut = False
        self.counts: Counter[str] = Counter()
        self._lose, self._hold_s, self._all_kinds = lose, hold_s, all_kinds
        self._random = random.Random(self.impairment.seed)
        self._last_due = 0.0

    def carry(self, data: bytes, deliver: Callable[[], None]) -> None:
        """Take a datagram, and call ``deliver`` when it arrives: never, once or twice."""
        if self.cut:
            self.counts["lost"] += 1
            return
        if data[0] not in _MEDIA and not self._all_kinds:
            self._after(self.impairment.delay_s, deliver)
            return
        impairment, chance = self.impairment, self._random.random
        number = self.counts["sent"]
        self.counts["sent"] += 1
        lost, reordered, doubled = (
            chance() < share
            for share in (impairment.loss, impairment.reorder, impairment.duplicate)
        )
        delay_s = impairment.delay_s + impairment.jitter_s * (2 * chance() - 1)
        pattern = impairment.pattern
        if lost or (pattern and pattern[number % len(pattern)]) or self._lose(data):
            self.counts["lost"] += 1
            return
        if reordered:
            self.counts["reordered"] += 1
            delay_s += REORDER_S
        self._after(delay_s + self._hold_s(data), deliver)
        if doubled:
            self.counts["doubled"] += 1
            self._after(delay_s + self._hold_s(data), deliver)

    def _after(self, seconds: float, deliver: Callable[[], None]) -> None:
        if seconds <= 0:
            deliver()
            return
        # Timers due at the same moment fire in any order.
        due = asyncio.get_running_loop().time() + seconds
        if abs(due - self._last_due) < 1e-6:
            due = self._last_due + 1e-6
        self._last_due = due
        asyncio.get_running_loop().call_at(due, deliver)


def impair(
    connection: RTCPeerConnection, *, out: Line | None = None, into: Line | None = None
) -> None:
    """Let what a connection sends and receives pass through lines.

    Args:
        connection: its addresses are gathered.
        out: for what it sends; None for a good line.
        into: for what it receives; None for a good line.
    """
    transports = {t.receiver.transport.transport for t in connection.getTransceivers()}
    for transport in transports:
        for protocol in transport._connection._protocols:
            _hook(protocol, out or Line(), into or Line())


def _hook(protocol: Any, out: Line, into: Line) -> None:
    send, received = protocol.transport.sendto, protocol.datagram_received

    def send_late(data: bytes, address: Any) -> None:
        if not protocol.transport.is_closing():
            send(data, address)

    async def send_data(data: bytes, address: Any) -> None:
        out.carry(data, lambda: send_late(data, address))

    def send_stun(message: Any, address: Any) -> None:
        data = bytes(message)
        out.carry(data, lambda: send_late(data, address))

    def datagram_received(data: bytes, address: Any) -> None:
        into.carry(data, lambda: received(data, address))

    protocol.send_data, protocol.send_stun = send_data, send_stun
    protocol.datagram_received = datagram_received
