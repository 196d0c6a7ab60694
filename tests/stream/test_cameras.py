"""Pictures in: films at their own pace, and webcams on containers that do as told.

FFmpeg's real v4l2 code is tested in test_native_camera.py.
"""

import errno
import queue
from collections.abc import Callable, Iterator
from fractions import Fraction
from itertools import count, islice, pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.sources import FaceSource
from engine.video_writer import VideoWriter
from stream.live import camera_reader, webcam
from stream.live.camera_reader import CameraReader, Stamps
from stream.live.cameras import Captured, PacedCamera, forward_and_backward, open_camera
from stream.live.picture_fit import fit
from stream.live.webcam import (
    DeviceName,
    attempts,
    find_camera,
    linux_cameras,
    list_cameras,
    open_webcam,
    pick,
    refusal,
)

pytestmark = pytest.mark.media

Picture = NDArray[np.uint8]
FPS = Fraction(25)
LATE_S = 20.0  # longer than any test waits


class Time:
    """Virtual seconds that pass where somebody waits."""

    def __init__(self) -> None:
        self.now = 7.0

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def grey(level: int) -> Picture:
    return np.full((48, 64, 3), level, np.uint8)


def level(captured: Captured) -> int:
    return int(captured.picture[0, 0, 0])


def film(pictures: Callable[[], Iterator[Picture]]) -> FaceSource:
    return FaceSource(name="film.mp4", width=64, height=48, fps=FPS, pictures=pictures)


def endless() -> Iterator[Picture]:
    return (grey(number % 256) for number in count())


# Films


def test_film_has_no_jitter_whatever_its_reader_has() -> None:
    time = Time()
    camera = PacedCamera(film(endless), time, time.wait)
    taken = []
    for number in range(50):
        taken.append(camera.read())
        time.now += [0.0, 0.03, 0.039][number % 3]
    assert [level(one) for one in taken] == list(range(50))
    assert [one.time for one in taken] == [pytest.approx(7 + n / 25, abs=1e-9) for n in range(50)]
    assert camera.skipped == 0


def test_picture_is_not_given_before_it_is_due() -> None:
    time = Time()
    camera = PacedCamera(film(endless), time, time.wait)
    for number in range(5):
        camera.read()
        assert time.now == pytest.approx(7 + number / 25)


def test_late_reader_misses_pictures_and_gets_no_burst() -> None:
    time = Time()
    camera = PacedCamera(film(endless), time, time.wait)
    camera.read()
    time.now += 3.5 / 25  # 2.5 pictures late
    late = camera.read()
    assert level(late) == 3
    assert late.time == pytest.approx(7 + 3 / 25)
    assert camera.skipped == 2
    camera.read()
    assert time.now == pytest.approx(7 + 4 / 25)


def test_film_that_is_too_slow_to_make_goes_slower() -> None:
    """Leaving pictures out would only cost more time, and the more the later it is."""
    time = Time()
    made = 0

    def slow() -> Iterator[Picture]:
        nonlocal made
        for picture in endless():
            time.now += 0.1
            made += 1
            yield picture

    camera = PacedCamera(film(slow), time, time.wait)
    taken = [camera.read().time for _ in range(20)]
    assert made <= 2 * len(taken)
    assert all(later > before for before, later in pairwise(taken))
    assert time.now - taken[-1] < 0.25, "its times stay near the present"


def test_clock_that_is_set_back_holds_up_no_film() -> None:
    """A session that slept with its computer goes on where it was."""
    time = Time()
    camera = PacedCamera(film(endless), time, time.wait)
    camera.read()
    time.now += 3600
    camera.read()
    time.now -= 3600
    back = time.now
    assert camera.read().time == pytest.approx(back, abs=0.05)
    assert time.now == pytest.approx(back, abs=0.05)


def test_closed_film_gives_no_picture() -> None:
    time = Time()
    camera = PacedCamera(film(endless), time, time.wait)
    camera.close()
    with pytest.raises(MediaError, match="closed"):
        camera.read()


