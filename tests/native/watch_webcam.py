"""Reads a webcam while things happen to it; run with fake_v4l2_camera.c preloaded.

Argument: the file whose letter is the camera's state. Prints what it saw as JSON.
"""

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from engine.errors import MediaError
from stream.live.cameras import Camera
from stream.live.webcam import DeviceName, linux_cameras, open_webcam

FAKE = DeviceName("/dev/video43", "Fake")


def open_it() -> Camera:
    return open_webcam(FAKE, time.monotonic, width=640, height=480, fps=30)


def said(action: Callable[[], object]) -> str:
    """The error of something done until it fails."""
    try:
        while True:
            action()
    except MediaError as error:
        return str(error)


def watch(state: Path, folder: Path) -> dict[str, object]:
    found: dict[str, object] = {"listed": [device.id for device in linux_cameras(folder)]}
    camera = open_it()
    found["shape"] = camera.width, camera.height, float(camera.fps)
    captured = [camera.read() for _ in range(20)]
    found["gaps"] = np.diff([one.time for one in captured][5:]).tolist()
    found["age"] = time.monotonic() - captured[-1].time
    picture = captured[-1].picture
    found["colours"] = [picture[y, x].tolist() for y in (120, 360) for x in (160, 480)]
    time.sleep(0.6)  # eighteen pictures come meanwhile
    found["age_after_a_pause"] = time.monotonic() - camera.read().time
    for letter, name in (("u", "unplugged"), ("u", "missing"), ("b", "busy"), ("f", "forbidden")):
        state.write_text(letter)
        found[name] = said(camera.read if name == "unplugged" else open_it)
        camera.close()
    state.write_text("p")
    camera = open_it()
    camera.read()
    state.write_text("s")
    found["silent"] = said(camera.read)
    camera.close()
    found["still_silent"] = said(open_it)
    state.write_text("p")
    while threading.active_count() > 1:  # until the driver has returned
        time.sleep(0.01)
    camera = open_it()
    camera.read()
    camera.close()
    found["threads"] = threading.active_count()
    return found


if __name__ == "__main__":
    json.dump(watch(Path(sys.argv[1]), Path(sys.argv[2])), sys.stdout)
