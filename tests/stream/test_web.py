"""The page's server and its WebRTC, over real sockets on this computer, with aiortc as viewer."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from fractions import Fraction
from itertools import pairwise
from typing import Any

import aiohttp
import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.codecs import vpx
from aiortc.mediastreams import MediaStreamError
from av import CodecContext

from engine.errors import ConfigError, MediaError
from stream.core.sinks import Shown
from stream.web.broadcast import Broadcast
from stream.web.offer import OfferError, read_offer
from stream.web.server import PageServer
from stream.web.tracks import PictureTrack, SoundTrackOut
from stream.web.whep import Whep
from tests.stream.browser import tone

pytestmark = pytest.mark.media

SDP = {"Content-Type": "application/sdp"}
RED, BLUE = (200, 40, 40), (40, 40, 200)


class Session:
    """A session that does nothing but remember."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {"lip_sync": True, "trim_ms": 0}
        self.faces: list[tuple[float, float]] = []

    def meters(self) -> dict[str, object]:
        return {"fps": 25.0, "gate": "real"}

    def settings(self) -> dict[str, object]:
        return dict(self.values)

    def change(self, name: str, value: object) -> None:
        if name not in self.values:
            raise ConfigError(f"There is no setting {name!r}.")
        self.values[name] = value

    def choose_face(self, x: float, y: float) -> None:
        self.faces.append((x, y))


class Served:
    """A page's server that runs, and a client for it."""

    def __init__(self, url: str, client: aiohttp.ClientSession, broadcast: Broadcast) -> None:
        self.url, self.client, self.broadcast = url, client, broadcast
        self.session = Session()

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, str], str]:
        """Status, headers and text of an answer."""
        async with self.client.request(method, self.url.rstrip("/") + path, **options) as answer:
            return answer.status, dict(answer.headers), await answer.text()


@asynccontextmanager
async def serve(pictures: bool = True) -> AsyncIterator[Served]:
    broadcast, session = Broadcast(), Session()
    server = PageServer(session, broadcast)
    url = await server.start()
    tasks = [asyncio.create_task(job) for job in (server.run(), broadcast.run())]
    if pictures:
        broadcast.show(shown(0))
    try:
        async with aiohttp.ClientSession() as client:
            served = Served(url, client, broadcast)
            served.session = session
            yield served
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


def picture(colour: tuple[int, int, int]) -> Any:
    return np.full((120, 160, 3), colour, np.uint8)


def shown(number: int, pts: float | None = None) -> Shown:
    pts = number * 0.04 if pts is None else pts
    return Shown(number, pts, picture(RED), picture(BLUE), True, pts + 0.4)


def block(level: float = 0.5) -> Any:
    return np.full((960, 2), level, np.float32)


@asynccontextmanager
async def offering(*kinds: str) -> AsyncIterator[tuple[RTCPeerConnection, str]]:
    """A viewer and its offer."""
    viewer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    try:
        for kind in kinds:
            viewer.addTransceiver(kind, direction="recvonly")
        await viewer.setLocalDescription(await viewer.createOffer())
        yield viewer, viewer.localDescription.sdp
    finally:
        await viewer.close()


# What leaves, to viewers


async def test_without_viewers_nothing_is_converted_or_kept() -> None:
    broadcast = Broadcast()
    for number in range(50):
        broadcast.show(shown(number))
        broadcast.hear(block(), 0.0)
    assert broadcast.live
    facts = broadcast.facts()
    assert facts["encoded"] == {}
    assert not any(facts["dropped"].values())


async def test_a_slow_viewer_gets_the_newest_sound_and_the_rest_is_counted() -> None:
    broadcast = Broadcast()
    mailbox = broadcast.listen()
    for _ in range(25):
        broadcast.hear(block(), 0.0)
    first = await mailbox.get()
    assert first is not None
    assert first.number == 16
    assert broadcast.facts()["dropped"]["sound"] == 15
    mailbox.close()
    assert broadcast.facts()["dropped"]["sound"] == 15


