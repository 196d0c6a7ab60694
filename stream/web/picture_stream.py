"""One encode of a broadcast's picture, and those who watch it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from stream.core.key_frames import KeyFrames
from stream.core.rendition import Link, Rates, Rendition
from stream.web.encoding import Encoded, PictureCodec, PictureEncoder
from stream.web.mailbox import PictureMailbox

Which = Literal["output", "camera"]
"""The picture that leaves the session, or the camera's own at the same moment."""

_MOST_PICTURES: Final = 4  # that wait for a viewer: 160 ms


@dataclass(frozen=True, slots=True)
class Kind:
    """What one encoder makes."""

    which: Which
    codec: PictureCodec
    rendition: Rendition


class PictureStream:
    """One encoder for all that watch the same.

    Args:
        kind: what it makes.
        rates: of the pictures.

    Attributes:
        encoder: for the thread that encodes alone.
        keys: when it makes key frames.
        watchers: who gets it, or is about to change to it.
    """

    def __init__(self, kind: Kind, rates: Rates) -> None:
        self.kind = kind
        self._rates = rates
        self.encoder = PictureEncoder(kind.codec, rates.most(kind.rendition))
        self.keys = KeyFrames()
        self.watchers: dict[Watcher, None] = {}  # in the order in which they came

    def rate(self) -> int:
        """The bits/s that it should have now."""
        links = [watcher.link for watcher in self.watchers if watcher.link is not None]
        return self._rates.rate(self.kind.rendition, links)

    def hand_out(self, picture: Encoded) -> None:
        """Give a picture to those who watch."""
        for watcher in [*self.watchers]:
            watcher.take(self, picture)


class Watcher:
    """One viewer's pictures. All methods are for the event loop.

    Args:
        which: of the broadcast's pictures.
        link: what is known of the viewer's link; None: it holds anything.
        find: gives the stream of a kind, made where there is none.
        on_leave: called with a stream that it no longer watches.
        on_close: called once, when nobody will read any more.

    Attributes:
        sent_bytes: of the pictures that were read.
    """

    def __init__(
        self,
        which: Which,
        link: Link | None,
        find: Callable[[Kind], PictureStream],
        on_leave: Callable[[PictureStream], None],
        on_close: Callable[[Watcher], None],
    ) -> None:
        self.which = which
        self.link = link
        self.sent_bytes = 0
        self._find = find
        self._on_leave = on_leave
        self._on_close = on_close
        self._mailbox = PictureMailbox(_MOST_PICTURES, self.ask_for_key_frame)
        self._stream: PictureStream | None = None
        self._next: PictureStream | None = None  # taken with its next key frame
        self._closed = False

    def __len__(self) -> int:
        return len(self._mailbox)

    @property
    def kind(self) -> Kind | None:
        """What it gets now; None before the start."""
        return None if self._stream is None else self._stream.kind

    @property
    def dropped(self) -> Counter[str]:
        """Pictures that it did not get, by reason."""
        return self._mailbox.dropped

    def start(self, codec: PictureCodec = "VP8") -> None:
        """Get the pictures from the next key frame on, which is asked for."""
        if self._closed or self._stream is not None:
            return
        rendition: Rendition = "full" if self.link is None else self.link.rendition
        self._stream = self._join(Kind(self.which, codec, rendition))

    def want(self, rendition: Rendition) -> None:
        """Change to another rendition at its next key frame, which is asked for."""
        if self._closed or self._stream is None:
            return
        heading = self._next or self._stream
        if heading.kind.rendition == rendition:
            return
        if self._next is not None:
            self._leave(self._next)
            self._next = None
        if self._stream.kind.rendition != rendition:
            self._next = self._join(Kind(self.which, self._stream.kind.codec, rendition))

    def ask_for_key_frame(self) -> None:
        """Have the stream that it gets begin anew for it, as soon as that may be."""
        if self._stream is not None:
            self._stream.keys.ask()

    def take(self, stream: PictureStream, picture: Encoded) -> None:
        """Take a picture of a stream that it watches."""
        if stream is self._next and picture.key:
            assert self._stream is not None
            self._leave(self._stream)
            self._stream, self._next = self._next, None
        if stream is self._stream:
            self._mailbox.put(picture)

    async def get(self) -> Encoded | None:
        """The next picture, waiting for it; None once it is closed."""
        picture = await self._mailbox.get()
        if picture is not None:
            self.sent_bytes += len(picture.data)
        return picture

    def close(self) -> None:
        """Nobody reads any more."""
        if self._closed:
            return
        self._closed = True
        self._mailbox.close()
        for stream in (self._stream, self._next):
            if stream is not None:
                self._leave(stream)
        self._next = None
        self._on_close(self)

    def _join(self, kind: Kind) -> PictureStream:
        stream = self._find(kind)
        stream.watchers[self] = None
        stream.keys.ask()
        return stream

    def _leave(self, stream: PictureStream) -> None:
        del stream.watchers[self]
        self._on_leave(stream)
