"""What leaves a session, fanned out to viewers as WebRTC tracks; no network here."""

import asyncio
from collections.abc import AsyncIterator
from fractions import Fraction

import cv2
import numpy as np
import pytest
from aiortc.codecs import vpx
from aiortc.mediastreams import MediaStreamError
from av import VideoFrame
from numpy.typing import NDArray

from engine.errors import ConfigError
from stream.core.sinks import Shown
from stream.core.sound import TICK_SAMPLES, Sound
from stream.web.bit_rate import BIT_RATE, set_bit_rate
from stream.web.broadcast import Broadcast
from stream.web.tracks import PictureTrack, SoundTrackOut

pytestmark = pytest.mark.media


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


# The broadcast


async def test_nothing_is_converted_without_a_viewer(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    assert not broadcast.live
    broadcast.show(shown(0))
    broadcast.watch("output").close()
    broadcast.show(shown(1))
    broadcast.hear(block(0.5), 0.0)
    mailbox = broadcast.watch("output")
    broadcast.show(shown(2))
    picture = await mailbox.get()
    assert picture is not None
    assert picture.pts == 2 / 25
    assert len(conversions) == 1
    assert broadcast.live


async def test_one_conversion_serves_all_viewers(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    viewers = [broadcast.watch(which) for which in ("output", "output", "camera")]
    broadcast.show(shown(0))  # passed through: both pictures are the camera's
    got = [await viewer.get() for viewer in viewers]
    assert len(conversions) == 1
    assert len({id(picture.planes) for picture in got if picture is not None}) == 1
    broadcast.show(shown(1, flat(255, 0, 0), flat(0, 0, 255)))
    for viewer in viewers:
        await viewer.get()
    assert len(conversions) == 3


async def test_a_picture_that_stands_still_is_converted_once(
    broadcast: Broadcast, conversions: list[tuple[int, ...]]
) -> None:
    card = flat(9, 9, 9)
    mailbox = broadcast.watch("output")
    for number in range(3):
        broadcast.show(shown(number, card))
        assert await mailbox.get() is not None
    assert len(conversions) == 1


async def test_each_viewer_sees_the_picture_it_chose_in_its_colours(broadcast: Broadcast) -> None:
    output, camera = PictureTrack(broadcast, "output"), PictureTrack(broadcast, "camera")
    frames = asyncio.gather(output.recv(), camera.recv())
    await asyncio.sleep(0)
    broadcast.show(shown(0, flat(220, 30, 40), flat(20, 60, 200)))
    for frame, colour in zip(await frames, [(220, 30, 40), (20, 60, 200)], strict=True):
        assert isinstance(frame, VideoFrame)
        assert frame.format.name == "yuv420p"
        picture = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(picture - colour).max() <= 6
    output.stop()
    camera.stop()


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
    broadcast: Broadcast, height: int, width: int, expected: tuple[int, int]
) -> None:
    mailbox = broadcast.watch("output")
    broadcast.show(shown(0, flat(1, 2, 3, height=height, width=width)))
    picture = await mailbox.get()
    assert picture is not None
    assert picture.planes.shape == (expected[0] * 3 // 2, expected[1])


async def test_a_viewer_that_never_reads_costs_two_pictures_and_200_ms(
    broadcast: Broadcast,
) -> None:
    slow, fast = broadcast.watch("output"), broadcast.watch("output")
    slow_ear = broadcast.listen()
    for number in range(7):
        broadcast.show(shown(number))
        assert await fast.get() is not None
    for _ in range(50):
        broadcast.hear(block(0.1), 0.0)
    assert len(slow) == 2
    assert slow.dropped == 5
    assert len(slow_ear) == 10
    assert slow_ear.dropped == 40
    newest = [await slow.get(), await slow.get()]
    assert [picture.pts for picture in newest if picture] == [5 / 25, 6 / 25]
    slow.close()
    slow_ear.close()
    facts = broadcast.facts()
    assert facts == {"viewers": 1, "dropped": {"conversion": 0, "pictures": 5, "sound": 40}}


async def test_the_newest_picture_wins_where_conversion_is_slow(broadcast: Broadcast) -> None:
    mailbox = broadcast.watch("output")
    for number in range(4):  # the event loop has no chance to convert in between
        broadcast.show(shown(number))
    picture = await mailbox.get()
    assert picture is not None
    assert picture.pts == 3 / 25
    assert broadcast.facts()["dropped"]["conversion"] == 3


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
        frame = await waiting
        assert frame.time_base == Fraction(1, 90_000)
        found.append(frame.pts)
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
    frames = []
    for level in (0.5, -2.0, 0.0):
        waiting = asyncio.create_task(track.recv())
        await asyncio.sleep(0)
        broadcast.hear(block(level), 0.0)
        frames.append(await waiting)
    assert [frame.pts for frame in frames] == [0, 960, 1920]
    for frame, level in zip(frames, [16383, -32767, 0], strict=True):
        assert (frame.format.name, frame.layout.name) == ("s16", "stereo")
        assert (frame.sample_rate, frame.samples) == (48_000, 960)
        assert frame.time_base == Fraction(1, 48_000)
        samples = frame.to_ndarray()
        assert samples.shape == (1, 1920)
        assert (samples == level).all()
    track.stop()


async def test_the_two_channels_stay_apart(broadcast: Broadcast) -> None:
    track = SoundTrackOut(broadcast)
    waiting = asyncio.create_task(track.recv())
    await asyncio.sleep(0)
    broadcast.hear(np.tile(np.array([0.25, -0.5], np.float32), (TICK_SAMPLES, 1)), 0.0)
    samples = (await waiting).to_ndarray().reshape(-1, 2)
    assert (samples == [8191, -16383]).all()
    track.stop()


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
        broadcast.hear(block(0.1), 0.0)
        broadcast.show(shown(number))
        await asyncio.sleep(0.01)
    waiting_sound = asyncio.create_task(sound.recv())
    waiting_picture = asyncio.create_task(picture.recv())
    await asyncio.sleep(0)
    broadcast.hear(block(0.5), 0.0)
    broadcast.show(shown(5, flat(0, 255, 0)))
    first_sound, first_picture = await waiting_sound, await waiting_picture
    assert first_sound.to_ndarray().max() == 16383
    assert first_picture.to_ndarray(format="rgb24")[0, 0, 1] > 240
    sound.stop()
    picture.stop()


async def test_a_stopped_track_has_left(broadcast: Broadcast) -> None:
    track, ear = PictureTrack(broadcast, "camera"), SoundTrackOut(broadcast)
    assert broadcast.facts()["viewers"] == 1
    track.stop()
    ear.stop()
    track.stop()
    assert broadcast.facts()["viewers"] == 0
    with pytest.raises(MediaStreamError):
        await ear.recv()


# The bit rate


def test_every_encoder_gets_the_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MIN_BITRATE", "DEFAULT_BITRATE", "MAX_BITRATE"):
        monkeypatch.setattr(vpx, name, 500_000)
    set_bit_rate()
    encoder = vpx.Vp8Encoder()
    assert encoder.target_bitrate == BIT_RATE
    encoder.target_bitrate = 300_000  # what a browser's first guess may be
    assert encoder.target_bitrate == BIT_RATE


def test_an_aiortc_without_the_constants_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(vpx, "MAX_BITRATE")
    with pytest.raises(ConfigError, match="has no MAX_BITRATE"):
        set_bit_rate()
