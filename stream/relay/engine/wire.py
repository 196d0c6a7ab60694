"""What rooms and the engine process say to each other.

Short messages go over a connection: a byte that names the message, then fields of fixed size.
Pictures and sound lie in shared memory, one block a slot. Nothing is pickled, and whatever comes
in is checked before it is used.

    room                                    engine
      │                        ◄─ Challenge ─┤   a random nonce
      ├─ Hello ────────────────────────────► │   proves the key, names the bundle
      │                            ◄─ Ready ─┤   proves the key
      ├─ Open | Replace | Step | Close ────► │
      │        ◄─ Opened | Done | Failed ────┤   one answer to each, before the next is sent

The room makes a slot's block, and removes its name as soon as the engine has answered ``Opened``:
from then on the memory is held by the two processes alone, and gone with the later of them however
they end.
"""

from __future__ import annotations

import hmac
import re
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from engine.generator import MAX_FRAMES

MAX_MESSAGE: Final = 1024
"""Bytes of the longest message."""
MAX_STEP_SLOTS: Final = 64
"""Slots of one ``Step``."""
NONCE_BYTES: Final = 32

_BLOCK_NAME: Final = re.compile(r"[A-Za-z0-9_]{1,64}")


class WireError(Exception):
    """The other side sent what no room and no engine sends; the message is one sentence."""


class Failure(IntEnum):
    """Why a request was not done."""

    FULL = 1
    """No slot is free, or there is no time for another."""
    PASSING = 2
    """The same request may succeed later."""
    FINAL = 3
    """It will not; connect anew."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The engine's first word.

    Attributes:
        nonce: 32 random bytes.
    """

    nonce: bytes


@dataclass(frozen=True, slots=True)
class Hello:
    """The room's first word.

    Attributes:
        proof: of the key, see :func:`prove`.
        nonce: 32 random bytes for the engine's proof.
        bundle: see :func:`stream.relay.engine.memory.fingerprint`.
    """

    proof: bytes
    nonce: bytes
    bundle: bytes


@dataclass(frozen=True, slots=True)
class Ready:
    """The engine takes the room.

    Attributes:
        proof: of the key.
    """

    proof: bytes


@dataclass(frozen=True, slots=True)
class Open:
    """Take a slot; its identity reference lies in the block.

    Attributes:
        block: name of the shared memory.
    """

    block: str


@dataclass(frozen=True, slots=True)
class Opened:
    """The slot that was taken."""

    slot: int


@dataclass(frozen=True, slots=True)
class Replace:
    """Read the slot's identity reference anew."""

    slot: int


@dataclass(frozen=True, slots=True)
class Step:
    """Paint the chunks that lie in the blocks.

    Attributes:
        deadline_s: in how many seconds the rows are needed.
        frames: slot to the frames of its chunk, 1..16.
    """

    deadline_s: float
    frames: dict[int, int]


@dataclass(frozen=True, slots=True)
class Close:
    """Free the slot."""

    slot: int


@dataclass(frozen=True, slots=True)
class Done:
    """It is done; the rows of a ``Step`` lie in the blocks."""


@dataclass(frozen=True, slots=True)
class Failed:
    """It was not done.

    Attributes:
        failure: whether to try again.
        text: one or two sentences.
        retry_after_s: in how many whole seconds; 0 where that is unknown.
    """

    failure: Failure
    text: str
    retry_after_s: int = 0


Message = (
    Challenge | Hello | Ready | Open | Opened | Replace | Step | Close | Done | Failed
)  # their places are their numbers on the wire

_KINDS: Final[tuple[type[Message], ...]] = (
    Challenge,
    Hello,
    Ready,
    Open,
    Opened,
    Replace,
    Step,
    Close,
    Done,
    Failed,
)
_HELLO: Final = struct.Struct("<32s32s32s")
_SLOT: Final = struct.Struct("<I")
_STEP: Final = struct.Struct("<dH")
_PAIR: Final = struct.Struct("<IH")
_FAILED: Final = struct.Struct("<BH")


def pack(message: Message) -> bytes:
    """Return a message as bytes, at most ``MAX_MESSAGE``."""
    match message:
        case Challenge(data) | Ready(data):
            body = data
        case Hello(proof, nonce, bundle):
            body = _HELLO.pack(proof, nonce, bundle)
        case Open(block):
            body = block.encode("ascii")
        case Opened(slot) | Replace(slot) | Close(slot):
            body = _SLOT.pack(slot)
        case Step(deadline_s, frames):
            body = _STEP.pack(deadline_s, len(frames))
            body += b"".join(_PAIR.pack(slot, count) for slot, count in frames.items())
        case Done():
            body = b""
        case Failed(failure, text, retry_after_s):
            body = _FAILED.pack(failure, retry_after_s)
            body += text.encode("utf-8")[: MAX_MESSAGE - 1 - _FAILED.size]
    return bytes([_KINDS.index(type(message))]) + body


def unpack(data: bytes) -> Message:
    """Return the message that the bytes hold.

    Raises:
        WireError: they hold none.
    """
    if not data or len(data) > MAX_MESSAGE or data[0] >= len(_KINDS):
        raise WireError("A message of an unknown kind came in.")
    kind, body = _KINDS[data[0]], data[1:]
    try:
        if kind is Challenge or kind is Ready:
            return kind(_exactly(body, NONCE_BYTES))
        if kind is Hello:
            return Hello(*_HELLO.unpack(body))
        if kind is Opened or kind is Replace or kind is Close:
            return kind(*_SLOT.unpack(body))
        if kind is Open:
            return Open(_block_name(body))
        if kind is Step:
            return _unpack_step(body)
        if kind is Failed:
            failure, retry_after_s = _FAILED.unpack_from(body)
            text = body[_FAILED.size :].decode("utf-8", errors="replace")
            return Failed(Failure(failure), text, retry_after_s)
        _exactly(body, 0)
    except (struct.error, ValueError, IndexError) as error:
        raise WireError(f"A damaged message came in ({kind.__name__}).") from error
    return Done()


def _exactly(body: bytes, size: int) -> bytes:
    if len(body) != size:
        raise ValueError(f"{len(body)} bytes instead of {size}")
    return body


def _block_name(body: bytes) -> str:
    name = body.decode("ascii")
    if not _BLOCK_NAME.fullmatch(name):
        raise ValueError("no name of a block")
    return name


def _unpack_step(body: bytes) -> Step:
    deadline_s, count = _STEP.unpack_from(body)
    pairs = list(_PAIR.iter_unpack(_exactly(body[_STEP.size :], count * _PAIR.size)))
    frames = dict(pairs)
    if not 1 <= count <= MAX_STEP_SLOTS or len(frames) != count:
        raise ValueError("no slot, too many, or one twice")
    if not all(1 <= frames_of <= MAX_FRAMES for frames_of in frames.values()):
        raise ValueError("a chunk of no or too many frames")
    if not 0 <= deadline_s <= 60:  # nor is NaN
        raise ValueError("no deadline")
    return Step(deadline_s, frames)


def prove(authkey: bytes, side: bytes, nonce: bytes) -> bytes:
    """Return what only a holder of the key can say to a nonce: 32 bytes.

    Args:
        authkey: the key.
        side: ``b"room"`` or ``b"engine"``: a proof of one side is none of the other.
        nonce: what the other side sent.
    """
    return hmac.digest(authkey, side + nonce, "sha256")


def proves(proof: bytes, authkey: bytes, side: bytes, nonce: bytes) -> bool:
    """Whether a proof is right."""
    return hmac.compare_digest(proof, prove(authkey, side, nonce))
