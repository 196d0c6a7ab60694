"""Receiving a peer over bad lines: real connections, codecs and packets."""

import asyncio
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import numpy as np
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCRtpReceiver, RTCRtpSender
from aiortc.rtcrtpparameters import RTCRtpCodecParameters
from aiortc.rtp import RtpPacket

from engine.errors import ConfigError
from stream.core.intake import LiveIntake
from stream.core.remote_clock import RemoteClock
from stream.core.sound import CHANNELS, SOUND_RATE
from stream.live.remote_camera import RemotePicture
from stream.web.offer import OfferError
from stream.web.peers import Peers
from stream.web.picture_decoder import MOST_WAITING, PictureDecoder
from stream.web.publisher import Publisher
from stream.web.receiver_seam import MOST_SOURCES, assert_private_names
from stream.web.receiving import PictureReceiving, SoundReceiving
from tests.stream.impair import Impairment, Line
from tests.stream.publishing import (
    FPS,
    SOUND_TYPE,
    PicturesOut,
    Received,
    SoundOut,
    cut_between,
    hold_sound,
    lose_with_answer,
    lossy,
    picture,
    uneven,
)
from tests.stream.publishing import publish as publish_once

pytestmark = pytest.mark.media

Lines = Callable[[], tuple[Line, Line]]

DELAY = Impairment(delay_s=0.025)
SETTLED_S = 3.0  # reports on both streams come within 1.5 s, and then pictures move softly


BUSY_S = 0.05  # a room whose ticks are later than this is on a machine with no time for the test


async def publish(
    seconds: float, make_lines: Lines, *, starves: bool = False, **more: Any
) -> tuple[Received, Line]:
    """Publish over fresh lines; on a machine that is busy with other things, again.

    Where the sound ran dry though no line was cut, the sender had no time to send it.
    """
    for _ in range(3):
        up, down = make_lines()
        received = await publish_once(seconds, up=up, down=down, **more)
        if received.lag_s < BUSY_S and (starves or received.facts["starved_s"] == 0.0):
            break
    return received, up


def assert_together(received: Received, settled_s: float = SETTLED_S) -> None:
    """Picture and sound of one moment belong together, and go on doing so."""
    settled = received.begun_at + settled_s
    skews = np.array([skew for at, skew in received.skews() if at > settled])
    assert len(skews) > 5
    middle = float(np.median(skews))
    assert abs(middle) <= 0.02
    assert float(np.quantile(np.abs(skews - middle), 0.9)) <= 0.02


# Over bad lines


@pytest.mark.parametrize(
    ("loss", "heard", "codec"),
    [
        pytest.param(0.01, 0.98, "VP8", id="1 %"),
        pytest.param(0.05, 0.89, "H264", id="5 %"),
        pytest.param(0.1, 0.79, "VP8", id="10 %"),
    ],
)
async def test_loss_both_ways_at_a_round_trip_of_50_ms(
    loss: float, heard: float, codec: str
) -> None:
    received, up = await publish(6.0, lambda: lossy(loss, seed=2), codec=codec)
    assert up.counts["lost"] > 0.5 * loss * up.counts["sent"]
    assert received.freeze_s(0.5) <= 0.5
    assert received.complete() == pytest.approx(1.0, abs=0.01)
    assert received.heard() >= heard
    assert received.facts["pictures"]["damaged"] == 0
    assert_together(received)


async def test_a_lost_packet_whose_retransmission_is_lost_too_costs_less_than_0_3_s() -> None:
    received, up = await publish(
        4.0, lambda: (Line(DELAY, lose=lose_with_answer(150)), Line(DELAY))
    )
    assert up.counts["lost"] == 2
    assert 0.06 < received.freeze_s(0.5) <= 0.3
    assert received.facts["pictures"]["lost"] == 0
    assert len(received.pictures) >= len(received.sent_pictures) - 10


