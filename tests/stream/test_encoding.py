"""The encoders by themselves: what they make can be decoded, at the rate that was asked for."""

import asyncio
import threading
from typing import Any

import cv2
import numpy as np
import pytest
from av import CodecContext, Packet, VideoFrame
from numpy.typing import NDArray

from stream.core.sound import SOUND_RATE, TICK_SAMPLES
from stream.web.conversion import Converter
from stream.web.encoding import (
    Encoded,
    EncodingThread,
    PictureCodec,
    PictureEncoder,
    SoundEncoder,
)
from tests.stream.browser import picture, tone

pytestmark = pytest.mark.media

CODECS: list[PictureCodec] = ["VP8", "H264"]
DECODERS = {"VP8": "libvpx", "H264": "h264"}


def lively(count: int, height: int = 240, width: int = 320) -> list[NDArray[np.uint8]]:
    """A picture whose every part moves and is grainy: it takes any number of bits."""
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (height // 8 + count, width // 8 + count, 3), np.uint8)
    ground = np.asarray(cv2.resize(coarse, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC))
    places = [2 * n for n in range(count)]
    moved = [ground[n : n + height, n : n + width] for n in places]
    noise = [rng.normal(0, 8, shown.shape) for shown in moved]
    return [
        np.clip(shown + grain, 0, 255).astype(np.uint8)
        for shown, grain in zip(moved, noise, strict=True)
    ]


def frames(pictures: list[NDArray[np.uint8]]) -> list[VideoFrame]:
    converter = Converter(None)
    return [converter.frame(shown, "full") for shown in pictures]


def encode(
    encoder: PictureEncoder,
    some: list[VideoFrame],
    *,
    rate: int,
    keys: set[int] | None = None,
    fps: float = 25.0,
    start: float = 0.0,
) -> list[Encoded]:
    return [
        encoder.encode(
            frame, at=start + n / fps, pts=start + n / fps, key=n in (keys or set()), rate=rate
        )
        for n, frame in enumerate(some)
    ]


def decode(codec: PictureCodec, made: list[Encoded]) -> list[NDArray[np.uint8]]:
    decoder: Any = CodecContext.create(DECODERS[codec], "r")
    found = []
    for encoded in made:
        (frame,) = decoder.decode(Packet(encoded.data))  # each gives its picture at once
        found.append(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8))
    return found


def bits_per_s(made: list[Encoded], fps: float = 25.0) -> float:
    return 8 * sum(len(encoded.data) for encoded in made) * fps / len(made)


@pytest.mark.parametrize("codec", CODECS)
def test_every_picture_leaves_at_once_and_looks_as_it_was(codec: PictureCodec) -> None:
    pictures = [picture(number / 25) for number in range(25)]
    made = encode(PictureEncoder(codec, 600_000), frames(pictures), rate=600_000)
    assert [encoded.pts for encoded in made] == [number / 25 for number in range(25)]
    for before, after in zip(pictures, decode(codec, made), strict=True):
        error = np.square(before.astype(float) - after).mean()
        assert 10 * np.log10(255**2 / error) > 30


