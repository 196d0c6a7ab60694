"""One engine process, many clients: none harms another, whatever it sends and however it ends."""

import asyncio
import contextlib
import logging
import multiprocessing
import os
import secrets
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from multiprocessing.connection import Client, Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from engine.bundle import Bundle, load_bundle
from engine.errors import EngineError, EngineFullError
from engine.generator import Generator
from stream.relay.engine import wire as wire
from stream.relay.engine.memory import Layout, attach, fingerprint
from stream.relay.engine.remote import RemoteEngine
from stream.relay.engine.supervisor import EngineSupervisor
from tests.painter import paint_bundle
from tests.stream.relay.engine_fakes import (
    HANG,
    NO_NUMBERS,
    RAISE,
    SLOW,
    SLOW_S,
    WRONG_FORM,
    chunk_of,
    face_of,
    make_fake,
    make_paced,
    make_sluggish,
)

if TYPE_CHECKING:
    from tests.stream.relay.engine_fakes import Rows

pytestmark = pytest.mark.models
log = logging.getLogger(__name__)

SLOTS = 8


class Running:
    """An engine process and its supervisor, in a loop of their own."""

    def __init__(self, supervisor: EngineSupervisor, bundle: Bundle) -> None:
        self.bundle = bundle
        self.supervisor = supervisor
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        asyncio.run_coroutine_threadsafe(supervisor.start(), self._loop).result(60)

    def connect(self, **arguments: float) -> RemoteEngine:
        return RemoteEngine(
            self.supervisor.address, self.supervisor.authkey, self.bundle, **arguments
        )

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self.supervisor.close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def greet(self, authkey: bytes | None = None) -> Connection:
        """A connection that has said hello, for what a RemoteEngine would never send."""
        connection = Client(self.supervisor.address)
        challenge = wire.unpack(connection.recv_bytes())
        assert isinstance(challenge, wire.Challenge)
        proof = wire.prove(authkey or self.supervisor.authkey, b"room", challenge.nonce)
        nonce = secrets.token_bytes(32)
        connection.send_bytes(wire.pack(wire.Hello(proof, nonce, fingerprint(self.bundle))))
        return connection

    def until(self, condition: Callable[[dict[str, object]], bool]) -> dict[str, object]:
        """The figures, once they are so."""
        end_s = time.monotonic() + 10
        while not condition(facts := self.supervisor.facts()):
            assert time.monotonic() < end_s, facts
            time.sleep(0.02)
        return facts


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paint_bundle(tmp_path_factory.mktemp("engine") / "bundle")


@pytest.fixture(scope="module")
def running(bundle: Bundle) -> Iterator[Running]:
    """Eight slots of the fake generator; each test leaves all of them free."""
    supervisor = EngineSupervisor(
        bundle.folder, threads=1, slots=SLOTS, standby=False, make=make_fake, beat_s=0.1
    )
    before = blocks()
    engine = Running(supervisor, bundle)
    yield engine
    engine.close()
    assert supervisor.restarts == 0
    assert blocks() == before


@pytest.fixture(autouse=True)
def free_again(running: Running) -> Iterator[None]:
    yield
    running.until(lambda facts: facts.get("open_slots") == 0)


def blocks() -> set[str]:
    folder = Path("/dev/shm")
    return {path.name for path in folder.glob("psm_*")} if folder.is_dir() else set()


def answer(connection: Connection) -> wire.Message:
    assert connection.poll(5)
    return wire.unpack(connection.recv_bytes())


def is_sent_away(connection: Connection) -> bool:
    """Whether the engine has said why and hung up."""
    failed = answer(connection)
    assert isinstance(failed, wire.Failed)
    assert failed.failure is wire.Failure.FINAL
    assert connection.poll(5)
    try:
        connection.recv_bytes()
    except (EOFError, OSError):
        return True
    return False


def paints(engine: RemoteEngine, bundle: Bundle) -> bool:
    """Whether another client is painted for as ever."""
    slot = engine.open(face_of(bundle, 70))
    rows = engine.step({slot: chunk_of(bundle, light=5)})[slot]
    engine.close(slot)
    return bool((rows == 75).all())


