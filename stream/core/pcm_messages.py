"""The messages in which translators and lipstream exchange sound, over TCP or a WebSocket.

They are described for their writers in ``docs/pcm.md``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.errors import LipstreamError

LONGEST: Final = 1 << 20
"""Bytes of a message's payload at most."""

RATES: Final = (8_000, 192_000)
MOST_CHANNELS: Final = 2

_FORMAT, _PCM, _END, _FLUSH, _TIME = 1, 2, 3, 4, 5
_HEADER = struct.Struct(">BI")
_FORMAT_PAYLOAD = struct.Struct(">IB")
_TIME_PAYLOAD = struct.Struct(">q")


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


@dataclass(frozen=True, slots=True)
class Time:
    """The sound that follows translates what was said at this time.

    Attributes:
        microseconds: of the source stream, whose first sample has time 0. Whatever was sent:
            a negative one, or one that has not come yet, is possible here.
    """

    microseconds: int


Message: TypeAlias = Format | Pcm | End | Flush | Time


def encode(message: Message) -> bytes:
    """A message as it is sent.

    Raises:
        ValueError: it is longer than :data:`LONGEST`.
    """
    match message:
        case Format(rate=rate, channels=channels):
            kind, payload = _FORMAT, _FORMAT_PAYLOAD.pack(rate, channels)
        case Pcm(samples=samples):
            kind, payload = _PCM, samples.astype("<i2").tobytes()
        case End():
            kind, payload = _END, b""
        case Flush():
            kind, payload = _FLUSH, b""
        case Time(microseconds=microseconds):
            kind, payload = _TIME, _TIME_PAYLOAD.pack(microseconds)
    if len(payload) > LONGEST:
        raise ValueError(f"a message has at most {LONGEST} bytes, not {len(payload)}")
    return _HEADER.pack(kind, len(payload)) + payload


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
        if held and not _FORMAT <= held[0] <= _TIME:
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
        if kind == _TIME:
            return Time(*_TIME_PAYLOAD.unpack(payload))
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
        if kind == _TIME and length != _TIME_PAYLOAD.size:
            raise PcmError(f"a time has {_TIME_PAYLOAD.size} bytes, not {length}")


def _format(payload: bytes) -> Format:
    rate, channels = _FORMAT_PAYLOAD.unpack(payload)
    if not RATES[0] <= rate <= RATES[1]:
        raise PcmError(f"a rate of {rate} Hz is impossible; {RATES[0]} to {RATES[1]} are taken")
    if not 1 <= channels <= MOST_CHANNELS:
        raise PcmError(f"{channels} channels are impossible; 1 or 2 are taken")
    return Format(rate, channels)
