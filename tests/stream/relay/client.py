"""A WHIP and WHEP client: publishes made media, or watches and says what came.

    python -m tests.stream.relay.client publish URL [--face] [--speech FILE | --clicks]
    python -m tests.stream.relay.client listen URL --seconds N [--count]

A program of its own, so that its processor time can be told from the relay's. ``listen`` prints
what it saw as JSON.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any, Final, Literal

import aiohttp
import av
import cv2
import numpy as np
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    rtcrtpreceiver,
)
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from numpy.typing import NDArray
from yarl import URL

from engine.media import read_audio
from stream.demo import speaker
from tests.stream import flash_click

WIDTH, HEIGHT, FPS = 640, 480, 25
RATE, PACKET = 48_000, 960
LOOP_S: Final = 8.0  # of the face's pictures, forward and backward

Picture = NDArray[np.uint8]


def face_pictures(seconds: float = LOOP_S) -> list[Picture]:
    """The demo's speaker in 640x480, uint8 RGB."""
    source = iter(speaker().pictures())
    made = []
    for _ in range(round(seconds * FPS)):
        square = cv2.resize(next(source), (HEIGHT, HEIGHT), interpolation=cv2.INTER_AREA)
        side = (WIDTH - HEIGHT) // 2
        made.append(
            np.asarray(cv2.copyMakeBorder(square, 0, 0, side, side, cv2.BORDER_REPLICATE), np.uint8)
        )
    return made


class Pictures(MediaStreamTrack):
    """Pictures at 25 a second, each the ``at`` of its time."""

    kind = "video"

    def __init__(self, at: Callable[[float], Picture], start: float) -> None:
        super().__init__()
        self._at, self._start, self._number = at, start, 0

    async def recv(self) -> av.VideoFrame:
        await asyncio.sleep(max(0.0, self._start + self._number / FPS - time.monotonic()))
        # Skips what was missed: a late burst would be no camera's.
        self._number = max(self._number, math.floor((time.monotonic() - self._start) * FPS))
        frame = av.VideoFrame.from_ndarray(self._at(self._number / FPS), format="rgb24")
        frame.pts, frame.time_base = self._number, Fraction(1, FPS)
        self._number += 1
        return frame


class EncodedPictures(MediaStreamTrack):
    """A film that was encoded before it is sent, again and again; a key frame every second.

    Args:
        film: its pictures.
        start: when the first one is due, on the monotonic clock.
    """

    kind = "video"

    def __init__(self, film: Sequence[Picture], start: float) -> None:
        super().__init__()
        self._packets = _encode(film)
        self._start, self._number = start, 0

    async def recv(self) -> Any:
        await asyncio.sleep(max(0.0, self._start + self._number / FPS - time.monotonic()))
        packet = av.Packet(self._packets[self._number % len(self._packets)])
        packet.pts, packet.time_base = self._number, Fraction(1, FPS)
        self._number += 1
        return packet


