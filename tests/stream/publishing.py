"""A peer that publishes over a bad line, and what becomes of it at the other end, in figures.

``python -m tests.stream.publishing [--seconds N]`` prints a table of all of them.

Pictures carry their number in their upper edge, the sound clicks every 240 ms, both made by time;
so the figures come from the media themselves.
"""

import argparse
import asyncio
import functools
import math
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from typing import Any, Final

import cv2
import numpy as np
import skimage.data
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
)
from aiortc.mediastreams import MediaStreamTrack
from av import AudioFrame, VideoFrame
from numpy.typing import NDArray

from stream.core.intake import LiveIntake
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.live.remote_camera import RemotePicture
from stream.web.publisher import Publisher
from tests.stream.impair import Impairment, Line, impair, rtp

FPS: Final = 25
CLICK_EVERY_S: Final = 0.24
_CLICK_AT, _CLICK_LENGTH = 240, 480  # samples, within one packet
_BITS: Final = 14
SOUND_TYPE, PICTURE_TYPE, ANSWER_TYPE = 96, 97, 98
"""aiortc's payload types of Opus, of VP8, and of its retransmissions."""
_RTT_S: Final = 0.05


@functools.cache
def _portrait(width: int, height: int) -> NDArray[np.uint8]:
    astronaut = skimage.data.astronaut()  # type: ignore[no-untyped-call]
    return np.asarray(cv2.resize(astronaut, (width, height)), np.uint8)