def test_film_without_pictures_is_an_error() -> None:
    time = Time()
    with pytest.raises(MediaError, match="no pictures"):
        PacedCamera(film(lambda: iter([])), time, time.wait).read()


def levels(pictures: Iterator[Picture], many: int) -> list[int]:
    return [int(picture[0, 0, 0]) for picture in islice(pictures, many)]


def test_film_turns_without_being_read_again() -> None:
    reads = 0

    def once() -> Iterator[Picture]:
        nonlocal reads
        reads += 1
        return (grey(number) for number in range(4))

    found = levels(forward_and_backward(once), 15)
    assert found == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1, 2]
    assert reads == 1


def test_of_a_long_film_only_the_end_is_kept() -> None:
    pictures = forward_and_backward(
        lambda: (grey(number) for number in range(9)), kept_bytes=3 * grey(0).nbytes
    )
    assert levels(pictures, 14) == [0, 1, 2, 3, 4, 5, 6, 7, 8, 7, 6, 7, 8, 7]


def test_single_picture_stays() -> None:
    assert levels(forward_and_backward(lambda: iter([grey(5)])), 3) == [5, 5, 5]


def test_camera_may_be_a_film(tmp_path: Path) -> None:
    path = tmp_path / "film.mp4"
    with VideoWriter(path, width=64, height=48, fps=Fraction(50)) as writer:
        for number in range(5):
            writer.write_frame(grey(40 * number))
    time = Time()
    camera = open_camera(str(path), time, width=1280, height=720, fps=30, wait=time.wait)
    assert (camera.width, camera.height, camera.fps) == (64, 48, Fraction(50))
    taken = [camera.read() for _ in range(7)]
    assert [round(level(one) / 40) for one in taken] == [0, 1, 2, 3, 4, 3, 2]


def test_camera_may_be_a_still(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "me.png"), grey(9))
    camera = open_camera(str(tmp_path / "me.png"), Time(), width=1280, height=720, fps=30)
    assert (level(camera.read()), camera.fps) == (9, Fraction(25))


def test_name_of_nothing_is_an_error_that_lists_what_there_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(webcam, "_devices", lambda system: [DeviceName("/dev/video0", "HD Cam")])
    with pytest.raises(MediaError, match=r"neither a file nor a camera 'fil\.mp4'.*'HD Cam'"):
        open_camera("fil.mp4", Time(), width=1280, height=720, fps=30)


# The reader of a webcam


class Driver:
    """A container whose packets come when the test says so: frames, or errors to raise."""

    def __init__(self, *items: Any) -> None:
        self.items: queue.Queue[Any] = queue.Queue()
        self.closed = 0
        self.opened = 0
        self.track = SimpleNamespace(
            type="video",
            codec_context=self,
            disposition=Disposition(0),
            average_rate=Fraction(25),
            guessed_rate=None,
            decode=self.decode,
        )
        self.streams = [self.track]
        for item in items:
            self.items.put(item)

    def __call__(self) -> Any:
        self.opened += 1
        return self

    def demux(self, track: Any) -> Iterator[Any]:
        while (item := self.items.get(timeout=LATE_S)) is not None:
            if isinstance(item, Exception) and not isinstance(item, av.InvalidDataError):
                self.items.task_done()
                raise item
            yield item
            self.items.task_done()
        self.items.task_done()

    def decode(self, item: Any) -> list[VideoFrame]:
        if isinstance(item, Exception):
            raise item
        return [item]

    def close(self) -> None:
        self.closed += 1

    def give(self, *items: Any) -> None:
        """Items that have been read when this returns."""
        for item in items:
            self.items.put(item)
        self.items.join()


