"""Messages between the relay's front process and a room: JSON objects over a pipe, never pickles.

A request is ``{"id": n, "do": word, "fields": {…}}``; its reply ``{"re": n, "fields": {…}}``, or
``{"re": n, "refusal": {"status", "text", "retry_after"}}``; a notification is a request without an
``id``. Both ends are the same. What is none of these ends the link.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from stream.relay.messages import NoMessageError, decode, encode, refused
from stream.relay.refusal import Refusal

log = logging.getLogger(__name__)

LONGEST: Final = 1 << 20
"""Bytes of a message at most."""

ANSWER_S: Final = 8.0
"""How long a request waits for its reply."""

MOST_ASKED: Final = 64
"""Requests that wait for their reply at once, in each direction."""

NEWEST_ONLY: Final = frozenset({"state"})
"""Notifications of which an older one that was not sent yet makes way for a newer one."""

_MOST_WAITING: Final = 1024  # messages to be sent; the other end reads none any more
_MOST_UNHANDLED: Final = 64  # messages read, but not yet taken by the loop
_END_S: Final = 1.0
_RETRY_S: Final = 1.0

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
Tell = Callable[[str, dict[str, Any]], None]


class Link:
    """One end of the pipe, for an event loop; a thread reads and another one writes.

    All methods are for the loop, except :meth:`tell`, which is for any thread.

    Args:
        connection: a duplex pipe's end; the link closes it.
        on_ask: answers a request, given what to do and the fields; its ``Refusal`` goes to who
            asked. Without it every request is refused (404).
        on_tell: takes a notification.
        on_end: called once, on the loop, when the link has ended without :meth:`close`.
        answer_s: how long a request waits for its reply.
        most_asked: requests that wait at once.

    Attributes:
        heard_at: when the last message came, on the monotonic clock.
        replaced: notifications that made way for a newer one.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        on_ask: Ask | None = None,
        on_tell: Tell | None = None,
        on_end: Callable[[], None] | None = None,
        answer_s: float = ANSWER_S,
        most_asked: int = MOST_ASKED,
    ) -> None:
        self._connection = connection
        self._on_ask, self._on_tell, self._on_end = on_ask, on_tell, on_end
        self._answer_s = answer_s
        self._most_asked = most_asked
        self._asked: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._next_id = 0
        self._answering: set[asyncio.Task[None]] = set()
        self._outbox = _Outbox()
        self._unhandled = threading.Semaphore(_MOST_UNHANDLED)
        self._woken, self._waker = Pipe(duplex=False)
        self._threads: list[threading.Thread] = []
        self._closing = False
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self.heard_at = time.monotonic()

    @property
    def replaced(self) -> int:
        """Notifications that made way for a newer one."""
        return self._outbox.replaced

    @property
    def ended(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._ended or self._closing

    @property
    def waiting(self) -> int:
        """Requests of ours that wait for their reply."""
        return len(self._asked)

    def start(self) -> None:
        """Begin to read and write; to be called on the loop."""
        self._loop = asyncio.get_running_loop()
        self.heard_at = time.monotonic()
        for work, name in ((self._read, "link reader"), (self._write, "link writer")):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    async def ask(self, do: str, /, **fields: Any) -> dict[str, Any]:
        """Have the other end do something.

        Args:
            do: what.
            **fields: what it needs to know; JSON values.

        Returns:
            The reply; JSON values.

        Raises:
            Refusal: it won't, does not answer in time, or is gone (503).
        """
        if self.ended:
            raise _gone()
        if len(self._asked) >= self._most_asked:
            raise Refusal(503, "The room is busy; try again in a moment.", _RETRY_S)
        self._next_id += 1
        number = self._next_id
        text = encode({"id": number, "do": do, "fields": fields})
        if len(text) > LONGEST:
            raise Refusal(413, "The request is too long for the room.")
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._asked[number] = reply
        try:
            if not self._outbox.put(text):
                raise _gone()
            async with asyncio.timeout(self._answer_s):
                return await reply
        except TimeoutError:
            log.warning("a room did not answer in time")
            raise Refusal(503, "The room does not answer; try again.", _RETRY_S) from None
        finally:
            self._asked.pop(number, None)

    def tell(self, do: str, /, **fields: Any) -> None:
        """Let the other end know something; returns at once.

        A ``state`` that was not sent yet makes way for a newer one. Nothing happens where the
        link has ended.

        Raises:
            ValueError: the message is longer than ``LONGEST``.
        """
        text = encode({"do": do, "fields": fields})
        if len(text) > LONGEST:
            raise ValueError(f"a message of {len(text)} bytes is longer than {LONGEST}")
        if not self._outbox.put(text, do if do in NEWEST_ONLY else None):
            self._call(self._end)

    async def close(self) -> bool:
        """End the link; the other end notices.

        Returns:
            Whether it is closed. It is not while the other end does not take what is sent: end
            that process first, and call this again.
        """
        self._closing = True
        self._drop_requests()
        self._outbox.close()
        with suppress(OSError):
            self._waker.send_bytes(b"\0")
        self._unhandled.release()
        deadline = time.monotonic() + _END_S
        while any(thread.is_alive() for thread in self._threads):
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.005)
        for task in self._answering:
            task.cancel()
        if self._answering:
            await asyncio.wait(self._answering)
        for end in (self._connection, self._woken, self._waker):
            end.close()
        return True

    # The loop's side of the threads

    def _take(self, message: dict[str, Any]) -> None:
        self._unhandled.release()
        if self.ended:
            return
        if "re" in message:
            self._take_reply(message)
        elif "id" not in message:
            if self._on_tell is not None:
                try:
                    self._on_tell(message["do"], message["fields"])
                except Exception:
                    log.exception("a notification failed")
        elif len(self._answering) >= 2 * self._most_asked:
            refusal = Refusal(503, "Too much is asked at once; try again.", _RETRY_S)
            self._reply(message["id"], refused(refusal))
        else:
            task = asyncio.get_running_loop().create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)

    def _take_reply(self, message: dict[str, Any]) -> None:
        reply = self._asked.get(message["re"])
        if reply is None or reply.done():
            return  # it came too late
        refusal = message.get("refusal")
        if refusal is None:
            reply.set_result(message["fields"])
        else:
            reply.set_exception(
                Refusal(refusal["status"], refusal["text"], refusal.get("retry_after"))
            )

    async def _answer(self, message: dict[str, Any]) -> None:
        try:
            if self._on_ask is None:
                raise Refusal(404, "Nobody here can do that.")
            answer: dict[str, Any] = {
                "fields": await self._on_ask(message["do"], message["fields"])
            }
        except Refusal as refusal:
            answer = refused(refusal)
        except Exception:
            log.exception("a request failed")
            answer = refused(Refusal(500, "Something went wrong inside; the log says more."))
        self._reply(message["id"], answer)

    def _reply(self, number: int, answer: dict[str, Any]) -> None:
        text = encode({"re": number} | answer)
        if len(text) > LONGEST:
            log.error("a reply is too long")
            answer = refused(Refusal(500, "Something went wrong inside; the log says more."))
            text = encode({"re": number} | answer)
        if not self._outbox.put(text) and not self._closing:
            self._end()

    def _end(self) -> None:
        if self._ended or self._closing:
            return
        self._ended = True
        self._outbox.close()
        self._drop_requests()
        if self._on_end is not None:
            self._on_end()

    def _drop_requests(self) -> None:
        for reply in self._asked.values():
            if not reply.done():
                reply.set_exception(_gone())

    # The threads

    def _read(self) -> None:
        try:
            while self._connection in wait([self._connection, self._woken]):
                if self._closing:
                    break
                message = decode(self._connection.recv_bytes(LONGEST))
                self.heard_at = time.monotonic()
                self._unhandled.acquire()
                self._call(self._take, message)
        except EOFError:
            pass
        except OSError:
            if not self._closing:
                log.debug("a link broke")
        except NoMessageError:
            log.error("what came over a link is no message; the link ends")
        self._call(self._end)

    def _write(self) -> None:
        with suppress(OSError):
            while (text := self._outbox.get()) is not None:
                self._connection.send_bytes(text)
            return
        self._outbox.close()  # the reader notices the end too

    def _call(self, function: Callable[..., None], *arguments: object) -> None:
        assert self._loop is not None
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)


class _Outbox:
    """What waits to be sent; any thread puts, one takes."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[str | None, bytes]] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.replaced = 0

    def put(self, text: bytes, newest_of: str | None = None) -> bool:
        """Add a message, which takes the place of an older one of its kind.

        Returns:
            Whether it will be sent; not after the end, nor where too many wait.
        """
        with self._changed:
            if self._closed:
                return False
            if newest_of is not None:
                for place, (kind, _) in enumerate(self._waiting):
                    if kind == newest_of:
                        self._waiting[place] = newest_of, text
                        self.replaced += 1
                        return True
            if len(self._waiting) >= _MOST_WAITING:
                return False
            self._waiting.append((newest_of, text))
            self._changed.notify()
            return True

    def get(self) -> bytes | None:
        """Wait for the next message; None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            return None if self._closed else self._waiting.popleft()[1]

    def close(self) -> None:
        """Send nothing any more."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()


def _gone() -> Refusal:
    return Refusal(503, "The room has ended; try again.", _RETRY_S)
