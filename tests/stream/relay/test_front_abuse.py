"""The HTTP side against what it is not made for: always the right answer, and nothing grows."""

import asyncio
import io
import logging
import random
import secrets
import socket
import time
from collections import Counter
from contextlib import AsyncExitStack

import pytest

from stream.relay.front import api as api_module
from stream.relay.front import request as request_module
from stream.relay.front.app import FrontSettings
from stream.relay.front.limits import Rate, Rates
from tests.stream.relay.offers import HOST, chrome, gstreamer, mutated, obs
from tests.stream.relay.served_front import FRAGMENT, SDP, SECRET, FakeRooms, Served, bearer, front

pytestmark = pytest.mark.unit

SEED = 5
LARGE = 10_000_000
PUBLISH = "/whip/hall/anna"
ADMIN = "/api/rooms/hall/admin"

NO_LIMIT = Rate(1e9, 1e9)
FREE = FrontSettings(
    rates=Rates(
        offer=NO_LIMIT,
        request=NO_LIMIT,
        token=NO_LIMIT,
        all_offers=NO_LIMIT,
        all_requests=NO_LIMIT,
    )
)


async def a_live_session(served: Served) -> str:
    answer = await served.begin("/whip/hall/anna", obs())
    return answer.headers["Location"]


async def lives(served: Served, resource: str) -> bool:
    return (await served.ask("GET", resource)).status == 204


async def test_1000_broken_offers_get_an_answer_or_one_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    random_ = random.Random(SEED)
    uses = [
        (PUBLISH, chrome("sendonly")),
        (PUBLISH, obs()),
        ("/whip/hall/anna/de", chrome("sendonly", ("audio",))),
        ("/whep/hall/anna/de", gstreamer("recvonly")),
    ]
    statuses: Counter[int] = Counter()
    async with front(settings=FREE) as served:
        resource = await a_live_session(served)
        begin = time.monotonic()
        for _ in range(1000):
            path, offer = random_.choice(uses)
            answer = await served.ask("POST", path, data=mutated(offer, random_), headers=SDP)
            statuses[answer.status] += 1
            if answer.status == 201:
                await served.ask("DELETE", answer.headers["Location"])
            else:
                assert answer.text.endswith(".")
                assert "\n" not in answer.text
        assert (time.monotonic() - begin) / 1000 < 0.1
        assert statuses.keys() <= {201, 400, 413, 422}
        assert min(statuses[201], statuses[400], statuses[422]) > 20
        assert served.counts.sessions == 1
        assert await lives(served, resource)
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []


async def test_broken_fragments_get_an_answer_or_one_sentence() -> None:
    random_ = random.Random(SEED)
    async with front(settings=FREE) as served:
        begin = await served.begin(PUBLISH, obs())
        headers = FRAGMENT | {"If-Match": begin.headers["ETag"]}
        whole = f"a=ice-ufrag:hXq3\r\nm=audio 9 RTP/SAVPF 0\r\na=mid:0\r\na={HOST}"
        statuses: Counter[int] = Counter()
        for _ in range(300):
            body = mutated(whole, random_)
            answer = await served.ask(
                "PATCH", begin.headers["Location"], data=body, headers=headers
            )
            statuses[answer.status] += 1
        assert statuses.keys() <= {204, 400, 413, 422}
        assert min(statuses[204], statuses[400]) > 20
        assert await lives(served, begin.headers["Location"])


# Large bodies


