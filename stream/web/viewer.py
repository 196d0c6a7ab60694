"""One viewer of a broadcast by WebRTC: what it is sent, and what it says of its link."""

from __future__ import annotations

import struct
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import aiortc
from aiortc import RTCPeerConnection, RTCRtpCodecCapability, RTCRtpSender, rtp, sdp
from aiortc.codecs import h264, opus, vpx

from engine.errors import ConfigError
from stream.core.rendition import Link
from stream.web.broadcast import Broadcast
from stream.web.encoding import PictureCodec
from stream.web.offer import OfferError
from stream.web.picture_stream import Which
from stream.web.tracks import PictureTrack, SoundTrackOut

_CODECS: Final[dict[str, PictureCodec]] = {"video/vp8": "VP8", "video/h264": "H264"}
_RTT, _PACKETS = "_RTCRtpSender__rtt", "_RTCRtpSender__packet_count"
_RTP_NAMES: Final = (
    "RTCP_PSFB_APP",
    "RTCP_RTPFB_NACK",
    "RtcpPsfbPacket",
    "RtcpRrPacket",
    "RtcpRtpfbPacket",
    "RtcpSrPacket",
    "unpack_remb_fci",
)
_LOST_PARTS: Final = 256  # RFC 3550, section 6.4.1: the fraction lost, of 256


def check_aiortc() -> None:
    """Make sure that the installed aiortc has what is touched of its inner parts.

    Raises:
        ConfigError: it has not.
    """
    made, sent, heard = (
        getattr(getattr(RTCRtpSender, name, None), "__code__", None)
        for name in ("__init__", "_next_encoded_frame", "_handle_rtcp_packet")
    )
    wanted = {
        "RTCRtpSender._send_keyframe": callable(getattr(RTCRtpSender, "_send_keyframe", None)),
        "RTCRtpSender._handle_rtcp_packet": heard is not None
        and "_send_keyframe" in heard.co_names,
        "RTCRtpSender._next_encoded_frame": sent is not None and "pack" in sent.co_names,
        **{
            f"{encoder.__name__}.pack": "pack" in vars(encoder)
            for encoder in (vpx.Vp8Encoder, h264.H264Encoder, opus.OpusEncoder)
        },
        **{
            f"RTCRtpSender.{name}": made is not None and name in made.co_names
            for name in ("_ssrc", _RTT, _PACKETS)
        },
        **{f"rtp.{name}": hasattr(rtp, name) for name in _RTP_NAMES},
    }
    missing = [name for name, there in wanted.items() if not there]
    if missing:
        raise ConfigError(
            f"aiortc {aiortc.__version__} has no {missing[0]}, so that pictures can't be encoded"
            " once for all viewers; install aiortc 1.16."
        )


def offered_kinds(offer: str) -> tuple[str, ...]:
    """The media of an offer, ``video`` or ``audio``, in its order."""
    return tuple(line[2:7] for line in offer.splitlines() if line.startswith(("m=v", "m=a")))


