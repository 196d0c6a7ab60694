"""Where packets are taken out of aiortc's receivers: in the place of its jitter buffer.

aiortc's own receiving gives up to a third less sound where 5 % of the packets are lost, stops the
picture for seconds where a retransmission is lost, holds every picture until the next one begins,
and keeps the sender's clock to itself. It has no settings for that, so some of its private names
are replaced on each receiver. :func:`assert_private_names` says whether they are there.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, Final, cast

import aiortc
from aiortc import RTCRtpReceiver
from aiortc.codecs import is_rtx
from aiortc.rtcdtlstransport import RTCDtlsTransport, RtpRouter
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from aiortc.rtp import AnyRtcpPacket, RtcpSrPacket, RtpPacket

from engine.errors import ConfigError
from stream.core.remote_clock import Kind, RemoteClock
from stream.core.rtp_source import RtpSource

log = logging.getLogger(__name__)

MOST_SOURCES: Final = 8
"""SSRCs that a receiver takes packets of in its life; aiortc remembers each for ever."""

_BUFFER: Final = "_RTCRtpReceiver__jitter_buffer"
_NACKS: Final = "_RTCRtpReceiver__nack_generator"
_CODECS: Final = "_RTCRtpReceiver__codecs"
_RECEIVER: Final = (
    _BUFFER,
    _NACKS,
    _CODECS,
    "_handle_rtp_packet",
    "_handle_rtcp_packet",
    "_send_rtcp_nack",
    "_send_rtcp_pli",
)
_NTP_SECOND: Final = 1 << 32


class _NoTransport:
    """As much of a transport as a receiver needs that is only looked at."""

    state = "new"


@functools.cache
def assert_private_names() -> None:
    """Check that the installed aiortc can be received with; to be called once at start-up.

    A receiver is made, hooked, and given a packet, which has to come out in our hands.

    Raises:
        ConfigError: something is not where it was in aiortc 1.16.
    """
    try:
        receiver: Any = RTCRtpReceiver("video", cast(Any, _NoTransport()))
        for name in _RECEIVER:
            getattr(receiver, name)
        RtpRouter().ssrc_table.pop(0, None)
        for owner, name in ((RTCDtlsTransport, "_rtp_router"), (RTCRtpTransceiver, "_codecs")):
            if name not in owner.__init__.__code__.co_names:
                raise AttributeError(name=name)
        taken = _feed(receiver)
    except AttributeError as error:
        raise ConfigError(
            f"aiortc {aiortc.__version__} has no {error.name}, so that nothing could be received"
            " well; install aiortc 1.16."
        ) from error
    if taken != [("number", 1), ("add", b"\0")]:
        raise ConfigError(
            f"aiortc {aiortc.__version__} receives in another way than is known, so that nothing"
            " could be received well; install aiortc 1.16."
        )


def _feed(receiver: Any) -> list[tuple[str, bytes | int]]:
    """What comes to the two seams of a receiver that gets one packet of VP8."""
    taken: list[tuple[str, bytes | int]] = []

    def number(packet: Any) -> list[int]:
        taken.append(("number", packet.sequence_number))
        return []

    def add(packet: Any) -> bool:
        taken.append(("add", packet._data))
        return False

    setattr(receiver, _NACKS, _NackSeam(number))
    setattr(receiver, _BUFFER, _BufferSeam(add))
    getattr(receiver, _CODECS)[96] = RTCRtpCodecParameters(
        mimeType="video/VP8", clockRate=90_000, payloadType=96
    )
    packet = RtpPacket(payload_type=96, sequence_number=1, timestamp=1)
    packet.payload = b"\x10\0"
    handling = receiver._handle_rtp_packet(packet, arrival_time_ms=0)
    try:
        handling.send(None)
    except StopIteration:
        return taken
    finally:
        handling.close()
    return []


class ReceiverSeam:
    """One receiver whose packets are taken: what sound and pictures have in common.

    All methods are for the event loop.

    Args:
        receiver: one that does not receive yet.
        kind: what it receives.
        rate: of its media clock, in Hz.
        remote: the peer's; for both kinds the same.
        clock: room seconds.

    Attributes:
        packets: that came, retransmissions included.
        refused: packets of too many sources, of no codec that was agreed on, or malformed.
        source: whose packets are followed.
        retransmitted: whether the packet under way came on request.
    """

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        kind: Kind,
        rate: int,
        remote: RemoteClock,
        clock: Callable[[], float],
    ) -> None:
        self.packets = self.refused = 0
        self.source = RtpSource()
        self.retransmitted = False
        self.remote = remote
        self.clock = clock
        self._kind: Kind = kind
        self._rate = rate
        self._ssrcs: set[int] = set()
        self._receiver = cast(Any, receiver)
        self._codecs: dict[int, RTCRtpCodecParameters] = getattr(receiver, _CODECS)
        self._handle_rtp = self._receiver._handle_rtp_packet
        self._handle_rtcp = self._receiver._handle_rtcp_packet
        self._receiver._handle_rtp_packet = self._rtp
        self._receiver._handle_rtcp_packet = self._rtcp

    def take_packets(self, add: Callable[[Any], bool]) -> None:
        """Let each packet be given to ``add``, in the order in which they come.

        Args:
            add: takes a packet, whose ``_data`` is its payload without the descriptor, and says
                whether a key frame is to be asked for.
        """
        setattr(self._receiver, _BUFFER, _BufferSeam(add))

    def number_packets(self, number: Callable[[Any], list[int]]) -> None:
        """Let each packet be given to ``number`` first, which says what to ask for again."""
        setattr(self._receiver, _NACKS, _NackSeam(number))

    def codec(self, packet: Any) -> str:
        """The name of a packet's codec, in upper case."""
        return self._codecs[packet.payload_type].name.upper()

    async def ask_again(self, numbers: list[int]) -> None:
        """Send a NACK for packets of the source that is followed; numbers of 16 bits."""
        await self._receiver._send_rtcp_nack(self.source.ssrc, numbers)

    async def ask_key_frame(self) -> None:
        """Send a PLI to the source that is followed."""
        await self._receiver._send_rtcp_pli(self.source.ssrc)

    async def _rtp(self, packet: RtpPacket, arrival_time_ms: int) -> None:
        if packet.ssrc not in self._ssrcs:
            if len(self._ssrcs) >= MOST_SOURCES:
                self.refused += 1
                self._receiver.transport._rtp_router.ssrc_table.pop(packet.ssrc, None)
                return
            self._ssrcs.add(packet.ssrc)
        codec = self._codecs.get(packet.payload_type)
        if codec is None:
            self.refused += 1
            return
        self.packets += 1
        self.retransmitted = is_rtx(codec)
        try:
            await self._handle_rtp(packet, arrival_time_ms=arrival_time_ms)
        except Exception as error:  # whatever aiortc's parsers of payloads raise
            self.refused += 1
            log.debug("a packet was malformed: %r", error)

    async def _rtcp(self, packet: AnyRtcpPacket) -> None:
        if isinstance(packet, RtcpSrPacket) and packet.ssrc == self.source.ssrc:
            info = packet.sender_info
            if info.ntp_timestamp:  # 0: nothing was sent yet
                media_s = self.source.near(info.rtp_timestamp) / self._rate
                sender_s = info.ntp_timestamp / _NTP_SECOND
                self.remote.report(self._kind, sender_s, media_s, self.clock())
        await self._handle_rtcp(packet)


def ignore(receiver: RTCRtpReceiver) -> None:
    """Throw away what a receiver gets, as it comes; to be called before it receives.

    Whatever is decoded for a track that nobody reads is kept by aiortc without end. Its own switch
    is set back when the answer is.
    """

    async def swallow(packet: RtpPacket, arrival_time_ms: int) -> None:
        pass

    cast(Any, receiver)._handle_rtp_packet = swallow


class _BufferSeam:
    """Stands where aiortc has its jitter buffer."""

    def __init__(self, add: Callable[[Any], bool]) -> None:
        self._add = add

    def add(self, packet: Any) -> tuple[bool, None]:
        """Whether to ask for a key frame; and no encoded frame, so that aiortc decodes nothing."""
        return self._add(packet), None


class _NackSeam:
    """Stands where aiortc has its generator of NACKs."""

    def __init__(self, number: Callable[[Any], list[int]]) -> None:
        self._number = number
        self.missing: list[int] = []

    def add(self, packet: Any) -> bool:
        """Whether to ask for what is in ``missing``."""
        self.missing = self._number(packet)
        return bool(self.missing)