class Sender:
    """A client that sends a body for as long as it is let."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.sent = 0
        self.answer = b""

    async def send(self, head: str, chunked: bool) -> None:
        line = socket.create_connection(("127.0.0.1", self._port))
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)  # what waits there counts
        reader, writer = await asyncio.open_connection(sock=line)
        writer.write(f"{head}Host: 127.0.0.1\r\n\r\n".encode())
        reading = asyncio.create_task(reader.readline())
        part = b"a=x\r\n" * 3277  # 16 kB
        frame = b"%x\r\n%b\r\n" % (len(part), part) if chunked else part
        try:
            while self.sent < LARGE and not reading.done():
                writer.write(frame)
                await writer.drain()
                self.sent += len(part)
        except ConnectionError:
            pass
        async with asyncio.timeout(10):
            self.answer = await reading
        writer.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize(
    ("path", "kind", "statuses"),
    [
        (PUBLISH, "application/sdp", {413}),
        ("/whep/hall/anna/de", "application/sdp", {413}),
        (PUBLISH, "text/plain", {415}),
        (ADMIN, "application/json", {413}),
        ("/nowhere/at/all", "application/sdp", {404}),
        ("/hall", "application/sdp", {405}),
    ],
)
async def test_a_body_of_10_mb_is_refused_without_being_read(
    chunked: bool, path: str, kind: str, statuses: set[int]
) -> None:
    async with front() as served:
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {LARGE}"
        sender = Sender(served.port)
        await sender.send(f"POST {path} HTTP/1.1\r\nContent-Type: {kind}\r\n{length}\r\n", chunked)
        assert int(sender.answer.split(b" ")[1]) in statuses
        assert sender.sent < LARGE // 2  # what was in buffers included
        assert (await served.ask("GET", "/api/config")).status == 200


@pytest.mark.parametrize("announced", [False, True])
async def test_an_ordinary_client_gets_the_answer_to_a_body_of_10_mb(announced: bool) -> None:
    body = b"a=x\r\n" * (LARGE // 5)

    async def parts() -> object:
        for n in range(0, LARGE, 65536):
            yield body[n : n + 65536]

    async with front() as served:
        for _ in range(5):
            data = io.BytesIO(body) if announced else parts()
            answer = await served.refused("POST", PUBLISH, data=data, headers=SDP)
            assert answer.status == 413


async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_module, "_BODY_S", 0.1)
    async with front() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = f"POST {PUBLISH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\n"
        writer.write(f"{head}Content-Length: 100\r\n\r\nv=0\r\n".encode())
        async with asyncio.timeout(5):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 100\r\n\r\nv=0",
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nv=0\r\n\r\nnonsense",
    ],
    ids=["cut", "no chunk"],
)
async def test_a_body_that_breaks_off_leaves_no_trace(
    rest: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with front() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        head = f"POST {PUBLISH} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/sdp\r\n"
        writer.write(head.encode() + rest)
        writer.write_eof()
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert not answer or b" 400 " in answer
        assert served.counts.sessions == 0
        assert (await served.ask("GET", "/api/config")).status == 200
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    "broken",
    [
        b"<hello> HTTP/1.1\r\n\r\n",
        b"GET /?token=s3cret-token HTTP/9\r\n\r\n",
        b"GET / HTTP/1.1\r\nbroken header s3cret-token\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: s3cret-token\r\n\r\n",
        b"GET /" + b"s3cret-token" * 1000 + b" HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20 + b"\r\n\r\n",
    ],
)
async def test_what_is_no_http_is_answered_and_logged_without_it(
    broken: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with front() as served:
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
        writer.write(broken)
        async with asyncio.timeout(5):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.")
        assert answer.endswith(b"The request is no valid HTTP.")
    text = "".join(f"{record.getMessage()}{record.exc_info}" for record in caplog.records)
    for private in ("s3cret", "127.0.0.1", "hello"):
        assert private not in text
        assert private.encode() not in answer


# Bursts


async def test_a_burst_of_1000_requests_is_held_back_and_a_session_lives_on() -> None:
    async with front() as served:
        resource = await a_live_session(served)
        offer = gstreamer("recvonly")
        statuses: Counter[int] = Counter()

        async def post(n: int) -> None:
            answer = await served.ask("POST", f"/whep/room{n}/anna", data=offer, headers=SDP)
            statuses[answer.status] += 1
            if answer.status == 429:
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.text.endswith(".")

        for n in range(0, 1000, 50):
            await asyncio.gather(*(post(m) for m in range(n, n + 50)))
        assert statuses == {201: 119, 429: 881}  # the burst of one address, but for ours
        assert await lives(served, resource)
        assert served.counts.clients == 2  # this address, for offers and for the rest
        assert served.counts.sessions == 120
        served.clock.now += 1.0
        assert (await served.ask("POST", PUBLISH, data=obs(), headers=SDP)).status == 201
        assert (await served.ask("DELETE", resource)).status == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("DELETE", "/resource/{}", 404),
        ("PATCH", "/resource/{}", 404),
        ("GET", "/resource/{}", 404),
        ("POST", ADMIN, 415),
        ("GET", "/api/rooms/hall/state", 200),
        ("GET", "/api/config", 200),
        ("POST", "/{}", 405),
    ],
)
async def test_other_requests_are_limited_too(method: str, path: str, status: int) -> None:
    async with front() as served:
        resource = await a_live_session(served)
        statuses: Counter[int] = Counter()
        for _ in range(400):
            answer = await served.ask(method, path.format(secrets.token_hex(24)))
            statuses[answer.status] += 1
        assert statuses == {status: 200, 429: 200}
        assert served.counts.sessions == 1
        served.clock.now += 1.0
        assert await lives(served, resource)


async def test_the_page_and_what_browsers_ask_first_are_not_limited() -> None:
    async with front() as served:
        for method, path in (("GET", "/hall"), ("OPTIONS", PUBLISH)):
            for _ in range(300):
                assert (await served.ask(method, path)).status in (200, 404)


async def test_a_token_is_limited_from_wherever_it_comes() -> None:
    rates = Rates(token=Rate(1.0, 10.0))
    settings = FrontSettings(trust_proxy=True, rates=rates)
    async with front(secret=SECRET, settings=settings) as served:
        token = bearer("listen")
        statuses: Counter[int] = Counter()
        for n in range(30):
            headers = token | {"X-Forwarded-For": f"10.0.0.{n}"}
            statuses[(await served.ask("GET", "/api/config", headers=headers)).status] += 1
        assert statuses == {200: 10, 429: 20}
        assert (await served.ask("GET", "/api/config", headers=bearer("admin"))).status == 200


async def test_who_stands_behind_our_proxy_is_believed_only_where_there_is_one() -> None:
    rates = Rates(request=Rate(1.0, 5.0))
    for trusted in (False, True):
        settings = FrontSettings(trust_proxy=trusted, rates=rates)
        async with front(secret=SECRET, settings=settings) as served:
            seen = set()
            for n in range(20):
                # The last is our proxy's word; what stands before, the client's.
                headers = {"X-Forwarded-For": f"{secrets.randbits(31)}, 10.0.0.{n}"}
                seen.add((await served.ask("GET", "/api/config", headers=headers)).status)
            assert seen == ({401} if trusted else {401, 429})
            assert served.counts.clients == (20 if trusted else 1)
            forged = [
                (
                    await served.ask(
                        "GET", "/api/config", headers={"X-Forwarded-For": f"1.1.1.{n}, 10.0.1.0"}
                    )
                ).status
                for n in range(20)
            ]
            assert forged[-1] == 429


async def test_forged_tokens_fill_no_table() -> None:
    async with front(secret=SECRET, settings=FREE) as served:
        for _ in range(200):
            headers = {"Authorization": f"Bearer {secrets.token_urlsafe(30)}"}
            answer = await served.refused("GET", "/api/rooms/hall/state", headers=headers)
            assert answer.status == 401
        assert served.counts.clients == 1


async def test_nothing_of_a_request_comes_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="stream")
    mark = "Xq7Xq7"
    async with front(secret=SECRET) as served:
        token = bearer("listen", "admin", "publish-speaker")
        for method, path, options in (
            ("GET", f"/{mark}.x", {}),
            ("GET", f"/api/rooms/{mark}/state", {"headers": token}),
            ("GET", f"/whip/{mark}/{mark}?token={mark}", {}),
            ("DELETE", f"/resource/{mark}", {"headers": token}),
            ("POST", PUBLISH, {"headers": token | {"Content-Type": mark}, "data": mark}),
            ("POST", PUBLISH, {"headers": token | SDP, "data": mark}),
            ("POST", PUBLISH, {"headers": token | SDP, "data": obs().replace("opus", mark)}),
            ("POST", ADMIN, {"headers": token, "json": {"action": mark}}),
            ("POST", ADMIN, {"headers": token, "json": {"action": "mute", "speaker": f".{mark}"}}),
            ("GET", "/", {"headers": {"Host": f"{mark}.example"}}),
            ("PROPFIND", f"/{mark}", {}),
        ):
            answer = await served.refused(method, path, **options)
            assert mark not in f"{answer.text}{answer.headers}"
    assert mark not in caplog.text


# Bounds


@pytest.mark.parametrize(
    ("bound", "most"),
    [("MOST_STREAMS", 6), ("MOST_STREAMS_OF_ROOM", 3), ("MOST_STREAMS_OF_ADDRESS", 6)],
)
async def test_there_is_a_bound_to_followers(
    bound: str, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api_module, bound, most)
    async with front(settings=FREE) as served, AsyncExitStack() as stack:
        for n in range(6):
            path = f"/api/rooms/room{n % 2}/events"
            got = await stack.enter_async_context(served.client.get(served.url + path))
            assert got.status == 200
        answer = await served.refused("GET", "/api/rooms/room0/events")
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        elsewhere = await stack.enter_async_context(
            served.client.get(served.url + "/api/rooms/room9/events")
        )
        assert elsewhere.status == (200 if bound == "MOST_STREAMS_OF_ROOM" else 503)


async def test_offers_that_wait_for_an_answer_are_bounded_and_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.relay.front.whip_whep._MOST_WAITING", 2)
    monkeypatch.setattr("stream.relay.front.whip_whep._ANSWER_S", 0.2)

    async def stuck(self: FakeRooms, *args: object, **fields: object) -> dict[str, object]:
        await asyncio.sleep(60)
        return {}

    monkeypatch.setattr(FakeRooms, "ask", stuck)
    async with front() as served:
        answers = await asyncio.gather(
            *(served.refused("POST", PUBLISH, data=obs(), headers=SDP) for _ in range(5))
        )
        assert {answer.status for answer in answers} == {503}
        texts = Counter(answer.text for answer in answers)
        assert sorted(texts.values()) == [2, 3]  # too busy to answer, and full
        assert all("Retry-After" in answer.headers for answer in answers)
        assert served.counts.sessions == 0