def test_rows_are_the_local_generators() -> None:
    """Bit for bit, with one thread: more of them add sums up in another order."""
    starter = load_bundle()
    supervisor = EngineSupervisor(
        starter.folder, threads=1, slots=2, most_frames=starter.k, standby=False
    )
    engine = Running(supervisor, starter)
    remote, local = engine.connect(), Generator(starter, threads=1, slots=2)
    rng = np.random.default_rng(3)
    side = starter.resolution

    def picture(*shape: int) -> "Rows":
        return rng.integers(0, 256, (*shape, side, side, 3), dtype=np.uint8)

    def same(here: int, there: int) -> bool:
        for count in (1, 3, 5):
            chunk = replace(chunk_of(starter, count=count), pose=picture(count))
            chunk.mel[...] = rng.uniform(-4, 4, chunk.mel.shape)
            painted = remote.step({there: chunk})[there]
            if not np.array_equal(painted, local.step({here: chunk})[here]):
                return False
        return True

    reference, other = picture(), picture()
    here, there = local.open(reference), remote.open(reference)
    assert same(here, there)
    local.replace_identity(here, other)
    remote.replace_identity(there, other)
    assert same(here, there)
    remote.close()
    engine.close()


def test_what_comes_during_a_step_is_painted_in_one(running: Running) -> None:
    bundle = running.bundle
    clients = [running.connect() for _ in range(3)]
    slots = [client.open(face_of(bundle, 10 * n)) for n, client in enumerate(clients)]
    start = running.until(lambda facts: facts.get("open_slots") == 3)
    with ThreadPoolExecutor(3) as pool:
        slow = pool.submit(clients[0].step, {slots[0]: chunk_of(bundle, SLOW)})
        running.until(lambda facts: facts["working"] is not None)
        both = [
            pool.submit(clients[n].step, {slots[n]: chunk_of(bundle, count=n, light=n)})
            for n in (1, 2)
        ]
        slow.result()
        for n, painting in zip((1, 2), both, strict=True):
            rows = painting.result()[slots[n]]
            assert len(rows) == n
            assert (rows == 11 * n).all()
    end = running.until(lambda facts: facts["chunks"] == start["chunks"] + 3)  # type: ignore[operator]
    assert end["steps"] == start["steps"] + 2  # type: ignore[operator]
    for client in clients:
        client.close()


def test_a_client_may_have_several_slots(running: Running) -> None:
    client, bundle = running.connect(), running.bundle
    first, second = client.open(face_of(bundle, 10)), client.open(face_of(bundle, 20))
    rows = client.step({first: chunk_of(bundle), second: chunk_of(bundle, count=16)})
    assert (rows[first] == 11).all()
    assert (rows[second] == 21).all()
    assert len(rows[second]) == 16
    client.replace_identity(first, face_of(bundle, 40))
    assert (client.step({first: chunk_of(bundle)})[first] == 41).all()
    client.close(second)
    with pytest.raises(EngineError, match="not open here"):
        client.step({second: chunk_of(bundle)})
    assert client.step({}) == {}
    client.close()
    client.close()
    with pytest.raises(EngineError, match="closed") as gone:
        client.open(face_of(bundle))
    assert not gone.value.retryable


def test_one_slot_more_than_there_are_is_refused_at_once(running: Running) -> None:
    bundle = running.bundle
    clients = [running.connect() for _ in range(SLOTS + 1)]
    slots = [client.open(face_of(bundle)) for client in clients[:SLOTS]]
    assert sorted(slots) == list(range(SLOTS))
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(clients[0].step, {slots[0]: chunk_of(bundle, SLOW)})
        running.until(lambda facts: facts["working"] is not None)
        with pytest.raises(EngineFullError, match="try again in 10 seconds") as full:
            clients[SLOTS].open(face_of(bundle))
        assert full.value.retry_after_s == 10
        assert not slow.done()
        slow.result()
    clients[0].close(slots[0])
    assert clients[SLOTS].open(face_of(bundle)) == slots[0]
    for client in clients:
        client.close()


