"""Short queues from a session to one viewer: bounded, and what a slow one misses is counted."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from stream.web.encoding import Encoded

_Item = TypeVar("_Item")

SLOW: Final = "viewer_slow"
NO_KEY_FRAME: Final = "no_key_frame"


class Mailbox(Generic[_Item]):
    """What one viewer has yet to be sent. For one event loop alone.

    Args:
        most: items that wait; where one more comes, the oldest is dropped.
        on_close: called once, when nobody will read any more.

    Attributes:
        dropped: items that the reader was too slow for.
    """

    def __init__(self, most: int, on_close: Callable[[Mailbox[_Item]], None]) -> None:
        self._items: deque[_Item] = deque()
        self._most = most
        self._on_close = on_close
        self._news = asyncio.Event()
        self._closed = False
        self.dropped = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, item: _Item) -> None:
        """Leave an item; returns at once."""
        if self._closed:
            return
        if len(self._items) >= self._most:
            self._items.popleft()
            self.dropped += 1
        self._items.append(item)
        self._news.set()

    async def get(self) -> _Item | None:
        """The next item, waiting for it; None once the mailbox is closed."""
        while not self._items and not self._closed:
            self._news.clear()
            await self._news.wait()
        return None if self._closed else self._items.popleft()

    def close(self) -> None:
        """Nobody reads any more: what waits is thrown away, and a reader that waits is let go."""
        if self._closed:
            return
        self._closed = True
        self._items.clear()
        self._news.set()
        self._on_close(self)


class PictureMailbox:
    """What one viewer has yet to be sent of pictures, each of which needs those before it.

    It begins with a key frame. Where the reader is too slow, what comes is dropped until it has
    read what waits and a key frame came. For one event loop alone.

    Args:
        most: pictures that wait.
        ask: called where a key frame is needed to go on.

    Attributes:
        dropped: pictures that were not sent, by reason.
    """

    def __init__(self, most: int, ask: Callable[[], None]) -> None:
        self._items: deque[Encoded] = deque()
        self._most = most
        self._ask = ask
        self._news = asyncio.Event()
        self._closed = False
        self._begun = False
        self._lacks_key = True
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._items)

    def put(self, picture: Encoded) -> None:
        """Leave a picture; returns at once."""
        if self._closed or not (self._begun or picture.key):
            return
        self._begun = True
        if self._lacks_key and not picture.key:
            self.dropped[NO_KEY_FRAME] += 1
            return
        if len(self._items) >= self._most:
            if not picture.key:
                self.dropped[SLOW] += 1
                self._lacks_key = True
                return
            self.dropped[SLOW] += len(self._items)
            self._items.clear()
        self._lacks_key = False
        self._items.append(picture)
        self._news.set()

    async def get(self) -> Encoded | None:
        """The next picture, waiting for it; None once the mailbox is closed."""
        while not self._items and not self._closed:
            if self._lacks_key:
                # Asked for by those who read alone: a stuck viewer must cost the others nothing.
                self._ask()
            self._news.clear()
            await self._news.wait()
        return None if self._closed else self._items.popleft()

    def close(self) -> None:
        """Nobody reads any more: what waits is thrown away, and a reader that waits is let go."""
        self._closed = True
        self._items.clear()
        self._news.set()
