"""A whole meeting: real browsers, a real relay, and what its listeners get to see and hear."""

from __future__ import annotations

import asyncio
import base64
import wave
from collections.abc import Sequence
from contextlib import AsyncExitStack
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face_models import FaceModels
from engine.lips import correlation
from engine.media import VideoReader, read_audio, retime
from engine.phonemes import load_spans, opening_of
from stream.core.sound import TICK_S
from stream.demo import SPEECH_FILE
from tests.stream import flash_click
from tests.stream.browser import chromium
from tests.stream.relay.client import FPS, HEIGHT, RATE, WIDTH, face_pictures
from tests.stream.relay.load import lag_counts, quantile
from tests.stream.relay.running import Running, running
from training.bench import openings

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page, ViewportSize

pytestmark = pytest.mark.devices
pytest.importorskip("playwright.async_api", reason="playwright is not installed")

RECORD_S = 9
VIEW: Final[ViewportSize] = {"width": 360, "height": 420}  # drawing larger ones takes a core
MOUTH_RATE = 16_000
MOST_BEHIND_S: Final = TICK_S
"""A relay whose computer has time for it is less late than that."""
RECORD = """async ([tracks, seconds]) => {
    const recorder = new MediaRecorder(new MediaStream(tracks), { videoBitsPerSecond: 1500000 });
    const pieces = [];
    recorder.ondataavailable = (event) => pieces.push(event.data);
    const over = new Promise((resolve) => { recorder.onstop = resolve; });
    recorder.start();
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    recorder.stop();
    await over;
    const bytes = new Uint8Array(await new Blob(pieces).arrayBuffer());
    let text = "";
    for (const byte of bytes) text += String.fromCharCode(byte);
    return btoa(text);
}"""
SHOWN = """(which) => {
    const video = document.querySelector(`#tiles .screen.${which} video`);
    return video.srcObject.getTracks();
}"""
SENT = """async () => {
    const { app } = await import("/main.js");
    return Object.values(app.media.tracks);
}"""
NOT_DRAWN = "() => { document.body.hidden = true; }"
"""Nobody looks: without a graphics processor drawing takes most of a browser's time."""
COUNT = """async ([which, seconds]) => {
    const video = document.querySelector(`#tiles .screen.${which} video`);
    const before = video.getVideoPlaybackQuality().totalVideoFrames;
    await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
    return (video.getVideoPlaybackQuality().totalVideoFrames - before) / seconds;
}"""
PLAYS = """(which) => {
    const video = document.querySelector(`#tiles .screen.${which} video`);
    return Boolean(video && video.videoWidth && video.currentTime > 0.5);
}"""


def fake_camera(path: Path, pictures: Sequence[NDArray[np.uint8]]) -> None:
    """A film for Chromium's fake camera, which plays it again and again."""
    quality = [cv2.IMWRITE_JPEG_QUALITY, 92]
    with path.open("wb") as file:
        for picture in pictures:
            bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
            file.write(cv2.imencode(".jpg", bgr, quality)[1].tobytes())


def fake_microphone(path: Path, mono: NDArray[np.float32]) -> None:
    """A sound for Chromium's fake microphone, which plays it again and again."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((np.clip(mono, -1, 1) * 32767).astype("<i2").tobytes())


def speech() -> NDArray[np.float32]:
    sound = np.asarray(read_audio(SPEECH_FILE, RATE), np.float32)
    return np.asarray(sound.reshape(len(sound), -1).mean(axis=1), np.float32)


def devices(camera: Path, microphone: Path) -> tuple[str, ...]:
    return (
        "--use-fake-ui-for-media-stream",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-video-capture={camera}",
        f"--use-file-for-fake-audio-capture={microphone}",
    )


async def joined(browser: Browser, url: str, *, name: str = "", whom: str = "") -> Page:
    """A page that has joined the room of its address: a speaker has a name."""
    page = await browser.new_page(viewport=VIEW)
    await page.goto(url)
    await page.wait_for_selector("#join-button")
    if name:
        await page.fill("#name", name)
        await page.check("#consent")
    if whom:
        await page.select_option("#whom", whom)
    await page.click("#join-button")
    await page.wait_for_selector("#leave:not([hidden])")
    return page


async def until(page: Page, script: str, argument: Any, seconds: float = 40) -> None:
    async with asyncio.timeout(seconds):
        while not await page.evaluate(script, argument):
            await asyncio.sleep(0.1)


async def record(page: Page, tracks: str, out: Path, which: str = "") -> None:
    """What a page's tracks give, as a file."""
    handle = await page.evaluate_handle(tracks, which)
    found = await page.evaluate(RECORD, [handle, RECORD_S])
    await asyncio.to_thread(out.write_bytes, base64.b64decode(found))


def place_of(heard: NDArray[np.float32], said: NDArray[np.float32]) -> float:
    """Where in a speech that is said again and again a recording begins, in seconds."""
    size = len(said)
    padded = np.zeros(size, np.float32)
    padded[: min(size, len(heard))] = heard[:size]
    spectrum = np.fft.rfft(said) * np.conj(np.fft.rfft(padded))
    return float(np.argmax(np.fft.irfft(spectrum, size))) / MOUTH_RATE


async def behind_s(relay: Running) -> float:
    """How late the relay's room was at half of its ticks."""
    return quantile({}, await asyncio.to_thread(lag_counts, relay.port), 0.5)