def test_a_session_that_the_device_has_no_time_for_is_refused(bundle: Bundle) -> None:
    """A step takes 120 ms of each 200: there are places, but one session has all the time."""
    supervisor = EngineSupervisor(
        bundle.folder, threads=1, slots=2, standby=False, make=make_sluggish, beat_s=0.05
    )
    with contextlib.closing(Running(supervisor, bundle)) as engine:
        first, second = engine.connect(), engine.connect()
        slot = first.open(face_of(bundle))
        with pytest.raises(EngineFullError, match=r"no time .* try again in 10 seconds") as full:
            second.open(face_of(bundle))
        assert full.value.retry_after_s == 10
        assert (first.step({slot: chunk_of(bundle)})[slot] == 101).all()
        facts = engine.until(lambda facts: facts.get("refused") == 1 and facts["chunks"] == 1)
        assert (facts["capacity"], facts["open_slots"], facts["mean_batch_frames"]) == (1, 1, 5)
        assert 0 < facts["load"] < facts["reserved"] < 1  # type: ignore[operator]
        first.close()
        engine.until(lambda facts: facts["open_slots"] == 0 and facts["reserved"] == 0)
        assert second.open(face_of(bundle)) == slot
        second.close()


def test_eight_sessions_at_once_share_no_slot_and_miss_no_deadline(bundle: Bundle) -> None:
    """Each with a face of its own, at 25 frames a second; the ninth is refused meanwhile."""
    supervisor = EngineSupervisor(
        bundle.folder, threads=1, slots=SLOTS, standby=False, make=make_paced, beat_s=0.05
    )
    with contextlib.closing(Running(supervisor, bundle)) as engine:
        clients = [engine.connect() for _ in range(SLOTS + 1)]
        slots = [client.open(face_of(bundle, 20 * n)) for n, client in enumerate(clients[:SLOTS])]
        assert len(set(slots)) == SLOTS
        pace = threading.Event()  # never set
        chunks = 10

        def talk(n: int) -> None:
            start_s = time.monotonic()
            for number in range(chunks):
                pace.wait(max(start_s + 0.2 * number + 0.003 * n - time.monotonic(), 0))
                light = 1 + number
                chunk = chunk_of(bundle, light=light)
                rows = clients[n].step({slots[n]: chunk}, deadline_s=0.5)[slots[n]]
                assert rows.shape[0] == 5
                assert (rows == 20 * n + light).all()

        with ThreadPoolExecutor(SLOTS) as pool:
            talking = [pool.submit(talk, n) for n in range(SLOTS)]
            engine.until(lambda facts: facts.get("chunks", 0) > SLOTS)  # type: ignore[operator]
            with pytest.raises(EngineFullError, match="All 8 places") as full:
                clients[SLOTS].open(face_of(bundle))
            assert full.value.retry_after_s
            assert not any(one.done() for one in talking)
            for one in talking:
                one.result()
        facts = engine.until(lambda facts: facts.get("chunks") == SLOTS * chunks)
        assert (facts["late"], facts["shed"], facts["failed"], facts["refused"]) == (0, 0, 0, 1)
        assert facts["capacity"] == SLOTS
        assert facts["mean_batch_frames"] > 5  # type: ignore[operator]
        for client in clients:
            client.close()


def test_one_bad_chunk_is_not_the_failure_of_the_others(running: Running) -> None:
    bundle = running.bundle
    clients = [running.connect() for _ in range(3)]
    slots = [client.open(face_of(bundle)) for client in clients]
    with ThreadPoolExecutor(3) as pool:
        pool.submit(clients[0].step, {slots[0]: chunk_of(bundle, SLOW)})
        running.until(lambda facts: facts["working"] is not None)
        bad = pool.submit(clients[1].step, {slots[1]: chunk_of(bundle, NO_NUMBERS)})
        good = pool.submit(clients[2].step, {slots[2]: chunk_of(bundle)})
        with pytest.raises(EngineError, match="gave no numbers") as failed:
            bad.result()
        assert failed.value.retryable
        assert (good.result()[slots[2]] == 101).all()
    assert (clients[1].step({slots[1]: chunk_of(bundle)})[slots[1]] == 101).all()
    for client in clients:
        client.close()


