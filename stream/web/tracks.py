"""A broadcast as WebRTC tracks: encoded already, so that aiortc only makes RTP of it.

aiortc sends whatever a track gives as soon as it gives it, so the session's own pace, with which
the mailboxes are filled, is the only one. Timestamps come from the content.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any, Final

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import Packet

from stream.core.rendition import Link
from stream.core.sound import SOUND_RATE, TICK_SAMPLES
from stream.web.broadcast import Block, Broadcast
from stream.web.encoding import VIDEO_RATE, PictureCodec
from stream.web.mailbox import Mailbox
from stream.web.picture_stream import Which

_LEAST_STEP: Final = VIDEO_RATE // 1000  # between two pictures


class PictureTrack(MediaStreamTrack):
    """The pictures of a broadcast from the first read on, beginning with a key frame.

    Args:
        broadcast: where they come from.
        which: of its pictures.
        link: decides on the rendition.

    Attributes:
        watcher: the viewer's place in the broadcast.
        codec: to be set before the first read.
    """

    kind = "video"

    def __init__(self, broadcast: Broadcast, which: Which, link: Link | None = None) -> None:
        super().__init__()
        self.watcher = broadcast.watch(which, link)
        self.codec: PictureCodec = "VP8"
        self._first_s: float | None = None
        self._last = -_LEAST_STEP

    async def recv(self) -> Packet[Any]:
        """The next picture, encoded; its pts count from the first one's and always rise.

        Raises:
            MediaStreamError: the track has ended.
        """
        # Not sooner: what came before the connection would be sent in one burst.
        self.watcher.start(self.codec)
        picture = await self.watcher.get()
        if picture is None:
            self.stop()
            raise MediaStreamError
        if self._first_s is None:
            self._first_s = picture.pts
        since = round((picture.pts - self._first_s) * VIDEO_RATE)
        self._last = max(since, self._last + _LEAST_STEP)
        packet = Packet(picture.data)
        packet.pts, packet.time_base = self._last, Fraction(1, VIDEO_RATE)
        packet.is_keyframe = picture.key
        return packet

    def stop(self) -> None:
        """End the track and leave the broadcast."""
        super().stop()
        self.watcher.close()


class SoundTrackOut(MediaStreamTrack):
    """The sound of a broadcast from the first read on, in packets of 20 ms.

    Args:
        broadcast: where it comes from.
    """

    kind = "audio"

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__()
        self._broadcast = broadcast
        self._mailbox: Mailbox[Block] | None = None
        self._first: int | None = None

    async def recv(self) -> Packet[Any]:
        """The next 20 ms, as Opus; pts count the samples since the first block.

        Raises:
            MediaStreamError: the track has ended.
        """
        if self.readyState != "live":
            raise MediaStreamError
        if self._mailbox is None:
            # Not sooner: with what came before the connection the browser would lag behind.
            self._mailbox = self._broadcast.listen()
        block = await self._mailbox.get()
        if block is None:
            self.stop()
            raise MediaStreamError
        if self._first is None:
            self._first = block.number
        packet = Packet(block.data)
        packet.pts = (block.number - self._first) * TICK_SAMPLES
        packet.time_base = Fraction(1, SOUND_RATE)
        return packet

    def stop(self) -> None:
        """End the track and leave the broadcast."""
        super().stop()
        if self._mailbox is not None:
            self._mailbox.close()
