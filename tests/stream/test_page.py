"""The control page in a real browser, with a session that needs no device."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from stream.web.server import PageServer
from tests.stream.browser import FakeSession, chromium, serving

if TYPE_CHECKING:
    from playwright.async_api import ConsoleMessage, Page

pytestmark = pytest.mark.devices
expect = pytest.importorskip("playwright.async_api", reason="playwright is not installed").expect

PLAYING = """() => [...document.querySelectorAll("video")].every(
    (video) => video.videoWidth > 0 && video.currentTime > 0.2)"""
COLOURS = """() => [...document.querySelectorAll("video")].map((video) => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    const context = canvas.getContext("2d");
    context.drawImage(video, 0, 0);
    return [...context.getImageData(5, canvas.height - 5, 1, 1).data].slice(0, 3);
})"""
LOUDNESS = """async () => {
    const context = new AudioContext();
    const analyser = context.createAnalyser();
    const stream = document.querySelector("#output video").srcObject;
    context.createMediaStreamSource(stream).connect(analyser);
    await new Promise((done) => setTimeout(done, 400));
    const wave = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(wave);
    await context.close();
    return Math.max(...wave.map(Math.abs));
}"""


async def until(page: Page, script: str) -> None:
    """Wait for a script to be true; the page's own policy forbids playwright's way."""
    async with asyncio.timeout(15):
        while not await page.evaluate(script):
            await page.wait_for_timeout(50)


@asynccontextmanager
async def opened(session: FakeSession) -> AsyncIterator[tuple[Page, PageServer]]:
    """The page in a browser; what it complains of fails the test."""
    complaints: list[str] = []

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            complaints.append(message.text)

    flags = ("--autoplay-policy=no-user-gesture-required",)
    async with serving(session) as server, chromium(*flags) as browser:
        page = await browser.new_page(viewport={"width": 1280, "height": 900})
        page.on("console", hear)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        await page.goto(server.url)
        yield page, server
        assert complaints == []


async def test_both_pictures_and_the_sound_play() -> None:
    async with opened(FakeSession()) as (page, _):
        await until(page, PLAYING)
        camera, output = await page.evaluate(COLOURS)
        assert max(camera) - min(camera) < 12  # the fake camera is grey
        assert max(output) - min(output) > 60
        video = page.locator("#output video")
        assert await video.evaluate("video => video.muted")
        await page.locator("#sound").click()
        assert not await video.evaluate("video => video.muted")
        assert 0.1 < await page.evaluate(LOUDNESS) < 0.4  # a tone of 0.2


async def test_what_the_user_changes_reaches_the_session() -> None:
    session = FakeSession()
    async with opened(session) as (page, _):
        for label, name in (
            ("Lip-sync", "lip_sync"),
            ("Pause picture", "paused"),
            ("Own voice", "own_voice"),
        ):
            before = session.values[name]
            switch = page.get_by_role("switch", name=label)
            await expect(switch).to_be_enabled()
            await switch.focus()
            async with page.expect_response("**/api/settings") as answer:
                await page.keyboard.press("Space")
            assert (await answer.value).status == 200
            assert session.values[name] is not before
        await page.locator("#trim").focus()
        async with page.expect_response("**/api/settings"):
            await page.keyboard.press("ArrowRight")
        assert session.values["trim_ms"] == 10

        await until(page, PLAYING)
        aim = page.locator("#aim")
        await expect(aim).to_be_enabled()
        box = await aim.bounding_box()
        assert box is not None
        async with page.expect_response("**/api/face"):
            await aim.click(position={"x": box["width"] / 4, "y": box["height"] / 2})
        async with page.expect_response("**/api/face"):
            await aim.press("ArrowDown")
            await aim.press("Enter")
        (x, y), (_, lower) = session.faces
        assert (x, y) == pytest.approx((0.25, 0.5), abs=0.01)
        assert lower == pytest.approx(y + 0.04)


async def test_the_meters_and_troubles_are_shown() -> None:
    session = FakeSession()
    sentence = "The virtual camera is in use by another program; close that."
    session.states["virtual camera"] = {"state": "waiting", "text": sentence}
    async with opened(session) as (page, _):
        await expect(page.locator("#fps")).to_contain_text("25.0")
        await expect(page.locator("#delay")).to_contain_text("412")
        await expect(page.locator("#stages")).to_contain_text("188.4 ms")
        await expect(page.get_by_text(sentence).first).to_be_visible()
        await expect(page.get_by_text("AI lip-sync").first).to_be_visible()
        session.states["virtual camera"] = {"state": "running", "text": ""}
        await expect(page.get_by_text(sentence).first).to_be_hidden()


@pytest.mark.parametrize("width", [360, 760, 1800])
async def test_the_page_fits_its_window(width: int) -> None:
    async with opened(FakeSession()) as (page, _):
        await page.set_viewport_size({"width": width, "height": 800})
        await until(page, PLAYING)
        assert await page.evaluate("() => document.documentElement.scrollWidth") <= width


async def test_the_page_comes_back_when_the_session_does() -> None:
    async with chromium() as browser:
        page = await browser.new_page()
        async with serving(FakeSession()) as server:
            port = int(server.url.rstrip("/").rsplit(":", 1)[1])
            await page.goto(server.url)
            await until(page, PLAYING)
        await expect(page.locator("#link")).to_have_attribute("data-state", "lost")
        async with serving(FakeSession(), port):
            await expect(page.locator("#link")).to_have_attribute(
                "data-state", "live", timeout=12_000
            )
            await until(page, PLAYING)
