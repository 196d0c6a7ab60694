"""What waits for the generator goes on, or is gone, and the generator's thread sees to it."""

import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from engine.errors import EngineError, EngineFullError
from engine.generator import Chunk
from stream.core.step_times import StepTimes
from stream.relay.engine.bench import Workbench
from tests.stream.relay.engine_fakes import Rows

pytestmark = pytest.mark.unit

FACE = np.zeros((8, 8, 3), np.uint8)


class Gated:
    """A generator of which each step waits for a nod."""

    def __init__(self) -> None:
        self.steps: list[list[int]] = []
        self.begun = threading.Semaphore(0)
        self.nod = threading.Semaphore(0)
        self._open: set[int] = set()

    def open(self, identity: Rows) -> int:
        slot = next(n for n in range(99) if n not in self._open)
        self._open.add(slot)
        return slot

    def replace_identity(self, slot: int, identity: Rows) -> None:
        assert slot in self._open

    def close(self, slot: int) -> None:
        self._open.remove(slot)

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, Rows]:
        self.steps.append(sorted(chunks))
        self.begun.release()
        assert self.nod.acquire(timeout=30)
        assert set(chunks) <= self._open
        return {slot: np.full((len(chunk.pose), 4, 8, 3), slot) for slot, chunk in chunks.items()}


class Bench:
    """A workbench at work, and threads that ask it."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.engine = Gated()
        times = StepTimes({5: 1e-4, 10: 1e-4})
        self.bench = Workbench(self.engine, times, slots=4, fps=25.0, k=5)
        threading.Thread(target=self.bench.run, daemon=True).start()
        self._pool = pool

    def ask(self, slot: int, *, wanted: bool = True) -> "Future[dict[int, Rows]]":
        mel, pose = np.zeros((5, 1, 4, 4), np.float32), np.zeros((5, 8, 8, 3), np.uint8)
        chunk = Chunk(mel=mel, pose=pose)
        return self._pool.submit(self.bench.step, {slot: chunk}, 60.0, lambda: wanted)

    def begun(self) -> None:
        assert self.engine.begun.acquire(timeout=30)

    def until_waiting(self, requests: int) -> None:
        end_s = time.monotonic() + 30
        while self.count("waiting") != requests:
            assert time.monotonic() < end_s
            threading.Event().wait(0.001)

    def count(self, name: str) -> object:
        return self.bench.facts()[name]


@pytest.fixture
def at_work() -> Iterator[Bench]:
    with ThreadPoolExecutor(8) as pool:
        yield Bench(pool)


def test_a_request_of_a_client_that_is_gone_is_not_painted(at_work: Bench) -> None:
    first, second = at_work.bench.open(FACE), at_work.bench.open(FACE)
    busy = at_work.ask(first)
    at_work.begun()
    gone = at_work.ask(second, wanted=False)
    with pytest.raises(EngineError, match="Nobody waits"):
        gone.result(30)
    at_work.engine.nod.release()
    assert busy.result(30)
    again = at_work.ask(second)  # its place is free for another request
    at_work.begun()
    at_work.engine.nod.release()
    assert (again.result(30)[second] == second).all()
    assert at_work.engine.steps == [[first], [second]]


def test_a_slot_that_is_closed_while_it_waits_fails_alone(at_work: Bench) -> None:
    slots = [at_work.bench.open(FACE) for _ in range(3)]
    busy = at_work.ask(slots[0])
    at_work.begun()
    lost, kept = at_work.ask(slots[1]), at_work.ask(slots[2])
    at_work.until_waiting(2)
    with ThreadPoolExecutor(1) as pool:
        closing = pool.submit(at_work.bench.close, slots[1])
        with pytest.raises(EngineError, match="was closed"):  # while the generator works
            lost.result(30)
        assert not busy.done()
        at_work.engine.nod.release(2)
        closing.result(30)
    assert (kept.result(30)[slots[2]] == slots[2]).all()
    assert busy.result(30)
    assert at_work.engine.steps == [[slots[0]], [slots[2]]]
    assert at_work.count("open_slots") == 2
    with pytest.raises(EngineError, match="not open"):
        at_work.ask(slots[1]).result(30)


def test_a_slot_has_one_request_under_way(at_work: Bench) -> None:
    """However many it sends: the others' wait for no more than one of it."""
    first, second = at_work.bench.open(FACE), at_work.bench.open(FACE)
    busy = at_work.ask(first)
    at_work.begun()
    flood = at_work.ask(second)
    at_work.until_waiting(1)
    for _ in range(3):
        with pytest.raises(EngineError, match="one request at a time"):
            at_work.ask(second).result(30)
    at_work.engine.nod.release(2)
    assert busy.result(30)
    assert flood.result(30)
    assert at_work.engine.steps == [[first], [second]]


def test_a_closed_slot_is_no_load_and_its_place_is_free(at_work: Bench) -> None:
    slots = [at_work.bench.open(FACE) for _ in range(4)]
    with pytest.raises(EngineFullError, match="All 4 places") as full:
        at_work.bench.open(FACE)
    assert full.value.retry_after_s == 10
    for slot in slots:
        at_work.bench.close(slot)
    assert (at_work.count("open_slots"), at_work.count("reserved")) == (0, 0.0)
    assert at_work.count("refused") == 1
    assert at_work.bench.open(FACE) == slots[0]