def test_rows_of_a_wrong_form_are_not_handed_out(running: Running) -> None:
    client, bundle = running.connect(), running.bundle
    slot = client.open(face_of(bundle))
    with pytest.raises(EngineError, match="instead of uint8") as failed:
        client.step({slot: chunk_of(bundle, WRONG_FORM)})
    assert failed.value.retryable
    client.close()


def test_sound_that_is_no_numbers_reaches_no_batch(running: Running) -> None:
    client, bundle = running.connect(), running.bundle
    slot = client.open(face_of(bundle))
    chunk = chunk_of(bundle)
    chunk.mel[2, 0, 1, 1] = np.nan
    with pytest.raises(EngineError, match="no numbers") as failed:
        client.step({slot: chunk})
    assert failed.value.retryable
    assert (client.step({slot: chunk_of(bundle)})[slot] == 101).all()
    client.close()


def test_an_unforeseen_failure_costs_its_client_the_connection(running: Running) -> None:
    bad, other, bundle = running.connect(), running.connect(), running.bundle
    slot = bad.open(face_of(bundle))
    with pytest.raises(EngineError, match="The generator failed") as failed:
        bad.step({slot: chunk_of(bundle, RAISE)})
    assert not failed.value.retryable
    assert paints(other, bundle)
    other.close()


def test_arrays_that_do_not_fit_do_not_leave_the_room(running: Running) -> None:
    client, bundle = running.connect(), running.bundle
    with pytest.raises(EngineError, match="identity reference must be"):
        client.open(face_of(bundle)[1:])
    slot = client.open(face_of(bundle))
    good = chunk_of(bundle)
    for bad in (
        chunk_of(bundle, count=17),
        replace(good, mel=good.mel[1:]),
        replace(good, mel=good.mel.astype(np.float64)),
        replace(good, pose=good.pose[:, 1:]),
    ):
        with pytest.raises(EngineError, match="chunk must "):
            client.step({slot: bad})
    with pytest.raises(EngineError, match="identity reference must be"):
        client.replace_identity(slot, face_of(bundle).astype(np.float32))
    assert (client.step({slot: good})[slot] == 101).all()
    client.close()


def test_another_bundle_is_refused(running: Running) -> None:
    with pytest.raises(EngineError, match="another bundle"):
        RemoteEngine(running.supervisor.address, running.supervisor.authkey, load_bundle())


def test_a_wrong_key_is_refused(running: Running) -> None:
    with pytest.raises(EngineError, match="does not know the engine's key"):
        RemoteEngine(running.supervisor.address, b"guessed", running.bundle)


def test_a_stranger_at_the_address_is_not_taken_for_the_engine(running: Running) -> None:
    """It has the address, but not the key."""
    from multiprocessing.connection import Listener

    def pretend(listener: Listener) -> None:
        with listener.accept() as connection:
            connection.send_bytes(wire.pack(wire.Challenge(bytes(32))))
            connection.recv_bytes()
            connection.send_bytes(wire.pack(wire.Ready(bytes(32))))

    with Listener() as listener, ThreadPoolExecutor(1) as pool:
        pool.submit(pretend, listener)
        with pytest.raises(EngineError, match="not the relay's engine"):
            RemoteEngine(str(listener.address), running.supervisor.authkey, running.bundle)


def test_an_engine_that_is_not_there_is_waited_for_no_longer_than_told(bundle: Bundle) -> None:
    start_s = time.monotonic()
    with pytest.raises(EngineError, match="can't be reached") as gone:
        RemoteEngine("/no/such/engine", b"key", bundle, connect_s=0.1)
    assert not gone.value.retryable
    assert 0.1 <= time.monotonic() - start_s < 1


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x00",
        wire.pack(wire.Opened(3)),
        wire.pack(wire.Done()),
        wire.pack(wire.Step(0.2, {0: 5})),
        wire.pack(wire.Step(0.2, {4_000_000_000: 5})),
        wire.pack(wire.Replace(0)),
        wire.pack(wire.Close(0)),
        wire.pack(wire.Open("psm_no_such_block")),
        wire.pack(wire.Hello(bytes(32), bytes(32), bytes(32))),
    ],
    ids=[
        "http",
        "challenge",
        "opened",
        "done",
        "foreign-step",
        "no-slot",
        "foreign-replace",
        "foreign-close",
        "no-block",
        "hello-again",
    ],
)
def test_a_client_that_sends_nonsense_is_sent_away(running: Running, garbage: bytes) -> None:
    """Slot 0 is another client's, who goes on."""
    other, bundle = running.connect(), running.bundle
    assert other.open(face_of(bundle)) == 0
    with running.greet() as bad:
        assert isinstance(answer(bad), wire.Ready)
        bad.send_bytes(garbage)
        assert is_sent_away(bad)
    assert (other.step({0: chunk_of(bundle)})[0] == 101).all()
    other.close()


