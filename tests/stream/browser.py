"""A real browser, and a session for it to look at that needs no device and no network."""

import asyncio
import math
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError
from stream.core.sinks import Shown
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.web.broadcast import Broadcast
from stream.web.server import PageServer

if TYPE_CHECKING:
    from playwright.async_api import Browser

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
WIDTH, HEIGHT = 320, 240


def picture(time_s: float) -> NDArray[np.uint8]:
    """A bright disc that goes around on a coloured ground, uint8 (240, 320, 3)."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    shade = np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, np.full_like(x, 120)], axis=-1)
    centre_x = WIDTH / 2 + 80 * math.cos(3 * time_s)
    centre_y = HEIGHT / 2 + 60 * math.sin(3 * time_s)
    shade[(x - centre_x) ** 2 + (y - centre_y) ** 2 < 30**2] = 240
    return shade.astype(np.uint8)


def tone(number: int) -> Sound:
    """The 20 ms with this number of a tone of 440 Hz."""
    at = (number * TICK_SAMPLES + np.arange(TICK_SAMPLES)) / SOUND_RATE
    wave = 0.2 * np.sin(2 * math.pi * 440 * at)
    return np.stack([wave, wave], axis=1).astype(np.float32)


class FakeSession:
    """Remembers what was changed; its meters move a little."""

    def __init__(self) -> None:
        self.values: dict[str, object] = {
            "lip_sync": True,
            "paused": False,
            "own_voice": False,
            "trim_ms": 0,
        }
        self.faces: list[tuple[float, float]] = []
        self.states = {
            name: {"state": "running", "text": ""}
            for name in ("camera", "generator", "virtual camera", "virtual microphone")
        }
        self._begin = time.monotonic()

    def meters(self) -> dict[str, object]:
        now = time.monotonic() - self._begin
        shown = round(25 * now)
        return {
            "fps": 25.0,
            "added_delay_ms": {
                "total": 412.0,
                "stages": {
                    "capture": 4.1,
                    "track": 9.8,
                    "wait": 188.4,
                    "generate": 61.2,
                    "compose": 6.3,
                    "show": 0.2,
                },
            },
            "skew_ms": round(9 * math.sin(now), 1),
            "gate": ("speech", "closed", "real")[round(now / 4) % 3],
            "frames": {
                "in": shown,
                "out": shown,
                "generated": shown * 3 // 4,
                "dropped": 2,
                "repeated": 0,
                "passthrough": shown // 4,
            },
            "passthrough_reason": "quiet" if round(now / 4) % 3 == 2 else None,
            "states": self.states,
            "uptime_s": round(now, 1),
            "backend": "openvino",
            "bundle": "starter",
            "sound_level": 0.2 + 0.1 * math.sin(5 * now),
            "microphone_level": 0.02,
        }

    def settings(self) -> dict[str, object]:
        return dict(self.values)

    def change(self, name: str, value: object) -> None:
        if name not in self.values:
            raise ConfigError(f"There is no setting {name!r}.")
        if name == "trim_ms" and not (isinstance(value, int) and abs(value) <= 500):
            raise ConfigError(f"trim_ms must be within 500, not {value!r}.")
        self.values[name] = value

    def choose_face(self, x: float, y: float) -> None:
        self.faces.append((x, y))


async def feed(broadcast: Broadcast, pictures: list[NDArray[np.uint8]]) -> None:
    """Play a session's sinks in real time, until cancelled: 25 pictures and 50 blocks a second.

    The camera's own pictures are the same in grey.
    """
    grey = [np.repeat(p.mean(axis=2, keepdims=True), 3, axis=2).astype(np.uint8) for p in pictures]
    begin, tick = time.monotonic(), 0
    while True:
        await asyncio.sleep(max(0.0, begin + tick * TICK_S - time.monotonic()))
        position_s = tick * TICK_S
        broadcast.hear(tone(tick), position_s)
        if tick % 2 == 0:
            number = tick // 2
            place = number % len(pictures)
            broadcast.show(
                Shown(number, position_s, pictures[place], grey[place], True, position_s + 0.4)
            )
        tick += 1


@asynccontextmanager
async def serving(session: FakeSession, port: int = 0) -> AsyncIterator[PageServer]:
    """A page of a session that runs."""
    broadcast = Broadcast()
    server = PageServer(session, broadcast, port=port)
    await server.start()
    pictures = [picture(number / 25) for number in range(52)]
    tasks = [
        asyncio.create_task(job)
        for job in (server.run(), broadcast.run(), feed(broadcast, pictures))
    ]
    try:
        yield server
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def chromium(*more_flags: str) -> AsyncIterator["Browser"]:
    """A browser without a screen; the test is skipped where there is none."""
    pytest.importorskip("playwright", reason="playwright is not installed")
    if shutil.which(CHROMIUM) is None:
        pytest.skip(f"there is no {CHROMIUM} (apt-get install chromium)")
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=CHROMIUM, headless=True, args=[*FLAGS, *more_flags]
        )
        try:
            yield browser
        finally:
            await browser.close()
