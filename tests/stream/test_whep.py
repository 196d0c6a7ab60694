"""The WHEP endpoint against viewers that vanish, never come, or send nonsense."""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from av import AudioFrame, VideoFrame

from stream.core.sinks import Shown
from stream.web import peers as peers_module
from stream.web.broadcast import Broadcast
from stream.web.offer import OfferError, read_offer
from stream.web.whep import Whep
from tests.stream.browser import feed, picture

pytestmark = pytest.mark.media

SDP = {"Content-Type": "application/sdp"}
SEED = 7
LISTEN_S = 3.0

Client = TestClient[web.Request, web.Application]


@asynccontextmanager
async def endpoint() -> AsyncIterator[tuple[Client, Whep, Broadcast]]:
    """An endpoint whose broadcast runs and has shown a picture."""
    broadcast = Broadcast()
    whep = Whep(broadcast)
    app = web.Application()
    whep.add_routes(app)
    running = asyncio.create_task(broadcast.run())
    card = np.zeros((48, 64, 3), np.uint8)
    broadcast.show(Shown(0, 0.0, card, card, False, 0.4))
    try:
        async with TestClient(TestServer(app)) as client:
            yield client, whep, broadcast
    finally:
        await whep.close()
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@asynccontextmanager
async def viewer(*kinds: str) -> AsyncIterator[RTCPeerConnection]:
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        connection.addTransceiver(kind, "recvonly")
    await connection.setLocalDescription(await connection.createOffer())
    try:
        yield connection
    finally:
        await connection.close()


async def offered(*kinds: str) -> str:
    """An offer of a viewer that will not come; without gathering there is nothing to free."""
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        connection.addTransceiver(kind, "recvonly")
    return str((await connection.createOffer()).sdp)


async def until(condition: Callable[[], object]) -> None:
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise TimeoutError


async def test_a_second_of_sound_is_heard_in_a_second() -> None:
    async with endpoint() as (client, _, broadcast), viewer("video", "audio") as connection:
        pictures = [picture(number / 25) for number in range(25)]
        feeding = asyncio.create_task(feed(broadcast, pictures))
        answer = await client.post(
            "/whep/output", data=connection.localDescription.sdp, headers=SDP
        )
        await connection.setRemoteDescription(RTCSessionDescription(await answer.text(), "answer"))
        heard: list[int] = []
        seen: list[int] = []

        async def read(kind: str, found: list[int]) -> None:
            (track,) = (t.receiver.track for t in connection.getTransceivers() if t.kind == kind)
            while True:
                frame = await track.recv()
                assert isinstance(frame, AudioFrame | VideoFrame)
                assert frame.pts is not None
                found.append(frame.pts)

        reading = [
            asyncio.create_task(read(kind, found))
            for kind, found in (("audio", heard), ("video", seen))
        ]
        await until(lambda: heard and seen)
        begin, first_sound, first_picture = time.monotonic(), len(heard), len(seen)
        await asyncio.sleep(LISTEN_S)
        elapsed_s = time.monotonic() - begin
        sound, shown = heard[first_sound:], seen[first_picture:]
        for task in [*reading, feeding]:
            task.cancel()
        await asyncio.gather(*reading, feeding, return_exceptions=True)
    assert {b - a for a, b in pairwise(sound)} == {960}  # every packet has a time of its own
    assert 0.02 * len(sound) / elapsed_s == pytest.approx(1.0, abs=0.05)
    assert len(shown) / elapsed_s == pytest.approx(25.0, abs=2.0)
    assert all(b > a for a, b in pairwise(shown))


async def test_a_viewer_that_hangs_up_without_a_word_is_removed() -> None:
    async with endpoint() as (client, whep, broadcast):
        async with viewer("video") as connection:
            answer = await client.post(
                "/whep/camera", data=connection.localDescription.sdp, headers=SDP
            )
            sdp = RTCSessionDescription(await answer.text(), "answer")
            await connection.setRemoteDescription(sdp)
            await until(lambda: connection.connectionState == "connected")
            assert whep.viewers == 1
        await until(lambda: not whep.viewers)
        assert broadcast.facts()["viewers"] == 0


async def test_a_viewer_that_never_connects_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers_module, "_CONNECT_S", 0.1)
    async with endpoint() as (client, whep, broadcast):
        answer = await client.post("/whep/output", data=await offered("video"), headers=SDP)
        assert (answer.status, whep.viewers) == (201, 1)
        await until(lambda: not whep.viewers)
        assert broadcast.facts()["viewers"] == 0