def frame(shade: int, *, pts_ms: int | None = None, form: str = "rgb24") -> VideoFrame:
    made = VideoFrame.from_ndarray(grey(shade), "rgb24").reformat(format=form)
    made.pts, made.time_base = pts_ms, Fraction(1, 1000)
    return made


def reader(driver: Driver, time: Callable[[], float] | None = None, **rest: Any) -> CameraReader:
    settings = {"silence_s": LATE_S, "open_s": LATE_S} | rest
    return CameraReader("HD Cam", "/dev/video0", driver, time or Time(), **settings)


def test_newest_picture_is_given_and_older_ones_are_not() -> None:
    driver = Driver(frame(10))
    camera = reader(driver)
    assert level(camera.read()) == 10
    driver.give(frame(20), frame(30), frame(40))
    assert level(camera.read()) == 40
    assert camera.skipped == 2
    driver.items.put(frame(50))
    assert level(camera.read()) == 50
    driver.items.put(None)
    camera.close()
    assert driver.closed == 1


def test_size_and_rate_are_the_cameras_own() -> None:
    driver = Driver(frame(10), None)
    camera = reader(driver)
    assert (camera.width, camera.height, camera.fps) == (64, 48, Fraction(25))


@pytest.mark.parametrize(
    "trouble",
    [
        pytest.param(av.BlockingIOError(errno.EAGAIN, "none yet"), id="none-yet"),
        pytest.param(av.InvalidDataError(1, "damaged JPEG"), id="damaged"),
    ],
)
def test_trouble_that_passes_is_passed_over(trouble: Exception) -> None:
    driver = Driver(frame(10))
    camera = reader(driver)
    camera.read()
    driver.give(trouble)
    driver.items.put(frame(20))
    assert level(camera.read()) == 20
    driver.items.put(None)


@pytest.mark.parametrize(
    "end", [pytest.param(OSError(errno.ENODEV, "No such device"), id="unplugged"), None]
)
def test_camera_that_is_unplugged_is_gone(end: Exception | None) -> None:
    driver = Driver(frame(10), end)
    camera = reader(driver)
    camera.read()
    with pytest.raises(MediaError, match="HD Cam is gone; plug it in again"):
        camera.read()
    camera.close()
    assert driver.closed == 1


def test_camera_without_pictures_is_an_error() -> None:
    driver = Driver(frame(10))
    camera = reader(driver, silence_s=0.01)
    camera.read()
    with pytest.raises(MediaError, match="HD Cam gives no picture"):
        camera.read()
    driver.items.put(None)


def test_driver_that_hangs_is_left_alone_until_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(camera_reader, "_CLOSE_S", 0.01)
    driver = Driver(frame(10))
    camera = reader(driver)
    camera.close()
    assert driver.closed == 0, "a container must not be closed while it is read"
    again = Driver(frame(20), None)
    with pytest.raises(MediaError, match="gives no picture"):
        reader(again)
    assert again.opened == 0
    hanging = camera_reader._hanging["/dev/video0"]
    driver.items.put(frame(11))
    hanging.join(LATE_S)
    assert driver.closed == 1
    assert level(reader(again).read()) == 20


def test_camera_that_can_not_be_opened_says_why() -> None:
    def refuse() -> Any:
        raise MediaError("HD Cam is in use by another program; close that one.")

    with pytest.raises(MediaError, match="in use"):
        CameraReader("HD Cam", "/dev/video0", refuse, Time(), open_s=LATE_S)


def test_pictures_keep_no_memory_of_the_driver() -> None:
    raw = frame(10)
    camera = reader(Driver(raw, None))
    picture = camera.read().picture
    assert not np.shares_memory(picture, raw.to_ndarray())


