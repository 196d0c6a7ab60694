"""Rooms as real processes, which only pretend to be rooms: asked, killed, hung, ended."""

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from stream.relay.front.heartbeat import Health, Heartbeat
from stream.relay.front.rooms import Patience, Rooms
from stream.relay.metrics import summed
from stream.relay.refusal import Refusal
from tests.stream.relay.room_mains import BROKEN, HERE, MISSING, OBEDIENT

pytestmark = pytest.mark.unit

QUICK = Patience(
    start_s=20.0, answer_s=2.0, quiet_s=0.3, hung_s=1.0, end_s=2.0, watch_s=0.1, spare_s=0.0
)


@asynccontextmanager
async def running(
    main: str = OBEDIENT,
    *,
    most_rooms: int = 3,
    memory_mb: float = 1000.0,
    patience: Patience = QUICK,
    spare: bool = False,
    **options: Any,
) -> AsyncIterator[Rooms]:
    rooms = Rooms(
        lambda room: options,
        most_rooms=most_rooms,
        memory_mb=memory_mb,
        main=main,
        patience=patience,
    )
    if not spare:
        rooms._spare.prepare = lambda pause_s: None  # type: ignore[method-assign]
    rooms.start()
    try:
        yield rooms
    finally:
        await rooms.close()


async def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)


async def publish(rooms: Rooms, room: str, word: str = "hello", resource: str = "r1") -> Any:
    return await rooms.ask(room, "publish", start=True, offer=word, resource=resource)


def pids(rooms: Rooms) -> list[int]:
    return [held.child.pid or 0 for held in rooms._rooms.values() if held.child is not None]


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def shown(rooms: Rooms) -> float:
    total = summed(rooms.metrics(), rooms.past).counters["frames"]
    return total.get("shown", 0)


async def test_a_room_is_begun_by_its_first_publisher_and_asked_by_all() -> None:
    async with running() as rooms:
        first = await publish(rooms, "a")
        assert first["answer"] == "a heard hello"
        assert first["pid"] != os.getpid()
        other = await rooms.ask("a", "listen", offer="x", resource="r2")
        assert other["pid"] == first["pid"]
        assert (await publish(rooms, "b"))["pid"] != first["pid"]
        assert len(rooms) == 2


async def test_two_publishers_at_once_begin_one_room() -> None:
    async with running() as rooms:
        replies = await asyncio.gather(*(publish(rooms, "a", resource=f"r{n}") for n in range(4)))
        assert len({reply["pid"] for reply in replies}) == 1


async def test_who_gives_up_does_not_stop_the_room_from_beginning() -> None:
    async with running() as rooms:
        asked = asyncio.create_task(publish(rooms, "a"))
        await asyncio.sleep(0.05)
        asked.cancel()
        await asyncio.wait([asked])
        assert (await rooms.ask("a", "listen", offer="x", resource="r"))["answer"] == "a heard x"


async def test_a_room_that_does_not_run_is_not_asked() -> None:
    async with running() as rooms:
        with pytest.raises(Refusal, match="Nobody is live") as listen:
            await rooms.ask("a", "listen", offer="x", resource="r")
        assert listen.value.status == 409
        assert listen.value.retry_after_s
        for do in ("candidates", "end", "admin", "state"):
            with pytest.raises(Refusal) as found:
                await rooms.ask("a", do)
            assert found.value.status == 404
        assert rooms.state("a") is None


async def test_no_more_rooms_than_there_may_be() -> None:
    async with running(most_rooms=1) as rooms:
        await publish(rooms, "a")
        with pytest.raises(Refusal, match="taken") as found:
            await publish(rooms, "b")
        assert found.value.status == 503
        assert found.value.retry_after_s
        await publish(rooms, "a", resource="r2")


async def test_nothing_begins_before_the_relay_is_open() -> None:
    async with running() as rooms:
        rooms.open = False
        with pytest.raises(Refusal, match="still starting") as found:
            await publish(rooms, "a")
        assert found.value.status == 503


async def test_a_rooms_refusal_passes() -> None:
    async with running() as rooms:
        with pytest.raises(Refusal, match="Nobody is live") as found:
            await publish(rooms, "a", "refuse")
        assert (found.value.status, found.value.retry_after_s) == (409, 1.0)


async def test_the_state_is_kept_without_the_measurements() -> None:
    async with running() as rooms:
        await publish(rooms, "a")
        await rooms.ask("a", "listen", offer="x", resource="l")
        await until(lambda: rooms.listeners == 1)
        state = rooms.state("a")
        assert state is not None
        assert state.keys() == {"room", "speakers"}
        await until(lambda: shown(rooms) == 2)
        state = rooms.state("a")
        await until(lambda: rooms.state("a") is not state)


