"""What leaves a session, encoded once for any number of viewers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import av

from stream.core.rendition import Link, Rates
from stream.core.sinks import Shown
from stream.core.sound import Sound
from stream.web.conversion import Converter
from stream.web.encoding import Encoded, EncodingThread, SoundEncoder
from stream.web.mailbox import NO_KEY_FRAME, SLOW, Mailbox
from stream.web.picture_stream import Kind, PictureStream, Watcher, Which

log = logging.getLogger(__name__)

PREVIEW_SIDE: Final = 640
"""Longer side of a preview in pixels: what a page shows side by side. At 1280x720 encoding the
two pictures takes a third of a core, which the generator needs."""

PREVIEW: Final = Rates(full=2_500_000)
"""To this computer the line holds anything, so the rate is fixed."""

MEETING: Final = Rates(full=1_200_000, small=300_000, least_share=0.5)
"""For viewers far away: at 640x480 twice of what a talking face needs to look as it was."""

_MOST_BLOCKS: Final = 10  # 200 ms
_BUSY: Final = "encoder_busy"
_FAILED: Final = "encoder_failed"
_SOUND: Final = "sound"
_REASONS: Final = (_BUSY, _FAILED, SLOW, NO_KEY_FRAME, _SOUND)


@dataclass(frozen=True, slots=True)
class Block:
    """20 ms of sound.

    Attributes:
        number: rises by one from block to block; a hole stands for dropped ones.
        data: an Opus packet, 48 kHz stereo.
    """

    number: int
    data: bytes


@dataclass(slots=True)
class _Made:
    """What encoders made so far."""

    packets: int = 0
    key_frames: int = 0
    bytes: int = 0
    seconds: float = 0.0

    def count(self, size: int, seconds: float, *, key: bool = False) -> None:
        self.packets += 1
        self.key_frames += key
        self.bytes += size
        self.seconds += seconds


@dataclass(frozen=True, slots=True)
class _Order:
    """What one encoder is to do with a picture."""

    stream: PictureStream
    key: bool
    rate: int


class Broadcast:
    """A picture sink and a sound sink whose viewers come and go.

    There is one encoder for each picture, codec and rendition that somebody watches, and one for
    sound, from when the first viewer needs it until the last one leaves. Pictures are encoded in a
    thread, each as soon as it is shown; where one still waits for the thread, the newer one wins.
    All methods are for the event loop.

    Args:
        longest_side: pictures with a longer side are scaled down to it, in pixels; None for none.
        rates: of the pictures.

    Attributes:
        live: whether there was a picture yet.
        lead_s: 0: sound goes out when it is due.
        rates: of the pictures.
    """

    lead_s: float = 0.0

    def __init__(
        self,
        longest_side: int | None = PREVIEW_SIDE,
        *,
        rates: Rates = PREVIEW,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live = False
        self.rates = rates
        self._now = now
        self._converter = Converter(longest_side)
        self._watchers: set[Watcher] = set()
        self._streams: dict[Kind, PictureStream] = {}
        self._listening: set[Mailbox[Block]] = set()
        self._sound: SoundEncoder | None = None
        self._blocks = 0
        self._thread: EncodingThread | None = None
        self._busy = False
        self._next: Shown | None = None
        self._dropped: Counter[str] = Counter()
        self._made: defaultdict[str, _Made] = defaultdict(_Made)

    @property
    def viewers(self) -> int:
        """How many there are for pictures, those included that are being connected."""
        return len(self._watchers)

    def watch(self, which: Which, link: Link | None = None) -> Watcher:
        """Get the pictures, once it is started; close the watcher to end it.

        Args:
            which: of the pictures.
            link: decides on the rendition; None: the full one, and any rate.
        """
        watcher = Watcher(which, link, self._stream, self._unwatched, self._unwatch)
        self._watchers.add(watcher)
        return watcher

    def listen(self) -> Mailbox[Block]:
        """Get the sound from now on; close the mailbox to end it."""
        mailbox = Mailbox[Block](_MOST_BLOCKS, self._unlisten)
        self._listening.add(mailbox)
        return mailbox

    def show(self, shown: Shown) -> None:
        """Take a picture; its encoding begins at once."""
        self.live = True
        if not self._streams:
            return
        if self._next is not None:
            self._dropped[_BUSY] += 1
        self._next = shown
        self._encode_next()

    def hear(self, block: Sound, position_s: float) -> None:
        """Take the next 20 ms; where they came in does not matter here."""
        self._blocks += 1
        if not self._listening:
            return
        begin = time.perf_counter()
        try:
            self._sound = self._sound or SoundEncoder()
            data = self._sound.encode(block)
        except av.FFmpegError:
            log.exception("sound was not encoded")
            self._sound = None
            self._dropped[_FAILED] += 1
            return
        self._made["Opus"].count(len(data), time.perf_counter() - begin)
        made = Block(self._blocks, data)
        for mailbox in self._listening:
            mailbox.put(made)

    async def run(self) -> None:
        """Encode and hand out pictures until cancelled; then let all viewers go."""
        self._thread = EncodingThread("encoding")
        self._encode_next()
        try:
            await asyncio.Event().wait()
        finally:
            thread, self._thread = self._thread, None
            for watcher in [*self._watchers]:
                watcher.close()
            for listener in [*self._listening]:
                listener.close()
            await thread.end()

    def facts(self) -> dict[str, Any]:
        """Who watches, and what was done so far, for reports and metrics; JSON values.

        Keys: ``viewers`` and ``listeners`` (now), ``watching`` {codec: {rendition: viewers}},
        ``encoded`` {what: {``packets``, ``key_frames``, ``bytes``, ``seconds``}}, where what is
        ``Opus`` or a codec and a rendition, and ``dropped`` {reason: how many}: pictures because
        the encoders were busy or failed, or a viewer was slow and then without a key frame; sound
        of slow viewers.
        """
        dropped = self._dropped.copy()
        for watcher in self._watchers:
            dropped.update(watcher.dropped)
        dropped[_SOUND] += sum(mailbox.dropped for mailbox in self._listening)
        watching: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for watcher in self._watchers:
            if watcher.kind is not None:
                watching[watcher.kind.codec][watcher.kind.rendition] += 1
        return {
            "viewers": len(self._watchers),
            "listeners": len(self._listening),
            "watching": {codec: dict(counts) for codec, counts in watching.items()},
            "encoded": {
                what: {
                    "packets": made.packets,
                    "key_frames": made.key_frames,
                    "bytes": made.bytes,
                    "seconds": round(made.seconds, 4),
                }
                for what, made in self._made.items()
            },
            "dropped": {reason: dropped[reason] for reason in _REASONS},
        }

    # Pictures

    def _encode_next(self) -> None:
        if self._thread is None or self._busy or self._next is None:
            return
        shown, self._next = self._next, None
        now = self._now()
        orders = [
            _Order(stream, stream.keys.due(now), stream.rate()) for stream in self._streams.values()
        ]
        # Key frames first: who changes to one does not get the same picture twice.
        orders.sort(key=lambda order: not order.key)
        if orders:
            self._busy = True
            self._thread.put(partial(self._encode, self._thread, shown, orders))

    def _encode(self, thread: EncodingThread, shown: Shown, orders: list[_Order]) -> None:
        """In the thread: each viewer gets its picture as soon as that is encoded."""
        pictures = {"output": shown.picture, "camera": shown.original}
        self._converter.begin(*pictures.values())
        for order in orders:
            kind = order.stream.kind
            begin = time.perf_counter()
            try:
                encoded = order.stream.encoder.encode(
                    self._converter.frame(pictures[kind.which], kind.rendition),
                    at=shown.at,
                    pts=shown.pts,
                    key=order.key,
                    rate=order.rate,
                )
            except Exception:  # whatever it is, the other viewers get theirs
                log.exception("a picture was not encoded")
                thread.tell(self._failed, order.stream)
                continue
            thread.tell(self._encoded, order.stream, encoded, time.perf_counter() - begin)
        thread.tell(self._done)

    def _encoded(self, stream: PictureStream, picture: Encoded, seconds: float) -> None:
        made = self._made[f"{stream.kind.codec} {stream.kind.rendition}"]
        made.count(len(picture.data), seconds, key=picture.key)
        if picture.data:
            stream.hand_out(picture)

    def _failed(self, stream: PictureStream) -> None:
        self._dropped[_FAILED] += 1
        stream.keys.ask()

    def _done(self) -> None:
        self._busy = False
        self._encode_next()

    # Viewers

    def _stream(self, kind: Kind) -> PictureStream:
        if kind not in self._streams:
            self._streams[kind] = PictureStream(kind, self.rates)
        return self._streams[kind]

    def _unwatched(self, stream: PictureStream) -> None:
        if not stream.watchers and self._streams.get(stream.kind) is stream:
            del self._streams[stream.kind]
        if not self._streams:
            self._next = None

    def _unwatch(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        self._dropped.update(watcher.dropped)

    def _unlisten(self, mailbox: Mailbox[Block]) -> None:
        self._listening.discard(mailbox)
        self._dropped[_SOUND] += mailbox.dropped
        if not self._listening:
            self._sound = None
