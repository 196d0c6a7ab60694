"""Viewers of a broadcast: two real peers over this computer's network, and what they say."""

import asyncio
import math
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpReceiver,
    RTCRtpSender,
    RTCSessionDescription,
    rtp,
)
from aiortc.mediastreams import MediaStreamError
from av import AudioFrame, CodecContext, VideoFrame

from engine.errors import ConfigError
from stream.core.rendition import Rates
from stream.core.sinks import Shown
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES
from stream.web.broadcast import MEETING, Broadcast
from stream.web.offer import OfferError
from stream.web.peers import Peers
from stream.web.tracks import PictureTrack, SoundTrackOut
from stream.web.viewer import Viewer, check_aiortc, offered_kinds
from tests.stream import flash_click
from tests.stream.browser import feed, picture

pytestmark = pytest.mark.media

BOTH = ("video", "audio")


class Remote:
    """A viewer's own side: aiortc's receiver, and what it got."""

    def __init__(self, codec: str, kinds: tuple[str, ...] = BOTH) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.pictures: list[VideoFrame] = []
        self.sound: list[AudioFrame] = []
        self._reading: list[asyncio.Task[None]] = []
        for kind in kinds:
            transceiver = self.connection.addTransceiver(kind, "recvonly")
            if kind == "video":
                known: Any = RTCRtpReceiver.getCapabilities("video")
                wanted = [c for c in known.codecs if c.mimeType == f"video/{codec}"]
                transceiver.setCodecPreferences(wanted)

    async def join(self, peers: Peers, name: str, viewer: Viewer) -> None:
        await self.connection.setLocalDescription(await self.connection.createOffer())
        answer = await peers.answer(name, self.connection.localDescription.sdp, viewer)
        await self.connection.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        for transceiver in self.connection.getTransceivers():
            found: list[Any] = self.pictures if transceiver.kind == "video" else self.sound
            self._reading.append(asyncio.create_task(self._read(transceiver.receiver, found)))

    async def until(self, pictures: int, within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while len(self.pictures) < pictures:
                await asyncio.sleep(0.005)

    async def leave(self) -> None:
        for task in self._reading:
            task.cancel()
        await asyncio.gather(*self._reading, return_exceptions=True)
        await self.connection.close()

    async def _read(self, receiver: Any, found: list[Any]) -> None:
        with suppress(MediaStreamError):
            while True:
                found.append(await receiver.track.recv())


@asynccontextmanager
async def playing(rates: Rates = MEETING) -> AsyncIterator[tuple[Broadcast, Peers]]:
    """A broadcast with a moving picture and a tone of 440 Hz."""
    broadcast, peers = Broadcast(rates=rates), Peers(most=16)
    pictures = [picture(number / 25) for number in range(52)]
    tasks = [asyncio.create_task(job) for job in (broadcast.run(), feed(broadcast, pictures))]
    try:
        yield broadcast, peers
    finally:
        await peers.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# Real peers


async def test_many_viewers_decode_what_was_encoded_once() -> None:
    async with playing() as (broadcast, peers):
        codecs = ["VP8", "VP8", "VP8", "H264", "H264"]
        remotes = [Remote(codec) for codec in codecs]
        viewers = [Viewer(broadcast) for _ in codecs]
        for n, (remote, viewer) in enumerate(zip(remotes, viewers, strict=True)):
            await remote.join(peers, str(n), viewer)
        assert [viewer.codec for viewer in viewers] == codecs
        for remote in remotes:
            await remote.until(25)
            shown = remote.pictures[-1].to_ndarray(format="rgb24")
            assert shown.shape == (240, 320, 3)
            assert shown[5, 300].astype(int) == pytest.approx([240, 5, 120], abs=30)
        facts = broadcast.facts()
        assert facts["watching"] == {"VP8": {"full": 3}, "H264": {"full": 2}}
        # One of each for each picture and block, not one for each viewer.
        assert facts["encoded"]["VP8 full"]["packets"] < 2 * len(remotes[0].pictures)
        assert facts["encoded"]["H264 full"]["packets"] < 2 * len(remotes[3].pictures)
        assert facts["encoded"]["Opus"]["packets"] < 2 * len(remotes[0].sound)
        lost = {why: count for why, count in facts["dropped"].items() if why != "encoder_busy"}
        assert not any(lost.values())
        for viewer, codec in zip(viewers, codecs, strict=True):
            about = viewer.facts()
            assert (about["codec"], about["rendition"]) == (codec, "full")
            assert about["packets"] >= 25
            assert about["bytes"] > 10_000
            assert (about["dropped"], about["nacks"]) == ({}, 0)
        for n in range(len(codecs)):
            peers.end(str(n))
        assert (broadcast.facts()["viewers"], broadcast.facts()["listeners"]) == (0, 0)
        for remote in remotes:
            await remote.leave()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_late_viewer_sees_within_a_second(codec: str) -> None:
    async with playing() as (broadcast, peers):
        first, late = Remote(codec), Remote(codec)
        await first.join(peers, "first", Viewer(broadcast))
        await first.until(40)
        await late.join(peers, "late", Viewer(broadcast))
        begin = time.monotonic()
        while late.connection.connectionState != "connected":
            await asyncio.sleep(0.005)
        assert time.monotonic() - begin < 5
        begin = time.monotonic()
        await late.until(1)
        # At worst a second since the last key frame, and a picture for the receiver's buffer.
        assert time.monotonic() - begin < 1.5
        await first.leave()
        await late.leave()


async def test_requests_of_many_viewers_make_one_key_frame_a_second() -> None:
    async with playing() as (broadcast, peers):
        remotes = [Remote("VP8", ("video",)) for _ in range(3)]
        viewers = [Viewer(broadcast, kinds=("video",)) for _ in remotes]
        for n, remote in enumerate(remotes):
            await remote.join(peers, str(n), viewers[n])
        for remote in remotes:
            await remote.until(1)
        before, begin = broadcast.facts()["encoded"]["VP8 full"], time.monotonic()
        for _ in range(40):
            for remote, viewer in zip(remotes, viewers, strict=True):
                (transceiver,) = remote.connection.getTransceivers()
                await transceiver.receiver._send_rtcp_pli(viewer._sender._ssrc)
            await asyncio.sleep(0.05)
        elapsed_s = time.monotonic() - begin
        after = broadcast.facts()["encoded"]["VP8 full"]
        made = after["key_frames"] - before["key_frames"]
        assert 1 <= made <= elapsed_s + 1
        assert all(viewer.facts()["plis"] >= 30 for viewer in viewers)
        for remote in remotes:
            await remote.leave()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_changing_the_rendition_back_and_forth_decodes(codec: str) -> None:
    async with playing() as (broadcast, peers):
        moving, still = Remote(codec, ("video",)), Remote(codec, ("video",))
        viewers = [Viewer(broadcast, kinds=("video",)) for _ in range(2)]
        await moving.join(peers, "moving", viewers[0])
        await still.join(peers, "still", viewers[1])
        await moving.until(5)
        assert viewers[0]._picture is not None
        for rendition, height in (("small", 120), ("full", 240), ("small", 120)):
            viewers[0]._picture.watcher.want(rendition)  # type: ignore[arg-type]
            async with asyncio.timeout(5):
                while moving.pictures[-1].height != height:
                    await asyncio.sleep(0.01)
            count = len(moving.pictures)
            await moving.until(count + 10)
            late = moving.pictures[count + 2 :]
            assert {(shown.height, shown.width) for shown in late} == {(height, height * 4 // 3)}
        assert viewers[0].facts()["rendition"] == "small"
        times = [shown.pts for shown in moving.pictures]
        assert all(b > a for a, b in pairwise(times) if a is not None and b is not None)
        assert {shown.height for shown in still.pictures} == {240}
        assert viewers[0].facts()["plis"] <= 1  # no change looked like a loss
        await moving.leave()
        await still.leave()


async def test_440_hz_go_on_without_a_hole() -> None:
    async with playing() as (broadcast, peers):
        remote = Remote("VP8", ("audio",))
        viewer = Viewer(broadcast, kinds=("audio",))
        await remote.join(peers, "ear", viewer)
        async with asyncio.timeout(20):
            while len(remote.sound) < 200:
                await asyncio.sleep(0.02)
        frames = remote.sound[20:]  # what the decoder begins with
        await remote.leave()
    times = [frame.pts for frame in frames]
    assert {b - a for a, b in pairwise(times) if a is not None and b is not None} == {960}
    wave = np.concatenate([frame.to_ndarray().reshape(-1, 2)[:, 0] for frame in frames])
    rises = np.flatnonzero((wave[:-1] < 0) & (wave[1:] >= 0))
    cycles_per_s = (len(rises) - 1) * SOUND_RATE / (rises[-1] - rises[0])
    assert cycles_per_s / 440 == pytest.approx(1.0, abs=0.01)
    assert np.diff(rises).max() < 1.2 * SOUND_RATE / 440  # no cycle is torn
    assert viewer.codec is None
    assert viewer.facts()["rendition"] is None


# Flash and click


async def test_flash_and_click_leave_together() -> None:
    broadcast = Broadcast()
    running = asyncio.create_task(broadcast.run())
    seen: list[tuple[float, float]] = []
    heard: list[tuple[float, float]] = []

    async def see() -> None:
        track, decoder = PictureTrack(broadcast, "output"), CodecContext.create("libvpx", "r")
        while True:
            packet = await track.recv()
            at = time.monotonic()
            (frame,) = decoder.decode(packet)
            seen.append((at, float(frame.to_ndarray(format="gray").mean())))

    async def hear() -> None:
        track, decoder = SoundTrackOut(broadcast), CodecContext.create("libopus", "r")
        while True:
            packet = await track.recv()
            at = time.monotonic()
            (frame,) = decoder.decode(packet)
            level = np.abs(frame.to_ndarray().astype(float))
            heard.append((at, float(level.max())))

    async def play() -> None:
        begin = time.monotonic()
        for tick in range(round(4.2 / TICK_S)):
            await asyncio.sleep(max(0.0, begin + tick * TICK_S - time.monotonic()))
            at = tick * TICK_S
            wave = flash_click.sound(at, TICK_SAMPLES)
            broadcast.hear(np.stack([wave, wave], axis=1), at)
            if tick % 2 == 0:
                shown = flash_click.picture(at, 640, 480)
                broadcast.show(Shown(tick // 2, at, shown, shown, False, at + 0.4))

    watching = [asyncio.create_task(job) for job in (see(), hear())]
    await play()
    for task in [*watching, running]:
        task.cancel()
    await asyncio.gather(*watching, running, return_exceptions=True)
    flashes = [b[0] for a, b in pairwise(seen) if a[1] < 128 <= b[1]]
    clicks = [b[0] for a, b in pairwise(heard) if a[1] < 5000 <= b[1]]
    skews = flash_click.skews(flashes, clicks)
    assert len(skews) == len(clicks) == 4
    assert sorted(map(abs, skews))[2] <= 0.04  # one may meet a hiccup of this computer


# What viewers say


class Told:
    """A viewer's sender that is told things, without a connection."""

    def __init__(self, rates: Rates = MEETING, *kinds: str) -> None:
        self.now = 0.0
        self.broadcast = Broadcast(rates=rates)
        self.viewer = Viewer(self.broadcast, kinds=kinds or ("video",), now=lambda: self.now)
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self.viewer.prepare(self.connection)
        self.sender = self.connection.getTransceivers()[0].sender
        assert self.viewer._picture is not None
        self.watcher = self.viewer._picture.watcher
        self.watcher.start()

    async def tell(self, packet: Any) -> None:
        await self.sender._handle_rtcp_packet(packet)

    async def remb(self, bits_per_s: int, ssrc: int | None = None) -> None:
        fci = rtp.pack_remb_fci(bits_per_s, [self.sender._ssrc if ssrc is None else ssrc])
        await self.tell(rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci))

    async def lost(self, share: float, ssrc: int | None = None) -> None:
        report = rtp.RtcpReceiverInfo(
            ssrc=self.sender._ssrc if ssrc is None else ssrc,
            fraction_lost=round(share * 256),
            packets_lost=0,
            highest_sequence=0,
            jitter=0,
            lsr=0,
            dlsr=0,
        )
        await self.tell(rtp.RtcpRrPacket(ssrc=1, reports=[report]))


@pytest.fixture
async def told() -> AsyncIterator[Told]:
    made = Told()
    yield made
    made.viewer.closed()
    await made.connection.close()


async def test_heavy_loss_asks_for_the_small_picture(told: Told) -> None:
    for second in range(3):
        told.now = float(second)
        await told.lost(0.7)
    assert told.viewer.facts()["lost"] == pytest.approx(0.7, abs=0.01)
    assert told.watcher._next is not None
    assert told.watcher._next.kind.rendition == "small"


async def test_a_low_estimate_asks_for_fewer_bits_and_then_for_the_small_picture(
    told: Told,
) -> None:
    for second in range(6):
        told.now = float(second)
        told.watcher.sent_bytes += 150_000  # 1.2 Mb/s
        await told.remb(700_000 if second < 4 else 300_000)
        if second == 3:
            (stream,) = told.broadcast._streams.values()
            assert stream.rate() == pytest.approx(700_000, rel=0.01)
    assert told.viewer.facts()["estimate_bits_per_s"] == pytest.approx(300_000, rel=0.01)
    assert told.watcher._next is not None


async def test_what_is_said_of_other_streams_is_not_taken(told: Told) -> None:
    other = told.sender._ssrc ^ 1
    for second in range(5):
        told.now = float(second)
        told.watcher.sent_bytes += 150_000
        await told.remb(50_000, other)
        await told.lost(0.9, other)
    facts = told.viewer.facts()
    assert (facts["estimate_bits_per_s"], facts["lost"]) == (None, None)
    assert told.watcher._next is None


async def test_requests_are_counted_and_passed_on(told: Told) -> None:
    (stream,) = told.broadcast._streams.values()
    assert stream.keys.due(0.0)
    assert not stream.keys.due(2.0)
    for fmt in (rtp.RTCP_PSFB_PLI, rtp.RTCP_PSFB_FIR):
        await told.tell(rtp.RtcpPsfbPacket(fmt=fmt, ssrc=1, media_ssrc=told.sender._ssrc))
    nack = rtp.RtcpRtpfbPacket(fmt=rtp.RTCP_RTPFB_NACK, ssrc=1, media_ssrc=told.sender._ssrc)
    nack.lost = [3, 4, 5]
    await told.tell(nack)
    assert (told.viewer.facts()["plis"], told.viewer.facts()["nacks"]) == (2, 3)
    assert stream.keys.due(4.0)


async def test_nonsense_is_heard_without_harm(told: Told) -> None:
    random_ = random.Random(1)
    for _ in range(300):
        fci = b"REMB" + random_.randbytes(random_.randint(0, 12))
        packet = rtp.RtcpPsfbPacket(fmt=rtp.RTCP_PSFB_APP, ssrc=1, media_ssrc=0, fci=fci)
        told.viewer._hear(packet)
    told.viewer._hear(object())
    assert math.isfinite(told.viewer._link.holds)


async def test_an_own_picture_on_this_computer_is_never_made_small() -> None:
    told = Told(Rates(full=2_500_000))
    for second in range(20):
        told.now = float(second)
        told.watcher.sent_bytes += 300_000
        await told.remb(50_000)
        await told.lost(0.8)
    (stream,) = told.broadcast._streams.values()
    assert (told.watcher._next, stream.rate()) == (None, 2_500_000)
    told.viewer.closed()
    await told.connection.close()


# What does not fit


async def test_a_codec_that_there_is_not_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stream.web.viewer._CODECS", {})
    broadcast, peers = Broadcast(), Peers(most=1)
    remote = Remote("VP8", ("video",))
    with pytest.raises(OfferError):
        await remote.join(peers, "ann", Viewer(broadcast))
    assert broadcast.viewers == 0
    await peers.close()
    await remote.leave()


def test_the_media_of_an_offer_are_found() -> None:
    sdp = "v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\n"
    assert offered_kinds(sdp) == ("audio", "video")
    assert offered_kinds(sdp.replace("m=video", "m=other")) == ("audio",)


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (RTCRtpSender, "_send_keyframe"),
        (RTCRtpSender, "_handle_rtcp_packet"),
        (RTCRtpSender, "_next_encoded_frame"),
        (rtp, "unpack_remb_fci"),
        (rtp, "RtcpRrPacket"),
    ],
)
def test_an_aiortc_without_what_is_touched_is_refused(
    monkeypatch: pytest.MonkeyPatch, place: Any, name: str
) -> None:
    check_aiortc()
    monkeypatch.delattr(place, name)
    with pytest.raises(ConfigError, match=f"has no .*{name}"):
        check_aiortc()


def test_an_aiortc_that_counts_elsewhere_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RTCRtpSender, "__init__", lambda self: None)
    with pytest.raises(ConfigError, match=r"RTCRtpSender\._ssrc"):
        check_aiortc()