class Meeting(NamedTuple):
    """What its listeners got.

    Attributes:
        rates: pictures a second, of each listener.
        behind_s: how late the relay's room was at half of its ticks.
        lost: share of the pictures without a face.
        follows: correlation of the seen mouth with the interpreter's speech, by lag in frames.
        backward: with that speech backward.
    """

    rates: list[float]
    behind_s: float
    lost: float
    follows: dict[int, float]
    backward: float

    @property
    def best(self) -> int:
        """The lag at which the mouth follows best."""
        return max(self.follows, key=lambda lag: self.follows[lag])

    @property
    def good(self) -> bool:
        """Whether the pictures came, and the mouth followed."""
        return min(self.rates) >= 15 and self.lost <= 0.02 and self.follows[self.best] >= 0.4


async def hold_meeting(tmp_path: Path) -> Meeting:
    """A speaker, an interpreter and two listeners in three browsers."""
    film = face_pictures()
    fake_camera(tmp_path / "face.mjpeg", [*film, *film[::-1]])
    said = speech()
    fake_microphone(tmp_path / "interpreter.wav", said)
    fake_microphone(tmp_path / "speaker.wav", said[::-1])  # other lips, as long
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(running())
        browsers = [
            await stack.enter_async_context(chromium(*flags))
            for flags in (
                devices(tmp_path / "face.mjpeg", tmp_path / "speaker.wav"),
                devices(tmp_path / "face.mjpeg", tmp_path / "interpreter.wav"),
                (),
            )
        ]
        room = f"{relay.url}meeting"
        speaking = await joined(browsers[0], f"{room}?as=speaker", name="Anna")
        listeners = [await joined(browsers[2], f"{room}?as=listener&lang=de") for _ in range(2)]
        interpreting = await joined(browsers[1], f"{room}?as=interpreter&lang=de", whom="Anna")
        for page in (speaking, interpreting):
            await page.evaluate(NOT_DRAWN)
        for page in listeners:
            await until(page, PLAYS, "synced")
        await asyncio.sleep(3)  # the speaker's looks are learned
        rates = await asyncio.gather(*(page.evaluate(COUNT, ["synced", 6]) for page in listeners))
        behind = await behind_s(relay)
        await record(listeners[0], SHOWN, tmp_path / "seen.webm", "synced")
        await listeners[1].reload()
        await until(listeners[1], PLAYS, "synced")

    pictures = list(retime(VideoReader(tmp_path / "seen.webm"), Fraction(FPS)))
    seen, lost = openings(iter(pictures), FaceModels(threads=1))
    mono = np.asarray(read_audio(tmp_path / "seen.webm", MOUTH_RATE), np.float32)
    heard = mono.reshape(len(mono), -1).mean(axis=1)
    there = np.asarray(read_audio(SPEECH_FILE, MOUTH_RATE), np.float32)
    there = there.reshape(len(there), -1).mean(axis=1)
    spans = load_spans(SPEECH_FILE.with_suffix(".json"))
    length = len(there) / MOUTH_RATE
    at = place_of(heard, there) + (np.arange(len(seen)) + 0.5) / FPS
    follows = {
        lag: correlation(opening_of(spans, (at + lag / FPS) % length), seen) for lag in range(-4, 5)
    }
    backward = correlation(opening_of(spans, (length - at) % length), seen)
    share = lost / max(1, len(pictures))
    return Meeting(rates, behind, share, follows, backward)


@pytest.mark.timeout(170)
async def test_listeners_see_lips_that_follow_the_interpreter_and_not_the_speaker(
    tmp_path: Path,
) -> None:
    for attempt in ("first", "second"):  # a computer may be busy once
        (tmp_path / attempt).mkdir()
        meeting = await hold_meeting(tmp_path / attempt)
        if meeting.good:
            break
    if not meeting.good and meeting.behind_s > MOST_BEHIND_S:
        pytest.skip(f"this computer has no time for three browsers and a relay: {meeting}")
    assert min(meeting.rates) >= 15, meeting
    assert meeting.lost <= 0.02, meeting
    assert meeting.follows[meeting.best] >= 0.4, meeting
    assert abs(meeting.best) <= 3, meeting
    assert meeting.backward < meeting.follows[meeting.best] - 0.2, meeting


@pytest.mark.timeout(120)
async def test_picture_and_sound_of_the_original_arrive_together(tmp_path: Path) -> None:
    rate = 30  # at which Chromium plays such a film
    shown = [flash_click.picture(n / rate, WIDTH, HEIGHT) for n in range(rate)]
    fake_camera(tmp_path / "flash.mjpeg", shown)
    fake_microphone(tmp_path / "click.wav", flash_click.sound(0.0, RATE))
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(running())
        speaker = await stack.enter_async_context(
            chromium(*devices(tmp_path / "flash.mjpeg", tmp_path / "click.wav"))
        )
        listening = await stack.enter_async_context(chromium())
        room = f"{relay.url}meeting"
        sending = await joined(speaker, f"{room}?as=speaker", name="Anna")
        listener = await joined(listening, f"{room}?as=listener")
        await until(listener, PLAYS, "original")
        await asyncio.sleep(5)  # sender reports have come
        await record(listener, SHOWN, tmp_path / "seen.webm", "original")
        behind = await behind_s(relay)
        # Chromium's fake devices begin at moments of their own.
        await record(sending, SENT, tmp_path / "sent.webm")
    sent = np.array(flash_click.measure(tmp_path / "sent.webm"))
    seen = np.array(flash_click.measure(tmp_path / "seen.webm"))
    assert len(sent) >= 4
    assert len(seen) >= 4
    apart = float(np.quantile(np.abs(seen - np.median(sent)), 0.95))
    if apart > 0.08 and behind > MOST_BEHIND_S:
        pytest.skip(
            f"this computer has no time for two browsers and a relay, which is {behind} s late:"
            f" picture and sound are {apart:.2f} s apart"
        )
    assert apart <= 0.08, (sent, seen)
