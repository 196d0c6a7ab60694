"""A peer that publishes: its sound into an intake, its pictures to whoever takes them."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from aiortc import MediaStreamTrack, RTCPeerConnection
from aiortc.rtcrtptransceiver import RTCRtpTransceiver
from av.video.frame import VideoFrame

from stream.core.intake import LiveIntake
from stream.core.remote_clock import RemoteClock
from stream.live.remote_camera import RemotePicture
from stream.web.offer import OfferError
from stream.web.receiver_seam import assert_private_names, ignore
from stream.web.receiving import PictureReceiving, SoundReceiving

log = logging.getLogger(__name__)

TICK_S: Final = 0.01
"""How often is looked for what did not come in time."""


class Publisher:
    """A WHIP publisher; a :class:`stream.web.peers.PeerUse`.

    Of each kind one track is received; what is not wanted is thrown away as it arrives. All
    methods are for the event loop.

    Args:
        clock: room seconds.
        intake: takes its sound, at 48 kHz with two channels; None: it is not wanted. It is
            restarted when the first sound comes.
        pictures: takes its pictures, in a thread; None: they are not wanted.

    Raises:
        ConfigError: the installed aiortc does not fit.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        *,
        intake: LiveIntake | None = None,
        pictures: Callable[[RemotePicture], None] | None = None,
    ) -> None:
        assert_private_names()
        self.remote = RemoteClock()
        self._clock = clock
        self._intake = intake
        self._pictures = pictures
        self._sound: SoundReceiving | None = None
        self._picture: PictureReceiving | None = None
        self._refusal: str | None = None
        self._ticking: asyncio.Task[None] | None = None
        self._closed = False

    def prepare(self, connection: RTCPeerConnection) -> None:
        """Before the offer is set; aiortc makes the transceivers, ``recvonly``."""
        connection.on("track", functools.partial(self._begin, connection))

    def answered(self, connection: RTCPeerConnection) -> None:
        """The answer is set.

        Raises:
            OfferError: nothing in it is wanted.
        """
        if self._refusal is not None:
            raise OfferError(422, self._refusal)
        if self._sound is None and self._picture is None:
            wanted = "audio" if self._pictures is None else "audio or video"
            raise OfferError(422, f"Offer {wanted} to be sent.")
        self._ticking = asyncio.create_task(self._tick())

    def closed(self) -> None:
        """The connection is gone; may be called twice."""
        self._closed = True
        if self._ticking is not None:
            self._ticking.cancel()
        if self._picture is not None:
            self._picture.close()

    def facts(self) -> dict[str, Any]:
        """What was received so far; JSON values. A kind that does not come is None."""
        return {
            "sound": None if self._sound is None else self._sound.facts(),
            "pictures": None if self._picture is None else self._picture.facts(),
            "sender_reports": self.remote.reports,
        }

    def _begin(self, connection: RTCPeerConnection, track: MediaStreamTrack) -> None:
        transceiver = next(t for t in connection.getTransceivers() if t.receiver.track is track)
        receiver = transceiver.receiver
        if track.kind == "audio" and self._intake is not None and self._sound is None:
            self._only_opus(transceiver)
            self._sound = SoundReceiving(receiver, self.remote, self._clock, self._intake)
        elif track.kind == "video" and self._pictures is not None and self._picture is None:
            self._picture = PictureReceiving(receiver, self.remote, self._clock, self._deliver)
        else:
            ignore(receiver)

    def _only_opus(self, transceiver: RTCRtpTransceiver) -> None:
        """Agree on nothing but Opus; the answer is made from this list."""
        opus = [codec for codec in transceiver._codecs if codec.name.lower() == "opus"]
        if opus:
            transceiver._codecs = opus
        else:
            self._refusal = "Offer audio as Opus."

    def _deliver(self, frame: VideoFrame, pts: float) -> None:
        if self._pictures is not None and not self._closed:
            self._pictures(RemotePicture(frame, pts))

    async def _tick(self) -> None:
        receiving = [one for one in (self._sound, self._picture) if one is not None]
        while True:
            await asyncio.sleep(TICK_S)
            now = self._clock()
            for one in receiving:
                try:
                    await one.tick(now)
                except Exception:
                    log.exception("receiving failed for a moment")
