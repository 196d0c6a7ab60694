"""A link over a real pipe: both ends in this process, or one that only knows bytes."""

import asyncio
import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from stream.relay.link import LONGEST, Ask, Link, Tell
from stream.relay.refusal import Refusal

pytestmark = pytest.mark.unit


class End:
    """A link, and what came over it."""

    def __init__(self, connection: Connection, on_ask: Ask | None = None, **options: Any) -> None:
        self.told: list[tuple[str, dict[str, Any]]] = []
        self.news = asyncio.Event()
        self.ended = asyncio.Event()
        self.ends = 0
        tell: Tell = options.pop("on_tell", self._take)
        self.link = Link(connection, on_ask=on_ask, on_tell=tell, on_end=self._end, **options)
        self.link.start()

    def _take(self, do: str, fields: dict[str, Any]) -> None:
        self.told.append((do, fields))
        self.news.set()

    def _end(self) -> None:
        self.ends += 1
        self.ended.set()

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not true():
                self.news.clear()
                await self.news.wait()


async def echo(do: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"did": do, **fields}


@asynccontextmanager
async def linked(on_ask: Ask | None = echo, **options: Any) -> AsyncIterator[tuple[End, End]]:
    one, other = Pipe()
    near, far = End(one, **options), End(other, on_ask)
    try:
        yield near, far
    finally:
        await near.link.close()
        await far.link.close()


@asynccontextmanager
async def raw(on_ask: Ask | None = echo, **options: Any) -> AsyncIterator[tuple[End, Connection]]:
    """A link whose other end only knows bytes."""
    one, other = Pipe()
    near = End(one, on_ask, **options)
    try:
        yield near, other
    finally:
        await near.link.close()  # in vain where the other end does not read
        other.close()
        assert await near.link.close()


async def received(connection: Connection) -> Any:
    return json.loads(await asyncio.to_thread(connection.recv_bytes))


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    before = {thread.name for thread in threading.enumerate() if thread.name.startswith("link")}
    yield
    assert {t.name for t in threading.enumerate() if t.name.startswith("link")} == before


async def test_a_request_gets_its_reply() -> None:
    async with linked() as (near, _):
        assert await near.link.ask("publish", speaker="ann") == {"did": "publish", "speaker": "ann"}


