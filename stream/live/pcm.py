"""``pcm://``: the door where a translator, in any language, hands in speech over TCP.

The messages are described for their writers in ``docs/pcm.md``.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeAlias
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, LipstreamError, MediaError
from stream.core.intake import PushedIntake
from stream.live.worker import Worker

log = logging.getLogger(__name__)

DEFAULT_HOST: Final = "127.0.0.1"
LONGEST: Final = 1 << 20
"""Bytes of a message's payload at most."""

RATES: Final = (8_000, 192_000)
MOST_CHANNELS: Final = 2

_FORMAT, _PCM, _END, _FLUSH = 1, 2, 3, 4
_HEADER = struct.Struct(">BI")
_FORMAT_PAYLOAD = struct.Struct(">IB")

_READ: Final = 1 << 16  # bytes
_PIECE_S: Final = 0.25  # pushed at once; the intake must hold more than this
_PAUSE_S: Final = 0.05
_MOST_SILENT: Final = 8  # connections without a format yet; the oldest makes room


class PcmError(LipstreamError):
    """A connection does not speak as it should."""


@dataclass(frozen=True, slots=True)
class Format:
    """What the sound that follows is like.

    Attributes:
        rate: Hz.
        channels: 1 or 2.
    """

    rate: int
    channels: int


@dataclass(frozen=True, slots=True, eq=False)
class Pcm:
    """The next sound.

    Attributes:
        samples: int16 (n, channels).
        rate: Hz.
    """

    samples: NDArray[np.int16]
    rate: int


@dataclass(frozen=True, slots=True)
class End:
    """The utterance is complete."""


@dataclass(frozen=True, slots=True)
class Flush:
    """What was not heard yet is not wanted any more."""


Message: TypeAlias = Format | Pcm | End | Flush


class PcmParser:
    """Takes the bytes of one connection apart; holds one message at most.

    Attributes:
        error: why the bytes are no messages; nothing is read after them.
    """

    def __init__(self) -> None:
        self._bytes = bytearray()
        self._format: Format | None = None
        self.error: PcmError | None = None

    @property
    def amid(self) -> bool:
        """Whether the bytes so far end within a message."""
        return bool(self._bytes)

    def feed(self, data: bytes) -> list[Message]:
        """Take the next bytes, cut anywhere; never raises.

        Returns:
            The messages that are complete with them, up to the first error.
        """
        messages: list[Message] = []
        if self.error is not None:
            return messages
        self._bytes += data
        try:
            while (message := self._next()) is not None:
                messages.append(message)
        except PcmError as error:
            self.error = error
            self._bytes.clear()
        return messages

    def _next(self) -> Message | None:
        held = self._bytes
        if held and not _FORMAT <= held[0] <= _FLUSH:
            raise PcmError(f"message type {held[0]} is unknown")
        if len(held) < _HEADER.size:
            return None
        kind, length = _HEADER.unpack_from(held)
        self._check(kind, length)
        end = _HEADER.size + length
        if len(held) < end:
            return None
        payload = bytes(held[_HEADER.size : end])
        del held[:end]
        if kind == _FORMAT:
            self._format = _format(payload)
            return self._format
        if kind == _PCM:
            assert self._format is not None
            samples = np.frombuffer(payload, "<i2").astype(np.int16)
            return Pcm(samples.reshape(-1, self._format.channels), self._format.rate)
        return End() if kind == _END else Flush()

    def _check(self, kind: int, length: int) -> None:
        """Refuse a message by its header, before its payload is waited for."""
        if length > LONGEST:
            raise PcmError(f"a message of {length} bytes is too long; at most {LONGEST} are taken")
        if kind == _FORMAT and length != _FORMAT_PAYLOAD.size:
            raise PcmError(f"a format has {_FORMAT_PAYLOAD.size} bytes, not {length}")
        if kind == _PCM:
            if self._format is None:
                raise PcmError("sound came before its format")
            if length % (2 * self._format.channels):
                raise PcmError(f"{length} bytes are no whole number of samples")
        if kind in (_END, _FLUSH) and length:
            raise PcmError(f"message type {kind} has no payload, not {length} bytes")


def _format(payload: bytes) -> Format:
    rate, channels = _FORMAT_PAYLOAD.unpack(payload)
    if not RATES[0] <= rate <= RATES[1]:
        raise PcmError(f"a rate of {rate} Hz is impossible; {RATES[0]} to {RATES[1]} are taken")
    if not 1 <= channels <= MOST_CHANNELS:
        raise PcmError(f"{channels} channels are impossible; 1 or 2 are taken")
    return Format(rate, channels)


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
        self._intake = intake
        self._pause = pause
        self._server: asyncio.Server | None = None
        self._worker = Worker("pcm")  # a second of speech takes 2 ms to push
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
            await self._worker.do(self._intake.end_utterance)

    async def _read(self, connection: _Connection) -> None:
        parser = PcmParser()
        while True:
            data = await connection.reader.read(_READ)
            for message in parser.feed(data):
                await self._act(message, connection)
            if parser.error is not None:
                raise parser.error
            if not data:
                if parser.amid:
                    raise PcmError("it ended within a message")
                return

    async def _act(self, message: Message, connection: _Connection) -> None:
        intake, worker = self._intake, self._worker
        match message:
            case Format():
                await self._take_over(connection)
            case Pcm(samples=samples, rate=rate):
                piece = round(_PIECE_S * rate)
                for start in range(0, len(samples), piece):
                    part = samples[start : start + piece]
                    while intake.room_s < len(part) / rate:
                        await self._pause(_PAUSE_S)  # meanwhile TCP holds the translator back
                    await worker.do(partial(intake.push, part, rate))
            case End() if connection.heard:
                await worker.do(intake.end_utterance)
            case Flush() if connection.heard:
                await worker.do(intake.flush)

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