async def test_pictures_that_come_faster_than_they_are_encoded_give_way_to_the_newest() -> None:
    broadcast = Broadcast()
    watcher = broadcast.watch("output")
    watcher.start()
    for number in range(4):
        broadcast.show(shown(number))
    running = asyncio.create_task(broadcast.run())
    got = await watcher.get()
    assert got is not None
    assert got.pts == pytest.approx(0.12)
    assert broadcast.facts()["dropped"]["encoder_busy"] == 3
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running
    assert await watcher.get() is None  # the end of the broadcast lets its viewers go


async def test_sound_is_20_ms_of_opus_whose_times_keep_the_holes() -> None:
    broadcast = Broadcast()
    track = SoundTrackOut(broadcast)
    broadcast.hear(block(-0.1), 0.0)  # before the connection: not sent

    async def receive() -> Any:
        return await asyncio.wait_for(track.recv(), 1)

    waiting = asyncio.create_task(receive())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    broadcast.hear(block(2.0), 0.0)
    packet = await waiting
    assert (packet.pts, packet.time_base) == (0, Fraction(1, 48_000))
    decoder: Any = CodecContext.create("libopus", "r")
    (frame,) = decoder.decode(packet)
    assert (frame.layout.name, frame.samples, frame.sample_rate) == ("stereo", 960, 48_000)
    samples = frame.to_ndarray().reshape(-1)
    assert samples[-200:].min() > 0  # too loud is clipped and does not wrap around
    for _ in range(12):  # two more than wait at most
        broadcast.hear(block(), 0.0)
    assert [(await receive()).pts for _ in range(10)] == [960 * n for n in range(3, 13)]
    track.stop()
    with pytest.raises(MediaStreamError):
        await receive()


async def test_picture_times_come_from_the_camera_and_always_rise() -> None:
    broadcast = Broadcast()
    running = asyncio.create_task(broadcast.run())
    track = PictureTrack(broadcast, "camera")
    decoder: Any = CodecContext.create("libvpx", "r")
    times = []
    for number, pts in enumerate((5.0, 5.04, 5.04, 5.12)):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.show(shown(number, pts))
        packet = await asyncio.wait_for(waiting, 1)
        times.append(packet.pts)
        (frame,) = decoder.decode(packet)
    assert times == [0, 3600, 3690, 10800]
    colour = frame.to_ndarray(format="rgb24").mean(axis=(0, 1))
    assert np.abs(colour - BLUE).max() < 4
    running.cancel()


async def test_an_aiortc_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    Whep(Broadcast())
    monkeypatch.delattr(vpx.Vp8Encoder, "pack")
    with pytest.raises(ConfigError, match=r"has no Vp8Encoder\.pack"):
        Whep(Broadcast())


