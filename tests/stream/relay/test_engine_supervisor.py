"""There is an engine again soon, whatever becomes of the one that was."""

import asyncio
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError, ConfigError, EngineError
from stream.live.painter import Painter
from stream.relay.engine.process import make_generator
from stream.relay.engine.remote import RemoteEngine
from stream.relay.engine.supervisor import EngineSupervisor
from tests.painter import paint_bundle
from tests.stream.relay.engine_fakes import (
    CRASH,
    HANG,
    PAINT,
    chunk_of,
    face_of,
    make_fake,
    make_none,
    make_nothing_of_it,
    make_paced,
)

pytestmark = pytest.mark.models
log = logging.getLogger(__name__)

BACK_S = 2.0  # within which a lost engine paints again


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return paint_bundle(tmp_path_factory.mktemp("engine") / "bundle")


@asynccontextmanager
async def started(bundle: Bundle, **arguments: Any) -> AsyncIterator[EngineSupervisor]:
    arguments = {"threads": 1, "slots": 4, "make": make_fake, "standby": False, **arguments}
    supervisor = EngineSupervisor(bundle.folder, **arguments)
    await supervisor.start()
    try:
        yield supervisor
    finally:
        await supervisor.close()
        assert not supervisor.alive
        assert not engines()


@asynccontextmanager
async def painting(supervisor: EngineSupervisor, bundle: Bundle) -> AsyncIterator[Painter]:
    painter = Painter(bundle, lambda: RemoteEngine(supervisor.address, supervisor.authkey, bundle))
    await painter.start()
    assert await painter.set_identity(face_of(bundle))
    try:
        yield painter
    finally:
        await painter.close()


def engines() -> list[int]:
    """The processes of all engines, also of one that stands by."""
    return [child.pid for child in multiprocessing.active_children() if child.pid is not None]


def pid_of(supervisor: EngineSupervisor) -> int:
    pid = supervisor.facts()["pid"]
    assert isinstance(pid, int)
    return pid


def alive(supervisor: EngineSupervisor) -> bool:
    """Asked anew each time: type checkers take an attribute for what it was."""
    return supervisor.alive


async def until(condition: Callable[[], bool], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.01)


async def painted_again_s(painter: Painter, bundle: Bundle) -> float:
    """Ask for chunk after chunk, as a session does; how long until one is painted."""
    start_s = time.monotonic()
    while await painter.paint(chunk_of(bundle)) is None:
        assert time.monotonic() - start_s < 30
        await asyncio.sleep(0.02)
    return time.monotonic() - start_s


async def test_a_bundle_that_is_missing_is_named(tmp_path: Path) -> None:
    supervisor = EngineSupervisor(tmp_path / "nowhere", threads=1, slots=1)
    with pytest.raises(BundleError, match="There is no bundle at"):
        await supervisor.start()
    assert not supervisor.alive
    assert not engines()


async def test_what_the_generator_refuses_is_said(bundle: Bundle) -> None:
    supervisor = EngineSupervisor(bundle.folder, threads=0, slots=1)
    with pytest.raises(ConfigError, match="threads must be at least 1"):
        await supervisor.start()
    supervisor = EngineSupervisor(bundle.folder, threads=1, slots=1, make=make_none)
    with pytest.raises(BundleError, match="get another"):
        await supervisor.start()


async def test_an_engine_that_ends_without_a_word_is_no_start(bundle: Bundle) -> None:
    supervisor = EngineSupervisor(bundle.folder, threads=1, slots=1, make=make_nothing_of_it)
    with pytest.raises(EngineError, match="ended while it started"):
        await supervisor.start()
    assert not engines()


async def test_a_killed_engine_paints_again_within_two_seconds() -> None:
    """The starter bundle, and one that stands by."""
    starter = load_bundle()
    async with (
        started(starter, make=make_generator, standby=True, threads=2) as supervisor,
        painting(supervisor, starter) as painter,
    ):
        assert await painter.paint(chunk_of(starter)) is not None
        await until(lambda: bool(supervisor.facts()["standby"]))
        address, key = supervisor.address, supervisor.authkey
        os.kill(pid_of(supervisor), signal.SIGKILL)
        took_s = await painted_again_s(painter, starter)
        log.info("painted again %.0f ms after the engine was killed", 1000 * took_s)
        assert took_s <= BACK_S
        assert supervisor.restarts == 1
        assert (supervisor.address, supervisor.authkey) == (address, key)
        await until(lambda: supervisor.trouble is None and painter.trouble is None)