@pytest.mark.parametrize("size", [(640, 480), (1280, 720)])
def test_untagged_colours_are_read_as_usb_cameras_mean_them(size: tuple[int, int]) -> None:
    """BT.601 whatever the size; files of 720 lines are taken for BT.709."""
    colour = np.full((size[1], size[0], 3), (30, 180, 40), np.uint8)
    raw = VideoFrame.from_ndarray(colour, "rgb24").reformat(
        format="yuyv422", dst_colorspace="ITU601"
    )
    raw.colorspace = 2  # unspecified
    picture = reader(Driver(raw, None)).read().picture
    np.testing.assert_allclose(picture[100, 100].astype(int), (30, 180, 40), atol=4)


def test_stamps_take_off_what_a_busy_computer_adds() -> None:
    late = np.random.default_rng(0).exponential(0.006, 300)
    stamps = Stamps()
    taken = [
        stamps.taken(5000 + n / 30, 10 + n / 30 + 0.02 + float(extra))
        for n, extra in enumerate(late)
    ]
    settled = np.diff(taken[60:])
    assert np.abs(settled - 1 / 30).max() < 0.002
    assert taken[-1] == pytest.approx(10 + 299 / 30 + 0.02, abs=0.002)


@pytest.mark.parametrize("speed", [0.99, 1.01])
def test_stamps_follow_a_device_whose_clock_is_wrong_by_a_hundredth(speed: float) -> None:
    stamps = Stamps()
    for n in range(3000):
        taken = stamps.taken(n / 30 * speed, 10 + n / 30)
        assert abs(taken - 10 - n / 30) < 0.025


@pytest.mark.parametrize("jump_s", [-1000.0, 1000.0])
def test_stamps_that_jump_are_no_matter(jump_s: float) -> None:
    stamps = Stamps()
    for n in range(90):
        taken = stamps.taken(2000 + n / 30 + (jump_s if n > 45 else 0), 10 + n / 30)
        assert taken == pytest.approx(10 + n / 30)


def test_without_stamps_arrival_counts_and_times_rise() -> None:
    stamps = Stamps()
    assert stamps.taken(None, 10.0) == 10.0
    assert 10.0 < stamps.taken(None, 10.0) < 10.001
    assert stamps.taken(None, 10.1) == 10.1


def test_reader_gives_the_time_at_which_a_picture_was_taken() -> None:
    time = Time()
    driver = Driver(frame(1, pts_ms=500))
    camera = reader(driver, time)
    assert camera.read().time == 7.0
    time.now = 7.060  # it took 20 ms more
    driver.give(frame(2, pts_ms=540))
    assert camera.read().time == pytest.approx(7.040)
    driver.items.put(None)


def test_real_container_is_read() -> None:
    def opened() -> Any:
        return av.open("testsrc2=size=320x240:rate=100,realtime", format="lavfi")

    camera = CameraReader("test", "test", opened, Time(), open_s=LATE_S, silence_s=LATE_S)
    pictures = [camera.read().picture for _ in range(10)]
    assert {picture.shape for picture in pictures} == {(240, 320, 3)}
    assert not np.array_equal(pictures[0], pictures[-1])
    assert camera.fps == 100
    camera.close()
    with pytest.raises(MediaError, match="closed"):
        camera.read()


# Which webcams there are, and how they are opened


def node(folder: Path, number: int, **files: str) -> None:
    (folder / f"video{number}").mkdir(parents=True)
    for name, text in files.items():
        (folder / f"video{number}" / name).write_text(text + "\n")


def test_linux_lists_nodes_that_give_pictures(tmp_path: Path) -> None:
    for number, label in ((10, "Phone"), (2, "HD Cam"), (3, "HD Cam")):
        node(tmp_path, number, name=label)
    found = linux_cameras(tmp_path, lambda path: path != "/dev/video3")
    assert found == [DeviceName("/dev/video2", "HD Cam"), DeviceName("/dev/video10", "Phone")]


def test_linux_takes_the_first_node_where_it_may_not_ask(tmp_path: Path) -> None:
    node(tmp_path, 0, name="HD Cam", index="0")
    node(tmp_path, 1, name="HD Cam", index="1")
    assert linux_cameras(tmp_path, lambda path: None) == [DeviceName("/dev/video0", "HD Cam")]