def _encode(film: Sequence[Picture]) -> list[bytes]:
    encoder = av.CodecContext.create("libvpx", "w")
    assert isinstance(encoder, av.VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.bit_rate, encoder.gop_size = Fraction(1, FPS), 1_500_000, FPS
    encoder.options = {"deadline": "realtime", "cpu-used": "6", "lag-in-frames": "0"}
    packets = []
    for number, picture in enumerate(film):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += [bytes(packet) for packet in encoder.encode(frame)]
    return packets


class Sounds(MediaStreamTrack):
    """20 ms packets of a sound that is a function of its first sample's number."""

    kind = "audio"

    def __init__(self, samples: Callable[[int, int], NDArray[np.float32]], start: float) -> None:
        super().__init__()
        self._samples, self._start, self._number = samples, start, 0

    async def recv(self) -> av.AudioFrame:
        due = self._start + (self._number + 1) * PACKET / RATE
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        mono = self._samples(self._number * PACKET, PACKET)
        whole = np.repeat((np.clip(mono, -1, 1) * 32767).astype(np.int16)[:, None], 2, axis=1)
        frame = av.AudioFrame(format="s16", layout="stereo", samples=PACKET)
        frame.planes[0].update(whole.tobytes())
        frame.sample_rate, frame.pts = RATE, self._number * PACKET
        frame.time_base = Fraction(1, RATE)
        self._number += 1
        return frame


def looped(sound: NDArray[np.float32]) -> Callable[[int, int], NDArray[np.float32]]:
    """A sound again and again."""

    def samples(first: int, count: int) -> NDArray[np.float32]:
        return np.asarray(sound[np.arange(first, first + count) % len(sound)], np.float32)

    return samples


def clicks(first: int, count: int) -> NDArray[np.float32]:
    """The sound of :mod:`tests.stream.flash_click`."""
    return flash_click.sound(first / RATE, count, RATE)


class CountedOnly:
    """Stands in for aiortc's decoders: a picture or packet that is whole, and no more."""

    def __init__(self, codec: Any) -> None:
        self._is_video = codec.mimeType.startswith("video")

    def decode(self, encoded: Any) -> list[av.VideoFrame | av.AudioFrame]:
        frame: av.VideoFrame | av.AudioFrame
        if self._is_video:
            frame = av.VideoFrame(16, 16, "yuv420p")
            frame.time_base = Fraction(1, 90_000)
        else:
            frame = av.AudioFrame(format="s16", layout="stereo", samples=PACKET)
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
        frame.pts = encoded.timestamp
        return [frame]


class Client:
    """One connection to a relay, made and ended over HTTP.

    Args:
        http: whose requests it makes.
        url: the endpoint.
        token: sent as bearer token, if any.
    """

    def __init__(self, http: aiohttp.ClientSession, url: str, *, token: str | None = None) -> None:
        self.connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
        self._http, self._url = http, url
        self._headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        self.resource: str | None = None
        self.connected = asyncio.Event()
        self.ended = asyncio.Event()

        def changed() -> None:
            state = self.connection.connectionState
            if state == "connected":
                self.connected.set()
            elif state in ("failed", "closed"):
                self.ended.set()

        self.connection.on("connectionstatechange", changed)

    async def join(self, *, patience_s: float = 20.0, codec: str | None = None) -> None:
        """Offer, until it is taken, and connect."""
        if codec is not None:
            wanted = [
                found
                for found in RTCRtpSender.getCapabilities("video").codecs
                if found.mimeType == f"video/{codec}"
            ]
            for transceiver in self.connection.getTransceivers():
                if transceiver.kind == "video":
                    transceiver.setCodecPreferences(wanted)
        await self.connection.setLocalDescription(await self.connection.createOffer())
        end = time.monotonic() + patience_s
        while True:
            async with self._http.post(
                self._url,
                data=self.connection.localDescription.sdp,
                headers={"Content-Type": "application/sdp", **self._headers},
            ) as answer:
                text = await answer.text()
                if answer.status == 201:
                    self.resource = answer.headers["Location"]
                    break
                if answer.status not in (409, 503) or time.monotonic() > end:
                    raise ConnectionError(f"{answer.status}: {text}")
            await asyncio.sleep(0.2)
        await self.connection.setRemoteDescription(RTCSessionDescription(text, "answer"))
        await asyncio.wait_for(self.connected.wait(), 10)

    async def leave(self) -> None:
        """Hang up."""
        if self.resource is not None:
            address = URL(self._url).join(URL(self.resource))
            async with self._http.delete(address, headers=self._headers):
                pass
        await self.connection.close()


def publisher(
    http: aiohttp.ClientSession,
    url: str,
    *,
    pictures: Callable[[float], Picture] | Sequence[Picture] | None,
    samples: Callable[[int, int], NDArray[np.float32]],
    token: str | None = None,
) -> Client:
    """A client that sends; picture 0 and sample 0 belong together.

    Args:
        http: whose requests it makes.
        url: of a WHIP endpoint.
        pictures: of a time; or a film, which is encoded as VP8 before it is sent; or none.
        samples: of the sound, by their numbers.
        token: sent as bearer token, if any.
    """
    client = Client(http, url, token=token)
    start = time.monotonic() + 0.2
    connection = client.connection
    if callable(pictures):
        connection.addTransceiver(Pictures(pictures, start), "sendonly")
    elif pictures is not None:
        connection.addTransceiver(EncodedPictures(pictures, start), "sendonly")
    connection.addTransceiver(Sounds(samples, start), "sendonly")
    return client


@dataclass
class Seen:
    """What a listener got.

    Attributes:
        pictures: when each came, in seconds since the first thing that came.
        pts: of each, in seconds.
        sound_s: seconds of sound that came.
        sound_span_s: seconds between the first and the last of it.
        flashes: when flashes began.
        clicks: when clicks began, on the same clock.
        width: of the last picture.
        height: of the last picture.
        cpu_s: processor seconds of this program.
    """

    pictures: list[float] = field(default_factory=list)
    pts: list[float] = field(default_factory=list)
    sound_s: float = 0.0
    sound_span_s: float = 0.0
    flashes: list[float] = field(default_factory=list)
    clicks: list[float] = field(default_factory=list)
    width: int = 0
    height: int = 0
    cpu_s: float = 0.0

    def fps(self, skip_s: float = 2.0) -> float:
        """Pictures a second after the first seconds."""
        late = [at for at in self.pictures if at >= skip_s]
        return (len(late) - 1) / (late[-1] - late[0]) if len(late) > 1 else 0.0

    def longest_gap_s(self, skip_s: float = 2.0) -> float:
        """The longest time without a new picture."""
        late = [at for at in self.pictures if at >= skip_s]
        return max((b - a for a, b in pairwise(late)), default=math.inf)


class Listener:
    """Watches a line.

    Args:
        http: whose requests it makes.
        url: of a WHEP endpoint.
        token: sent as bearer token, if any.
        keep: takes each picture, RGB, and when it came; None looks at no pixel but for flashes.
        kinds: of media wanted.
    """

    def __init__(
        self,
        http: aiohttp.ClientSession,
        url: str,
        *,
        token: str | None = None,
        keep: Callable[[Picture, float], None] | None = None,
        kinds: tuple[Literal["video", "audio"], ...] = ("video", "audio"),
    ) -> None:
        self.client = Client(http, url, token=token)
        self.seen = Seen()
        self.samples: list[NDArray[np.float32]] = []
        self._keep = keep
        self._start: float | None = None
        self._tasks: list[asyncio.Task[None]] = []
        for kind in kinds:
            self.client.connection.addTransceiver(kind, direction="recvonly")
        self.client.connection.on("track", self._take)

    def _take(self, track: MediaStreamTrack) -> None:
        work = self._watch(track) if track.kind == "video" else self._hear(track)
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def _now(self) -> float:
        now = time.monotonic()
        self._start = now if self._start is None else self._start
        return now - self._start

    async def _watch(self, track: MediaStreamTrack) -> None:
        white = True
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.VideoFrame)
            assert frame.pts is not None
            assert frame.time_base is not None
            now = self._now()
            self.seen.pictures.append(now)
            self.seen.pts.append(float(frame.pts * frame.time_base))
            self.seen.width, self.seen.height = frame.width, frame.height
            light = float(np.frombuffer(bytes(frame.planes[0]), np.uint8)[::997].mean()) > 130
            if light and not white:
                self.seen.flashes.append(now)
            white = light
            if self._keep is not None:
                self._keep(np.asarray(frame.to_ndarray(format="rgb24"), np.uint8), now)

    async def _hear(self, track: MediaStreamTrack) -> None:
        first: float | None = None
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            assert isinstance(frame, av.AudioFrame)
            now = self._now()
            first = now if first is None else first
            self.seen.sound_s += frame.samples / frame.sample_rate
            self.seen.sound_span_s = now - first
            mono = frame.to_ndarray().reshape(-1, 2).mean(axis=1) / 32768
            self.samples.append(mono.astype(np.float32))
            if np.abs(mono).max() > 0.4 and (
                not self.seen.clicks or now - self.seen.clicks[-1] > flash_click.PERIOD_S / 2
            ):
                self.seen.clicks.append(now)

    async def stop(self) -> Seen:
        """Hang up and say what came."""
        await self.client.leave()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.seen.cpu_s = sum(os.times()[:2])
        return self.seen


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("role", choices=["publish", "listen"])
    parser.add_argument("url")
    parser.add_argument("--face", action="store_true", help="publish the demo's face")
    parser.add_argument("--flashes", action="store_true", help="publish flashes")
    parser.add_argument("--speech", type=Path, help="publish this speech, again and again")
    parser.add_argument("--shift", type=float, default=0.0, help="begin so many seconds into it")
    parser.add_argument("--clicks", action="store_true", help="publish clicks")
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--count", action="store_true", help="count what comes, decode nothing")
    parser.add_argument("--token")
    parser.add_argument("--codec", choices=["VP8", "H264"])
    return parser.parse_args()