async def test_eight_sessions_are_back_within_two_seconds_and_others_keep_their_time(
    bundle: Bundle,
) -> None:
    """The sessions of a killed engine, and one of another device's."""
    async with AsyncExitStack() as stack:
        paced: dict[str, Any] = {"make": make_paced, "slots": 8}
        lost = await stack.enter_async_context(started(bundle, standby=True, **paced))
        other = EngineSupervisor(bundle.folder, threads=1, standby=False, beat_s=0.05, **paced)
        stack.push_async_callback(other.close)
        await other.start()
        painters = [await stack.enter_async_context(painting(lost, bundle)) for _ in range(8)]
        keeper = await stack.enter_async_context(painting(other, bundle))
        await until(lambda: bool(lost.facts()["standby"]))
        os.kill(pid_of(lost), signal.SIGKILL)
        back = [asyncio.create_task(painted_again_s(painter, bundle)) for painter in painters]
        kept = 0
        while not all(task.done() for task in back):
            assert await keeper.paint(chunk_of(bundle)) is not None
            kept += 1
        took_s = [task.result() for task in back]
        log.info("eight sessions painted again %.0f ms after a kill", 1000 * max(took_s))
        assert max(took_s) <= BACK_S
        assert lost.restarts == 1
        assert kept > max(took_s) / 0.2  # a session asks every 0.2 s
        await until(lambda: other.facts().get("chunks", 0) >= kept)
        facts = other.facts()
        assert (facts["late"], facts["shed"], facts["failed"], other.restarts) == (0, 0, 0, 0)


async def test_without_one_that_stands_by_another_is_loaded(bundle: Bundle) -> None:
    async with started(bundle) as supervisor, painting(supervisor, bundle) as painter:
        first = pid_of(supervisor)
        os.kill(first, signal.SIGKILL)
        await painted_again_s(painter, bundle)
        assert supervisor.restarts == 1
        assert pid_of(supervisor) != first
        assert engines() == [pid_of(supervisor)]


async def test_a_killed_stand_by_is_not_counted_on(bundle: Bundle) -> None:
    async with (
        started(bundle, standby=True) as supervisor,
        painting(supervisor, bundle) as painter,
    ):
        await until(lambda: bool(supervisor.facts()["standby"]))
        (standby,) = set(engines()) - {pid_of(supervisor)}
        os.kill(standby, signal.SIGKILL)
        os.kill(pid_of(supervisor), signal.SIGKILL)
        await painted_again_s(painter, bundle)
        assert supervisor.restarts == 1


async def test_an_engine_that_hangs_is_replaced(bundle: Bundle) -> None:
    async with (
        started(bundle, standby=True, beat_s=0.1) as supervisor,
        painting(supervisor, bundle) as painter,
    ):
        await until(lambda: bool(supervisor.facts()["standby"]))
        first = pid_of(supervisor)
        assert await painter.paint(chunk_of(bundle, HANG)) is None
        await painted_again_s(painter, bundle)
        assert supervisor.restarts == 1
        assert pid_of(supervisor) != first
        assert first not in engines()


@pytest.mark.skipif(sys.platform == "win32", reason="processes can't be stopped there")
async def test_an_engine_that_is_silent_is_replaced(bundle: Bundle) -> None:
    async with started(bundle, beat_s=0.1) as supervisor:
        first = pid_of(supervisor)
        os.kill(first, signal.SIGSTOP)
        await until(lambda: supervisor.restarts == 1)
        assert pid_of(supervisor) != first
        assert first not in engines()


async def test_an_engine_that_dies_again_and_again_is_given_time(bundle: Bundle) -> None:
    async with started(bundle) as supervisor:
        downs: list[float] = []
        for restarts in range(1, 4):
            client = RemoteEngine(supervisor.address, supervisor.authkey, bundle)
            slot = client.open(face_of(bundle))
            with pytest.raises(EngineError, match="gone") as gone:
                client.step({slot: chunk_of(bundle, CRASH)})
            assert not gone.value.retryable
            await until(lambda: not alive(supervisor))
            assert supervisor.trouble
            start_s = time.monotonic()
            await until(lambda wanted=restarts: supervisor.restarts == wanted)  # type: ignore[misc]
            downs.append(time.monotonic() - start_s)
            assert supervisor.trouble is None
        assert downs[2] > 1.0  # the third pause; those before are shorter


async def test_a_room_is_told_when_the_engine_is_lost(bundle: Bundle) -> None:
    async with started(bundle) as supervisor:
        client = RemoteEngine(supervisor.address, supervisor.authkey, bundle)
        slot = client.open(face_of(bundle))
        await supervisor.close()
        with pytest.raises(EngineError, match="gone"):
            client.step({slot: chunk_of(bundle)})
        with pytest.raises(EngineError, match="closed"):
            client.replace_identity(slot, face_of(bundle))


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_the_parent_alone_ends_the_engine(bundle: Bundle, number: signal.Signals) -> None:
    async with started(bundle) as supervisor, painting(supervisor, bundle) as painter:
        os.kill(pid_of(supervisor), number)
        await asyncio.sleep(0.1)
        assert await painter.paint(chunk_of(bundle, PAINT)) is not None
        assert supervisor.restarts == 0


async def test_nothing_is_left_of_a_closed_engine(bundle: Bundle) -> None:
    async with started(bundle, standby=True) as supervisor:
        await until(lambda: bool(supervisor.facts()["standby"]))
        folder = Path(supervisor.address).parent
        assert sys.platform == "win32" or await asyncio.to_thread(folder.is_dir)
        assert len(engines()) == 2
    assert not await asyncio.to_thread(folder.exists)


