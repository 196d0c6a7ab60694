"""Generators for engine processes of tests, which are told by the sound of a chunk what to do."""

import os
import signal
import time
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.errors import BundleError, EngineError, EngineFullError
from engine.generator import Chunk

Rows = NDArray[np.uint8]

# The first number of a chunk's sound. A slow step takes as long as others need to ask.
PAINT, SLOW, HANG, CRASH, RAISE, NO_NUMBERS, WRONG_FORM = range(7)
SLOW_S = 0.15


class FakeGenerator:
    """Paints frames as bright as the identity reference and the pose together."""

    def __init__(self, bundle: Bundle, slots: int) -> None:
        first, end = bundle.rows
        self._shape = (end - first, bundle.resolution, 3)
        self._slots = slots
        self._light: dict[int, int] = {}

    def open(self, identity: Rows) -> int:
        slot = next((i for i in range(self._slots) if i not in self._light), None)
        if slot is None:
            raise EngineFullError("full")
        self._light[slot] = int(identity[0, 0, 0])
        return slot

    def replace_identity(self, slot: int, identity: Rows) -> None:
        assert slot in self._light
        self._light[slot] = int(identity[0, 0, 0])

    def close(self, slot: int) -> None:
        del self._light[slot]

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, Rows]:
        wishes = {int(chunk.mel.flat[0]) for chunk in chunks.values()}
        if SLOW in wishes:
            time.sleep(SLOW_S)
        if HANG in wishes:
            time.sleep(3600)
        if CRASH in wishes:
            os.kill(os.getpid(), signal.SIGKILL)
        if RAISE in wishes:
            raise RuntimeError("native code")
        if NO_NUMBERS in wishes:
            raise EngineError("The network gave no numbers.", retryable=True)
        rows = {
            slot: self._light[slot]
            + chunk.pose[:, :1, :1, :1]
            + np.zeros((len(chunk.pose), *self._shape), np.uint8)
            for slot, chunk in chunks.items()
        }
        if WRONG_FORM in wishes:
            return {slot: painted[:, 1:] for slot, painted in rows.items()}
        return rows


class PacedGenerator(FakeGenerator):
    """Takes as long for each step, however many frames it paints."""

    def __init__(self, bundle: Bundle, slots: int, step_s: float) -> None:
        super().__init__(bundle, slots)
        self._step_s = step_s

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, Rows]:
        time.sleep(self._step_s)
        return super().step(chunks)


def make_paced(bundle: Bundle, threads: int, slots: int) -> FakeGenerator:
    return PacedGenerator(bundle, slots, 0.01)


def make_sluggish(bundle: Bundle, threads: int, slots: int) -> FakeGenerator:
    """One that has no time for two sessions."""
    return PacedGenerator(bundle, slots, 0.12)


def make_fake(bundle: Bundle, threads: int, slots: int) -> FakeGenerator:
    return FakeGenerator(bundle, slots)


def make_none(bundle: Bundle, threads: int, slots: int) -> FakeGenerator:
    raise BundleError("This bundle is of no use; get another.")


def make_nothing_of_it(bundle: Bundle, threads: int, slots: int) -> FakeGenerator:
    os._exit(3)


def chunk_of(bundle: Bundle, wish: int = PAINT, *, count: int = 5, light: int = 1) -> Chunk:
    """A chunk that asks for something, of so bright poses."""
    side = bundle.resolution
    mel = np.zeros((count, 1, bundle.mel.bands, bundle.placement.columns), np.float32)
    mel.flat[0] = wish
    return Chunk(mel=mel, pose=np.full((count, side, side, 3), light, np.uint8))


def face_of(bundle: Bundle, light: int = 100) -> Rows:
    return np.full((bundle.resolution, bundle.resolution, 3), light, np.uint8)
