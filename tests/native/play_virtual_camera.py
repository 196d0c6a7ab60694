"""Plays four colours into a virtual camera for a while; run with fake_v4l2.c preloaded.

Arguments: the file to create once it plays, and the file to wait for before it ends, if any.
Prints what it counted as JSON, or the error's sentence.
"""

import asyncio
import json
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

import numpy as np

from engine.errors import LipstreamError
from stream.core.sinks import Shown
from stream.live.clock import SessionClock
from stream.live.virtual_camera import VirtualCamera

COLOURS = (200, 30, 30), (30, 180, 40), (20, 40, 210), (240, 240, 230)


async def play(playing: Callable[[], None], over: Callable[[], bool]) -> dict[str, object]:
    picture = np.zeros((360, 640, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        y, x = divmod(number, 2)
        picture[180 * y : 180 * y + 180, 320 * x : 320 * x + 320] = colour
    clock = SessionClock()
    left: list[float] = []
    camera = VirtualCamera(
        640,
        360,
        30,
        clock=clock,
        device="/dev/video42",
        on_left=lambda content_s, at: left.append(at - content_s),
    )
    task = asyncio.create_task(camera.run())
    started = clock()
    for number in count():
        now = clock()
        camera.show(Shown(number, now, picture, picture, False, now))
        if number == 2:
            playing()
        if number >= 25 and over():
            break
        await asyncio.sleep(max(0, started + (number + 1) / 25 - clock()))
    seconds = clock() - started
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return {
        "sent": camera.sent,
        "seconds": seconds,
        "repeated": camera.repeated,
        "left": len(left),
        "latest": max(left),
        "trouble": camera.trouble,
    }


if __name__ == "__main__":
    playing = Path(sys.argv[1])
    ends = [Path(name) for name in sys.argv[2:]]
    try:
        found: object = asyncio.run(
            play(lambda: playing.touch(), lambda: all(end.exists() for end in ends))
        )
    except LipstreamError as error:
        found = str(error)
    json.dump(found, sys.stdout)
