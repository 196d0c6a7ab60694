"""A peer's sound and pictures: from packets to an intake, and to pictures with their times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import av
import numpy as np
from aiortc import RTCRtpReceiver
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from stream.core.intake import LiveIntake
from stream.core.intake_watch import IntakeWatch
from stream.core.nack import Nacks
from stream.core.payload import first_and_key
from stream.core.picture_buffer import GIVE_UP_S, Encoded, Packet, PictureBuffer
from stream.core.remote_clock import RemoteClock
from stream.core.rtp_source import Numbered
from stream.core.sound import SOUND_RATE, TICK_S, Sound, as_sound
from stream.core.sound_timeline import SoundTimeline, Stretch
from stream.core.track import silence
from stream.web.picture_decoder import DECODERS, PictureDecoder
from stream.web.receiver_seam import ReceiverSeam

PICTURE_RATE: Final = 90_000  # Hz, RTP's clock for pictures


class SoundReceiving:
    """A receiver's sound, Opus, without gaps into an intake.

    Args:
        receiver: one that does not receive yet.
        remote: the peer's clock.
        clock: room seconds.
        intake: takes it, at 48 kHz with two channels.
    """

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        remote: RemoteClock,
        clock: Callable[[], float],
        intake: LiveIntake,
    ) -> None:
        self.timeline = SoundTimeline(_OpusDecoder().decode)
        self._seam = ReceiverSeam(receiver, "sound", SOUND_RATE, remote, clock)
        self._seam.take_packets(self._add)
        self._remote, self._clock, self._intake = remote, clock, intake
        self._other = 0  # packets of another codec
        self._watch = IntakeWatch(intake, remote)

    async def tick(self, now: float) -> None:
        """To be called every hundredth of a second."""
        self._push(self.timeline.wait(now, dry=self._watch.look(now)), now)

    def facts(self) -> dict[str, Any]:
        """What was received so far; JSON values."""
        seam, timeline = self._seam, self.timeline
        return {
            "packets": seam.packets,
            "refused": seam.refused + seam.source.foreign + self._other,
            "lost": timeline.lost,
            "late": timeline.late,
            "twice": timeline.twice,
            "jumps": timeline.jumps,
            "heard_s": round(timeline.heard_s, 2),
            "filled_s": round(timeline.filled_s, 2),
            "jitter_ms": round(1000 * timeline.jitter_s, 1),
        }

    def _add(self, packet: Any) -> bool:
        now, source = self._clock(), self._seam.source
        if self._seam.codec(packet) != "OPUS":
            self._other += 1
            return False
        begins = source.ssrc is None
        numbered = source.take(packet.ssrc, packet.sequence_number, packet.timestamp, now)
        if numbered is None:
            return False
        if begins:
            self._intake.restart()  # another peer may have filled it
        elif numbered.fresh:
            self.timeline.restart()
            self._remote.restart("sound")
        self._remote.arrived("sound", numbered.timestamp / SOUND_RATE + TICK_S, now)
        sequence, timestamp = numbered.sequence, numbered.timestamp
        dry = self._watch.look(now)
        self._push(self.timeline.add(sequence, timestamp, packet._data, now, dry=dry), now)
        return False

    def _push(self, stretches: list[Stretch], now: float) -> None:
        for stretch in stretches:
            self._intake.push(stretch.samples, now)
            self._watch.pushed((stretch.start + len(stretch.samples)) / SOUND_RATE, now)


class PictureReceiving:
    """A receiver's pictures, VP8 or H.264, decoded and with their times in the room.

    Args:
        receiver: one that does not receive yet.
        remote: the peer's clock.
        clock: room seconds.
        deliver: takes each picture and its time, in the decoder's thread.

    Attributes:
        overloads: times at which the decoder was too far behind, and pictures were left out.
    """

    def __init__(
        self,
        receiver: RTCRtpReceiver,
        remote: RemoteClock,
        clock: Callable[[], float],
        deliver: Callable[[VideoFrame, float], None],
    ) -> None:
        self.nacks = Nacks()
        self.buffer = PictureBuffer()
        self.overloads = 0
        self._seam = ReceiverSeam(receiver, "picture", PICTURE_RATE, remote, clock)
        self._seam.number_packets(self._number)
        self._seam.take_packets(self._add)
        self._remote, self._clock = remote, clock
        self._decoder = PictureDecoder(deliver)
        self._numbered: tuple[Any, Numbered | None] = None, None
        self._newest = 0  # timestamp
        self._codec = ""

    async def tick(self, now: float) -> None:
        """To be called every few hundredths of a second."""
        if self._seam.source.ssrc is None:
            return
        self._decode(self.buffer.wait(now), now)
        if again := self.nacks.again(now):
            await self._seam.ask_again(_wrapped(again))
        if self._ask(now):
            await self._seam.ask_key_frame()

    def close(self) -> None:
        """Let the decoder's thread end."""
        self._decoder.close()

    def facts(self) -> dict[str, Any]:
        """What was received so far; JSON values."""
        seam, nacks, buffer = self._seam, self.nacks, self.buffer
        return {
            "packets": seam.packets,
            "refused": seam.refused + seam.source.foreign,
            "lost": nacks.asked - nacks.recovered - len(nacks),
            "nacks": nacks.asked,
            "nacks_repeated": nacks.repeated,
            "key_frames_asked": buffer.key_frames,
            "holes_left": buffer.left_out,
            "late": buffer.late,
            "pictures": self._decoder.decoded,
            "damaged": buffer.damaged,
            "errors": self._decoder.errors,
            "overloads": self.overloads,
            "rtt_ms": None if nacks.rtt_s is None else round(1000 * nacks.rtt_s, 1),
        }

    def _number(self, packet: Any) -> list[int]:
        now, source = self._clock(), self._seam.source
        begins = source.ssrc is None
        numbered = source.take(packet.ssrc, packet.sequence_number, packet.timestamp, now)
        self._numbered = packet, numbered
        if numbered is None:
            return []
        if numbered.fresh:
            self._newest = numbered.timestamp - 1
            if not begins:
                self.nacks.restart()
                self.buffer.restart()
                self._remote.restart("picture")
        if numbered.timestamp > self._newest:
            self._newest = numbered.timestamp
            self._remote.arrived("picture", numbered.timestamp / PICTURE_RATE, now)
        retransmitted = self._seam.retransmitted
        return _wrapped(self.nacks.take(numbered.sequence, now, retransmitted=retransmitted))

    def _add(self, packet: Any) -> bool:
        (counted, numbered), codec = self._numbered, self._seam.codec(packet)
        if counted is not packet or numbered is None or codec not in DECODERS:
            return False
        now = self._clock()
        self._codec = codec
        self.buffer.give_up_s = GIVE_UP_S if codec == "H264" else None
        first, key = first_and_key(codec, packet.payload, packet._data)
        part = Packet(numbered.timestamp, bool(packet.marker), packet._data, first, key)
        self._decode(self.buffer.add(numbered.sequence, part, now), now)
        return self._ask(now)

    def _decode(self, pictures: list[Encoded], now: float) -> None:
        for picture in pictures:
            pts = self._remote.picture(picture.timestamp / PICTURE_RATE, now)
            if not self._decoder.put(self._codec, picture.data, pts):
                self.overloads += 1
                self.buffer.restart()
                self.buffer.want_key_frame()
                break
        self.nacks.forget(self.buffer.head)

    def _ask(self, now: float) -> bool:
        """Whether to ask for a key frame."""
        self.buffer.rtt_s = self.nacks.rtt_s or 0.0
        if self.nacks.hopeless or self._decoder.take_failure():
            self.nacks.hopeless = False
            self.buffer.want_key_frame()
        return self.buffer.ask(now)


class _OpusDecoder:
    """Opus to the form in which a session holds sound; 0.06 ms a packet."""

    def __init__(self) -> None:
        self._codec = av.CodecContext.create("libopus", "r")
        assert isinstance(self._codec, av.AudioCodecContext)
        self._codec.format = "s16"
        self._codec.layout = "stereo"
        self._codec.sample_rate = SOUND_RATE

    def decode(self, payload: bytes) -> Sound:
        """Float32 (n, 2); none of what is no Opus."""
        if not payload:
            return silence(0)
        try:
            frames = self._codec.decode(av.Packet(payload))
        except av.FFmpegError:
            return silence(0)
        samples = [cast(NDArray[np.int16], frame.to_ndarray()).reshape(-1, 2) for frame in frames]
        return np.concatenate([silence(0), *(as_sound(part) for part in samples)])


def _wrapped(numbers: list[int]) -> list[int]:
    return [number & 0xFFFF for number in numbers]