class Viewer:
    """What one connection is for that a broadcast is sent by; a ``PeerUse``.

    Args:
        broadcast: what it is sent.
        which: of its pictures.
        kinds: of media that it offers, in their order.
        now: monotonic seconds.

    Attributes:
        codec: of the pictures, once the connection was answered; None for sound alone.
    """

    def __init__(
        self,
        broadcast: Broadcast,
        which: Which = "output",
        kinds: Sequence[str] = ("video", "audio"),
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.codec: PictureCodec | None = None
        self._broadcast = broadcast
        self._which = which
        self._kinds = kinds
        self._now = now
        self._link = Link(broadcast.rates)
        self._picture: PictureTrack | None = None
        self._sound: SoundTrackOut | None = None
        self._sender: Any = None
        self._plis = self._nacks = 0

    def prepare(self, connection: RTCPeerConnection) -> None:
        """Add what it is sent."""
        for kind in self._kinds:
            if kind == "video":
                self._picture = PictureTrack(self._broadcast, self._which, self._link)
                transceiver = connection.addTransceiver(self._picture, "sendonly")
                transceiver.setCodecPreferences(_preferred())
                self._sender = transceiver.sender
                self._hook(transceiver.sender)
            else:
                self._sound = SoundTrackOut(self._broadcast)
                connection.addTransceiver(self._sound, "sendonly")

    def answered(self, connection: RTCPeerConnection) -> None:
        """See which codec it takes.

        Raises:
            OfferError: none that there is.
        """
        if self._picture is None:
            return
        answer = sdp.SessionDescription.parse(connection.localDescription.sdp)
        names = [
            codec.mimeType.lower()
            for media in answer.media
            if media.kind == "video"
            for codec in media.rtp.codecs
        ]
        # The first is the one that aiortc sends.
        self.codec = _CODECS.get(names[0]) if names else None
        if self.codec is None:
            raise OfferError(422, "Offer video as VP8 or H.264.")
        self._picture.codec = self.codec

    def closed(self) -> None:
        """Leave the broadcast."""
        for track in (self._picture, self._sound):
            if track is not None:
                track.stop()

    def facts(self) -> dict[str, Any]:
        """What it was sent and what it said, of its pictures; JSON values.

        Keys: ``codec``, ``rendition``, ``packets`` (of RTP), ``bytes``, ``plis`` (requests for key
        frames), ``nacks`` (packets asked for again), ``estimate_bits_per_s``, ``lost`` (share,
        smoothed), ``round_trip_s`` and ``dropped`` {reason: pictures}. What is unknown is None.
        """
        watcher = None if self._picture is None else self._picture.watcher
        kind = None if watcher is None else watcher.kind
        return {
            "codec": self.codec,
            "rendition": None if kind is None else kind.rendition,
            "packets": getattr(self._sender, _PACKETS, 0),
            "bytes": 0 if watcher is None else watcher.sent_bytes,
            "plis": self._plis,
            "nacks": self._nacks,
            "estimate_bits_per_s": self._link.estimate,
            "lost": self._link.lost,
            "round_trip_s": getattr(self._sender, _RTT, None),
            "dropped": {} if watcher is None else dict(watcher.dropped),
        }

    # What comes back: aiortc has no other way to learn of it

    def _hook(self, sender: Any) -> None:
        handle = sender._handle_rtcp_packet

        async def heard(packet: Any) -> None:
            self._hear(packet)
            await handle(packet)

        sender._handle_rtcp_packet = heard
        sender._send_keyframe = self._ask_for_key_frame

    def _ask_for_key_frame(self) -> None:
        self._plis += 1
        if self._picture is not None:
            self._picture.watcher.ask_for_key_frame()

    def _hear(self, packet: Any) -> None:
        ssrc = self._sender._ssrc
        if isinstance(packet, rtp.RtcpRrPacket | rtp.RtcpSrPacket):
            for report in packet.reports:
                if report.ssrc == ssrc:
                    self._report(lost=report.fraction_lost / _LOST_PARTS)
        elif isinstance(packet, rtp.RtcpRtpfbPacket) and packet.fmt == rtp.RTCP_RTPFB_NACK:
            self._nacks += len(packet.lost)
        elif isinstance(packet, rtp.RtcpPsfbPacket) and packet.fmt == rtp.RTCP_PSFB_APP:
            try:
                estimate, ssrcs = rtp.unpack_remb_fci(packet.fci)
            except (ValueError, IndexError, struct.error):
                return  # some other message, or nonsense
            if ssrc in ssrcs:
                self._report(estimate=float(estimate))

    def _report(self, *, estimate: float | None = None, lost: float | None = None) -> None:
        if self._picture is None:
            return
        watcher = self._picture.watcher
        watcher.want(
            self._link.report(self._now(), watcher.sent_bytes, estimate=estimate, lost=lost)
        )


def _preferred() -> list[RTCRtpCodecCapability]:
    """VP8 first: every viewer has it, so that one encode serves them all."""
    codecs = RTCRtpSender.getCapabilities("video").codecs
    return sorted(codecs, key=lambda codec: bool(codec.mimeType != "video/VP8"))