async def test_a_killed_room_ends_its_sessions_can_begin_again_and_harms_no_other() -> None:
    ended: list[str] = []
    async with running() as rooms:
        rooms.on_ended(ended.append)
        first = await publish(rooms, "a")
        await publish(rooms, "a", resource="r2")
        other = await publish(rooms, "b", resource="r3")
        await until(lambda: shown(rooms) == 3)
        os.kill(first["pid"], signal.SIGKILL)
        await until(lambda: rooms.state("a") is None and len(rooms) == 1)
        assert sorted(ended) == ["r1", "r2"]
        assert rooms.endings == {"died": 1}
        assert rooms.past.counters["frames"] == {"shown": 2}
        assert (await publish(rooms, "b", resource="r4"))["pid"] == other["pid"]
        assert (await publish(rooms, "a"))["pid"] != first["pid"]
        assert is_gone(first["pid"])


async def test_a_room_that_dies_over_a_request_refuses_it() -> None:
    async with running() as rooms:
        with pytest.raises(Refusal, match="has ended") as found:
            await publish(rooms, "a", "die")
        assert found.value.status == 503
        await until(lambda: not len(rooms))
        assert (await publish(rooms, "a"))["answer"] == "a heard hello"


async def test_a_room_that_hangs_is_killed() -> None:
    async with running() as rooms:
        other = await publish(rooms, "b")
        with pytest.raises(Refusal) as found:
            await publish(rooms, "a", "hang")
        assert found.value.status == 503
        await until(lambda: rooms.endings["hung"] == 1)
        assert (await publish(rooms, "b"))["pid"] == other["pid"]


async def test_a_room_that_tells_nothing_is_asked_and_lives() -> None:
    async with running() as rooms:
        await publish(rooms, "a", "quiet")
        await asyncio.sleep(0.3)
        state = rooms.state("a")
        await asyncio.sleep(1.5)  # longer than a hung room lives
        assert rooms.state("a") is not state
        assert not rooms.endings


async def test_a_room_that_sends_garbage_is_ended() -> None:
    async with running() as rooms:
        with pytest.raises(Refusal, match="has ended"):
            await publish(rooms, "a", "garbage")
        await until(lambda: not len(rooms))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells another process's memory")
async def test_a_room_that_takes_too_much_memory_is_killed() -> None:
    async with running(memory_mb=150.0) as rooms:
        await publish(rooms, "b")
        with suppress(Refusal):  # it may be gone before it answers
            await publish(rooms, "a", "grow")
        await until(lambda: rooms.endings["memory"] == 1)
        assert rooms.state("b") is not None
        await until(lambda: rooms.memory_mb is not None and 1.0 < rooms.memory_mb < 150.0)


async def test_an_idle_room_is_ended_by_its_own_end_and_its_counts_stay(tmp_path: Path) -> None:
    async with running(goodbye=str(tmp_path / "goodbye")) as rooms:
        await publish(rooms, "a", "idle")
        await until(lambda: not len(rooms))
        assert rooms.endings == {"idle": 1}
        assert (tmp_path / "goodbye").read_text() == "a\n"
        assert rooms.past.counters["frames"] == {"shown": 1}
        assert rooms.past.gauges["sessions"] == {}


async def test_who_comes_while_a_room_ends_begins_it_anew() -> None:
    async with running() as rooms:
        first = await publish(rooms, "a")
        rooms._end(rooms._rooms["a"], "idle")
        again = await publish(rooms, "a")
        assert again["pid"] != first["pid"]


async def test_a_room_is_not_ended_under_a_publisher_on_the_way() -> None:
    async with running() as rooms:
        first = await publish(rooms, "a")
        slow = asyncio.create_task(publish(rooms, "a", "slow"))
        await asyncio.sleep(0.05)
        rooms._heard(rooms._rooms["a"], "idle", {})
        assert (await slow)["pid"] == first["pid"]
        assert rooms.state("a") is not None


async def test_a_room_that_its_host_ends_is_closed_and_not_lost() -> None:
    async with running(f"{HERE}:leaving") as rooms:
        with pytest.raises(Refusal):
            await rooms.ask("a", "admin", start=True, action="end")
        await until(lambda: not len(rooms))
        assert rooms.endings == {"closed": 1}


async def test_each_session_that_is_gone_is_told_once() -> None:
    ended: list[str] = []
    async with running() as rooms:
        rooms.on_ended(ended.append)
        await publish(rooms, "a", "gone", resource="r1")
        await until(lambda: ended == ["r1"])
        await publish(rooms, "a", resource="r2")
        await rooms.ask("a", "end", resource="r2")
    assert ended == ["r1"]


@pytest.mark.parametrize("main", [BROKEN, MISSING], ids=["when-it-begins", "when-it-is-imported"])
async def test_a_room_that_fails_is_a_refusal(main: str) -> None:
    async with running(main) as rooms:
        with pytest.raises(Refusal) as found:
            await publish(rooms, "a")
        assert found.value.status == 503
        await until(lambda: not len(rooms))
        assert not rooms.metrics()


@pytest.mark.parametrize("main", [BROKEN, MISSING], ids=["when-it-begins", "when-it-is-imported"])
async def test_a_room_that_fails_logs_json_without_its_name(
    main: str, capfd: pytest.CaptureFixture[str]
) -> None:
    async with running(main) as rooms:
        with pytest.raises(Refusal):
            await publish(rooms, "Aardvark")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert {(line["message"], line["process"]) for line in lines} == {("a room failed", "room")}
    assert "Aardvark" not in str(lines)