async def test_jitter_reordering_and_doubles_lose_nothing() -> None:
    received, up = await publish(5.0, lambda: (uneven(), Line(DELAY)))
    assert min(up.counts["reordered"], up.counts["doubled"]) > 0
    sound, pictures = received.facts["sound"], received.facts["pictures"]
    assert (sound["lost"], sound["filled_s"]) == (0, 0.0)
    assert (pictures["lost"], pictures["holes_left"], pictures["errors"]) == (0, 0, 0)
    numbers = [number for _, number, _ in received.pictures]
    sent = received.sent_pictures
    first = sent.index(numbers[0])
    assert numbers == [*sent[first : first + len(numbers)]]
    assert len(numbers) >= len(sent) - 10  # what came before all was set up is gone
    assert_together(received)


async def test_pictures_wait_for_sound_that_takes_300_ms_longer() -> None:
    bad = Impairment(loss=0.05, delay_s=0.025, seed=4)
    received, _ = await publish(
        8.0, lambda: (Line(bad, hold_s=hold_sound(0.3)), Line(DELAY)), linger_s=0.6
    )
    late = [pts - at for at, _, pts in received.pictures if at > SETTLED_S + 1]
    assert 0.25 < float(np.median(late)) < 0.5
    # The first reports of a sender may be among the lost packets; later ones shift the sound by the
    # jitter that they even out.
    assert_together(received, SETTLED_S + 2.5)


async def test_an_outage_of_2_s_ends_with_one_key_frame_and_without_a_jump_of_the_clock() -> None:
    up = Line(DELAY)
    received, _ = await publish(
        6.5, lambda: (up, Line(DELAY)), starves=True, happens=cut_between(up, 2.5, 4.5)
    )
    begin = received.pictures[0][0]
    back = min(at for at, _, _ in received.pictures if at > begin + 4.0)
    assert back < begin + 5.5
    assert received.facts["pictures"]["key_frames_asked"] == 1
    assert received.facts["sound"]["jumps"] == 1
    offsets = [(at, pts - number / FPS) for at, number, pts in received.pictures]
    before = float(np.median([offset for at, offset in offsets if 1.5 < at - begin < 2.5]))
    after = float(np.median([offset for at, offset in offsets if at - begin > 5.5]))
    assert abs(after - before) <= 1 / FPS


async def test_pictures_alone_come_with_rising_times_near_to_now() -> None:
    received, _ = await publish(2.0, lambda: (Line(DELAY), Line(DELAY)), with_sound=False)
    assert received.facts["sound"] is None
    times = [pts for _, _, pts in received.pictures]
    assert times == sorted(set(times))
    assert max(abs(at - pts) for at, _, pts in received.pictures) < 0.2


# What does not keep up, or is not wanted


async def test_a_reader_that_hangs_makes_nothing_grow_and_holds_up_no_end() -> None:
    hangs = threading.Event()
    received = await publish_once(
        4.0,
        looks=lambda remote: time.sleep(0.0) if hangs.wait(6.0) else None,
        make=lambda number: picture(number, 160, 120),
    )
    hangs.set()
    assert len(received.pictures) == 1
    assert received.facts["pictures"]["overloads"] > 0
    assert received.closing_s < 0.1


