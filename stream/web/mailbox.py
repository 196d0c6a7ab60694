"""A short queue from the session to one viewer: bounded, and the oldest goes first."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

_Item = TypeVar("_Item")


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

    def forget(self) -> None:
        """Throw away what waits; it does not count as dropped."""
        self._items.clear()
        self.dropped = 0

    def close(self) -> None:
        """Nobody reads any more: what waits is thrown away, and a reader that waits is let go."""
        if self._closed:
            return
        self._closed = True
        self._items.clear()
        self._news.set()
        self._on_close(self)