def test_linux_lists_virtual_cameras_only_while_something_plays(tmp_path: Path) -> None:
    node(tmp_path / "virtual", 0, name="idle", state="output")
    node(tmp_path / "virtual", 1, name="phone", state="capture")
    found = linux_cameras(tmp_path / "virtual", lambda path: True)
    assert [device.label for device in found] == ["phone"]


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_own_outputs_and_screens_are_no_cameras(
    monkeypatch: pytest.MonkeyPatch, system: str
) -> None:
    asked = []

    def listed(form: str) -> list[Any]:
        asked.append(form)
        rows = [("0", "HD Cam", "video"), ("1", "OBS Virtual Camera", "video")]
        rows += [("2", "Capture screen 0", "video"), ("0", "Microphone", "audio")]
        return [SimpleNamespace(name=n, description=d, media_types=[m]) for n, d, m in rows]

    monkeypatch.setattr(webcam, "enumerate_input_devices", listed)
    assert list_cameras(system) == [DeviceName("0", "HD Cam")]
    assert asked == [{"darwin": "avfoundation", "win32": "dshow"}[system]]


DEVICES = [
    DeviceName("/dev/video4", "lipstream"),
    DeviceName("/dev/video0", "HD Cam: HD Cam"),
    DeviceName("/dev/video2", "Phone"),
]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param("", "HD Cam: HD Cam", id="first-but-our-own"),
        pytest.param("/dev/video2", "Phone", id="device"),
        pytest.param("2", "Phone", id="number"),
        pytest.param("Phone", "Phone", id="label"),
        pytest.param("hd cam", "HD Cam: HD Cam", id="part"),
        pytest.param("/dev/video4", "lipstream", id="our-own-if-named"),
    ],
)
def test_camera_is_found(monkeypatch: pytest.MonkeyPatch, name: str, label: str) -> None:
    monkeypatch.setattr(webcam, "_devices", lambda system: DEVICES)
    assert find_camera(name, "linux").label == label