@pytest.mark.parametrize("size", [1, 1 << 16, 1 << 24], ids=["byte", "small", "large"])
def test_memory_of_a_wrong_size_is_refused(running: Running, size: int) -> None:
    other = running.connect()
    block = SharedMemory(create=True, size=size)
    with running.greet() as bad:
        assert isinstance(answer(bad), wire.Ready)
        bad.send_bytes(wire.pack(wire.Open(block.name)))
        assert is_sent_away(bad)
    block.unlink()
    block.close()
    assert paints(other, running.bundle)
    other.close()


def test_memory_that_is_in_use_is_refused(running: Running) -> None:
    block = SharedMemory(create=True, size=Layout.of(running.bundle).size)
    with running.greet() as owner, running.greet() as bad:
        for each in (owner, bad):
            assert isinstance(answer(each), wire.Ready)
        owner.send_bytes(wire.pack(wire.Open(block.name)))
        assert isinstance(answer(owner), wire.Opened)
        bad.send_bytes(wire.pack(wire.Open(block.name)))
        assert is_sent_away(bad)
        block.unlink()
    block.close()


def test_a_message_longer_than_any_is_not_read(running: Running) -> None:
    other = running.connect()
    with running.greet() as bad:
        assert isinstance(answer(bad), wire.Ready)
        bad.send_bytes(bytes(wire.MAX_MESSAGE + 1))
        assert bad.poll(5)
        with pytest.raises((EOFError, OSError)):
            bad.recv_bytes()
    assert paints(other, running.bundle)
    other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there carry whole messages")
def test_half_a_message_holds_up_nobody_else(running: Running) -> None:
    other = running.connect()
    with running.greet() as bad:
        assert isinstance(answer(bad), wire.Ready)
        os.write(bad.fileno(), b"\x00\x00\x00\x40half of 64 bytes")
        assert paints(other, running.bundle)
    other.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes there can't be filled without waiting")
def test_one_who_never_reads_holds_up_nobody_else(running: Running) -> None:
    """Its answers fill what the connection holds; only its own thread waits."""
    other, bundle = running.connect(), running.bundle
    block = SharedMemory(create=True, size=Layout.of(bundle).size)
    with running.greet() as bad:
        assert isinstance(answer(bad), wire.Ready)
        bad.send_bytes(wire.pack(wire.Open(block.name)))
        opened = answer(bad)
        assert isinstance(opened, wire.Opened)
        block.unlink()
        os.set_blocking(bad.fileno(), False)
        while select.select([], [bad.fileno()], [], 0.5)[1]:  # the engine still reads
            with contextlib.suppress(BlockingIOError):
                bad.send_bytes(wire.pack(wire.Replace(opened.slot)))
        assert paints(other, bundle)
    block.close()
    other.close()


def test_more_connections_than_places_are_hung_up(running: Running) -> None:
    other, connections = running.connect(), []
    try:
        for _ in range(SLOTS + 20):
            connections.append(Client(running.supervisor.address))
            if not connections[-1].poll(5):
                break
            try:
                connections[-1].recv_bytes()
            except (EOFError, OSError):
                break
        assert len(connections) < SLOTS + 20
        assert paints(other, running.bundle)
    finally:
        for connection in connections:
            connection.close()
    other.close()


