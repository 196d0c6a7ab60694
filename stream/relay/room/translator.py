"""A translator that is a process: lipstream dials it by WebSocket and feeds it the speaker's voice.

What goes over the connection is described for who writes one in ``docs/translators.md``.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import random
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from typing import Any, Final

import aiohttp
import numpy as np
from aiohttp import WSCloseCode, WSMsgType
from numpy.typing import NDArray
from yarl import URL

from engine.errors import ConfigError
from engine.mel import SAMPLE_RATE
from stream.core.intake import PushedIntake
from stream.core.pcm_messages import End, Flush, Format, Message, Pcm, PcmParser, Time, encode
from stream.core.translation import LagMeter, Pauses, SourceQueue, SourceTimeline, to_int16
from stream.live.pcm import PcmFeed
from stream.live.worker import Worker

log = logging.getLogger(__name__)

TOKEN_VARIABLE: Final = "LIPSTREAM_TRANSLATOR_TOKEN"
"""What it holds in the environment is sent as ``Authorization: Bearer``."""

MOST_BEHIND_S: Final = 30.0
"""A translator that takes its sound so much too slowly is dialled again, and starts afresh."""

_DIAL_S: Final = 10.0
_PATIENCE_S: Final = 15.0  # of silence until it is asked for a sign of life, and for that again
_PROVEN_S: Final = 3.0  # a connection that held this long was a success
_CLOSE_S: Final = 1.0
_LONGEST: Final = 4 << 20  # bytes of a WebSocket message
_SLICE: Final = 1 << 14  # bytes: even of the smallest messages no more than 5 ms of work
_SEND_BUFFER: Final = 1 << 16
"""Bytes that the system may hold, 2 s: by itself it would let sound grow minutes old."""
_REASON: Final = 120  # bytes of a close frame's reason; RFC 6455, 5.5.1 leaves 123


class _OverError(Exception):
    """A connection came to nothing or to its end.

    Args:
        what: what the translator did, as the end of a sentence about it.
        code: what it is told in the close frame; its reason says the same as ``what``.
        refused: whether it ended for what the translator sent.
    """

    def __init__(
        self, what: str, code: int = WSCloseCode.GOING_AWAY, *, refused: bool = False
    ) -> None:
        super().__init__(what)
        self.what = what
        self.code = code
        self.refused = refused


class WebSocketTranslator:
    """Sends the speaker's voice to a translator, and its speech into an intake.

    :meth:`send` and :meth:`speaking` are called on the event loop and return at once. The source
    audio goes out all the time, silence too, while :meth:`run` holds a connection.

    Args:
        url: ``ws://`` or ``wss://``; ``target=`` and ``source=`` are added to its query.
        language: code of the language that it translates into.
        intake: what the session pulls from.
        source: code of the speaker's language, where it is known.
        added_delay_s: by how much later than it is pulled the intake's sound is heard, in seconds.
        environment: where the token is looked for.
        pause: waits so many seconds.
        chance: gives a number from 0 to 1 each time.
        patience_s: after so long without a message it is asked for a sign of life, and given up
            after as long again.

    Attributes:
        connected: whether there is a connection now.
        trouble: what is wrong, in one sentence for whoever hosts the meeting; None where nothing
            is. It holds no address.
        refused: connections closed for what the translator sent.
        connections: how many there were.
        unsent_s: seconds of source audio that came while there was no connection.
        strange_times: times that are none of the source stream.

    Raises:
        ConfigError: the address or the token can't be used.
    """

    def __init__(
        self,
        url: str,
        language: str,
        intake: PushedIntake,
        *,
        source: str | None = None,
        added_delay_s: Callable[[], float] = lambda: 0.0,
        environment: Mapping[str, str] = os.environ,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
        patience_s: float = _PATIENCE_S,
    ) -> None:
        self._address = translator_address(url, target=language, source=source)
        self._headers = _headers(environment.get(TOKEN_VARIABLE, ""))
        self._language = language
        self._intake = intake
        self._added_delay_s = added_delay_s
        self._pause = pause
        self._pauses = Pauses(chance)
        self._patience_s = patience_s
        self._queue = SourceQueue()
        self._timeline = SourceTimeline()
        self._lag = LagMeter()
        self._time: Time | None = None  # of the sound that comes next
        self._now = 0.0
        self._speaking = False
        self._news = asyncio.Event()
        self._late = asyncio.Event()
        self.connected = False
        self.trouble: str | None = None
        self.refused = self.connections = self.strange_times = 0
        self.unsent_s = 0.0

    @property
    def lag_s(self) -> float | None:
        """How long after the speaker's the words that are heard now come, in seconds.

        None until sound was heard whose time the translator gave.
        """
        return self._lag.lag_s(self._now)

    def facts(self) -> dict[str, float | int | bool | str | None]:
        """What it is like now, for the room's state and metrics."""
        return {
            "connected": self.connected,
            "trouble": self.trouble,
            "lag_s": self.lag_s,
            "waiting_s": self._intake.level_s,
            "source_behind_s": self._queue.behind_s,
            "source_dropped_s": self._queue.dropped_s,
            "source_unsent_s": self.unsent_s,
            "connections": self.connections,
            "refused": self.refused,
            "strange_times": self.strange_times,
        }

    def speaking(self, flag: bool) -> None:
        """Whether the speaker talks in what is sent from now on; to be given without any hold."""
        self._speaking = flag

    def send(self, block: NDArray[np.float32], now: float) -> None:
        """Take the speaker's next sound.

        Args:
            block: float32 (n,), mono at 16 kHz in [−1, 1]; what is no number is silence.
            now: session seconds at its end, rising from call to call.
        """
        self._now = now
        if not self.connected:
            self.unsent_s += len(block) / SAMPLE_RATE
            return
        self._timeline.given(len(block), now)
        self._queue.push(to_int16(block), speaking=self._speaking)
        self._news.set()
        if self._queue.behind_s > MOST_BEHIND_S:
            self._late.set()

    async def run(self) -> None:
        """Dial the translator, and again whenever the connection ends, until cancelled."""
        worker = Worker("translator")
        feed = PcmFeed(self._intake, worker, self._pause)
        redirects = aiohttp.TraceConfig()
        redirects.on_request_redirect.append(_refuse_redirect)
        try:
            # A redirect or a cookie could let the voice go elsewhere than its host allowed.
            async with aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None),
                cookie_jar=aiohttp.DummyCookieJar(),
                trace_configs=[redirects],
            ) as session:
                while True:
                    over = await self._connection(session, feed)
                    self.refused += over.refused
                    self._complain(over)
                    await self._pause(self._pauses.next())
        finally:
            worker.leave()

    def _complain(self, over: _OverError) -> None:
        trouble = f"The translator for {self._language} {over.what}; it is dialled again."
        if trouble != self.trouble:
            where = self._address.with_query(None)
            log.warning("A translator's connection failed: %s (%s)", trouble, where)
        self.trouble = trouble

    def _proven(self) -> None:
        if self.trouble is not None:
            log.info("A translator is there again (%s)", self._address.with_query(None))
        self.trouble = None
        self._pauses.reset()

    async def _connection(self, session: aiohttp.ClientSession, feed: PcmFeed) -> _OverError:
        try:
            ws = await self._dial(session)
        except _OverError as error:
            return error
        over = _OverError("is not needed any more")
        line: socket.socket | None = ws.get_extra_info("socket")  # None where it is lost already
        if line is not None:
            with contextlib.suppress(OSError):
                line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self._timeline.restart()
        self._time = None
        self._late.clear()
        self.connected = True
        self.connections += 1
        try:
            over = await _first_end([self._write(ws), self._read(ws, feed), self._watch()])
        finally:
            self.connected = False
            self._queue.restart()
            await self._hang_up(ws, line, over, feed)
        return over

    async def _hang_up(
        self,
        ws: aiohttp.ClientWebSocketResponse[bool],
        line: socket.socket | None,
        over: _OverError,
        feed: PcmFeed,
    ) -> None:
        try:
            await feed.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_S):
                    await ws.close(code=over.code, message=over.what.encode()[:_REASON])
        finally:
            # A peer that reads no more would keep a socket open for the bytes it did not take.
            with contextlib.suppress(OSError):
                if line is not None:
                    line.shutdown(socket.SHUT_RDWR)

    async def _dial(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse[bool]:
        try:
            async with asyncio.timeout(_DIAL_S):
                return await session.ws_connect(
                    self._address,
                    headers=self._headers,
                    autoping=False,
                    max_msg_size=_LONGEST,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403):
                raise _OverError(
                    f"does not accept lipstream's token (HTTP {error.status})"
                ) from error
            raise _OverError(f"opens no WebSocket (HTTP {error.status})") from error
        except TimeoutError as error:
            raise _OverError(f"did not answer within {_DIAL_S:.0f} s") from error
        except aiohttp.ClientSSLError as error:
            raise _OverError("offers no TLS that can be trusted") from error
        except (aiohttp.ClientError, OSError) as error:
            raise _OverError("can't be reached") from error

    async def _watch(self) -> None:
        await self._late.wait()
        raise _OverError(f"was {MOST_BEHIND_S:.0f} s behind in taking sound")

    async def _write(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> None:
        try:
            await ws.send_bytes(encode(Format(SAMPLE_RATE, 1)))
            while True:
                while (messages := self._queue.take()) is None:
                    self._news.clear()
                    await self._news.wait()
                await ws.send_bytes(messages)
                if self._timeline.position_s - self._queue.behind_s > _PROVEN_S:
                    self._proven()
        except (aiohttp.ClientError, OSError) as error:
            raise _OverError("ended the connection") from error

    async def _read(self, ws: aiohttp.ClientWebSocketResponse[bool], feed: PcmFeed) -> None:
        parser = PcmParser()
        while True:
            message = await self._receive(ws)
            match message.type:
                case WSMsgType.BINARY:
                    await self._take(message.data, parser, feed)
                case WSMsgType.PING:
                    with contextlib.suppress(aiohttp.ClientError, OSError):
                        await ws.pong(message.data)
                case WSMsgType.ERROR:
                    raise _OverError(
                        f"sent what is no WebSocket message, or one above {_LONGEST} bytes",
                        WSCloseCode.PROTOCOL_ERROR,
                        refused=True,
                    )
                case WSMsgType.CLOSE | WSMsgType.CLOSING | WSMsgType.CLOSED:
                    raise _OverError("ended the connection")
                case _:
                    pass  # a sign of life, or text
            await asyncio.sleep(0)  # of many small messages none may have had to wait

    async def _receive(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> Any:
        for asked in (False, True):
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                async with asyncio.timeout(self._patience_s):
                    if asked:
                        await ws.ping()
                    return await ws.receive()
        raise _OverError(f"gave no sign of life for {2 * self._patience_s:.0f} s")

    async def _take(self, data: bytes, parser: PcmParser, feed: PcmFeed) -> None:
        for start in range(0, len(data), _SLICE):
            for message in parser.feed(data[start : start + _SLICE]):
                await self._act(message, feed)
            await asyncio.sleep(0)
        wrong = "the message breaks off" if parser.amid else parser.error
        if wrong:
            what = f"sent what lipstream can't read ({wrong})"
            raise _OverError(what, WSCloseCode.PROTOCOL_ERROR, refused=True)

    async def _act(self, message: Message, feed: PcmFeed) -> None:
        match message:
            case Pcm():
                # While it waits, nothing is read, and TCP holds the translator back.
                await feed.push(message, begins=self._mark)
            case Time():
                self._time = message
            case End():
                await feed.end()
            case Flush():
                self._lag.flush(self._now + self._added_delay_s())
                await feed.flush()
            case Format():
                pass  # the parser's matter

    def _mark(self) -> None:
        """The next sound goes into the intake now."""
        time, self._time = self._time, None
        if time is None:
            return
        said_at = self._timeline.said_at(time.microseconds / 1e6)
        if said_at is None:
            self.strange_times += 1
        else:
            self._lag.mark(said_at, self._now + self._intake.level_s + self._added_delay_s())


async def _first_end(parts: Iterable[Coroutine[Any, Any, None]]) -> _OverError:
    """Run the parts of a connection until one is over; then end the others.

    No task group: up to Python 3.12 one that ends by itself loses a cancellation that comes at the
    same moment, and the translator would be dialled for ever.
    """
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, _OverError):
            raise end
    return next(end for end in ends if isinstance(end, _OverError))


def translator_address(url: str, *, target: str, source: str | None = None) -> URL:
    """A translator's address with the languages in its query; those that it names stay.

    Raises:
        ConfigError: it is no address of a WebSocket, or holds a password.
    """
    try:
        address = URL(url)
        usable = address.scheme in ("ws", "wss") and bool(address.host) and bool(address.port)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(
            "The address of a translator is like ws://127.0.0.1:9100 or wss://example.org/live;"
            " give one."
        )
    if address.user is not None or address.password is not None:
        raise ConfigError(
            f"Leave the password out of the translator's address; put a token into {TOKEN_VARIABLE}"
            " instead."
        )
    languages = {"target": target} | ({} if source is None else {"source": source})
    missing = {key: code for key, code in languages.items() if key not in address.query}
    return address.with_fragment(None).update_query(missing)


def _headers(token: str) -> dict[str, str]:
    token = token.strip()
    if not token:
        return {}
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(
            f"{TOKEN_VARIABLE} holds characters that no token has; set it to printable ASCII"
            " without spaces."
        )
    return {"Authorization": f"Bearer {token}"}


async def _refuse_redirect(*_: object) -> None:
    raise _OverError("wants to send lipstream to another address; give that one")