@pytest.mark.parametrize("name", ["video=Phone", "Phone", "1", "@device_2"])
def test_camera_is_found_on_windows(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    devices = [DeviceName("@device_1", "HD Cam"), DeviceName("@device_2", "Phone")]
    monkeypatch.setattr(webcam, "_devices", lambda system: devices)
    assert find_camera(name, "win32").id == "@device_2"


@pytest.mark.parametrize(
    ("devices", "name", "words"),
    [
        pytest.param([], "", "No camera was found; plug one in", id="none"),
        pytest.param(DEVICES, "Studio", "'Phone' (/dev/video2)", id="other"),
        pytest.param(DEVICES * 2, "phone", "Several cameras", id="several"),
    ],
)
def test_camera_that_is_not_found_says_what_there_is(
    devices: list[DeviceName], name: str, words: str
) -> None:
    with pytest.raises(MediaError) as caught:
        pick(devices, name, name)
    assert words in str(caught.value)


def test_device_file_that_is_not_listed_is_taken_where_it_exists() -> None:
    assert pick([], "/dev/video9", "/dev/video9", lambda path: True).id == "/dev/video9"
    with pytest.raises(MediaError):
        pick([], "/dev/video9", "/dev/video9", lambda path: False)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_options_go_from_what_is_wanted_to_whatever_there_is(system: str) -> None:
    found = attempts(system, 1280, 720, 30)
    assert found[0]["video_size"] == "1280x720"
    assert found[0]["framerate"] == "30"
    assert not {"video_size", "framerate", "input_format"} & set(found[-1])
    assert all(options["fflags"] == "nobuffer" for options in found)


def test_large_pictures_of_usb_cameras_come_compressed() -> None:
    assert attempts("linux", 1280, 720, 30)[0]["input_format"] == "mjpeg"
    assert "input_format" not in attempts("linux", 640, 480, 30)[0]


def opening(failures: list[Exception]) -> tuple[list[dict[str, str]], Callable[..., Any]]:
    """What is tried, and what opens a camera that fails so at first."""
    tried: list[dict[str, str]] = []

    def open_(file: str, *, format: str, options: dict[str, str]) -> Any:
        tried.append({"file": file, "format": format} | options)
        if len(tried) <= len(failures):
            raise failures[len(tried) - 1]
        return Driver(frame(10), None)

    return tried, open_


@pytest.mark.parametrize(
    ("system", "file", "form"),
    [
        ("linux", "X", "v4l2"),
        ("darwin", "X:none", "avfoundation"),
        ("win32", "video=X", "dshow"),
    ],
)
def test_camera_that_has_not_what_is_wanted_gives_what_it_has(
    system: str, file: str, form: str
) -> None:
    tried, open_ = opening([av.ArgumentError(errno.EINVAL, "no such format")])
    camera = open_webcam(
        DeviceName("X", "HD Cam"),
        Time(),
        width=1280,
        height=720,
        fps=30,
        system=system,
        open_=open_,
    )
    assert level(camera.read()) == 10
    assert [(one["file"], one["format"]) for one in tried] == [(file, form)] * 2
    assert tried[1] != tried[0]


def test_busy_camera_is_not_tried_again() -> None:
    tried, open_ = opening([av.OSError(errno.EBUSY, "Device or resource busy")])
    with pytest.raises(MediaError, match="HD Cam is in use by another program"):
        open_webcam(DeviceName("X", "HD Cam"), Time(), width=64, height=48, fps=30, open_=open_)
    assert len(tried) == 1


@pytest.mark.parametrize(
    ("system", "number", "step"),
    [
        pytest.param("linux", errno.EBUSY, "close that one", id="busy"),
        pytest.param("linux", errno.EACCES, "sudo usermod -aG video $USER", id="linux-right"),
        pytest.param("linux", errno.ENOENT, "plug it in", id="missing"),
        pytest.param("linux", errno.EIO, "unplug it", id="linux-else"),
        pytest.param("darwin", errno.EIO, "Privacy & Security > Camera", id="macos"),
        pytest.param("win32", errno.EIO, "Let desktop apps access your camera", id="windows"),
    ],
)
def test_refusal_says_the_next_step_in_one_sentence(system: str, number: int, step: str) -> None:
    message = refusal("HD Cam", OSError(number, "no"), system)
    assert message.startswith("HD Cam ")
    assert step in message
    assert message.endswith(".")


# Fitting


@pytest.mark.parametrize(
    ("shape", "inside"),
    [
        pytest.param((576, 576), (0, 280, 720, 720), id="square"),
        pytest.param((360, 640), (0, 0, 720, 1280), id="same-shape"),
        pytest.param((1080, 1920), (0, 0, 720, 1280), id="larger"),
        pytest.param((480, 853), (0, 0, 720, 1280), id="nearly-the-same"),
        pytest.param((300, 900), (146, 0, 426, 1280), id="wide"),
        pytest.param((1280, 722), (0, 436, 720, 406), id="upright"),
    ],
)
def test_picture_lies_in_the_middle_on_even_edges(
    shape: tuple[int, int], inside: tuple[int, int, int, int]
) -> None:
    fitted = fit(np.full((*shape, 3), 200, np.uint8), 1280, 720)
    top, left, height, width = inside
    expected = np.zeros((720, 1280, 3), np.uint8)
    expected[top : top + height, left : left + width] = 200
    np.testing.assert_array_equal(fitted, expected)


def test_picture_of_the_right_size_is_not_copied() -> None:
    picture = grey(3)
    assert fit(picture, 64, 48) is picture


def test_fitting_leaves_earlier_results_alone() -> None:
    first = fit(grey(100), 128, 128)
    fit(grey(200), 128, 128)
    assert first.max() == 100
