"""What leaves a session, encoded once and fanned out as WebRTC tracks; no network here."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import pytest
from aiortc.mediastreams import MediaStreamError
from av import CodecContext, FFmpegError, Packet
from numpy.typing import NDArray

from stream.core.rendition import Link, Rates
from stream.core.sinks import Shown
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound
from stream.web.broadcast import Broadcast
from stream.web.encoding import Encoded, PictureCodec, SoundEncoder
from stream.web.picture_stream import Watcher, Which
from stream.web.tracks import PictureTrack, SoundTrackOut
from tests.stream.browser import tone

pytestmark = pytest.mark.media

TWO = Rates(full=400_000, small=100_000, least_share=0.5)


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def picture_decoder(codec: PictureCodec = "VP8") -> Any:
    return CodecContext.create({"VP8": "libvpx", "H264": "h264"}[codec], "r")


def decoded(decoder: Any, packet: Any) -> NDArray[np.uint8]:
    (frame,) = decoder.decode(packet)
    return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)


def packet_of(picture: Encoded) -> Any:
    return Packet(picture.data)


def heard(packets: list[Any]) -> NDArray[np.float32]:
    """The sound of packets of Opus, float32 (n, 2)."""
    decoder: Any = CodecContext.create("libopus", "r")
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    samples = [np.asarray(frame.to_ndarray(), np.float32).reshape(-1, 2) for frame in frames]
    return np.concatenate(samples) / np.float32(32768)


def watching(broadcast: Broadcast, which: Which = "output", codec: PictureCodec = "VP8") -> Watcher:
    watcher = broadcast.watch(which)
    watcher.start(codec)
    return watcher


def flat(*colour: int, height: int = 48, width: int = 64) -> NDArray[np.uint8]:
    return np.full((height, width, 3), colour, np.uint8)


def shown(
    number: int,
    picture: NDArray[np.uint8] | None = None,
    original: NDArray[np.uint8] | None = None,
    pts: float | None = None,
) -> Shown:
    picture = flat(number % 256, 0, 0) if picture is None else picture
    original = picture if original is None else original
    at = number / 25 if pts is None else pts
    return Shown(number, at, picture, original, True, at + 0.4)


def block(level: float) -> Sound:
    return np.full((TICK_SAMPLES, 2), level, np.float32)


@pytest.fixture
async def broadcast() -> AsyncIterator[Broadcast]:
    made = Broadcast()
    task = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    yield made
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def conversions(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the pictures that were converted."""
    seen: list[tuple[int, ...]] = []
    convert = cv2.cvtColor

    def counted(picture: NDArray[np.uint8], code: int) -> NDArray[np.uint8]:
        seen.append(picture.shape)
        return np.asarray(convert(picture, code), np.uint8)

    monkeypatch.setattr(cv2, "cvtColor", counted)
    return seen


# Encoding once