async def test_a_process_stands_by_and_becomes_the_next_room() -> None:
    async with running(spare=True) as rooms:
        await until(lambda: rooms._spare.is_ready)
        assert rooms._spare._child is not None
        spare = rooms._spare._child.pid
        begin = time.perf_counter()
        assert (await publish(rooms, "a"))["pid"] == spare
        assert time.perf_counter() - begin < 1.0
        await until(lambda: rooms._spare.is_ready)
        assert (await publish(rooms, "b"))["pid"] not in (spare, None)


async def test_a_process_that_stands_by_is_replaced_when_it_is_killed() -> None:
    async with running(spare=True) as rooms:
        await until(lambda: rooms._spare.is_ready)
        assert rooms._spare._child is not None
        spare = rooms._spare._child.pid
        assert spare is not None
        os.kill(spare, signal.SIGKILL)
        await until(lambda: not rooms._spare.is_ready)
        assert (await publish(rooms, "a"))["pid"] != spare


async def test_who_comes_while_a_process_gets_ready_gets_that_one() -> None:
    async with running(spare=True) as rooms:
        assert (await publish(rooms, "a"))["answer"] == "a heard hello"
        # Once more in the pause before the next one.
        assert (await publish(rooms, "b"))["answer"] == "b heard hello"


async def test_the_end_leaves_nothing(tmp_path: Path) -> None:
    goodbye = tmp_path / "goodbye"
    async with running(spare=True, goodbye=str(goodbye)) as rooms:
        await publish(rooms, "a")
        await publish(rooms, "b")
        processes = pids(rooms)
    assert sorted(goodbye.read_text().split()) == ["a", "b"]
    assert all(is_gone(pid) for pid in processes)
    assert rooms.endings == {"closed": 2}
    with pytest.raises(Refusal):
        await publish(rooms, "c")


async def test_a_room_that_does_not_end_by_itself_is_killed() -> None:
    async with running(f"{HERE}:stubborn", patience=Patience(answer_s=0.2, end_s=0.2)) as rooms:
        with pytest.raises(Refusal, match="does not answer"):
            await publish(rooms, "a")
        processes = pids(rooms)
    assert all(is_gone(pid) for pid in processes)


async def test_signals_for_the_whole_relay_do_not_end_rooms() -> None:
    async with running() as rooms:
        pid = (await publish(rooms, "a"))["pid"]
        os.kill(pid, signal.SIGTERM)
        os.kill(pid, signal.SIGINT)
        assert (await publish(rooms, "a"))["pid"] == pid


async def test_a_draining_relay_takes_nobody_and_keeps_who_is_there() -> None:
    async with running() as rooms:
        await publish(rooms, "a")
        await rooms.ask("a", "listen", offer="x", resource="l")
        await until(lambda: rooms.listeners == 1)
        rooms.drain()
        for do, room in (("publish", "b"), ("publish", "a"), ("listen", "a")):
            with pytest.raises(Refusal, match="about to stop") as found:
                await rooms.ask(room, do, start=do == "publish", offer="x", resource="x")
            assert found.value.status == 503
            assert found.value.retry_after_s
        left = asyncio.create_task(rooms.left())
        await asyncio.sleep(0.3)
        assert not left.done()
        await rooms.ask("a", "end", resource="l")
        await asyncio.wait_for(left, 5)


async def test_logs_name_no_room(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with running() as rooms:
        reply = await publish(rooms, "Aardvark")
        os.kill(reply["pid"], signal.SIGKILL)
        await until(lambda: not len(rooms))
    texts = [record.getMessage() for record in caplog.records]
    assert texts[:2] == ["a room began", "a room was lost"]
    assert not any("Aardvark" in str(record.__dict__) for record in caplog.records)


# The judge of heartbeats, in virtual time


def test_a_room_is_fine_quiet_and_hung_in_turn() -> None:
    heart = Heartbeat(0.5)
    judged = [heart.judge(heard_at=0.0, now=0.5 * n) for n in range(1, 24)]
    assert judged[:3] == [Health.FINE] * 3  # to 1.5 s
    assert judged[3:20] == [Health.QUIET] * 17
    assert judged[20:] == [Health.HUNG] * 3  # 10 s after it was first looked at


def test_any_word_is_a_sign_of_life() -> None:
    heart = Heartbeat(0.5)
    judged = {heart.judge(heard_at=5.0 * (n // 10), now=0.5 * n) for n in range(1, 200)}
    assert judged == {Health.FINE, Health.QUIET}


def test_time_in_which_the_judge_stood_still_is_forgiven() -> None:
    heart = Heartbeat(0.5)
    for n in range(10):
        heart.judge(heard_at=0.5 * n, now=0.5 * n)
    assert heart.judge(heard_at=4.5, now=100.0) is Health.QUIET
    judged = [heart.judge(heard_at=4.5, now=100.0 + 0.5 * n) for n in range(1, 21)]
    assert judged == [Health.QUIET] * 19 + [Health.HUNG]
