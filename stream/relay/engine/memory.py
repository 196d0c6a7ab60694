"""The memory that a room and the engine process share: a block a slot, and what lies where."""

from __future__ import annotations

import hashlib
import json
import sys
import threading
from collections.abc import Sized
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.shared_memory import SharedMemory
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.generator import MAX_FRAMES, Chunk

_SLACK: Final = 1 << 16  # bytes: operating systems round a block up to whole pages, at most 64 kB


def fingerprint(bundle: Bundle) -> bytes:
    """Return 32 bytes that differ between bundles whose pictures, sound or files differ."""
    layout = Layout.of(bundle)
    facts = [
        layout.side,
        layout.height,
        layout.bands,
        layout.columns,
        sorted(bundle.sha256.items()),
    ]
    return hashlib.sha256(json.dumps(facts).encode()).digest()


@dataclass(frozen=True, slots=True)
class Layout:
    """What lies where in a slot's block.

    Attributes:
        side: S, side of the crop in px.
        height: R, output rows of the bundle.
        bands: of a mel window.
        columns: of a mel window.
    """

    side: int
    height: int
    bands: int
    columns: int

    @classmethod
    def of(cls, bundle: Bundle) -> Layout:
        """Return the layout that fits a bundle."""
        first, end = bundle.rows
        return cls(bundle.resolution, end - first, bundle.mel.bands, bundle.placement.columns)

    @property
    def size(self) -> int:
        """Bytes of a block: chunks of 16 frames, an identity reference, and rows of 16 frames."""
        return self._rows_at + MAX_FRAMES * self.height * self.side * 3

    def fits(self, block: SharedMemory) -> bool:
        """Whether a block has the size of this layout."""
        return self.size <= block.size <= self.size + _SLACK

    def write_identity(self, block: SharedMemory, identity: NDArray[np.uint8]) -> None:
        """Lay down an identity reference, uint8 (S, S, 3)."""
        self._identity(block)[...] = identity

    def read_identity(self, block: SharedMemory) -> NDArray[np.uint8]:
        """Return a copy of the identity reference, uint8 (S, S, 3)."""
        return self._identity(block).copy()

    def write_chunk(self, block: SharedMemory, chunk: Chunk) -> None:
        """Lay down a chunk of k frames."""
        self._mel(block, len(chunk.mel))[...] = chunk.mel
        self._pose(block, len(chunk.pose))[...] = chunk.pose

    def read_chunk(self, block: SharedMemory, count: int) -> Chunk:
        """Return a copy of a chunk of ``count`` frames."""
        return Chunk(mel=self._mel(block, count).copy(), pose=self._pose(block, count).copy())

    def write_rows(self, block: SharedMemory, rows: NDArray[np.uint8]) -> None:
        """Lay down painted rows, uint8 (k, R, S, 3)."""
        self._rows(block, len(rows))[...] = rows

    def read_rows(self, block: SharedMemory, count: int) -> NDArray[np.uint8]:
        """Return a copy of the painted rows, uint8 (count, R, S, 3)."""
        return self._rows(block, count).copy()

    # The mel windows lie first: a block starts at a page, and floats want an even place. Arrays
    # over a block live only inside one call: a block with an array over it can't be closed.

    @property
    def _pose_at(self) -> int:
        return MAX_FRAMES * self.bands * self.columns * 4

    @property
    def _identity_at(self) -> int:
        return self._pose_at + MAX_FRAMES * self.side * self.side * 3

    @property
    def _rows_at(self) -> int:
        return self._identity_at + self.side * self.side * 3

    def _mel(self, block: SharedMemory, count: int) -> NDArray[np.float32]:
        return np.ndarray((count, 1, self.bands, self.columns), np.float32, block.buf)

    def _pose(self, block: SharedMemory, count: int) -> NDArray[np.uint8]:
        return np.ndarray((count, self.side, self.side, 3), np.uint8, block.buf, self._pose_at)

    def _identity(self, block: SharedMemory) -> NDArray[np.uint8]:
        return np.ndarray((self.side, self.side, 3), np.uint8, block.buf, self._identity_at)

    def _rows(self, block: SharedMemory, count: int) -> NDArray[np.uint8]:
        return np.ndarray((count, self.height, self.side, 3), np.uint8, block.buf, self._rows_at)


_attaching = threading.Lock()


def attach(name: str) -> SharedMemory:
    """Map a block that another process made and removes.

    Before Python 3.13 a process that maps a block has it removed when it ends. What does that is
    silenced meanwhile, for all threads of the process: no block may be made at the same time.

    Raises:
        OSError: there is no such block.
        ValueError: it is empty.
    """
    if sys.version_info >= (3, 13):
        return SharedMemory(name, track=False)
    with _attaching:
        register = resource_tracker.register
        resource_tracker.register = _register_nothing
        try:
            return SharedMemory(name)
        finally:
            resource_tracker.register = register


def _register_nothing(name: Sized, rtype: str) -> None:
    pass