async def test_nothing_is_converted_without_a_viewer(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    assert not broadcast.live
    broadcast.show(shown(0))
    watching(broadcast).close()
    broadcast.show(shown(1))
    broadcast.hear(block(0.5), 0.0)
    watcher = watching(broadcast)
    broadcast.show(shown(2))
    picture = await watcher.get()
    assert picture is not None
    assert picture.pts == 2 / 25
    assert len(conversions) == 1
    assert broadcast.live


async def test_one_conversion_serves_all_viewers(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    viewers = [watching(broadcast, which) for which in ("output", "output", "camera")]
    broadcast.show(shown(0))  # passed through: both pictures are the camera's
    for viewer in viewers:
        await viewer.get()
    assert len(conversions) == 1
    broadcast.show(shown(1, flat(255, 0, 0), flat(0, 0, 255)))
    for viewer in viewers:
        await viewer.get()
    assert len(conversions) == 3


async def test_one_encode_serves_all_viewers_of_a_codec(broadcast: Broadcast) -> None:
    codecs: list[PictureCodec] = ["VP8", "VP8", "VP8", "H264", "H264"]
    viewers = [watching(broadcast, "output", codec) for codec in codecs]
    ears = [broadcast.listen() for _ in range(4)]
    for number in range(5):
        broadcast.show(shown(number))
        got = [await viewer.get() for viewer in viewers]
        assert len({id(picture) for picture in got}) == 2
        broadcast.hear(tone(number), 0.0)
        blocks = [await ear.get() for ear in ears]
        assert len({id(block) for block in blocks}) == 1
    facts = broadcast.facts()
    assert facts["watching"] == {"VP8": {"full": 3}, "H264": {"full": 2}}
    made = {what: counts["packets"] for what, counts in facts["encoded"].items()}
    assert made == {"VP8 full": 5, "H264 full": 5, "Opus": 5}
    assert all(counts["seconds"] > 0 < counts["bytes"] for counts in facts["encoded"].values())
    for viewer in viewers[:3]:
        viewer.close()
    broadcast.show(shown(6))
    assert await viewers[3].get() is not None
    assert broadcast.facts()["encoded"]["VP8 full"]["packets"] == 5  # nobody watches it any more


async def test_a_picture_that_stands_still_is_converted_once(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    card = flat(9, 9, 9)
    watcher = watching(broadcast)
    for number in range(3):
        broadcast.show(shown(number, card))
        assert await watcher.get() is not None
    assert len(conversions) == 1


async def test_each_viewer_sees_the_picture_it_chose_in_its_colours(broadcast: Broadcast) -> None:
    output, camera = PictureTrack(broadcast, "output"), PictureTrack(broadcast, "camera")
    output.codec = "H264"
    packets = asyncio.gather(output.recv(), camera.recv())
    await asyncio.sleep(0)
    broadcast.show(shown(0, flat(220, 30, 40), flat(20, 60, 200)))
    codecs: tuple[PictureCodec, ...] = ("H264", "VP8")
    colours = [(220, 30, 40), (20, 60, 200)]
    for packet, codec, colour in zip(await packets, codecs, colours, strict=True):
        picture = decoded(picture_decoder(codec), packet).astype(int)
        assert np.abs(picture - colour).max() <= 6
    output.stop()
    camera.stop()


@pytest.mark.parametrize("codec", ["VP8", "H264"])
@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(720, 1280, (360, 640), id="scaled to a preview"),
        pytest.param(1280, 720, (640, 360), id="upright"),
        pytest.param(576, 576, (576, 576), id="small enough"),
        pytest.param(49, 65, (48, 64), id="odd"),
    ],
)
async def test_pictures_fit_an_encoder(
    broadcast: Broadcast, height: int, width: int, expected: tuple[int, int], codec: PictureCodec
) -> None:
    track = PictureTrack(broadcast, "output")
    track.codec = codec
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    broadcast.show(shown(0, flat(1, 2, 3, height=height, width=width)))
    assert decoded(picture_decoder(codec), await waiting).shape == (*expected, 3)
    track.stop()


async def test_a_camera_that_changes_its_size_begins_anew(broadcast: Broadcast) -> None:
    track, decoder = PictureTrack(broadcast, "output"), picture_decoder()
    sizes = [(48, 64), (48, 64), (96, 64), (96, 64)]
    for number, (height, width) in enumerate(sizes):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.show(shown(number, flat(50, 60, 70, height=height, width=width)))
        packet = await waiting
        assert packet.is_keyframe == (number in (0, 2))
        assert decoded(decoder, packet).shape == (height, width, 3)
    track.stop()


async def test_an_encoder_that_fails_harms_no_other_and_is_made_anew(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    vp8, h264 = watching(broadcast), watching(broadcast, "output", "H264")
    broadcast.show(shown(0))
    assert [bool(await viewer.get()) for viewer in (vp8, h264)] == [True, True]
    assert vp8._stream is not None
    encode = vp8._stream.encoder.encode

    def broken(*_: Any, **__: Any) -> Encoded:
        raise MemoryError("no room")

    monkeypatch.setattr(vp8._stream.encoder, "encode", broken)
    broadcast.show(shown(1))
    assert await h264.get() is not None
    monkeypatch.setattr(vp8._stream.encoder, "encode", encode)
    broadcast.show(shown(2))
    assert await h264.get() is not None
    picture = await vp8.get()
    assert picture is not None
    assert picture.pts == 2 / 25
    assert broadcast.facts()["dropped"]["encoder_failed"] == 1
    assert "was not encoded" in caplog.text


async def test_sound_that_fails_to_be_encoded_begins_anew(
    broadcast: Broadcast, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ear = broadcast.listen()
    broadcast.hear(tone(0), 0.0)
    encode = SoundEncoder.encode

    def broken(*_: Any) -> bytes:
        raise FFmpegError(1, "no room")

    monkeypatch.setattr(SoundEncoder, "encode", broken)
    broadcast.hear(tone(1), 0.0)
    monkeypatch.setattr(SoundEncoder, "encode", encode)
    broadcast.hear(tone(2), 0.0)
    numbers = [got.number for got in (await ear.get(), await ear.get()) if got is not None]
    assert numbers == [1, 3]
    assert broadcast.facts()["dropped"]["encoder_failed"] == 1
    assert "was not encoded" in caplog.text


# Slow viewers


async def test_a_viewer_that_never_reads_costs_four_pictures_and_200_ms(
    broadcast: Broadcast,
) -> None:
    slow, fast = watching(broadcast), watching(broadcast)
    slow_ear = broadcast.listen()
    keys = []
    for number in range(60):
        broadcast.show(shown(number))
        picture = await fast.get()
        assert picture is not None
        keys.append(picture.key)
    for _ in range(50):
        broadcast.hear(block(0.1), 0.0)
    assert len(slow) == 4
    assert slow.dropped == {"viewer_slow": 1, "no_key_frame": 55}
    assert sum(keys) == 1  # nobody who reads needs another one
    assert len(slow_ear) == 10
    assert slow_ear.dropped == 40
    slow.close()
    slow_ear.close()
    facts = broadcast.facts()
    assert facts["viewers"] == 1
    dropped = {"viewer_slow": 1, "no_key_frame": 55, "sound": 40}
    assert facts["dropped"] == {"encoder_busy": 0, "encoder_failed": 0, **dropped}


async def test_a_slow_viewer_gets_what_it_can_decode_and_goes_on_with_a_key_frame() -> None:
    clock = Clock()
    broadcast = Broadcast(now=clock)
    running = asyncio.create_task(broadcast.run())
    slow, fast = watching(broadcast), watching(broadcast)
    decoder = picture_decoder()
    for number in range(10):
        broadcast.show(shown(number))
        await fast.get()
    seen = []
    for _ in range(4):
        picture = await slow.get()
        assert picture is not None
        seen.append(picture.pts)
        decoded(decoder, packet_of(picture))
    assert seen == [number / 25 for number in range(4)]
    waiting = asyncio.create_task(slow.get())
    await asyncio.sleep(0)
    clock.now = 1.0
    broadcast.show(shown(10, flat(0, 200, 0)))
    picture = await waiting
    assert picture is not None
    assert picture.key
    assert decoded(decoder, packet_of(picture))[0, 0, 1] > 180
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_the_newest_picture_wins_where_encoding_is_slow(broadcast: Broadcast) -> None:
    watcher = watching(broadcast)
    for number in range(4):  # the first is being encoded; the event loop hears of it later
        broadcast.show(shown(number))
    pictures = [await watcher.get(), await watcher.get()]
    assert [picture.pts for picture in pictures if picture] == [0.0, 3 / 25]
    assert broadcast.facts()["dropped"]["encoder_busy"] == 2


# Key frames


async def test_a_late_viewer_begins_with_a_key_frame_which_is_asked_for() -> None:
    clock = Clock()
    broadcast = Broadcast(now=clock)
    running = asyncio.create_task(broadcast.run())
    first = watching(broadcast)
    late: Watcher | None = None
    late_decoder = picture_decoder()
    for number in range(40):
        clock.now = number / 25
        if number == 5:
            late = watching(broadcast)
        broadcast.show(shown(number))
        picture = await first.get()
        assert picture is not None
        # The first second's key frame was made at 0 s.
        assert picture.key == (number in (0, 25))
        if late is not None:
            assert len(late) == max(0, number - 24)
            if number == 27:
                break
    assert late is not None
    for _ in range(3):
        got = await late.get()
        assert got is not None
        decoded(late_decoder, packet_of(got))
    assert late.dropped == {}  # what came before is not missed
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_many_requests_make_one_key_frame_a_second() -> None:
    clock = Clock()
    broadcast = Broadcast(now=clock)
    running = asyncio.create_task(broadcast.run())
    viewers = [watching(broadcast) for _ in range(3)]
    made: list[int] = []
    for number in range(100):
        clock.now = number / 25
        for viewer in viewers:
            viewer.ask_for_key_frame()
        broadcast.show(shown(number))
        for viewer in viewers:
            picture = await viewer.get()
            assert picture is not None
            if picture.key:
                made.append(number)
    assert made == [number for number in (0, 25, 50, 75) for _ in viewers]
    assert broadcast.facts()["encoded"]["VP8 full"]["key_frames"] == 4
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


# Renditions


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_a_viewer_changes_rendition_at_a_key_frame_and_back(codec: PictureCodec) -> None:
    clock = Clock()
    broadcast = Broadcast(rates=TWO, now=clock)
    running = asyncio.create_task(broadcast.run())
    mobile, other = watching(broadcast, "output", codec), watching(broadcast, "output", codec)
    decoder, rng = picture_decoder(codec), np.random.default_rng(1)
    sizes: list[tuple[int, ...]] = []
    for number in range(90):
        clock.now = number / 25
        if number == 30:
            mobile.want("small")
        if number == 60:
            mobile.want("full")
        noise = rng.integers(0, 255, (12, 16, 3), np.uint8)
        broadcast.show(shown(number, cv2.resize(noise, (128, 96))))  # type: ignore[arg-type]
        picture, _ = await mobile.get(), await other.get()
        assert picture is not None
        sizes.append(decoded(decoder, packet_of(picture)).shape[:2])
    changes = [n for n in range(1, 90) if sizes[n] != sizes[n - 1]]
    assert changes == [30, 60]
    assert (sizes[0], sizes[30], sizes[60]) == ((96, 128), (48, 64), (96, 128))
    facts = broadcast.facts()
    assert facts["watching"] == {codec: {"full": 2}}
    made = {what: counts["packets"] for what, counts in facts["encoded"].items()}
    assert made == {f"{codec} full": 90, f"{codec} small": 31}  # while somebody needed it
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_change_of_mind_leaves_no_encoder_behind(broadcast: Broadcast) -> None:
    watcher = watching(broadcast)
    watcher.want("small")
    watcher.want("small")
    watcher.want("full")
    broadcast.show(shown(0))
    assert await watcher.get() is not None
    assert list(broadcast.facts()["encoded"]) == ["VP8 full"]
    watcher.want("small")
    watcher.close()
    watcher.want("full")
    broadcast.show(shown(1))
    assert not broadcast._streams


async def test_the_slowest_link_rules_the_rate_of_its_rendition() -> None:
    broadcast = Broadcast(rates=TWO)
    slow, fast = Link(TWO), Link(TWO)
    for link in (slow, fast):
        broadcast.watch("output", link).start()
    (stream,) = broadcast._streams.values()
    assert stream.rate() == 400_000
    slow.report(0.0, 0)
    for second in (1, 2):  # 400 kb/s were sent
        slow.report(float(second), second * 50_000, estimate=300_000.0)
    assert stream.rate() == 300_000


# The end


async def test_the_end_of_the_broadcast_ends_its_tracks() -> None:
    broadcast = Broadcast()
    task = asyncio.create_task(broadcast.run())
    tracks = [PictureTrack(broadcast, "output"), SoundTrackOut(broadcast)]
    waiting = [asyncio.create_task(track.recv()) for track in tracks]
    await asyncio.sleep(0)
    task.cancel()
    for job in waiting:
        with pytest.raises(MediaStreamError):
            await job
    assert [track.readyState for track in tracks] == ["ended", "ended"]


# The tracks


async def picture_pts(broadcast: Broadcast, contents: list[float]) -> list[int | None]:
    track = PictureTrack(broadcast, "output")
    found = []
    for number, pts in enumerate(contents):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.show(shown(number, pts=pts))
        packet = await waiting
        assert packet.time_base == Fraction(1, 90_000)
        found.append(packet.pts)
    track.stop()
    return found


async def test_pictures_are_timed_by_their_content_from_zero(broadcast: Broadcast) -> None:
    contents = [3600.0, 3600.04, 3600.08, 3600.2]
    assert await picture_pts(broadcast, contents) == [0, 3600, 7200, 18_000]


async def test_times_of_pictures_rise_even_where_the_content_goes_back(
    broadcast: Broadcast,
) -> None:
    found = await picture_pts(broadcast, [5.0, 5.4, 5.4, 5.1, 5.44])
    assert found == [0, 36_000, 36_090, 36_180, 39_600]


async def test_sound_leaves_in_packets_of_20_ms_that_count_their_samples(
    broadcast: Broadcast,
) -> None:
    for _ in range(1000):  # a viewer that comes late begins at zero as well
        broadcast.hear(block(0.9), 0.0)
    track = SoundTrackOut(broadcast)
    packets = []
    for number in range(3):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.hear(tone(number), 0.0)
        packets.append(await waiting)
    assert [packet.pts for packet in packets] == [0, 960, 1920]
    assert {packet.time_base for packet in packets} == {Fraction(1, 48_000)}
    assert heard(packets).shape == (3 * TICK_SAMPLES, 2)
    track.stop()


async def test_the_two_channels_stay_apart_and_too_loud_is_clipped(broadcast: Broadcast) -> None:
    track = SoundTrackOut(broadcast)
    packets = []
    for number in range(20):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.hear(tone(number) * np.array([10.0, 0.5], np.float32), 0.0)
        packets.append(await waiting)
    track.stop()
    left, right = heard(packets)[10 * TICK_SAMPLES :].T
    assert np.percentile(np.abs(left), 90) == pytest.approx(1.0, abs=0.1)  # nearly a square
    assert np.abs(right).max() == pytest.approx(0.1, abs=0.02)


async def test_sound_is_heard_2_5_ms_late_and_not_more(broadcast: Broadcast) -> None:
    track = SoundTrackOut(broadcast)
    packets = []
    sent = 0.1 * np.random.default_rng(2).standard_normal((50, TICK_SAMPLES, 2))
    for wave in sent.astype(np.float32):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.hear(wave, 0.0)
        packets.append(await waiting)
    track.stop()
    before, after = sent.reshape(-1, 2)[:, 0], heard(packets)[:, 0]
    spectrum = np.fft.rfft(after) * np.conj(np.fft.rfft(before))
    late = int(np.argmax(np.fft.irfft(spectrum)))
    assert late / SOUND_RATE == pytest.approx(0.0025, abs=0.0002)


async def test_dropped_sound_leaves_its_hole_in_the_times(broadcast: Broadcast) -> None:
    track = SoundTrackOut(broadcast)
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    for _ in range(16):  # one is read, ten wait, five are dropped
        broadcast.hear(block(0.1), 0.0)
        await asyncio.sleep(0)
    assert (await waiting).pts == 0
    assert (await track.recv()).pts == 6 * 960
    track.stop()


async def test_what_came_before_the_connection_is_not_sent(broadcast: Broadcast) -> None:
    sound, picture = SoundTrackOut(broadcast), PictureTrack(broadcast, "output")
    for number in range(5):
        broadcast.hear(block(0.0), 0.0)
        broadcast.show(shown(number))
        await asyncio.sleep(0.01)
    waiting_sound = asyncio.create_task(sound.recv())
    waiting_picture = asyncio.create_task(picture.recv())
    await asyncio.sleep(0)
    broadcast.hear(tone(0), 0.0)
    broadcast.show(shown(5, flat(0, 255, 0)))
    first_sound, first_picture = await waiting_sound, await waiting_picture
    assert np.abs(heard([first_sound])).max() > 0.1
    assert decoded(picture_decoder(), first_picture)[0, 0, 1] > 240
    assert broadcast.facts()["encoded"]["VP8 full"]["packets"] == 1
    sound.stop()
    picture.stop()


async def test_a_stopped_track_has_left(broadcast: Broadcast) -> None:
    track, ear = PictureTrack(broadcast, "camera"), SoundTrackOut(broadcast)
    assert (broadcast.viewers, broadcast.facts()["viewers"]) == (1, 1)
    assert broadcast.facts()["listeners"] == 0  # it has no connection yet
    waiting = asyncio.create_task(ear.recv())
    await asyncio.sleep(0)
    assert broadcast.facts()["listeners"] == 1
    track.stop()
    ear.stop()
    track.stop()
    assert (broadcast.viewers, broadcast.facts()["viewers"]) == (0, 0)
    assert broadcast.facts()["listeners"] == 0
    for reading in (waiting, ear.recv(), track.recv()):
        with pytest.raises(MediaStreamError):
            await reading
    assert broadcast.facts()["listeners"] == 0