async def connected(*kinds: str) -> tuple[RTCPeerConnection, list[PicturesOut | SoundOut]]:
    """A peer that has made an offer to send."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    begin = time.monotonic()
    tracks: list[PicturesOut | SoundOut] = []
    for kind in kinds:
        track = PicturesOut(lambda: begin, picture) if kind == "video" else SoundOut(lambda: begin)
        tracks.append(track)
        peer.addTransceiver(track, "sendonly")
    await peer.setLocalDescription(await peer.createOffer())
    return peer, tracks


async def until(condition: Any, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def test_what_is_not_wanted_is_thrown_away_as_it_comes() -> None:
    peer, tracks = await connected("audio", "video")
    receiver = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    intake = LiveIntake(SOUND_RATE, CHANNELS)
    publisher = Publisher(time.monotonic, intake=intake)
    try:
        publisher.prepare(receiver)
        await receiver.setRemoteDescription(peer.localDescription)
        await receiver.setLocalDescription(await receiver.createAnswer())
        publisher.answered(receiver)
        assert "a=recvonly" in receiver.localDescription.sdp
        await peer.setRemoteDescription(receiver.localDescription)
        await until(lambda: tracks[1].sent > 30)
        await until(lambda: publisher.facts()["sound"]["heard_s"] > 0.5)
        for transceiver in receiver.getTransceivers():
            inner: Any = transceiver.receiver
            assert inner.track._queue.empty()
            assert inner._RTCRtpReceiver__decoder_queue.empty()
        assert publisher.facts()["pictures"] is None
    finally:
        publisher.closed()
        await receiver.close()
        await peer.close()


async def test_a_publisher_comes_and_goes_by_peers_and_leaves_no_thread_or_task() -> None:
    threads, tasks = threading.active_count(), len(asyncio.all_tasks())
    gone: list[str] = []
    peers = Peers(most=2, gone=gone.append)
    pictures: list[RemotePicture] = []
    for _ in range(2):
        peer, _ = await connected("video", "audio")
        intake = LiveIntake(SOUND_RATE, CHANNELS)
        publisher = Publisher(time.monotonic, intake=intake, pictures=pictures.append)
        sdp = await peers.answer("a", peer.localDescription.sdp, publisher)
        await peer.setRemoteDescription(type(peer.localDescription)(sdp, "answer"))
        seen = len(pictures)
        await until(lambda seen=seen: len(pictures) > seen + 5)
        await peer.close()  # says goodbye
        await until(lambda: len(peers) == 0)
    assert gone == ["a", "a"]
    await peers.close()
    await until(lambda: len(asyncio.all_tasks()) <= tasks)
    # aiortc's encoders run in the loop's own pool, which stays.
    await until(lambda: sum("decoder" in thread.name for thread in threading.enumerate()) == 0)
    assert threading.active_count() - threads <= 8


@pytest.mark.parametrize(
    ("kinds", "codec", "sentence"),
    [
        pytest.param(("video",), None, "Offer audio to be sent.", id="no sound"),
        pytest.param(("audio",), "audio/PCMU", "Offer audio as Opus.", id="another codec"),
    ],
)
async def test_an_offer_without_what_is_wanted_is_refused(
    kinds: tuple[str, ...], codec: str | None, sentence: str
) -> None:
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in kinds:
        transceiver = peer.addTransceiver(kind, "sendonly")
        if codec is not None:
            codecs = RTCRtpSender.getCapabilities(kind).codecs
            transceiver.setCodecPreferences([c for c in codecs if c.mimeType == codec])
    await peer.setLocalDescription(await peer.createOffer())
    peers = Peers(most=1)
    publisher = Publisher(time.monotonic, intake=LiveIntake(SOUND_RATE, CHANNELS))
    with pytest.raises(OfferError, match=sentence) as caught:
        await peers.answer("a", peer.localDescription.sdp, publisher)
    assert caught.value.status == 422
    await peers.close()
    await peer.close()


async def test_the_answer_names_no_codec_of_sound_but_opus() -> None:
    peer, _ = await connected("audio")
    peers = Peers(most=1)
    publisher = Publisher(time.monotonic, intake=LiveIntake(SOUND_RATE, CHANNELS))
    answer = await peers.answer("a", peer.localDescription.sdp, publisher)
    lines = [line.split(" ")[1] for line in answer.splitlines() if line.startswith("a=rtpmap:")]
    assert lines == ["opus/48000/2"]
    await peers.close()
    await peer.close()


# Packets that no decent sender sends


class Transport:
    """What a receiver needs of its transport; counts what is sent."""

    def __init__(self) -> None:
        self.state = "new"
        self.sent = 0
        self._rtp_router = self
        self.ssrc_table: dict[int, object] = {}

    async def _send_rtp(self, data: bytes) -> None:
        self.sent += 1


CODECS = {
    97: RTCRtpCodecParameters(mimeType="video/VP8", clockRate=90_000, payloadType=97),
    99: RTCRtpCodecParameters(mimeType="video/H264", clockRate=90_000, payloadType=99),
    SOUND_TYPE: RTCRtpCodecParameters(
        mimeType="audio/opus", clockRate=48_000, channels=2, payloadType=SOUND_TYPE
    ),
}


def bare_receiver(kind: str) -> tuple[RTCRtpReceiver, Transport]:
    transport = Transport()
    receiver = RTCRtpReceiver(kind, cast(Any, transport))
    cast(Any, receiver)._RTCRtpReceiver__codecs.update(CODECS)
    receiver._set_rtcp_ssrc(1)
    return receiver, transport


@pytest.fixture
def receiving() -> Iterator[tuple[PictureReceiving, RTCRtpReceiver, Transport]]:
    receiver, transport = bare_receiver("video")
    made = PictureReceiving(receiver, RemoteClock(), time.monotonic, lambda frame, pts: None)
    yield made, receiver, transport
    made.close()


async def test_garbage_raises_nothing_and_grows_nothing(
    receiving: tuple[PictureReceiving, RTCRtpReceiver, Transport],
) -> None:
    pictures, receiver, _ = receiving
    sound_receiver, _ = bare_receiver("audio")
    intake = LiveIntake(SOUND_RATE, CHANNELS)
    sound = SoundReceiving(sound_receiver, RemoteClock(), time.monotonic, intake)
    chance = random.Random(11)
    for step in range(3000):
        packet = RtpPacket(
            payload_type=chance.choice([97, 97, 99, SOUND_TYPE, 13]),
            sequence_number=(step + chance.choice([0, 0, 0, 3, -40, 20_000])) % 65_536,
            timestamp=chance.choice([step * 960, chance.randrange(1 << 32)]) % (1 << 32),
        )
        packet.marker = chance.randrange(2)
        packet.ssrc = chance.choice([5, 5, 5, chance.randrange(1 << 32)])
        packet.payload = chance.randbytes(chance.choice([0, 1, 2, 30, 1200]))
        await receiver._handle_rtp_packet(packet, arrival_time_ms=step)
        packet.payload_type = SOUND_TYPE
        await sound_receiver._handle_rtp_packet(packet, arrival_time_ms=step)
        if step % 50 == 0:
            await pictures.tick(time.monotonic())
            await sound.tick(time.monotonic())
    inner: Any = receiver
    assert len(inner._RTCRtpReceiver__remote_streams) <= MOST_SOURCES
    assert len(inner._RTCRtpReceiver__active_ssrc) <= MOST_SOURCES
    assert len(pictures.buffer) <= 1024
    assert pictures.facts()["refused"] > 500
    assert intake.level_s <= 0.5


async def test_packets_of_too_many_sources_are_forgotten_by_aiortc_too(
    receiving: tuple[PictureReceiving, RTCRtpReceiver, Transport],
) -> None:
    _, receiver, transport = receiving
    for ssrc in range(100):
        packet = RtpPacket(payload_type=97, sequence_number=ssrc)
        packet.ssrc, packet.payload = ssrc, b"\x10\0"
        transport.ssrc_table[ssrc] = receiver
        await receiver._handle_rtp_packet(packet, arrival_time_ms=0)
    assert len(transport.ssrc_table) == MOST_SOURCES


async def test_key_frames_are_asked_for_at_most_twice_a_second_whatever_comes() -> None:
    now = 0.0
    receiver, transport = bare_receiver("video")
    pictures = PictureReceiving(receiver, RemoteClock(), lambda: now, lambda frame, pts: None)
    for number in range(200):
        now = number / 50
        packet = RtpPacket(payload_type=97, sequence_number=number, timestamp=number * 1800)
        packet.ssrc, packet.payload, packet.marker = 5, b"\x10\x01", 1
        await receiver._handle_rtp_packet(packet, arrival_time_ms=0)
        await pictures.tick(now)
    assert pictures.facts()["key_frames_asked"] == 8  # in 4 s
    assert transport.sent == 8
    assert pictures.facts()["pictures"] == 0
    pictures.close()


# The decoder


def test_a_decoder_that_is_behind_says_so_and_holds_a_bounded_number() -> None:
    hangs, entered = threading.Event(), threading.Event()

    def deliver(frame: object, pts: float) -> None:
        entered.set()
        hangs.wait(10.0)

    decoder = PictureDecoder(deliver)
    key = encoded(0)
    assert decoder.put("VP8", key, 0.0)
    assert entered.wait(5.0)
    taken = [decoder.put("VP8", key, float(number)) for number in range(100)]
    assert taken.count(True) == MOST_WAITING
    begin = time.monotonic()
    decoder.close()
    assert time.monotonic() - begin < 0.1
    hangs.set()
    assert not decoder.put("VP8", key, 0.0)


def test_what_can_not_be_decoded_is_reported_once_and_the_next_picture_is_shown() -> None:
    shown: list[float] = []
    done = threading.Event()

    def deliver(frame: object, pts: float) -> None:
        shown.append(pts)
        done.set()

    decoder = PictureDecoder(deliver)
    decoder.put("VP8", b"garbage of a picture", 1.0)
    decoder.put("VP8", encoded(0), 2.0)
    assert done.wait(5.0)
    assert shown == [2.0]
    assert decoder.take_failure()
    assert not decoder.take_failure()
    decoder.close()


def test_a_picture_of_giant_size_is_refused() -> None:
    decoded: list[float] = []
    decoder = PictureDecoder(lambda frame, pts: decoded.append(pts))
    data = bytearray(encoded(0))
    data[6:10] = b"\xff\x3f\xff\x3f"  # RFC 6386 §9.1: 16383 pixels each way
    decoder.put("VP8", bytes(data), 1.0)
    end = time.monotonic() + 5.0
    while not decoder.errors and time.monotonic() < end:
        time.sleep(0.005)
    decoder.close()
    assert (decoder.errors, decoded) == (1, [])


def encoded(number: int) -> bytes:
    """A key frame of VP8."""
    from aiortc.codecs.vpx import Vp8Encoder, vp8_depayload

    payloads, _ = Vp8Encoder().encode(picture(number), force_keyframe=True)
    return b"".join(vp8_depayload(payload) for payload in payloads)


# aiortc's private names


@pytest.fixture
def unchecked() -> Iterator[None]:
    assert_private_names.cache_clear()
    yield
    assert_private_names.cache_clear()


def test_the_installed_aiortc_fits(unchecked: None) -> None:
    assert_private_names()


@pytest.mark.parametrize(
    "name", ["_handle_rtcp_packet", "_send_rtcp_nack", "_send_rtcp_pli", "_handle_rtp_packet"]
)
def test_an_aiortc_without_a_name_is_refused_at_start(
    unchecked: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.delattr(RTCRtpReceiver, name)
    with pytest.raises(ConfigError, match=f"has no {name}.*install aiortc 1.16"):
        assert_private_names()


@pytest.mark.parametrize("name", ["jitter_buffer", "nack_generator", "codecs"])
def test_an_aiortc_that_calls_its_parts_otherwise_is_refused_at_start(
    unchecked: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    original = RTCRtpReceiver.__init__

    def renamed(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        vars(self)[f"_renamed_{name}"] = vars(self).pop(f"_RTCRtpReceiver__{name}")

    monkeypatch.setattr(RTCRtpReceiver, "__init__", renamed)
    with pytest.raises(ConfigError, match=f"has no _RTCRtpReceiver__{name}"):
        assert_private_names()


def test_an_aiortc_that_hands_packets_on_otherwise_is_refused_at_start(
    unchecked: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def swallow(self: Any, packet: Any, arrival_time_ms: int) -> None:
        pass

    monkeypatch.setattr(RTCRtpReceiver, "_handle_rtp_packet", swallow)
    with pytest.raises(ConfigError, match="in another way"):
        assert_private_names()