async def _main(arguments: argparse.Namespace) -> dict[str, Any]:
    async with aiohttp.ClientSession() as http:
        if arguments.role == "listen":
            if arguments.count:
                vars(rtcrtpreceiver)["get_decoder"] = CountedOnly
            listener = Listener(http, arguments.url, token=arguments.token)
            await listener.client.join(codec=arguments.codec)
            await asyncio.sleep(arguments.seconds)
            seen = await listener.stop()
            return {**asdict(seen), "fps": seen.fps(), "longest_gap_s": seen.longest_gap_s()}
        samples = looped(np.zeros(RATE, np.float32))
        if arguments.speech is not None:
            sound = np.asarray(read_audio(arguments.speech, RATE), np.float32)
            mono = sound.reshape(len(sound), -1).mean(axis=1)
            samples = looped(np.roll(mono, -round(arguments.shift * RATE)))
        if arguments.clicks:
            samples = clicks
        pictures: Callable[[float], Picture] | Sequence[Picture] | None = None
        if arguments.face:
            there = face_pictures()
            pictures = [*there, *there[::-1]]
        if arguments.flashes:
            pictures = lambda at: flash_click.picture(at, WIDTH, HEIGHT)  # noqa: E731
        client = publisher(
            http, arguments.url, pictures=pictures, samples=samples, token=arguments.token
        )
        await client.join(codec=arguments.codec)
        sys.stderr.write("connected\n")
        sys.stderr.flush()
        await asyncio.wait(
            [asyncio.create_task(client.ended.wait())],
            timeout=None if math.isinf(arguments.seconds) else arguments.seconds,
        )
        await client.leave()
        return {"cpu_s": sum(os.times()[:2])}


if __name__ == "__main__":
    cv2.setNumThreads(1)
    sys.stdout.write(json.dumps(asyncio.run(_main(_arguments()))) + "\n")
