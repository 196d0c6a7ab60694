"""The engine process's clients: each is served in a thread of its own and harms no other.

Whatever a client sends, or fails to read, only its own thread waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import math
import secrets
import threading
import time
from multiprocessing.connection import Connection, Listener
from multiprocessing.shared_memory import SharedMemory
from typing import Final

import numpy as np

from engine.bundle import Bundle
from engine.errors import EngineError, EngineFullError
from engine.generator import Chunk
from stream.relay.engine import wire as wire
from stream.relay.engine.bench import Workbench
from stream.relay.engine.memory import Layout, attach, fingerprint

log = logging.getLogger(__name__)

_HELLO_S: Final = 2.0  # how long a client may take to prove the key
_MORE_CLIENTS: Final = 8  # than slots


class Door:
    """Takes connections.

    Args:
        listener: where they come in.
        bench: the generator.
        bundle: what it runs.
        authkey: what a client must prove that it knows.
    """

    def __init__(
        self, listener: Listener, bench: Workbench, bundle: Bundle, authkey: bytes
    ) -> None:
        self._listener = listener
        self._bench = bench
        self._authkey = authkey
        self._layout = Layout.of(bundle)
        self._fingerprint = fingerprint(bundle)
        self._places = threading.BoundedSemaphore(bench.slots + _MORE_CLIENTS)
        self._names = _Names()

    def receive(self) -> None:
        """Take connections for ever."""
        while True:
            try:
                connection = self._listener.accept()
            except OSError:  # it went away again, or this process is out of descriptors
                log.warning("a connection to the engine failed")
                time.sleep(0.1)
                continue
            if not self._places.acquire(blocking=False):
                log.warning("too many connections to the engine")
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name="engine client", daemon=True
            ).start()

    def _serve(self, connection: Connection) -> None:
        try:
            with connection, contextlib.suppress(EOFError, OSError):  # it has gone
                try:
                    self._greet(connection)
                    _Client(connection, self._bench, self._layout, self._names).serve()
                except wire.WireError as error:
                    log.warning("a client of the engine is sent away: %s", error)
                    failed = wire.Failed(wire.Failure.FINAL, str(error))
                    connection.send_bytes(wire.pack(failed))
        except Exception:
            log.exception("a client of the engine is sent away")
        finally:
            self._places.release()

    def _greet(self, connection: Connection) -> None:
        """Let a client prove the key; nothing else that it sends before is looked at."""
        nonce = secrets.token_bytes(wire.NONCE_BYTES)
        connection.send_bytes(wire.pack(wire.Challenge(nonce)))
        if not connection.poll(_HELLO_S):
            raise wire.WireError("The room said nothing; connect again.")
        hello = wire.unpack(connection.recv_bytes(wire.MAX_MESSAGE))
        if not isinstance(hello, wire.Hello) or not wire.proves(
            hello.proof, self._authkey, b"room", nonce
        ):
            raise wire.WireError("The room does not know the engine's key; restart the relay.")
        if hello.bundle != self._fingerprint:
            raise wire.WireError("The room runs another bundle than the engine; restart the relay.")
        proof = wire.prove(self._authkey, b"engine", hello.nonce)
        connection.send_bytes(wire.pack(wire.Ready(proof)))


class _Names:
    """The blocks in use, of all clients: no two may name the same."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: set[str] = set()

    def take(self, name: str) -> bool:
        with self._lock:
            if name in self._taken:
                return False
            self._taken.add(name)
            return True

    def free(self, name: str) -> None:
        with self._lock:
            self._taken.discard(name)