async def test_replies_find_their_requests_in_any_order() -> None:
    async def late_first(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        await asyncio.sleep(0.05 if fields["n"] == 0 else 0)
        return fields

    async with linked(late_first) as (near, _):
        replies = await asyncio.gather(*(near.link.ask("a", n=n) for n in range(20)))
        assert [reply["n"] for reply in replies] == list(range(20))
        assert near.link.waiting == 0


async def test_both_ends_ask() -> None:
    one, other = Pipe()
    near, far = End(one, echo), End(other, echo)
    assert (await near.link.ask("x"))["did"] == "x"
    assert (await far.link.ask("y"))["did"] == "y"
    assert await near.link.close()
    assert await far.link.close()


async def test_a_refusal_reaches_who_asked() -> None:
    async def refuse(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        raise Refusal(409, "Nobody is live.", 1.5)

    async with linked(refuse) as (near, _):
        with pytest.raises(Refusal, match="Nobody is live") as found:
            await near.link.ask("listen")
        assert (found.value.status, found.value.retry_after_s) == (409, 1.5)


async def test_a_fault_inside_is_a_500_that_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("secret")

    async with linked(fail) as (near, _):
        with pytest.raises(Refusal) as found:
            await near.link.ask("x")
        assert found.value.status == 500
        assert "secret" not in found.value.text
    assert [record.message for record in caplog.records] == ["a request failed"]


async def test_who_answers_nothing_refuses() -> None:
    async with linked(None) as (near, _):
        with pytest.raises(Refusal) as found:
            await near.link.ask("x")
        assert found.value.status == 404


async def test_notifications_arrive_in_order() -> None:
    async with linked() as (near, far):
        for n in range(200):
            near.link.tell("n", n=n)
        await far.until(lambda: len(far.told) == 200)
        assert [fields["n"] for _, fields in far.told] == list(range(200))


async def test_a_failing_listener_does_not_end_the_link(caplog: pytest.LogCaptureFixture) -> None:
    def fail(do: str, fields: dict[str, Any]) -> None:
        raise ValueError

    async with linked(on_tell=fail) as (near, far):
        far.link.tell("x")
        assert await near.link.ask("y") == {"did": "y"}
        assert not near.link.ended
    assert "a notification failed" in caplog.text


async def test_no_reply_in_time_is_a_503() -> None:
    forever = asyncio.Event()

    async def wait(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        await forever.wait()
        return {}

    async with linked(wait, answer_s=0.05) as (near, _):
        with pytest.raises(Refusal, match="does not answer") as found:
            await near.link.ask("x")
        assert (found.value.status, near.link.waiting) == (503, 0)
        forever.set()  # its late reply is nobody's any more
        await asyncio.sleep(0.01)
        assert not near.link.ended


async def test_requests_that_wait_are_bounded() -> None:
    async with raw(most_asked=2) as (near, _):
        waiting = [asyncio.create_task(near.link.ask("x")) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(Refusal, match="busy") as found:
            await near.link.ask("y")
        assert found.value.status == 503
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert near.link.waiting == 0


async def test_requests_that_are_answered_are_bounded() -> None:
    forever = asyncio.Event()

    async def wait(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        await forever.wait()
        return {}

    async with raw(wait, most_asked=2) as (_, other):
        for number in range(6):
            other.send_bytes(json.dumps({"id": number, "do": "x", "fields": {}}).encode())
        assert {(await received(other))["re"] for _ in range(2)} == {4, 5}
        forever.set()
        assert {(await received(other))["re"] for _ in range(4)} == {0, 1, 2, 3}


async def test_sending_to_who_reads_nothing_does_not_wait_and_drops_old_states() -> None:
    async with raw() as (near, other):
        begin = time.perf_counter()
        for n in range(300):
            near.link.tell("state", n=n, filler="x" * 50_000)
        near.link.tell("ended", resource="a")
        assert time.perf_counter() - begin < 1.0
        assert near.link.replaced > 250
        got: list[dict[str, Any]] = []
        while not got or got[-1]["do"] != "ended":
            got.append(await received(other))
        numbers = [message["fields"]["n"] for message in got[:-1]]
        assert numbers == sorted(numbers)
        assert numbers[-1] == 299  # the newest got through


async def test_an_end_that_reads_nothing_for_too_long_is_gone() -> None:
    async with raw() as (near, _):
        for _ in range(1200):
            near.link.tell("ended", resource="x" * 500)
        async with asyncio.timeout(5):
            await near.ended.wait()


async def test_a_message_that_is_too_long_is_refused_where_it_is_made() -> None:
    async def long(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        return {"x": "x" * LONGEST}

    async with linked(long) as (near, far):
        with pytest.raises(Refusal) as found:
            await near.link.ask("x", filler="x" * LONGEST)
        assert found.value.status == 413
        with pytest.raises(ValueError, match="longer than"):
            near.link.tell("state", filler="x" * LONGEST)
        with pytest.raises(Refusal) as found:
            await near.link.ask("x")
        assert found.value.status == 500
        assert not near.link.ended
        assert not far.link.ended


async def test_what_is_no_number_is_sent_as_null() -> None:
    async with linked() as (near, _):
        reply = await near.link.ask("x", skew=float("nan"), more=[float("inf"), {"a": 1.5}])
        assert reply == {"did": "x", "skew": None, "more": [None, {"a": 1.5}]}


async def test_the_end_of_one_side_ends_the_other_and_what_it_asked() -> None:
    forever = asyncio.Event()

    async def wait(do: str, fields: dict[str, Any]) -> dict[str, Any]:
        await forever.wait()
        return {}

    async with linked(wait) as (near, far):
        asked = asyncio.create_task(near.link.ask("x"))
        await asyncio.sleep(0.02)
        assert await far.link.close()
        with pytest.raises(Refusal, match="has ended") as found:
            await asked
        assert found.value.status == 503
        async with asyncio.timeout(5):
            await near.ended.wait()
        assert near.ends == 1
        assert far.ends == 0  # whoever closes knows
        with pytest.raises(Refusal, match="has ended"):
            await near.link.ask("y")
        near.link.tell("z")


async def test_closing_is_at_once_and_may_be_repeated() -> None:
    async with linked() as (near, _):
        begin = time.perf_counter()
        assert await near.link.close()
        assert await near.link.close()
        assert time.perf_counter() - begin < 0.5


async def test_a_link_is_not_closed_while_the_other_end_takes_nothing() -> None:
    one, other = Pipe()
    near = End(one)
    for _ in range(10):
        near.link.tell("x", filler="x" * 500_000)
    await asyncio.sleep(0.05)
    assert not await near.link.close()
    other.close()
    assert await near.link.close()


GARBAGE = [
    b"",
    b"\xff\xfe",
    b"nonsense",
    b"[]",
    b"null",
    b"{}",
    b'{"do": 1, "fields": {}}',
    b'{"do": "x"}',
    b'{"do": "x", "fields": []}',
    b'{"id": "1", "do": "x", "fields": {}}',
    b'{"id": true, "do": "x", "fields": {}}',
    b'{"re": 1}',
    b'{"re": [], "fields": {}}',
    b'{"re": 1, "refusal": {}}',
    b'{"re": 1, "refusal": {"status": 200, "text": "x", "retry_after": null}}',
    b'{"re": 1, "refusal": {"status": 503, "text": "x", "retry_after": -1}}',
    b'{"re": 1, "refusal": {"status": 503, "text": "x", "retry_after": 1e999}}',
    b'{"re": 1, "refusal": {"status": 503, "text": 7, "retry_after": null}}',
    b"[" * 100_000,
    b'{"do": "x", "fields": {"n": ' + b"9" * 5000 + b"}}",
    b"x" * (LONGEST + 1),
]


@pytest.mark.parametrize("text", GARBAGE, ids=lambda text: repr(text[:40]))
async def test_what_is_no_message_ends_the_link_and_nothing_else(
    text: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with raw() as (near, other):
        sending = threading.Thread(target=_send, args=(other, text))
        sending.start()
        async with asyncio.timeout(5):
            await near.ended.wait()
        assert near.told == []
        assert near.ends == 1
        await near.link.close()
        sending.join(5)
    assert all(record.levelno < logging.ERROR or not record.exc_info for record in caplog.records)


async def test_any_mutation_of_messages_is_borne() -> None:
    chance = random.Random(4)
    good = [
        {"id": 1, "do": "publish", "fields": {"speaker": "ann", "offer": "v=0"}},
        {"do": "state", "fields": {"room": "a", "speakers": []}},
        {"re": 1, "fields": {"answer": "v=0"}},
        {"re": 1, "refusal": {"status": 503, "text": "Full.", "retry_after": 1}},
    ]
    ended = 0
    for _ in range(300):
        text = bytearray(json.dumps(chance.choice(good)).encode())
        for _ in range(chance.randint(1, 4)):
            text[chance.randrange(len(text))] = chance.randrange(256)
        async with raw() as (near, other):
            other.send_bytes(bytes(text))
            other.close()  # ends the link in any case
            async with asyncio.timeout(5):
                await near.ended.wait()
            ended += near.ends
    assert ended == 300


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of Windows carry whole messages")
async def test_half_a_message_and_the_end_are_an_end() -> None:
    async with raw() as (near, other):
        os.write(other.fileno(), b"\0\0\0\x10half")
        other.close()
        async with asyncio.timeout(5):
            await near.ended.wait()


def _send(connection: Connection, text: bytes) -> None:
    with suppress(OSError):  # the link ended while this was sent
        connection.send_bytes(text)


async def test_the_loop_runs_on_while_messages_pour_in() -> None:
    taken = 0

    def take(do: str, fields: dict[str, Any]) -> None:
        nonlocal taken
        taken += 1

    async with raw(on_tell=take) as (_, other):
        text = json.dumps({"do": "x", "fields": {}}).encode()

        def pour() -> None:
            for _ in range(5000):
                other.send_bytes(text)

        pouring = asyncio.create_task(asyncio.to_thread(pour))
        turns = 0
        async with asyncio.timeout(20):
            while taken < 5000:
                await asyncio.sleep(0)
                turns += 1
        await pouring
        assert turns >= 5000 // 64  # at most that many are handed over at once
