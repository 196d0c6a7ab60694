"""WHIP and WHEP clients that this project did not write, on a page of another site.

They are those of the npm package ``whip-whep`` (MIT); ``LIPSTREAM_NPM`` names the folder in which
``npm install whip-whep`` put its ``node_modules``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web

from stream.relay.front.access import Access
from tests.stream.browser import chromium
from tests.stream.relay.running import running

pytestmark = pytest.mark.devices

SECRET = "a secret that is long enough for all tests of tokens"
ROOM = "townhall"
PUBLISH = """async ([url, token]) => {
    const { WHIPClient } = await import("/whip.js");
    const stream = await navigator.mediaDevices.getUserMedia({ audio: true, video: true });
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    for (const track of stream.getTracks()) {
        connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
    }
    window.whip = new WHIPClient();
    await window.whip.publish(connection, url, token);
}"""
VIEW = """async ([url, token]) => {
    const { WHEPClient } = await import("/whep.js");
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const video = document.createElement("video");
    const stream = new MediaStream();
    [video.muted, video.srcObject] = [true, stream];
    document.body.append(video);
    connection.addTransceiver("audio", { direction: "recvonly" });
    connection.addTransceiver("video", { direction: "recvonly" });
    connection.ontrack = (event) => stream.addTrack(event.track);
    window.whep = new WHEPClient();
    await window.whep.view(connection, url, token);
    await video.play();
    await new Promise((resolve) => setTimeout(resolve, 3000));
    const stats = [...(await connection.getStats()).values()];
    const received = stats.filter((one) => one.type === "inbound-rtp");
    return Object.fromEntries(received.map((one) => [one.kind, one.framesDecoded
        ?? one.totalSamplesReceived]));
}"""


def clients() -> Path:
    """The folder of the two modules; the test is skipped where it is not named."""
    folder = Path(os.environ.get("LIPSTREAM_NPM", "")) / "node_modules" / "whip-whep"
    if not os.environ.get("LIPSTREAM_NPM") or not folder.is_dir():
        pytest.skip("LIPSTREAM_NPM names no folder with the npm package whip-whep")
    return folder


@asynccontextmanager
async def other_site(folder: Path) -> AsyncIterator[str]:
    """A page elsewhere that has the two modules."""

    async def page(request: web.Request) -> web.Response:
        return web.Response(
            text="<!doctype html><title>elsewhere</title>", content_type="text/html"
        )

    app = web.Application()
    app.router.add_get("/", page)
    app.router.add_static("/", folder)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.timeout(110)
async def test_another_whip_client_publishes_and_another_whep_client_watches() -> None:
    folder = clients()
    access, hour = Access(SECRET), timedelta(hours=1)
    publish = access.mint(ROOM, ["publish-speaker"], lifetime=hour)
    listen = access.mint(ROOM, ["listen"], lifetime=hour)
    flags = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream")
    async with running(secret=SECRET) as relay, other_site(folder) as site:
        whip, whep = (f"{relay.url}{kind}/{ROOM}/anna" for kind in ("whip", "whep"))
        async with chromium(*flags) as browser:
            speaker, listener = await browser.new_page(), await browser.new_page()
            await speaker.goto(site)
            await listener.goto(site)
            await speaker.evaluate(PUBLISH, [whip, publish])
            async with asyncio.timeout(30), ClientSession() as http:
                headers = {"Authorization": f"Bearer {listen}"}
                state = f"{relay.url}api/rooms/{ROOM}/state"
                while True:
                    async with http.get(state, headers=headers) as answer:
                        speakers = (await answer.json())["speakers"]
                    if speakers and speakers[0]["original"]["fps"]:
                        break
                    await asyncio.sleep(0.2)
                seen = await listener.evaluate(VIEW, [whep, listen])
                await listener.evaluate("() => window.whep.stop()")
                await speaker.evaluate("() => window.whip.stop()")
                while speakers[0]["live"]:
                    async with http.get(state, headers=headers) as answer:
                        speakers = (await answer.json())["speakers"]
                    await asyncio.sleep(0.1)
    assert seen["video"] >= 20
    assert seen["audio"] >= 48_000