@pytest.mark.parametrize("codec", CODECS)
def test_only_the_first_and_what_is_asked_for_are_key_frames(codec: PictureCodec) -> None:
    scenes = [picture(0.0), 255 - picture(1.0), picture(2.0)[::-1].copy()]
    pictures = [scenes[n // 10] for n in range(30)]  # a cut is no key frame
    made = encode(PictureEncoder(codec, 600_000), frames(pictures), rate=600_000, keys={15})
    assert [n for n, encoded in enumerate(made) if encoded.key] == [0, 15]
    decode(codec, made[15:])  # begins there as well as at the start


@pytest.mark.parametrize("codec", CODECS)
def test_the_rate_follows_without_a_key_frame(codec: PictureCodec) -> None:
    encoder, some = PictureEncoder(codec, 1_500_000), frames(lively(50))
    made = []
    for n, rate in enumerate((1_500_000, 500_000, 1_500_000)):
        part = [*some, *some[::-1]]
        made = encode(encoder, part, rate=rate, start=4.0 * n)
        # Half the time is for the change.
        assert bits_per_s(made[50:]) == pytest.approx(rate, rel=0.2)
        assert sum(encoded.key for encoded in made) == (n == 0)


@pytest.mark.parametrize("fps", [15.0, 30.0])
@pytest.mark.parametrize("codec", CODECS)
def test_the_rate_is_kept_at_other_frame_rates(codec: PictureCodec, fps: float) -> None:
    some = frames(lively(50))
    encoder = PictureEncoder(codec, 1_000_000)
    made = encode(encoder, [*some, *some[::-1]], rate=1_000_000, fps=fps)
    assert 450_000 < bits_per_s(made[50:], fps) < 1_150_000


@pytest.mark.parametrize("codec", CODECS)
def test_a_pause_is_no_treasure_of_bits(codec: PictureCodec) -> None:
    some = frames(lively(50))
    rates = []
    for start in (2.0, 60.0):  # at once, and after a minute
        encoder = PictureEncoder(codec, 400_000)
        encode(encoder, some, rate=400_000)
        rates.append(bits_per_s(encode(encoder, some, rate=400_000, start=start)[:25]))
    assert rates[1] < 1.3 * rates[0]


def test_h264_carries_its_headers_with_every_key_frame() -> None:
    some = frames([picture(number / 25) for number in range(4)])
    made = encode(PictureEncoder("H264", 400_000), some, rate=400_000, keys={2})
    for encoded in made:
        units = [part[0] & 0x1F for part in encoded.data.split(b"\0\0\1")[1:]]
        assert {7, 8} <= set(units) if encoded.key else not {5, 7, 8} & set(units)
    sps = next(p for p in made[0].data.split(b"\0\0\1")[1:] if p[0] & 0x1F == 7)
    assert sps[1:4].hex() in ("42c01f", "42e01f")  # constrained baseline, level 3.1


# Sound


def test_sound_is_whole_and_20_ms_each() -> None:
    encoder = SoundEncoder()
    decoder: Any = CodecContext.create("libopus", "r")
    made = [encoder.encode(tone(number)) for number in range(100)]
    assert all(made)
    assert 8 * sum(map(len, made)) / 2.0 < 130_000
    packets = [Packet(data) for data in made]
    frames = [frame for packet in packets for frame in decoder.decode(packet)]
    samples = np.concatenate([frame.to_ndarray().reshape(-1, 2) for frame in frames])[:, 0]
    assert len(samples) == 100 * TICK_SAMPLES
    spectrum = np.abs(np.fft.rfft(samples[-SOUND_RATE:] * np.hanning(SOUND_RATE)))
    assert int(np.argmax(spectrum)) == 440
    assert spectrum[440] > 100 * np.median(spectrum)


# The thread


async def test_the_thread_works_in_turn_and_tells_the_loop() -> None:
    thread = EncodingThread("encoding")
    told: list[tuple[int, str]] = []
    for number in range(5):
        thread.put(
            lambda number=number: thread.tell(  # type: ignore[misc]
                told.append, (number, threading.current_thread().name)
            )
        )
    await thread.end()
    assert told == [(number, "encoding") for number in range(5)]


async def test_a_thread_that_hangs_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.web.encoding._END_S", 0.05)
    go = threading.Event()
    thread = EncodingThread("encoding")

    def hang() -> None:
        go.wait(10)

    thread.put(hang)
    async with asyncio.timeout(2):
        await thread.end()
    go.set()


def test_a_thread_outlives_its_loop_without_a_word() -> None:
    go, done = threading.Event(), threading.Event()

    async def begin() -> EncodingThread:
        thread = EncodingThread("encoding")

        def job() -> None:
            go.wait(10)
            thread.tell(print)
            done.set()

        thread.put(job)
        return thread

    asyncio.run(begin())
    go.set()
    assert done.wait(5)
