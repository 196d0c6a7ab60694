"""A real browser watches a broadcast over a bad line.

``python -m tests.stream.test_browser_viewer`` prints a table for 1, 5 and 10 % loss.
"""

import asyncio
import sys
import time
from contextlib import suppress
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
import pytest
from aiohttp import web
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription

from stream.core.sinks import Shown
from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES
from stream.web.broadcast import MEETING, Broadcast
from stream.web.viewer import Viewer
from tests.stream import flash_click
from tests.stream.browser import chromium
from tests.stream.impair import Impairment, Line, impair

pytestmark = pytest.mark.devices

WIDTH, HEIGHT = 640, 480
SECONDS, SETTLED_S = 10.0, 3.0
VIEW = {"width": 360, "height": 300}
PAGE = "<!doctype html><title>viewer</title><video muted autoplay playsinline></video>"
WATCH = """async (seconds) => {
  const connection = window.connection = new RTCPeerConnection();
  const video = document.querySelector("video");
  const stream = video.srcObject = new MediaStream();
  connection.addTransceiver("video", {direction: "recvonly"});
  connection.addTransceiver("audio", {direction: "recvonly"});
  connection.ontrack = (event) => stream.addTrack(event.track);
  await connection.setLocalDescription(await connection.createOffer());
  while (connection.iceGatheringState !== "complete") {
    await new Promise((done) => setTimeout(done, 20));
  }
  const answer = await fetch("/whep", {method: "POST", body: connection.localDescription.sdp});
  await connection.setRemoteDescription({type: "answer", sdp: await answer.text()});
  const times = [];
  const start = performance.now();
  const seen = (now) => {
    times.push((performance.now() - start) / 1000);
    video.requestVideoFrameCallback(seen);
  };
  video.requestVideoFrameCallback(seen);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  const stats = [...(await connection.getStats()).values()];
  const inbound = (kind) => stats.find((one) => one.type === "inbound-rtp" && one.kind === kind);
  const {totalSamplesReceived, concealedSamples, packetsLost} = inbound("audio");
  const {nackCount, pliCount} = inbound("video");
  return {times, totalSamplesReceived, concealedSamples, packetsLost, nackCount, pliCount};
}"""


async def play(broadcast: Broadcast) -> None:
    """Something that moves, and clicks, 25 pictures and 50 blocks a second until cancelled."""
    chance = np.random.default_rng(0)
    ground = cv2.resize(chance.integers(0, 255, (12, 16, 3)).astype(np.uint8), (WIDTH, HEIGHT))
    begin, tick = time.monotonic(), 0
    while True:
        await asyncio.sleep(max(0.0, begin + tick * TICK_S - time.monotonic()))
        at = tick * TICK_S
        mono = flash_click.sound(at, TICK_SAMPLES, SOUND_RATE)
        broadcast.hear(np.repeat(mono[:, None], 2, axis=1), at)
        if tick % 2 == 0:
            picture = np.asarray(np.roll(ground, 2 * tick, axis=1), np.uint8)
            broadcast.show(Shown(tick // 2, at, picture, picture, True, at))
        tick += 1


async def watched(loss: float, seconds: float) -> dict[str, Any]:
    """What a browser got over a line with this loss in both directions, at 50 ms round trip."""
    broadcast = Broadcast(None, rates=MEETING)
    viewer = Viewer(broadcast)
    connection = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    up, down = (Line(Impairment(loss=loss, delay_s=0.025, seed=seed)) for seed in (3, 4))

    async def whep(request: web.Request) -> web.Response:
        viewer.prepare(connection)
        await connection.setRemoteDescription(RTCSessionDescription(await request.text(), "offer"))
        await connection.setLocalDescription(await connection.createAnswer())
        viewer.answered(connection)
        impair(connection, out=down, into=up)
        return web.Response(text=connection.localDescription.sdp)

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    app = web.Application()
    app.router.add_post("/whep", whep)
    app.router.add_get("/", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    tasks = [asyncio.create_task(job) for job in (broadcast.run(), play(broadcast))]
    try:
        async with chromium("--disable-features=WebRtcHideLocalIpsWithMdns") as browser:
            tab = await browser.new_page(viewport=VIEW)  # type: ignore[arg-type]
            await tab.goto(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            found: dict[str, Any] = await tab.evaluate(WATCH, seconds)
    finally:
        viewer.closed()
        await connection.close()
        await runner.cleanup()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
    return found


def freeze_s(found: dict[str, Any]) -> float:
    """The longest time without a new picture, once it has settled."""
    times: list[float] = [at for at in found["times"] if at > SETTLED_S]
    return max(b - a for a, b in pairwise(times))


@pytest.mark.timeout(60)
async def test_a_browser_sees_no_long_freeze_over_a_line_that_loses_5_percent() -> None:
    found = await watched(0.05, SECONDS)
    assert freeze_s(found) <= 0.5
    assert len([at for at in found["times"] if at > SETTLED_S]) >= 18 * (SECONDS - SETTLED_S)
    # The browser's own timeline has no holes: what is missing is concealed.
    assert found["totalSamplesReceived"] >= 0.9 * SOUND_RATE * (SECONDS - 1)


async def main() -> None:
    for loss in (0.0, 0.01, 0.05, 0.1):
        found = await watched(loss, 30.0)
        late = [at for at in found["times"] if at > SETTLED_S]
        concealed = found["concealedSamples"] / found["totalSamplesReceived"]
        sys.stdout.write(
            f"{100 * loss:4.0f} % loss: {len(late) / (30 - SETTLED_S):5.1f} pictures/s,"
            f" longest freeze {freeze_s(found):.2f} s, sound concealed {100 * concealed:.1f} %,"
            f" {found['nackCount']} NACKs, {found['pliCount']} PLIs\n"
        )


if __name__ == "__main__":
    asyncio.run(main())
