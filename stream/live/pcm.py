"""``pcm://``: the door where a translator, in any language, hands in speech over TCP.

The messages are described for their writers in ``docs/pcm.md``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal
from urllib.parse import urlsplit

from engine.errors import ConfigError, MediaError
from stream.core.intake import PushedIntake
from stream.core.pcm_messages import End, Flush, Format, Message, Pcm, PcmError, PcmParser
from stream.live.worker import Worker

log = logging.getLogger(__name__)

DEFAULT_HOST: Final = "127.0.0.1"
_READ: Final = 1 << 14  # bytes: even of the smallest messages no more than 5 ms of work
_PIECE_S: Final = 0.25  # pushed at once; the intake must hold more than this
_PAUSE_S: Final = 0.05
_MOST_SILENT: Final = 8  # connections without a format yet; the oldest makes room


class PcmFeed:
    """Pushes what a translator sends into an intake, off the event loop.

    Args:
        intake: what the session pulls from.
        worker: where sound is converted: a second of speech takes 2 ms.
        pause: waits so many seconds.
    """

    def __init__(
        self, intake: PushedIntake, worker: Worker, pause: Callable[[float], Awaitable[None]]
    ) -> None:
        self._intake = intake
        self._worker = worker
        self._pause = pause

    async def push(self, sound: Pcm, *, begins: Callable[[], None] | None = None) -> None:
        """Push a message of sound; while the intake is full, wait.

        Args:
            sound: of any length.
            begins: called just before its first sample goes in.
        """
        piece = round(_PIECE_S * sound.rate)
        for start in range(0, len(sound.samples), piece):
            part = sound.samples[start : start + piece]
            while self._intake.room_s < len(part) / sound.rate:
                await self._pause(_PAUSE_S)
            if start == 0 and begins is not None:
                begins()
            await self._worker.do(partial(self._intake.push, part, sound.rate))

    async def end(self) -> None:
        """The utterance is complete."""
        await self._worker.do(self._intake.end_utterance)

    async def flush(self) -> None:
        """Discard what was not heard yet."""
        await self._worker.do(self._intake.flush)


class PcmServer:
    """Listens for a translator and pushes what it says into an intake.

    One translator is heard at a time, the one that sent its first format last: it takes the place
    of the one before, whose utterance ends there.

    Args:
        host: address to listen on.
        port: 0 takes any that is free.
        intake: what the session pulls from.
        pause: waits so many seconds.

    Attributes:
        state: ``waiting`` for a translator, or one is ``connected``.
        refused: connections closed for what they sent.
    """

    def __init__(
        self,
        host: str,
        port: int,
        intake: PushedIntake,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._host = host or DEFAULT_HOST
        self._port = port
        self._server: asyncio.Server | None = None
        self._worker = Worker("pcm")
        self._feed = PcmFeed(intake, self._worker, pause)
        self._tasks: dict[asyncio.Task[None], None] = {}  # oldest first
        self._speaker: asyncio.Task[None] | None = None
        self.state: Literal["closed", "waiting", "connected"] = "closed"
        self.refused = 0

    @property
    def port(self) -> int:
        """The port that it listens on."""
        if self._server is None or not self._server.sockets:
            return self._port
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def start(self) -> None:
        """Listen.

        Raises:
            MediaError: the port is taken, or the address is none of this computer's.
        """
        try:
            self._server = await asyncio.start_server(self._connected, self._host, self._port)
        except (OSError, OverflowError, UnicodeError) as error:
            raise MediaError(self._why_not(error)) from error
        self.state = "waiting"

    async def run(self) -> None:
        """Listen, if :meth:`start` was not called before, until cancelled.

        Raises:
            MediaError: as :meth:`start`.
        """
        if self._server is None:
            await self.start()
        try:
            await asyncio.Event().wait()
        finally:
            await self.close()

    async def close(self) -> None:
        """Close every connection and the port."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._worker.leave()
        self.state = "closed"

    def _why_not(self, error: Exception) -> str:
        where = f"{self._host}:{self._port}"
        number = error.errno if isinstance(error, OSError) else None
        if number == errno.EADDRINUSE:
            return (
                f"Port {self._port} on {self._host} is taken; end the program that has it, or"
                " choose another one for pcm://."
            )
        if number == errno.EACCES:
            return f"pcm://{where} needs rights that you lack; choose a port above 1023."
        if number == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror | UnicodeError):
            return (
                f"{self._host!r} is no address of this computer; use pcm://{DEFAULT_HOST}:"
                f"{self._port} or an address that it has."
            )
        return f"pcm://{where} can't be listened on ({error}); choose another port."

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._server is None:  # accepted while the door was being closed
            writer.close()
            return
        silent = [other for other in self._tasks if other is not self._speaker]
        if len(silent) >= _MOST_SILENT:
            silent[0].cancel()
        self._tasks[task] = None
        connection = _Connection(reader, task)
        peer = writer.get_extra_info("peername")
        try:
            await self._read(connection)
        except PcmError as error:
            self.refused += 1
            log.warning("a pcm:// connection from %s was closed: %s", peer, error)
        except OSError as error:
            log.info("a pcm:// connection from %s broke: %s", peer, error)
        except asyncio.CancelledError:
            # Only this server ends the task; asyncio's streams would log a cancelled one.
            log.info("the pcm:// connection from %s was closed", peer)
        writer.close()
        self._tasks.pop(task, None)
        if self._speaker is task:
            self._speaker = None
            self.state = "waiting"
        if connection.heard:
            await self._feed.end()

    async def _read(self, connection: _Connection) -> None:
        parser = PcmParser()
        while True:
            data = await connection.reader.read(_READ)
            for message in parser.feed(data):
                await self._act(message, connection)
            if parser.error is not None:
                raise parser.error
            await asyncio.sleep(0)  # of many small messages none may have had to wait
            if not data:
                if parser.amid:
                    raise PcmError("it ended within a message")
                return

    async def _act(self, message: Message, connection: _Connection) -> None:
        match message:
            case Format():
                await self._take_over(connection)
            case Pcm():
                await self._feed.push(message)  # while it waits, TCP holds the translator back
            case End() if connection.heard:
                await self._feed.end()
            case Flush() if connection.heard:
                await self._feed.flush()
            case _:
                pass  # a time, which maps nothing here, or one whose turn it is not

    async def _take_over(self, connection: _Connection) -> None:
        before, self._speaker = self._speaker, connection.task
        connection.heard = True
        self.state = "connected"
        if before not in (None, connection.task):
            assert before is not None
            log.info("another translator connected to pcm:// and took over")
            before.cancel()
            await asyncio.gather(before, return_exceptions=True)


@dataclass(slots=True, eq=False)
class _Connection:
    """One client; ``heard`` once it sent a format."""

    reader: asyncio.StreamReader
    task: asyncio.Task[None]
    heard: bool = False


def parse_pcm_url(url: str) -> tuple[str, int]:
    """Host and port of ``pcm://host:port``; without a host it is 127.0.0.1.

    Raises:
        ConfigError: it is no such address.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or DEFAULT_HOST
    except ValueError:
        port, host = None, ""
    else:
        if parts.scheme != "pcm" or parts.path not in ("", "/") or parts.username is not None:
            port = None
        if parts.query or parts.fragment:
            port = None
    if not port:
        raise ConfigError(f"{url!r} is no address like pcm://{DEFAULT_HOST}:9000; give one.")
    return host, port
