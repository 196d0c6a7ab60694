"""A room's end of the engine process: the generator's calls, done elsewhere."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from multiprocessing.connection import Client, Connection
from multiprocessing.shared_memory import SharedMemory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.errors import EngineError, EngineFullError
from engine.generator import MAX_FRAMES, Chunk
from stream.relay.engine import wire as wire
from stream.relay.engine.memory import Layout, fingerprint

CONNECT_S: Final = 5.0
"""How long a missing engine is waited for: even without one that stands by, loading takes less."""
ANSWER_S: Final = 1.8
"""An engine that takes longer for an answer hangs; a painter gives a call up after 2 s."""

_AGAIN_S: Final = 0.02  # between attempts to connect


class RemoteEngine:
    """The generator in the engine process, over a connection of its own.

    Calls wait for the engine; not thread-safe: one thread at a time uses it. An error that is not
    ``retryable`` closes it, and its slots with it; make another one then.

    Args:
        address: of the engine process.
        authkey: its key.
        bundle: what it must run.
        connect_s: how long to wait for an engine that is not there.
        answer_s: how long a call may take.

    Raises:
        EngineError: the engine can't be reached in time, or does not take this client.
    """

    def __init__(
        self,
        address: str,
        authkey: bytes,
        bundle: Bundle,
        *,
        connect_s: float = CONNECT_S,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._layout = Layout.of(bundle)
        self._chunk_s = bundle.k / bundle.fps
        self._answer_s = answer_s
        self._blocks: dict[int, SharedMemory] = {}
        self._connection: Connection | None = None
        end_s = time.monotonic() + connect_s
        while self._connection is None:
            try:
                self._connection = _connect(address, authkey, fingerprint(bundle), answer_s)
            except (EOFError, OSError) as error:  # it is not there yet, or is just dying
                if time.monotonic() > end_s:
                    raise EngineError(
                        "The engine can't be reached; it is being started again."
                    ) from error
                time.sleep(_AGAIN_S)

    def open(self, identity: NDArray[np.uint8]) -> int:
        """Take a slot.

        Args:
            identity: uint8 (S, S, 3) RGB, the identity reference.

        Returns:
            The slot's number.

        Raises:
            EngineFullError: every slot is taken, or there is no time for another; the message and
                ``retry_after_s`` say when to try again.
            EngineError: the picture does not fit, or the engine failed or is gone.
        """
        self._check_identity(identity)
        try:
            block = SharedMemory(create=True, size=self._layout.size)
        except OSError as error:
            raise EngineError(
                f"There is no shared memory for another language ({error.strerror}); let one end.",
                retryable=True,
            ) from error
        try:
            self._layout.write_identity(block, identity)
            answer = self._ask(wire.Open(block.name))
            if not isinstance(answer, wire.Opened):
                raise self._lose("The engine answered nonsense; connect again.")
            self._blocks[answer.slot] = block
        except BaseException:
            block.close()
            raise
        finally:
            # The engine has mapped it or never will: without a name it ends with the two of us.
            # It is gone already where the engine took this process for dead.
            with contextlib.suppress(FileNotFoundError):
                block.unlink()
        return answer.slot

    def replace_identity(self, slot: int, identity: NDArray[np.uint8]) -> None:
        """Give a slot another identity reference, from its next step on.

        Args:
            slot: an open slot.
            identity: as for :meth:`open`.

        Raises:
            EngineError: the slot is not open, the picture does not fit, or the engine failed or is
                gone.
        """
        self._check_identity(identity)
        self._layout.write_identity(self._block(slot), identity)
        self._ask(wire.Replace(slot))

    def step(
        self, chunks: Mapping[int, Chunk], *, deadline_s: float | None = None
    ) -> dict[int, NDArray[np.uint8]]:
        """Paint the chunks of any open slots, perhaps together with those of other clients.

        Args:
            chunks: slot to chunk; lengths may differ from slot to slot.
            deadline_s: in how many seconds, 0..60, the rows are needed; a chunk's length where it
                is left out.

        Returns:
            Slot to uint8 (k, R, S, 3) RGB: the output rows of the bundle, whole width.

        Raises:
            EngineError: a slot is not open, an array has a wrong shape or type, the engine has too
                much to do to be in time, or it failed or is gone.
        """
        if not chunks:
            return {}
        if len(chunks) > wire.MAX_STEP_SLOTS:
            raise EngineError(f"A step must paint 1 to {wire.MAX_STEP_SLOTS} slots.")
        for slot, chunk in chunks.items():
            self._check_chunk(chunk)
            self._layout.write_chunk(self._block(slot), chunk)
        frames = {slot: len(chunk.pose) for slot, chunk in chunks.items()}
        self._ask(wire.Step(self._chunk_s if deadline_s is None else deadline_s, frames))
        return {
            slot: self._layout.read_rows(self._blocks[slot], count)
            for slot, count in frames.items()
        }

    def close(self, slot: int | None = None) -> None:
        """Free a slot; without a number, all slots, and end the connection.

        Raises:
            EngineError: the slot is not open, or the engine failed or is gone. Never without a
                number, and not a second time.
        """
        if slot is None:
            self._end()
            return
        self._block(slot)
        try:
            self._ask(wire.Close(slot))
        finally:
            if slot in self._blocks:
                self._blocks.pop(slot).close()

    def _ask(self, request: wire.Message) -> wire.Message:
        connection = self._connected()
        try:
            connection.send_bytes(wire.pack(request))
            if not connection.poll(self._answer_s):
                raise self._lose("The engine does not answer; it is being started again.")
            answer = wire.unpack(connection.recv_bytes(wire.MAX_MESSAGE))
        except (EOFError, OSError) as error:
            raise self._lose("The engine is gone; it is being started again.") from error
        except wire.WireError as error:
            raise self._lose("The engine answered nonsense; connect again.") from error
        if isinstance(answer, wire.Failed):
            if answer.failure is wire.Failure.FULL:
                raise EngineFullError(answer.text, retry_after_s=answer.retry_after_s or None)
            if answer.failure is wire.Failure.PASSING:
                raise EngineError(answer.text, retryable=True)
            raise self._lose(answer.text)
        return answer

    def _lose(self, text: str) -> EngineError:
        self._end()
        return EngineError(text)

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        while self._blocks:
            self._blocks.popitem()[1].close()

    def _connected(self) -> Connection:
        if self._connection is None:
            raise EngineError("The connection to the engine is closed; connect again.")
        return self._connection

    def _block(self, slot: int) -> SharedMemory:
        self._connected()
        if slot not in self._blocks:
            taken = ", ".join(map(str, sorted(self._blocks))) or "none"
            raise EngineError(f"Slot {slot} is not open here; open slots: {taken}.")
        return self._blocks[slot]

    def _check_identity(self, identity: NDArray[np.uint8]) -> None:
        side = self._layout.side
        if identity.shape != (side, side, 3) or identity.dtype != np.uint8:
            raise EngineError(
                f"An identity reference must be uint8 ({side}, {side}, 3),"
                f" not {identity.dtype} {identity.shape}."
            )

    def _check_chunk(self, chunk: Chunk) -> None:
        layout, count = self._layout, len(chunk.pose)
        if not 1 <= count <= MAX_FRAMES:
            raise EngineError(f"A chunk must hold 1 to {MAX_FRAMES} frames, not {count}.")
        for name, array, dtype, shape in (
            ("pose crops", chunk.pose, np.uint8, (count, layout.side, layout.side, 3)),
            ("mel windows", chunk.mel, np.float32, (count, 1, layout.bands, layout.columns)),
        ):
            if array.shape != shape or array.dtype != dtype:
                raise EngineError(
                    f"The {name} of this chunk must be {np.dtype(dtype)} {shape},"
                    f" not {array.dtype} {array.shape}."
                )


def _connect(address: str, authkey: bytes, bundle: bytes, answer_s: float) -> Connection:
    """Connect, and let both sides prove the key.

    Raises:
        EngineError: the engine does not take this client, or is none.
        EOFError, OSError: it can't be reached.
    """
    connection = Client(address)
    try:
        challenge = _receive(connection, answer_s)
        if not isinstance(challenge, wire.Challenge):
            raise EngineError("What answers at the engine's address is no engine.")
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        proof = wire.prove(authkey, b"room", challenge.nonce)
        connection.send_bytes(wire.pack(wire.Hello(proof, nonce, bundle)))
        ready = _receive(connection, answer_s)
        if isinstance(ready, wire.Failed):
            raise EngineError(ready.text)
        if not isinstance(ready, wire.Ready) or not wire.proves(
            ready.proof, authkey, b"engine", nonce
        ):
            raise EngineError("What answers at the engine's address is not the relay's engine.")
    except BaseException:
        connection.close()
        raise
    return connection


def _receive(connection: Connection, answer_s: float) -> wire.Message:
    if not connection.poll(answer_s):
        raise TimeoutError
    try:
        return wire.unpack(connection.recv_bytes(wire.MAX_MESSAGE))
    except wire.WireError as error:
        raise EngineError("What answers at the engine's address is no engine.") from error