async def test_a_viewer_sees_and_hears_what_leaves_and_goes_when_it_says_so() -> None:
    async with serve() as served, offering("video", "audio") as (viewer, sdp):
        status, headers, answer = await served.ask("POST", "/whep/output", data=sdp, headers=SDP)
        assert (status, headers["Content-Type"]) == (201, "application/sdp")
        assert headers["Location"].startswith("/whep/output/")
        await viewer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        tracks = {t.kind: t.receiver.track for t in viewer.getTransceivers()}

        async def feed() -> None:
            for tick in range(250):
                served.broadcast.hear(tone(tick), tick * 0.02)
                if tick % 2 == 0:
                    served.broadcast.show(shown(tick // 2))
                await asyncio.sleep(0.02)

        feeding = asyncio.create_task(feed())
        seen: list[Any] = [await asyncio.wait_for(tracks["video"].recv(), 4)]
        heard: list[Any] = []
        for _ in range(10):
            seen.append(await asyncio.wait_for(tracks["video"].recv(), 2))
            heard.append(await asyncio.wait_for(tracks["audio"].recv(), 2))
        colour = seen[-1].to_ndarray(format="rgb24").mean(axis=(0, 1))
        assert np.abs(colour - RED).max() < 12
        assert {b.pts - a.pts for a, b in pairwise(heard)} == {960}
        assert max(np.abs(frame.to_ndarray()).max() for frame in heard) > 5000
        assert served.broadcast.facts()["viewers"] == 1
        where = headers["Location"]
        assert (await served.ask("PATCH", where))[0] == 422
        assert (await served.ask("DELETE", where))[0] == 200
        assert served.broadcast.facts()["viewers"] == 0
        assert (await served.ask("DELETE", where))[0] == 404
        feeding.cancel()


# Offers


async def test_the_camera_needs_no_sound_and_a_ninth_viewer_is_asked_to_wait() -> None:
    async with serve() as served, offering("video") as (_, sdp):
        for _ in range(8):
            status, _, answer = await served.ask("POST", "/whep/camera", data=sdp, headers=SDP)
            assert status == 201
            assert "m=audio" not in answer
        status, headers, text = await served.ask("POST", "/whep/camera", data=sdp, headers=SDP)
        assert (status, headers["Retry-After"]) == (503, "5")
        assert "8 places" in text


async def test_before_the_first_picture_a_viewer_is_asked_to_come_again() -> None:
    async with serve(pictures=False) as served, offering("video") as (_, sdp):
        status, headers, _ = await served.ask("POST", "/whep/output", data=sdp, headers=SDP)
        assert (status, headers["Retry-After"]) == (409, "1")


async def test_requests_that_are_no_offer_get_the_status_that_says_so() -> None:
    async with serve() as served, offering("video") as (_, sdp):
        sending = sdp.replace("a=recvonly", "a=sendrecv")
        broken = sdp.replace("a=rtpmap:97 VP8", "a=rtpmap:x VP8")
        unknown = sdp.replace("VP8/", "XY/").replace("H264/", "XY/")
        cases: list[tuple[str, bytes, dict[str, str], int]] = [
            ("/whep/output", sdp.encode(), {"Content-Type": "text/plain"}, 415),
            ("/whep/output", b"", SDP, 400),
            ("/whep/output", b"hello", SDP, 400),
            ("/whep/output", sdp.encode() + "ü".encode(), SDP, 400),
            ("/whep/output", sdp.encode() + b"a=x\r\n" * 20_000, SDP, 413),
            ("/whep/output", sdp.replace("a=setup:actpass", "a=setup:x").encode(), SDP, 400),
            ("/whep/output", broken.encode(), SDP, 400),
            ("/whep/output", sending.encode(), SDP, 422),
            ("/whep/output", unknown.encode(), SDP, 422),
            ("/whep/other", sdp.encode(), SDP, 404),
        ]
        for path, body, headers, expected in cases:
            status, _, text = await served.ask("POST", path, data=body, headers=headers)
            assert status == expected, text
            assert text.endswith(".")
            assert "\n" not in text
        assert served.broadcast.facts()["viewers"] == 0


async def test_an_endpoint_says_what_it_takes() -> None:
    async with serve() as served:
        status, headers, _ = await served.ask("OPTIONS", "/whep/output")
        assert (status, headers["Accept-Post"]) == (204, "application/sdp")
        assert (await served.ask("GET", "/whep/output"))[0] == 204
        assert (await served.ask("HEAD", "/whep/output"))[1]["Content-Type"] == "application/sdp"
        assert (await served.ask("PUT", "/whep/output"))[0] == 405
        assert (await served.ask("DELETE", "/whep/output/guessed"))[0] == 404


async def test_an_offer_is_read_without_the_viewer_s_addresses() -> None:
    async with offering("video", "audio") as (_, sdp):
        pass
    candidate = "a=candidate:1 1 udp 1 victim.example 9 typ host\r\n"
    read = read_offer((sdp + candidate).encode())
    assert read.kinds == ("video", "audio")
    assert "candidate" not in read.sdp
    with pytest.raises(OfferError, match="50 candidates") as caught:
        read_offer((sdp + candidate * 51).encode())
    assert caught.value.status == 400
    with pytest.raises(OfferError, match="1 to 4"):
        read_offer((sdp + "m=video 9 UDP/TLS/RTP/SAVPF 97\r\n" * 3).encode())


# The page and who may use it


async def test_the_page_is_served_with_what_keeps_others_out() -> None:
    async with serve() as served:
        for path, kind in (("/", "html"), ("/page.js", "javascript"), ("/page.css", "css")):
            status, headers, text = await served.ask("GET", path)
            assert (status, kind in headers["Content-Type"], len(text) > 500) == (200, True, True)
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
            assert headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"])
async def test_another_host_name_is_refused(host: str) -> None:
    async with serve() as served:
        for path in ("/", "/api/events", "/page.js"):
            assert (await served.ask("GET", path, headers={"Host": host}))[0] == 403


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:8765"])
async def test_own_host_names_are_taken(host: str) -> None:
    async with serve() as served:
        assert (await served.ask("GET", "/", headers={"Host": host}))[0] == 200


async def test_another_site_can_change_nothing() -> None:
    async with serve() as served:
        body = {"name": "lip_sync", "value": False}
        port = served.url.rstrip("/").rsplit(":", 1)[1]
        for origin in (
            "http://evil.example",
            "null",
            "http://127.0.0.1:1",
            f"https://localhost:{port}",
        ):
            headers = {"Origin": origin}
            for path in ("/api/settings", "/api/face", "/whep/output"):
                assert (await served.ask("POST", path, json=body, headers=headers))[0] == 403
            assert (await served.ask("DELETE", "/whep/output/x", headers=headers))[0] == 403
        assert served.session.values["lip_sync"] is True
        own = {"Origin": served.url.rstrip("/")}
        assert (await served.ask("POST", "/api/settings", json=body, headers=own))[0] == 200
        assert served.session.values["lip_sync"] is False


async def test_settings_and_faces_reach_the_session_and_mistakes_come_back_as_sentences() -> None:
    async with serve() as served:
        status, _, text = await served.ask(
            "POST", "/api/settings", json={"name": "trim_ms", "value": -40}
        )
        assert (status, json.loads(text)["trim_ms"]) == (200, -40)
        assert (await served.ask("POST", "/api/face", json={"x": 0.25, "y": 1}))[0] == 204
        assert served.session.faces == [(0.25, 1.0)]
        answer = await served.ask("POST", "/api/settings", json={"name": "volume", "value": 1})
        assert (answer[0], answer[2]) == (400, "There is no setting 'volume'.")
        plain = {"Content-Type": "text/plain"}
        for path, options, expected in (
            ("/api/settings", {"json": {"trim_ms": 1}}, 400),
            ("/api/settings", {"json": [1]}, 400),
            ("/api/settings", {"data": b"{}", "headers": plain}, 415),
            ("/api/face", {"json": {"x": 2, "y": 0}}, 400),
            ("/api/face", {"json": {"x": True, "y": 0}}, 400),
            ("/api/face", {"data": b"{", "headers": {"Content-Type": "application/json"}}, 400),
            ("/api/face", {"json": {"x": "0" * 70_000}}, 413),
            ("/api/none", {"json": {}}, 404),
        ):
            assert (await served.ask("POST", path, **options))[0] == expected, path
        assert served.session.faces == [(0.25, 1.0)]


async def test_events_tell_the_state_at_once_and_again() -> None:
    async with serve() as served, served.client.get(served.url + "api/events") as answer:
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        for _ in range(2):
            line = await asyncio.wait_for(answer.content.readline(), 2)
            state = json.loads(line.removeprefix(b"data: "))
            assert state["meters"] == {"fps": 25.0, "gate": "real"}
            assert state["settings"] == {"lip_sync": True, "trim_ms": 0}
            assert await answer.content.readline() == b"\n"


async def test_a_taken_port_is_told_before_the_session_begins() -> None:
    async with serve() as served:
        port = int(served.url.rstrip("/").rsplit(":", 1)[1])
        with pytest.raises(MediaError, match=f"Port {port} is taken"):
            await PageServer(Session(), Broadcast(), port=port).start()


async def test_the_end_of_the_server_ends_viewers_and_pages_soon(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        asyncio.timeout(8),
        aiohttp.ClientSession() as outside,
        offering("video") as (_, sdp),
    ):
        async with serve() as served:
            await served.ask("POST", "/whep/output", data=sdp, headers=SDP)
            events = await outside.get(served.url + "api/events")
            broadcast = served.broadcast
        assert broadcast.facts()["viewers"] == 0
        await events.content.read()  # ends, as the stream was closed
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]
