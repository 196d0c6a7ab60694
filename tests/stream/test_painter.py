"""The painter keeps its promise whatever the generator does."""

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import EngineError
from engine.generator import Chunk
from stream.live.painter import Painter

if TYPE_CHECKING:
    from engine.bundle import Bundle

pytestmark = pytest.mark.models

Rows = NDArray[np.uint8]
STALL_S = 0.2


class Faulty:
    """A generator that paints grey, until it is told to do otherwise."""

    def __init__(self, bundle: "Bundle", misbehave: Callable[[Rows], Rows] | None = None) -> None:
        self.bundle = bundle
        self.misbehave = misbehave
        self.identities: list[Rows] = []

    def open(self, identity: Rows) -> int:
        return 7

    def replace_identity(self, slot: int, identity: Rows) -> None:
        assert slot == 7
        self.identities.append(identity)

    def close(self, slot: int) -> None:
        pass

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, Rows]:
        (chunk,) = chunks.values()
        first, end = self.bundle.rows
        side = self.bundle.resolution
        rows = np.full((len(chunk.pose), end - first, side, 3), 128, np.uint8)
        if self.misbehave is not None and self.identities:
            rows = self.misbehave(rows)
        return {7: rows}


def chunk(bundle: "Bundle", count: int = 5) -> Chunk:
    side = bundle.resolution
    window = (1, bundle.mel.bands, bundle.placement.columns)
    return Chunk(
        mel=np.zeros((count, *window), np.float32),
        pose=np.zeros((count, side, side, 3), np.uint8),
    )


def face(bundle: "Bundle") -> Rows:
    return np.full((bundle.resolution, bundle.resolution, 3), 90, np.uint8)


async def painting(bundle: "Bundle", *engines: Faulty) -> Painter:
    """A painter that takes the engines in turn, the last one again and again."""
    left = list(engines)
    painter = Painter(bundle, lambda: left.pop(0) if len(left) > 1 else left[0], stall_s=STALL_S)
    await painter.start()
    assert await painter.set_identity(face(bundle))
    return painter


def trouble(painter: Painter) -> str | None:
    """Asked anew each time: type checkers take an attribute for what it was."""
    return painter.trouble


def ready(painter: Painter) -> bool:
    return painter.ready


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.01)


async def test_paints_once_the_person_is_known(tiny_bundle: "Bundle") -> None:
    painter = Painter(tiny_bundle, lambda: Faulty(tiny_bundle))
    await painter.start()
    assert not ready(painter)
    assert await painter.paint(chunk(tiny_bundle)) is None
    assert await painter.set_identity(face(tiny_bundle))
    assert ready(painter)
    rows = await painter.paint(chunk(tiny_bundle, 3))
    assert rows is not None
    assert len(rows) == 3
    await painter.close()


async def test_a_generator_that_hangs_is_left_behind_and_replaced(tiny_bundle: "Bundle") -> None:
    release = threading.Event()

    def hang(rows: Rows) -> Rows:
        release.wait()
        return rows

    healthy = Faulty(tiny_bundle)
    painter = await painting(tiny_bundle, Faulty(tiny_bundle, hang), healthy)
    assert await painter.paint(chunk(tiny_bundle)) is None
    assert trouble(painter)
    assert not ready(painter)
    await until(lambda: painter.ready)
    assert await painter.paint(chunk(tiny_bundle)) is not None
    assert trouble(painter) is None
    assert painter.restarts == 1
    np.testing.assert_array_equal(healthy.identities[0], face(tiny_bundle))
    release.set()
    await painter.close()


async def test_a_failure_that_may_pass_keeps_the_generator(tiny_bundle: "Bundle") -> None:
    failures = [EngineError("The network gave no numbers.", retryable=True)]

    def fail_once(rows: Rows) -> Rows:
        if failures:
            raise failures.pop()
        return rows

    painter = await painting(tiny_bundle, Faulty(tiny_bundle, fail_once))
    assert await painter.paint(chunk(tiny_bundle)) is None
    assert trouble(painter) == "The network gave no numbers."
    assert await painter.paint(chunk(tiny_bundle)) is not None
    assert trouble(painter) is None
    assert painter.restarts == 0
    await painter.close()


@pytest.mark.parametrize(
    "error", [EngineError("It is broken."), RuntimeError("native code")], ids=["told", "untold"]
)
async def test_a_failure_that_stays_starts_the_generator_again(
    tiny_bundle: "Bundle", error: Exception
) -> None:
    def fail(rows: Rows) -> Rows:
        raise error

    painter = await painting(tiny_bundle, Faulty(tiny_bundle, fail), Faulty(tiny_bundle))
    assert await painter.paint(chunk(tiny_bundle)) is None
    await until(lambda: painter.ready)
    assert await painter.paint(chunk(tiny_bundle)) is not None
    await painter.close()


@pytest.mark.parametrize(
    "spoil",
    [lambda rows: rows[:-1], lambda rows: rows[:, 1:], lambda rows: rows.astype(np.float32)],
    ids=["too-few", "too-small", "not-uint8"],
)
async def test_pictures_of_a_wrong_form_are_not_shown(
    tiny_bundle: "Bundle", spoil: Callable[[Rows], Rows]
) -> None:
    painter = await painting(tiny_bundle, Faulty(tiny_bundle, spoil))
    assert await painter.paint(chunk(tiny_bundle)) is None
    assert "instead of uint8" in str(painter.trouble)
    await painter.close()


async def test_a_generator_that_never_recovers_is_tried_less_and_less(
    tiny_bundle: "Bundle",
) -> None:
    def fail(rows: Rows) -> Rows:
        raise EngineError("It is broken.")

    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    painter = Painter(tiny_bundle, lambda: Faulty(tiny_bundle, fail), pause=pause)
    await painter.start()
    assert await painter.set_identity(face(tiny_bundle))
    for _ in range(5):
        assert await painter.paint(chunk(tiny_bundle)) is None
        await until(lambda: painter.ready)
    assert pauses == [0.2, 1.0, 5.0, 30.0, 30.0]
    await painter.close()
