"""A broadcast as WebRTC tracks.

aiortc sends whatever a track gives as soon as it gives it, so the session's own pace, with which
the mailboxes are filled, is the only one. Timestamps come from the content.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame, VideoFrame

from stream.core.sound import SOUND_RATE, TICK_SAMPLES
from stream.web.broadcast import Broadcast, Which

VIDEO_RATE: Final = 90_000  # Hz, RTP's clock for pictures

_LEAST_STEP: Final = VIDEO_RATE // 1000  # between two pictures


class PictureTrack(MediaStreamTrack):
    """The pictures of a broadcast from now on.

    Args:
        broadcast: where they come from.
        which: of its pictures.
    """

    kind = "video"

    def __init__(self, broadcast: Broadcast, which: Which) -> None:
        super().__init__()
        self._mailbox = broadcast.watch(which)
        self._first_s: float | None = None
        self._last = -_LEAST_STEP

    async def recv(self) -> VideoFrame:
        """The next picture, yuv420p; its pts count from the first one's and always rise.

        Raises:
            MediaStreamError: the track has ended.
        """
        if self._first_s is None:
            self._mailbox.forget()  # came before the connection: would be sent in one burst
        picture = await self._mailbox.get()
        if picture is None:
            self.stop()
            raise MediaStreamError
        if self._first_s is None:
            self._first_s = picture.pts
        since = round((picture.pts - self._first_s) * VIDEO_RATE)
        self._last = max(since, self._last + _LEAST_STEP)
        # A copy for each viewer: aiortc's encoder writes to the frame.
        frame = VideoFrame.from_ndarray(picture.planes, format="yuv420p")
        frame.pts, frame.time_base = self._last, Fraction(1, VIDEO_RATE)
        return frame

    def stop(self) -> None:
        """End the track and leave the broadcast."""
        super().stop()
        self._mailbox.close()


class SoundTrackOut(MediaStreamTrack):
    """The sound of a broadcast from now on, in packets of 20 ms.

    Args:
        broadcast: where it comes from.
    """

    kind = "audio"

    def __init__(self, broadcast: Broadcast) -> None:
        super().__init__()
        self._mailbox = broadcast.listen()
        self._first: int | None = None

    async def recv(self) -> AudioFrame:
        """The next 20 ms, s16 stereo at 48 kHz; pts count the samples since the first block.

        Raises:
            MediaStreamError: the track has ended.
        """
        if self._first is None:
            self._mailbox.forget()  # came before the connection: the browser would lag behind
        block = await self._mailbox.get()
        if block is None:
            self.stop()
            raise MediaStreamError
        if self._first is None:
            self._first = block.number
        frame = AudioFrame(format="s16", layout="stereo", samples=TICK_SAMPLES)
        frame.planes[0].update(block.samples.tobytes())
        frame.sample_rate = SOUND_RATE
        frame.pts = (block.number - self._first) * TICK_SAMPLES
        frame.time_base = Fraction(1, SOUND_RATE)
        return frame

    def stop(self) -> None:
        """End the track and leave the broadcast."""
        super().stop()
        self._mailbox.close()