async def test_a_connection_that_will_not_close_holds_nothing_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(peers_module, "_CLOSE_S", 0.05)
    close = RTCPeerConnection.close

    async def stuck(connection: RTCPeerConnection) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await close(connection)

    async with endpoint() as (client, whep, _):
        monkeypatch.setattr(RTCPeerConnection, "close", stuck)
        answer = await client.post("/whep/output", data=await offered("video"), headers=SDP)
        assert answer.status == 201
        begin = time.monotonic()
        await whep.close()
        assert time.monotonic() - begin < 2
        monkeypatch.setattr(RTCPeerConnection, "close", close)
    assert any("did not close cleanly" in record.message for record in caplog.records)


async def test_the_urls_of_sessions_cannot_be_guessed() -> None:
    async with endpoint() as (client, whep, _):
        offer = await offered("video")
        names = set()
        for _ in range(3):
            answer = await client.post("/whep/output", data=offer, headers=SDP)
            names.add(answer.headers["Location"].rsplit("/", 1)[1])
        assert len(names) == 3
        assert min(len(name) for name in names) >= 22  # 128 bits in base64
        for name in names:
            assert (await client.delete(f"/whep/output/{name}")).status == 200
        assert whep.viewers == 0


# Offers


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        pytest.param("a=recvonly", "a=sendonly", 422, id="sends"),
        pytest.param("a=recvonly", "a=x", 422, id="has no direction"),
        pytest.param("a=rtcp-mux", "a=x", 422, id="without rtcp-mux"),
        pytest.param("a=group:BUNDLE 0 1", "a=group:BUNDLE 0", 422, id="half a bundle"),
        pytest.param("a=group:BUNDLE 0 1", "a=x", 422, id="no bundle"),
        pytest.param("a=mid:1", "a=mid:0", 400, id="one mid for two"),
        pytest.param("m=audio", "m=video", 422, id="two videos"),
        pytest.param("m=audio", "m=application", 422, id="data"),
        pytest.param("v=0", "x=0", 400, id="another format"),
        pytest.param("v=0", "v=0\0", 400, id="a zero byte"),
        pytest.param("m=", "x=", 400, id="no media"),
    ],
)
async def test_an_offer_that_is_none_for_a_viewer_is_refused(
    old: str, new: str, status: int
) -> None:
    sdp = await offered("video", "audio")
    assert old in sdp
    read_offer(sdp.encode())
    with pytest.raises(OfferError) as caught:
        read_offer(sdp.replace(old, new).encode())
    assert caught.value.status == status


def mutated(sdp: str, random_: random.Random) -> bytes:
    """The offer with one to four random mistakes."""
    lines = sdp.split("\r\n")
    for _ in range(random_.randint(1, 4)):
        place = random_.randrange(len(lines))
        line = lines[place]
        match random_.randrange(7):
            case 0:
                del lines[place]
            case 1:
                lines.insert(place, random_.choice(lines))
            case 2:
                other = random_.randrange(len(lines))
                lines[place], lines[other] = lines[other], line
            case 3:
                cut = random_.randint(0, len(line))
                lines[place] = line[:cut] + chr(random_.randint(1, 255)) + line[cut + 1 :]
            case 4:
                lines[place] = line[: random_.randint(0, len(line))]
            case 5:
                digits = [n for n, letter in enumerate(line) if letter.isdigit()]
                if digits:
                    at = random_.choice(digits)
                    number = random_.choice(["-1", "", "99999999999999999999", "x"])
                    lines[place] = line[:at] + number + line[at + 1 :]
            case 6:
                lines = lines[: max(1, place)]
    return "\r\n".join(lines).encode("latin-1")


async def test_200_broken_offers_get_an_answer_or_one_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.WARNING)
    random_ = random.Random(SEED)
    sdp = await offered("video", "audio")
    statuses: list[int] = []
    async with endpoint() as (client, whep, _):
        begin = time.monotonic()
        for _ in range(200):
            body = mutated(sdp, random_)
            answer = await client.post("/whep/output", data=body, headers=SDP)
            text = await answer.text()
            statuses.append(answer.status)
            if answer.status == 201:
                await client.delete(answer.headers["Location"])
            else:
                assert text.endswith(".")
                assert "\n" not in text
        elapsed_s = time.monotonic() - begin
        assert whep.viewers == 0
        good = await client.post("/whep/output", data=sdp, headers=SDP)
        assert good.status == 201  # no broken offer did lasting harm
    assert set(statuses) <= {201, 400, 422}
    assert statuses.count(201) > 20
    assert statuses.count(400) > 20
    assert elapsed_s / 200 < 0.1
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
