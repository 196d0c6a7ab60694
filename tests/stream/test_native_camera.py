"""The real native code of pyvirtualcam and FFmpeg for Linux, on devices that a C library fakes.

The library is preloaded into a process of its own, as this machine's kernel may have no cameras.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame
from numpy.typing import NDArray

pytestmark = [
    pytest.mark.devices,
    pytest.mark.skipif(sys.platform != "linux", reason="these are Linux's devices"),
    pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc, which makes them, is missing"),
]

ROOT = Path(__file__).resolve().parents[2]
NATIVE = ROOT / "tests" / "native"
COLOURS = ((200, 30, 30), (30, 180, 40), (20, 40, 210), (240, 240, 230))
LIMIT_S = 60


def built(name: str, folder: Path) -> Path:
    library = folder / f"{name}.so"
    source = NATIVE / f"{name}.c"
    command = ["gcc", "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library)]
    subprocess.run([*command, str(source), "-ldl"], check=True, timeout=LIMIT_S)
    return library


def start(script: str, *arguments: Path, **variables: Path | str) -> "subprocess.Popen[str]":
    environment = os.environ | {name: str(value) for name, value in variables.items()}
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.native.{script}", *arguments],
        cwd=ROOT,
        env=environment | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: "subprocess.Popen[str]") -> Any:
    try:
        out, err = process.communicate(timeout=LIMIT_S)
    finally:
        process.kill()
    assert process.returncode == 0, err
    return json.loads(out)


def quadrants(width: int, height: int) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        y, x = divmod(number, 2)
        h, w = height // 2, width // 2
        picture[y * h : y * h + h, x * w : x * w + w] = colour
    return picture


@pytest.fixture
def loopback(tmp_path: Path) -> dict[str, Path | str]:
    return {
        "LD_PRELOAD": built("fake_v4l2", tmp_path),
        "FAKE_V4L2_FRAMES": tmp_path / "frames",
        "FAKE_V4L2_FORMAT": tmp_path / "format",
        "FAKE_V4L2_BUSY": tmp_path / "busy",
    }


def test_v4l2loopback_gets_whole_pictures_at_its_rate(
    tmp_path: Path, loopback: dict[str, Path | str]
) -> None:
    found = told(start("play_virtual_camera", tmp_path / "playing", **loopback))
    assert (tmp_path / "format").read_text() == "640 360 YU12"
    data = np.fromfile(tmp_path / "frames", np.uint8)
    assert len(data) % (640 * 360 * 3 // 2) == 0
    pictures = data.reshape(-1, 540, 640)
    assert len(pictures) == found["sent"] + 1, "the card and what was sent"
    assert found["sent"] == pytest.approx(30 * found["seconds"], rel=0.15)
    assert found["repeated"] >= 1, "25 pictures a second do not fill 30 slots"
    assert found["left"] >= 20
    assert found["latest"] < 0.5
    assert found["trouble"] is None
    card, last = (cv2.cvtColor(one, cv2.COLOR_YUV2RGB_I420) for one in pictures[[0, -1]])
    assert card.mean() < 70
    for y in (60, 300):
        for x in (100, 540):
            wanted = COLOURS[2 * (y > 180) + (x > 320)]
            np.testing.assert_allclose(last[y, x].astype(int), wanted, atol=4)


def test_second_lipstream_is_told_that_the_camera_is_in_use(
    tmp_path: Path, loopback: dict[str, Path | str]
) -> None:
    playing, end = tmp_path / "playing", tmp_path / "end"
    first = start("play_virtual_camera", playing, end, **loopback)
    while not playing.exists():
        assert first.poll() is None, first.communicate()
    try:
        message = told(start("play_virtual_camera", tmp_path / "second", **loopback))
    finally:
        end.touch()
    assert message == (
        "/dev/video42 is in use by another program;"
        " stop the other lipstream, or the virtual camera of OBS."
    )
    assert told(first)["trouble"] is None


def test_driver_that_is_busy_is_said_to_be(tmp_path: Path, loopback: dict[str, Path | str]) -> None:
    (tmp_path / "busy").touch()
    message = told(start("play_virtual_camera", tmp_path / "playing", **loopback))
    assert "in use by another program" in message


@pytest.mark.parametrize("form", ["yuyv", "mjpeg"])
def test_webcam_through_its_life(tmp_path: Path, form: str) -> None:
    """It is read, unplugged, missing, busy, forbidden, silent, and read again."""
    picture = quadrants(640, 480)
    state = tmp_path / "state"
    state.write_text("p")
    (tmp_path / "list" / "video43").mkdir(parents=True)
    variables: dict[str, Path | str] = {
        "LD_PRELOAD": built("fake_v4l2_camera", tmp_path),
        "FAKE_CAMERA_MEMORY": tmp_path / "memory",
        "FAKE_CAMERA_YUYV": tmp_path / "yuyv",
        "FAKE_CAMERA_SIZE": "640 480 30",
        "FAKE_CAMERA_STATE": state,
    }
    raw = VideoFrame.from_ndarray(picture, "rgb24").reformat(
        format="yuyv422", dst_colorspace="ITU601"
    )
    raw.to_ndarray().tofile(tmp_path / "yuyv")
    if form == "mjpeg":
        cv2.imwrite(str(tmp_path / "picture.jpg"), picture[..., ::-1])
        variables["FAKE_CAMERA_JPEG"] = tmp_path / "picture.jpg"
    found = told(start("watch_webcam", state, tmp_path / "list", **variables))
    assert found["listed"] == ["/dev/video43"]
    assert found["shape"] == [640, 480, 30.0]
    np.testing.assert_allclose(found["gaps"], 1 / 30, atol=0.01)
    assert found["age"] < 0.3
    assert found["age_after_a_pause"] < 0.3, "the newest picture, not one that waited"
    np.testing.assert_allclose(found["colours"], COLOURS, atol=6)
    assert found["unplugged"] == "Fake is gone; plug it in again, or choose another camera."
    assert found["missing"].startswith("Fake is not there")
    assert found["busy"].startswith("Fake is in use by another program")
    assert "usermod -aG video" in found["forbidden"]
    assert found["silent"].startswith("Fake gives no picture")
    assert found["still_silent"] == found["silent"]
    assert found["threads"] == 1