def picture(number: int, width: int = 320, height: int = 240) -> VideoFrame:
    """The picture with this number: a portrait that sways, and the number in black and white."""
    shift = np.array([[1, 0, 12 * math.sin(number / 6)], [0, 1, 8 * math.cos(number / 7)]])
    shown = cv2.warpAffine(_portrait(width, height), shift.astype(np.float32), (width, height))
    cell = width // _BITS
    for bit in range(_BITS):
        shown[: height // 10, bit * cell : (bit + 1) * cell] = 255 * (number >> bit & 1)
    planes = cv2.cvtColor(shown, cv2.COLOR_RGB2YUV_I420)
    frame = VideoFrame.from_ndarray(np.asarray(planes, np.uint8), format="yuv420p")
    frame.pts, frame.time_base = number * 90_000 // FPS, Fraction(1, 90_000)
    return frame


def number_in(frame: VideoFrame) -> int:
    """The number that a picture shows."""
    grey = frame.to_ndarray(format="gray")
    cell, height = frame.width // _BITS, frame.height // 10
    cells = (
        grey[height // 4 : height * 3 // 4, bit * cell + 3 : (bit + 1) * cell - 3]
        for bit in range(_BITS)
    )
    return sum(int(part.mean() > 128) << bit for bit, part in enumerate(cells))


def sound(number: int) -> NDArray[np.int16]:
    """The 20 ms with this number, (960, 2): a quiet tone, and a click where one is due."""
    at = (number * TICK_SAMPLES + np.arange(TICK_SAMPLES)) / SOUND_RATE
    wave = 0.02 * np.sin(2 * math.pi * 300 * at)
    if number % round(CLICK_EVERY_S / TICK_S) == 0:
        click = np.cos(2 * math.pi * 1000 * np.arange(_CLICK_LENGTH) / SOUND_RATE)
        wave[_CLICK_AT : _CLICK_AT + _CLICK_LENGTH] += 0.8 * click
    return np.repeat((wave * 32767).astype(np.int16)[:, None], CHANNELS, axis=1)


class PicturesOut(MediaStreamTrack):
    """Numbered pictures, each when it is due; those whose time is over are left out.

    Attributes:
        numbers: of those that there were.
        over: set to send no more.
    """

    kind = "video"

    def __init__(self, epoch: Callable[[], float], make: Callable[[int], VideoFrame]) -> None:
        super().__init__()
        self._epoch, self._make = epoch, make
        self._number = -1
        self.numbers: list[int] = []
        self.over = False

    @property
    def sent(self) -> int:
        """How many there were."""
        return len(self.numbers)

    async def recv(self) -> VideoFrame:
        since_s = time.monotonic() - self._epoch()
        self._number = max(self._number + 1, math.floor(since_s * FPS))
        await asyncio.sleep(max(self._number / FPS - since_s, 0.0))
        await _while_it_goes_on(self.over)
        self.numbers.append(self._number)
        return self._make(self._number)


class SoundOut(MediaStreamTrack):
    """Clicks, in packets of 20 ms, each when it is due.

    Attributes:
        sent: how many packets there were.
        over: set to send no more.
    """

    kind = "audio"

    def __init__(self, epoch: Callable[[], float]) -> None:
        super().__init__()
        self._epoch = epoch
        self._number: int | None = None
        self.sent = 0
        self.over = False

    async def recv(self) -> AudioFrame:
        since_s = time.monotonic() - self._epoch()
        if self._number is None:
            self._number = math.floor(since_s / TICK_S)
        self._number += 1
        await asyncio.sleep(max(self._number * TICK_S - since_s, 0.0))
        await _while_it_goes_on(self.over)
        frame = AudioFrame(format="s16", layout="stereo", samples=TICK_SAMPLES)
        frame.planes[0].update(sound(self._number).tobytes())
        frame.sample_rate = SOUND_RATE
        frame.pts, frame.time_base = self._number * TICK_SAMPLES, Fraction(1, SOUND_RATE)
        self.sent += 1
        return frame


async def _while_it_goes_on(over: bool) -> None:
    if over:
        await asyncio.Event().wait()


@dataclass
class Received:
    """What came out at the other end.

    Attributes:
        pictures: when each came (room seconds), its number and its pts.
        blocks: what the room pulled, one a tick.
        begun_at: room seconds at the first block.
        facts: the publisher's.
        lag_s: how late the room's ticks were at worst: what the machine had no time for.
        closing_s: how long the event loop was held up at worst while it closed.
    """

    pictures: list[tuple[float, int, float]] = field(default_factory=list)
    blocks: list[Sound] = field(default_factory=list)
    begun_at: float = 0.0
    sent_pictures: tuple[int, ...] = ()
    sent_sound_s: float = 0.0
    facts: dict[str, Any] = field(default_factory=dict)
    lag_s: float = 0.0
    closing_s: float = 0.0

    def freeze_s(self, after_s: float = 0.0) -> float:
        """The longest time between two pictures."""
        times = [at for at, _, _ in self.pictures if at >= self.pictures[0][0] + after_s]
        return max(b - a for a, b in pairwise(times))

    def fps(self) -> float:
        """Pictures a second."""
        return (len(self.pictures) - 1) / (self.pictures[-1][0] - self.pictures[0][0])

    def heard(self) -> float:
        """The share of the sent sound that was heard, and not filled."""
        return float(self.facts["sound"]["heard_s"]) / self.sent_sound_s

    def complete(self) -> float:
        """Seconds of sound that left the timeline over seconds sent."""
        sound_facts = self.facts["sound"]
        return float(sound_facts["heard_s"] + sound_facts["filled_s"]) / self.sent_sound_s

    def skews(self) -> list[tuple[float, float]]:
        """For each click in what the room pulled: when, and how late it was for its picture."""
        samples = np.abs(np.concatenate(self.blocks)[:, 0])
        offsets = [(pts, pts - number / FPS) for _, number, pts in self.pictures]
        found: list[tuple[float, float]] = []
        last = -1.0
        for place in np.flatnonzero(samples > 0.3):
            at = self.begun_at + float(place) / SOUND_RATE
            if at - last > CLICK_EVERY_S / 2:
                nearest = min(offsets, key=lambda pair, at=at: abs(pair[0] - at))[1]  # type: ignore[misc]
                content_s = at - nearest - _CLICK_AT / SOUND_RATE
                found.append((at, math.remainder(content_s, CLICK_EVERY_S)))
                last = at
        return found


async def publish(
    seconds: float,
    *,
    up: Line | None = None,
    down: Line | None = None,
    codec: str = "VP8",
    target_s: float = 0.1,
    make: Callable[[int], VideoFrame] = picture,
    with_sound: bool = True,
    happens: Callable[[float], None] = lambda at: None,
    looks: Callable[[RemotePicture], None] = lambda remote: None,
    linger_s: float = 0.2,
) -> Received:
    """Let a peer publish for some seconds and say what was received.

    Args:
        seconds: from the first sound or picture on.
        up: the line from the publisher.
        down: the line to it.
        codec: of the pictures.
        target_s: of the intake.
        make: makes the pictures.
        with_sound: whether there is sound.
        happens: called every 20 ms with the seconds so far.
        looks: given each picture in the decoder's thread.
        linger_s: how long what is under way may still arrive in the end.
    """
    epoch = time.monotonic()
    received = Received()

    def clock() -> float:
        return time.monotonic() - epoch

    def take(remote: RemotePicture) -> None:
        received.pictures.append((clock(), number_in(remote.frame), remote.pts))
        looks(remote)

    intake = LiveIntake(SOUND_RATE, CHANNELS, target_s=target_s)
    publisher = Publisher(clock, intake=intake if with_sound else None, pictures=take)
    sender = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    receiver = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pictures, sounds = PicturesOut(lambda: epoch, make), SoundOut(lambda: epoch)
    transceiver = sender.addTransceiver(pictures, "sendonly")
    codecs = RTCRtpSender.getCapabilities("video").codecs
    transceiver.setCodecPreferences(
        [c for c in codecs if c.mimeType in (f"video/{codec}", "video/rtx")]
    )
    if with_sound:
        sender.addTransceiver(sounds, "sendonly")
    try:
        await sender.setLocalDescription(await sender.createOffer())
        publisher.prepare(receiver)
        await receiver.setRemoteDescription(sender.localDescription)
        await receiver.setLocalDescription(await receiver.createAnswer())
        publisher.answered(receiver)
        impair(sender, out=up, into=down)
        answer = receiver.localDescription
        await sender.setRemoteDescription(RTCSessionDescription(answer.sdp, answer.type))
        while not pictures.sent:
            await asyncio.sleep(0.005)
        sent_before = sounds.sent
        begin = clock()
        tick = received.begun_at = math.floor(begin / TICK_S) * TICK_S
        while tick < begin + seconds:
            tick += TICK_S
            await asyncio.sleep(max(tick - clock(), 0.0))
            received.lag_s = max(received.lag_s, clock() - tick)
            received.blocks.append(intake.pull(TICK_SAMPLES, clock()))
            happens(tick - begin)
        pictures.over = sounds.over = True
        received.sent_pictures = tuple(pictures.numbers)
        received.sent_sound_s = (sounds.sent - sent_before) * TICK_S
        await asyncio.sleep(linger_s)
        received.facts = publisher.facts() | {"starved_s": intake.starved_s}
    finally:
        publisher.closed()
        closing = asyncio.create_task(receiver.close())
        while not closing.done():
            before = time.monotonic()
            await asyncio.sleep(0.001)
            received.closing_s = max(received.closing_s, time.monotonic() - before - 0.001)
        await sender.close()
    return received


def lossy(loss: float, seed: int = 1) -> tuple[Line, Line]:
    """Lines up and down that lose so much, with a round trip of 50 ms."""
    up = Impairment(loss=loss, delay_s=_RTT_S / 2, seed=seed)
    down = Impairment(loss=loss, delay_s=_RTT_S / 2, seed=seed + 1000)
    return Line(up), Line(down)


def _row(name: str, received: Received) -> str:
    sound_facts, pictures = received.facts["sound"], received.facts["pictures"]
    skews = [1000 * skew for at, skew in received.skews() if at > received.begun_at + 3]
    spread = f"{min(skews):+5.0f} … {max(skews):+5.0f}" if skews else "-"
    return (
        f"{name:28} {received.fps():5.1f} {1000 * received.freeze_s(1.0):6.0f} "
        f"{100 * received.complete():7.2f} {100 * received.heard():7.2f} {spread:>14} "
        f"{pictures['nacks']:5} {pictures['nacks_repeated']:5} {pictures['key_frames_asked']:4} "
        f"{sound_facts['lost']:5} {sound_facts['late']:4}  {pictures['rtt_ms']} "
        f"{1000 * received.closing_s:.1f} {received.facts['starved_s']:.2f}"
        f" {1000 * received.lag_s:4.0f}"
    )


def lose_with_answer(number: int) -> Callable[[bytes], bool]:
    """Lose one packet of a picture, counted from the first, and the first retransmission."""
    seen: Counter[int] = Counter()  # packets by payload type

    def lose(data: bytes) -> bool:
        header = rtp(data)
        if header is None or header.payload_type not in (PICTURE_TYPE, ANSWER_TYPE):
            return False
        seen[header.payload_type] += 1
        if header.payload_type == PICTURE_TYPE:
            return seen[PICTURE_TYPE] == number
        return seen[ANSWER_TYPE] == 1

    return lose


def hold_sound(seconds: float) -> Callable[[bytes], float]:
    """Delay only the packets of sound."""

    def hold_s(data: bytes) -> float:
        header = rtp(data)
        return seconds if header is not None and header.payload_type == SOUND_TYPE else 0.0

    return hold_s


def uneven(seed: int = 1) -> Line:
    """A line with jitter of ±20 ms that reorders 2 % and doubles 1 %."""
    return Line(Impairment(delay_s=0.03, jitter_s=0.02, reorder=0.02, duplicate=0.01, seed=seed))


def cut_between(line: Line, begin: float, end: float) -> Callable[[float], None]:
    """For ``happens``: nothing passes for a while."""

    def happens(at: float) -> None:
        line.cut = begin <= at < end

    return happens


async def _table(seconds: float, seed: int) -> None:
    print(  # noqa: T201
        f"{'line':28} {'fps':>5} {'freeze':>6} {'pushed%':>7} {'heard%':>7} {'skew ms':>14} "
        f"{'nacks':>5} {'again':>5} {'PLIs':>4} {'lost':>5} {'late':>4}  rtt close starved lag"
    )

    async def row(name: str, up: Line, down: Line | None = None, **more: Any) -> None:
        received = await publish(seconds, up=up, down=down, **more)
        print(_row(name, received), flush=True)  # noqa: T201

    for codec in ("VP8", "H264"):
        for loss in (0.0, 0.01, 0.05, 0.1):
            up, down = lossy(loss, seed)
            await row(f"{codec} {loss:.0%} loss, RTT 50 ms", up, down, codec=codec)
    await row("jitter, reordering, doubles", uneven(seed))
    good = Impairment(delay_s=_RTT_S / 2)
    await row("a packet and its answer lost", Line(good, lose=lose_with_answer(200)), Line(good))
    bad = Line(Impairment(loss=0.05, delay_s=_RTT_S / 2, seed=seed), hold_s=hold_sound(0.3))
    await row("5 %, sound 300 ms later", bad, Line(good), linger_s=0.6)
    line = Line(good)
    await row("cut for 2 s", line, happens=cut_between(line, 4.0, 6.0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Figures of receiving over bad lines.")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each row")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    asyncio.run(_table(arguments.seconds, arguments.seed))
