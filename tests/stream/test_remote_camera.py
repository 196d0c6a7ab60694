"""A peer's pictures as a camera: newest first, any size, one reader and many who come and go."""

import gc
import threading
import time
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from av import VideoFrame
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray

from engine.errors import MediaError
from stream.live.remote_camera import LONGEST_SIDE, MOST_WAITING, RemoteCamera, RemotePicture

pytestmark = pytest.mark.media


def decoded(height: int, width: int, colour: tuple[int, int, int] = (200, 60, 30)) -> VideoFrame:
    """A picture of one colour as decoders give it: yuv420p, BT.601, limited range, untagged."""
    flat = np.full((height + height % 2, width + width % 2, 3), colour, np.uint8)
    planes = np.asarray(cv2.cvtColor(flat, cv2.COLOR_RGB2YUV_I420), np.uint8)
    frame = VideoFrame.from_ndarray(planes, format="yuv420p")
    if (height, width) != flat.shape[:2]:
        frame = frame.reformat(width, height)
    return frame


def put(camera: RemoteCamera, *pts: float) -> None:
    for at in pts:
        camera.put(RemotePicture(decoded(48, 64), at))


def within(job: Callable[[], None], seconds: float = 5.0) -> None:
    """Run a job in a thread; it has to end."""
    thread = threading.Thread(target=job, daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        pytest.param(480, 640, (480, 640), id="as it is"),
        pytest.param(1280, 720, (1280, 720), id="upright"),
        pytest.param(1080, 1920, (720, 1280), id="scaled down"),
        pytest.param(1920, 1080, (1280, 720), id="upright and scaled down"),
        pytest.param(479, 641, (479, 641), id="odd"),
        pytest.param(1, 4000, (1, LONGEST_SIDE), id="a line"),
    ],
)
def test_any_size_becomes_rgb(height: int, width: int, expected: tuple[int, int]) -> None:
    camera = RemoteCamera("A camera")
    camera.put(RemotePicture(decoded(height, width), 1.5))
    captured = camera.read()
    assert captured.time == 1.5
    assert captured.picture.shape == (*expected, 3)
    assert captured.picture.dtype == np.uint8
    assert (camera.height, camera.width) == expected
    assert np.abs(captured.picture.astype(int) - (200, 60, 30)).max() <= 4


def test_the_size_may_change_in_mid_stream() -> None:
    camera = RemoteCamera("A camera")
    sizes = [(48, 64), (96, 128), (49, 65), (48, 64)]
    for number, size in enumerate(sizes):
        camera.put(RemotePicture(decoded(*size), float(number)))
        assert camera.read().picture.shape[:2] == size


def test_colours_are_read_as_they_are_tagged() -> None:
    flat = np.full((48, 64, 3), (200, 60, 30), np.uint8)
    tagged = VideoFrame.from_ndarray(flat, format="rgb24").reformat(
        format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG
    )
    tagged.colorspace = 1  # BT.709 in ISO/IEC 23091-2
    camera = RemoteCamera("A camera")
    camera.put(RemotePicture(tagged, 0.0))
    assert np.abs(camera.read().picture.astype(int) - (200, 60, 30)).max() <= 5


def test_pictures_have_memory_of_their_own() -> None:
    camera = RemoteCamera("A camera")
    pictures: list[NDArray[np.uint8]] = []
    for number in range(3):
        camera.put(RemotePicture(decoded(48, 64, (number * 100, 0, 0)), float(number)))
        pictures.append(camera.read().picture)
        gc.collect()
    levels = [int(picture[..., 0].mean()) for picture in pictures]
    assert levels[0] < 10 < 90 < levels[1] < 110 < 190 < levels[2]


def test_the_newest_pictures_win() -> None:
    camera = RemoteCamera("A camera")
    put(camera, *range(10))
    assert camera.dropped == 10 - MOST_WAITING
    assert [camera.read().time for _ in range(MOST_WAITING)] == [8.0, 9.0]


def test_times_always_rise_also_from_one_publisher_to_the_next() -> None:
    camera = RemoteCamera("A camera")
    put(camera, 1.0, 1.0, 0.5)
    assert camera.read().time == 1.0
    put(camera, 1.04)
    assert camera.read().time == 1.04
    assert camera.stale == 2


def test_the_reader_waits_for_a_picture() -> None:
    camera, times = RemoteCamera("A camera"), []
    reading = threading.Event()

    def read() -> None:
        reading.set()
        times.append(camera.read().time)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    assert reading.wait(5.0)
    put(camera, 3.0)
    thread.join(5.0)
    assert times == [3.0]


@pytest.mark.parametrize("end", [RemoteCamera.close, RemoteCamera.end])
def test_closing_lets_the_reader_go_with_one_sentence(end: Callable[[RemoteCamera], None]) -> None:
    camera = RemoteCamera("Ada's camera")
    messages: list[str] = []

    def read() -> None:
        try:
            camera.read()
        except MediaError as error:
            messages.append(str(error))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    end(camera)
    thread.join(5.0)
    assert messages == ["Ada's camera has ended; the speaker has to join again."]


def test_what_was_closed_can_be_opened_again_but_not_what_has_ended() -> None:
    camera = RemoteCamera("A camera")
    put(camera, 1.0)
    camera.close()
    put(camera, 2.0)
    with pytest.raises(MediaError):
        camera.read()
    assert camera.open() is camera
    put(camera, 3.0)
    assert camera.read().time == 3.0
    camera.end()
    with pytest.raises(MediaError):
        camera.open()


def test_many_threads_put_while_one_reads() -> None:
    camera = RemoteCamera("A camera")
    frame = decoded(48, 64)
    begin = time.monotonic()

    def fill() -> None:
        for _ in range(200):
            camera.put(RemotePicture(frame, time.monotonic() - begin))

    times: list[float] = []

    def read() -> None:
        while True:
            try:
                times.append(camera.read().time)
            except MediaError:
                return

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    fillers = [threading.Thread(target=fill, daemon=True) for _ in range(3)]
    for filler in fillers:
        filler.start()
    for filler in fillers:
        filler.join(10.0)
    within(camera.close)
    reader.join(5.0)
    assert not reader.is_alive()
    assert times == sorted(set(times))
    assert len(times) + camera.dropped + camera.stale <= 600