class _Client:
    """One connection and its slots, whose numbers mean nothing on any other."""

    def __init__(
        self, connection: Connection, bench: Workbench, layout: Layout, names: _Names
    ) -> None:
        self._connection = connection
        self._bench = bench
        self._layout = layout
        self._names = names
        self._blocks: dict[int, SharedMemory] = {}

    def serve(self) -> None:
        """Answer one request after the other until the client has gone.

        Raises:
            WireError: it sent what no room sends.
            EOFError, OSError: it has gone.
        """
        try:
            while True:
                message = wire.unpack(self._connection.recv_bytes(wire.MAX_MESSAGE))
                self._connection.send_bytes(wire.pack(self._answer(message)))
        finally:
            for slot, block in [*self._blocks.items()]:
                # A room that was killed before it heard of its slot has left the name behind.
                with contextlib.suppress(FileNotFoundError):
                    block.unlink()
                try:
                    self._close(slot)
                except Exception:
                    log.exception("a slot of the generator can't be closed")

    def _answer(self, message: wire.Message) -> wire.Message:
        try:
            match message:
                case wire.Open(name):
                    return wire.Opened(self._open(name))
                case wire.Replace(slot):
                    identity = self._layout.read_identity(self._block(slot))
                    self._bench.replace_identity(slot, identity)
                case wire.Step(deadline_s, frames):
                    self._step(deadline_s, frames)
                case wire.Close(slot):
                    self._block(slot)
                    self._close(slot)
                case _:
                    raise wire.WireError("The room sent what only an engine sends; connect again.")
        except EngineFullError as error:
            seconds = math.ceil(error.retry_after_s or 0)
            return wire.Failed(wire.Failure.FULL, str(error), min(seconds, 3600))
        except EngineError as error:
            passing = wire.Failure.PASSING if error.retryable else wire.Failure.FINAL
            return wire.Failed(passing, str(error))
        except (wire.WireError, OSError):
            raise
        except Exception:  # the generator's own: native code raises anything
            log.exception("the generator failed")
            return wire.Failed(wire.Failure.FINAL, "The generator failed; connect again.")
        return wire.Done()

    def _open(self, name: str) -> int:
        if not self._names.take(name):
            raise wire.WireError("The room named memory that is in use; connect again.")
        try:
            block = self._attach(name)
            try:
                slot = self._bench.open(self._layout.read_identity(block))
            except BaseException:
                block.close()
                raise
        except BaseException:
            self._names.free(name)
            raise
        self._blocks[slot] = block
        return slot

    def _attach(self, name: str) -> SharedMemory:
        try:
            block = attach(name)
        except (OSError, ValueError) as error:
            raise wire.WireError("The room named memory that does not exist.") from error
        if not self._layout.fits(block):
            block.close()
            raise wire.WireError("The room named memory of another size than the bundle's.")
        return block

    def _step(self, deadline_s: float, frames: dict[int, int]) -> None:
        blocks = {slot: self._block(slot) for slot in frames}
        chunks: dict[int, Chunk] = {}
        for slot, count in frames.items():
            chunks[slot] = self._layout.read_chunk(blocks[slot], count)
            if not np.isfinite(chunks[slot].mel).all():  # it would spoil the whole batch
                raise EngineError("The sound of a chunk is no numbers.", retryable=True)
        for slot, rows in self._bench.step(chunks, deadline_s, self._waits).items():
            shape = (frames[slot], self._layout.height, self._layout.side, 3)
            if rows.shape != shape or rows.dtype != np.uint8:
                raise EngineError(
                    f"The generator painted {rows.dtype} {rows.shape} instead of uint8 {shape};"
                    " use another bundle.",
                    retryable=True,
                )
            self._layout.write_rows(blocks[slot], rows)

    def _waits(self) -> bool:
        """Whether the client is there: it says nothing until it is answered."""
        try:
            return not self._connection.poll()
        except OSError:
            return False

    def _block(self, slot: int) -> SharedMemory:
        if slot not in self._blocks:
            raise wire.WireError(
                f"The room named slot {slot}, which is not its own; connect again."
            )
        return self._blocks[slot]

    def _close(self, slot: int) -> None:
        block = self._blocks.pop(slot)
        try:
            self._bench.close(slot)
        finally:
            self._names.free(block.name)
            block.close()