def test_a_client_that_goes_out_of_use_frees_its_slots(running: Running) -> None:
    """Nobody closes it: a painter drops an engine that failed."""
    client = running.connect()
    client.open(face_of(running.bundle))
    running.until(lambda facts: facts["open_slots"] == 1)
    del client
    running.until(lambda facts: facts["open_slots"] == 0)


def _occupy(address: str, authkey: bytes, folder: Path, told: Connection) -> None:
    bundle = load_bundle(folder)
    clients = [RemoteEngine(address, authkey, bundle) for _ in range(3)]
    for client in clients:
        client.open(face_of(bundle))
    told.send_bytes(b"taken")
    told.recv_bytes()  # for ever


def test_a_killed_client_leaves_no_slot_and_no_memory(running: Running) -> None:
    before = blocks()
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    supervisor = running.supervisor
    room = context.Process(
        target=_occupy,
        args=(supervisor.address, supervisor.authkey, running.bundle.folder, theirs),
    )
    room.start()
    assert ours.poll(30)
    running.until(lambda facts: facts["open_slots"] == 3)
    assert blocks() == before
    killed_s = time.monotonic()
    room.kill()
    clients = [running.connect() for _ in range(SLOTS)]
    for client in clients:
        while True:
            try:
                client.open(face_of(running.bundle))
                break
            except EngineFullError:
                time.sleep(0.005)
    took_s = time.monotonic() - killed_s
    log.info("slots of a killed room are free after %.0f ms", 1000 * took_s)
    assert took_s < 1
    for client in clients:
        client.close()
    room.join()
    room.close()
    ours.close()
    theirs.close()


def _ask_for_a_slot(address: str, authkey: bytes, folder: Path, told: Connection) -> None:
    """Be killed before the engine answers: the memory still has its name."""
    bundle = load_bundle(folder)
    connection = Client(address)
    challenge = wire.unpack(connection.recv_bytes())
    assert isinstance(challenge, wire.Challenge)
    proof = wire.prove(authkey, b"room", challenge.nonce)
    connection.send_bytes(wire.pack(wire.Hello(proof, bytes(32), fingerprint(bundle))))
    connection.recv_bytes()
    block = SharedMemory(create=True, size=Layout.of(bundle).size)
    told.send_bytes(block.name.encode())
    told.recv_bytes()
    connection.send_bytes(wire.pack(wire.Open(block.name)))
    told.send_bytes(b"asked")
    told.recv_bytes()  # for ever


def test_a_client_killed_while_it_asks_leaves_no_memory(running: Running) -> None:
    client, bundle = running.connect(), running.bundle
    slot = client.open(face_of(bundle))
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    supervisor = running.supervisor
    room = context.Process(
        target=_ask_for_a_slot,
        args=(supervisor.address, supervisor.authkey, bundle.folder, theirs),
    )
    room.start()
    assert ours.poll(30)
    name = ours.recv_bytes().decode()
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.step, {slot: chunk_of(bundle, SLOW)})
        running.until(lambda facts: facts["working"] is not None)
        ours.send_bytes(b"now")
        assert ours.recv_bytes() == b"asked"
        room.kill()
        slow.result()
    end_s = time.monotonic() + 5
    while True:
        try:
            attach(name).close()
        except FileNotFoundError:
            break
        assert time.monotonic() < end_s
        time.sleep(0.01)
    client.close()
    room.join()
    room.close()
    ours.close()
    theirs.close()


def test_an_engine_that_does_not_answer_is_given_up(bundle: Bundle) -> None:
    supervisor = EngineSupervisor(bundle.folder, threads=1, slots=1, standby=False, make=make_fake)
    engine = Running(supervisor, bundle)
    client = engine.connect(answer_s=0.2)
    slot = client.open(face_of(bundle))
    start_s = time.monotonic()
    with pytest.raises(EngineError, match="does not answer") as hung:
        client.step({slot: chunk_of(bundle, HANG)})
    assert not hung.value.retryable
    assert time.monotonic() - start_s < 1
    engine.close()


def test_slow_is_slower_than_asking() -> None:
    """The tests above rest on it: what is asked for during a slow step waits for its end."""
    assert SLOW_S >= 0.1