def run(script: str, bundle: Bundle) -> subprocess.CompletedProcess[str]:
    """Run a relay's part in a Python of its own.

    It returns when nobody holds its output any more: neither an engine nor the resource tracker.
    """
    code = textwrap.dedent("""
        import asyncio, os, signal, sys, time
        from pathlib import Path
        from engine.bundle import load_bundle
        from engine.errors import EngineError
        from stream.relay.engine.supervisor import EngineSupervisor
        from stream.relay.engine.remote import RemoteEngine
        from tests.stream.relay.engine_fakes import chunk_of, face_of, make_fake

        bundle = load_bundle(Path(sys.argv[1]))
        supervisor = EngineSupervisor(
            bundle.folder, threads=1, slots=4, make=make_fake
        )

        def connect():
            return RemoteEngine(supervisor.address, supervisor.authkey, bundle)

        async def until(condition):
            while not condition():
                await asyncio.sleep(0.01)

    """) + textwrap.dedent(script)
    # Not by -c: a spawned process looks at its parent's file.
    file = bundle.folder.parent / "relay.py"
    file.write_text(code + '\nif __name__ == "__main__":\n    asyncio.run(main())\n')
    root = str(Path(__file__).parents[3])
    return subprocess.run(
        [sys.executable, "-W", "error", str(file), str(bundle.folder)],
        env={**os.environ, "PYTHONPATH": root},
        capture_output=True,
        text=True,
        timeout=90,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_an_engine_does_not_outlive_its_parent(bundle: Bundle) -> None:
    """One that paints, one that hangs and one that stands by."""
    script = """
        import threading
        from tests.stream.relay.engine_fakes import HANG

        async def main():
            await supervisor.start()
            await until(lambda: supervisor.facts()["standby"])
            print(supervisor.address, flush=True)
            client = connect()
            step = lambda: client.step({client.open(face_of(bundle)): chunk_of(bundle, HANG)})
            threading.Thread(target=step, daemon=True).start()
            await asyncio.sleep(0.1)
            os.kill(os.getpid(), signal.SIGKILL)
    """
    done = run(script, bundle)  # which would not return while one of them lived
    assert done.returncode == -signal.SIGKILL
    assert not Path(done.stdout.strip()).parent.exists()


def test_a_relay_that_fails_does_not_wait_for_its_engine(bundle: Bundle) -> None:
    script = """
        async def main():
            await supervisor.start()
            print(supervisor.address)
            raise SystemExit(7)
    """
    done = run(script, bundle)
    assert done.returncode == 7, done.stderr
    assert not done.stderr
    assert not Path(done.stdout.strip()).parent.exists()


@pytest.mark.skipif(not Path("/dev/shm").is_dir(), reason="shared memory shows nowhere")
def test_memory_is_gone_and_nobody_complains(bundle: Bundle) -> None:
    """After an engine and a room were killed, and others closed."""
    script = """
        import multiprocessing

        def room(address, authkey):
            clients = [RemoteEngine(address, authkey, bundle) for _ in range(3)]
            for client in clients:
                client.step({client.open(face_of(bundle)): chunk_of(bundle)})
            os.kill(os.getpid(), signal.SIGKILL)

        async def main():
            before = {path.name for path in Path("/dev/shm").glob("psm_*")}
            await supervisor.start()
            await until(lambda: supervisor.facts()["standby"])
            first = connect()
            slot = first.open(face_of(bundle))
            first.step({slot: chunk_of(bundle)})
            os.kill(supervisor.facts()["pid"], signal.SIGKILL)
            try:
                first.step({slot: chunk_of(bundle)})
            except EngineError:
                pass
            await until(lambda: supervisor.restarts == 1)
            killed = multiprocessing.get_context("spawn").Process(
                target=room, args=(supervisor.address, supervisor.authkey)
            )
            killed.start()
            await asyncio.to_thread(killed.join)
            assert killed.exitcode == -signal.SIGKILL
            # Not a child of the relay: it has a resource tracker of its own.
            code = (
                "import sys; from pathlib import Path; from engine.bundle import load_bundle;"
                "from stream.relay.engine.remote import RemoteEngine;"
                "from tests.stream.relay.engine_fakes import face_of;"
                "bundle = load_bundle(Path(sys.argv[1]));"
                "engine = RemoteEngine(sys.argv[2], bytes.fromhex(sys.argv[3]), bundle);"
                "engine.open(face_of(bundle)); engine.close()"
            )
            words = [str(bundle.folder), supervisor.address, supervisor.authkey.hex()]
            stranger = await asyncio.create_subprocess_exec(sys.executable, "-c", code, *words)
            assert await stranger.wait() == 0
            closed, dropped, kept = connect(), connect(), connect()
            for client in (closed, dropped, kept):
                client.step({client.open(face_of(bundle)): chunk_of(bundle)})
            closed.close()
            del dropped
            await supervisor.close()
            kept.close()
            left = {path.name for path in Path("/dev/shm").glob("psm_*")} - before
            assert not left, left
    """
    done = run(script, bundle)
    assert done.returncode == 0, done.stderr
    assert done.stderr.splitlines() == ["the engine ended and is started again"]
