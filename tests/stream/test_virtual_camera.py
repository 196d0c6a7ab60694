"""The virtual camera through pyvirtualcam's own API, on a backend that keeps what it gets.

Time is virtual: the camera's thread waits through it as fast as it can.
"""

import asyncio
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
import pyvirtualcam
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from stream.core.sinks import Shown
from stream.doctor_checks import Loopback
from stream.live.virtual_camera import VirtualCamera, choose, refusal

pytestmark = pytest.mark.unit

Picture = NDArray[np.uint8]
SIZE = 64, 48
COLOURS = ((200, 30, 30), (30, 180, 40), (20, 40, 210), (240, 240, 230))
MODPROBE = "sudo modprobe v4l2loopback devices=1 exclusive_caps=1 card_label=lipstream"


class Time:
    """Virtual seconds; at given ones something happens, and after the last one the world stops."""

    def __init__(self) -> None:
        self.now = 100.0
        self.over = threading.Event()
        self._events: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        return self.now

    def at(self, seconds: float, event: Callable[[], object]) -> None:
        self._events.append((100.0 + seconds, event))
        self._events.sort(key=lambda event: event[0])

    def wait(self, condition: threading.Condition, seconds: float) -> None:
        if not self._events:
            self.over.set()
            condition.wait()
            return
        if self._events[0][0] > self.now + seconds:
            self.now += seconds
            return
        self._happen()

    def pass_by(self, seconds: float) -> None:
        """Time that somebody takes for something."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self._happen()
        self.now = max(self.now, until)

    def _happen(self) -> None:
        when, event = self._events.pop(0)
        self.now = max(self.now, when)
        event()


class Device:
    """What plays the driver: keeps each picture with its time, and fails as told."""

    def __init__(self) -> None:
        self.time = Time()
        self.sent: list[tuple[float, Picture]] = []
        self.opening: Exception | None = None
        self.sending: Exception | None = None
        self.takes_s = 0.0
        self.opened = self.closed = 0

    def times(self) -> list[float]:
        return [at - 100.0 for at, _ in self.sent]

    def numbers(self) -> list[int]:
        """Which grey pictures were sent."""
        return [int(picture[0, 0, 0]) for _, picture in self.sent]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    kept = Device()

    class Memory:  # pyvirtualcam wants a class of its own for each backend
        def __init__(
            self, *, width: int, height: int, fps: float, fourcc: int, device: str | None
        ) -> None:
            if kept.opening is not None:
                raise kept.opening
            self.shape = height, width, 3
            kept.opened += 1

        def close(self) -> None:
            kept.closed += 1

        def send(self, frame: Picture) -> None:
            if kept.sending is not None:
                raise kept.sending
            kept.sent.append((kept.time.now, frame.reshape(self.shape).copy()))
            kept.time.pass_by(kept.takes_s)

        def device(self) -> str:
            return "memory"

        def native_fourcc(self) -> None:
            return None

    monkeypatch.setattr(pyvirtualcam.camera, "BACKENDS", {})
    pyvirtualcam.register_backend("memory", Memory)
    return kept


def ignore(content_s: float, at: float) -> None:
    pass


def camera(device: Device, on_left: Callable[[float, float], object] = ignore) -> VirtualCamera:
    time = device.time
    return VirtualCamera(*SIZE, 30, clock=time, wait=time.wait, backend="memory", on_left=on_left)


def shown(number: int, pts: float, picture: Picture | None = None) -> Shown:
    if picture is None:
        picture = np.full((SIZE[1], SIZE[0], 3), number % 256, np.uint8)
    return Shown(number, pts, picture, picture, False, pts)


def play(
    device: Device, virtual: VirtualCamera, arrivals: Sequence[float], *, first: int = 100
) -> None:
    """Grey pictures of the levels ``first``, … come in at these times."""
    for number, at in enumerate(arrivals, first):
        device.time.at(at, partial(virtual.show, shown(number, at - 0.4)))
    device.time.at(arrivals[-1] + 0.1, lambda: None)


async def live(device: Device, virtual: VirtualCamera) -> None:
    """Run until nothing happens any more."""
    task = asyncio.create_task(virtual.run())
    assert await asyncio.to_thread(device.time.over.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_device_gets_the_colours_that_were_shown(device: Device) -> None:
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    for number, colour in enumerate(COLOURS):
        y, x = divmod(number, 2)
        picture[24 * y : 24 * y + 24, 32 * x : 32 * x + 32] = colour
    virtual = camera(device)
    device.time.at(0.1, lambda: virtual.show(shown(0, 0.0, picture)))
    await live(device, virtual)
    np.testing.assert_array_equal(device.sent[-1][1], picture)


async def test_picture_of_another_shape_is_fitted_in(device: Device) -> None:
    virtual = camera(device)
    square = np.full((100, 100, 3), 200, np.uint8)
    device.time.at(0.1, lambda: virtual.show(shown(0, 0.0, square)))
    await live(device, virtual)
    last = device.sent[-1][1]
    assert (last[:, 8:56] == 200).all()
    assert (last[:, :8] == 0).all()
    assert (last[:, 56:] == 0).all()


def test_device_gets_a_dark_card_with_text_before_the_session_runs(device: Device) -> None:
    camera(device)
    ((_, card),) = device.sent
    assert card.mean() < 70
    assert card.max() > 150, "there are words on it"


async def test_25_pictures_a_second_fill_30_slots(device: Device) -> None:
    virtual = camera(device)
    play(device, virtual, [0.013 + n / 25 for n in range(50)])
    await live(device, virtual)
    times, numbers = device.times(), device.numbers()
    first, last = numbers.index(100), numbers.index(149)
    assert sorted(set(numbers[first:])) == list(range(100, 150)), "none is lost"
    assert numbers[first:] == sorted(numbers[first:])
    assert last - first == pytest.approx(59, abs=1)
    assert virtual.repeated == last - first - 49 + len(numbers) - last - 1
    assert virtual.dropped == 0
    assert all(0.028 < later - before < 0.039 for before, later in pairwise(times[1:]))


@pytest.mark.parametrize("rate", [29.9, 30.0, 30.1])
async def test_pictures_of_the_devices_rate_neither_stumble_nor_wait(
    device: Device, rate: float
) -> None:
    """In 20 s a slightly other rate goes through all phases; the jitter is ±2 ms."""
    jitter = np.random.default_rng(1).uniform(-0.002, 0.002, 600)
    virtual = camera(device)
    play(device, virtual, [0.2 + n / rate + float(late) for n, late in enumerate(jitter)])
    await live(device, virtual)
    assert virtual.repeated + virtual.dropped <= 3 + 3, "three after the end, and three slips"


async def test_slots_follow_a_camera_that_is_slower_by_a_hair(device: Device) -> None:
    left: list[float] = []
    arrivals = [0.2 + n / 29.9 for n in range(300)]
    virtual = camera(device, lambda content_s, at: left.append(at - 100.4 - content_s))
    play(device, virtual, arrivals)
    await live(device, virtual)
    assert max(left[1:]) < 0.01, "none waits for a slot"
    assert virtual.dropped == 0


async def test_of_60_pictures_a_second_every_other_leaves(device: Device) -> None:
    virtual = camera(device)
    play(device, virtual, [0.01 + n / 60 for n in range(60)])
    await live(device, virtual)
    assert virtual.dropped == pytest.approx(30, abs=1)
    numbers = device.numbers()
    between = numbers[numbers.index(101) : numbers.index(157)]
    assert {later - before for before, later in pairwise(between)} == {2}


async def test_each_new_picture_is_reported_once_with_its_time(device: Device) -> None:
    left: list[tuple[float, float]] = []
    virtual = camera(device, lambda content_s, at: left.append((content_s, at)))
    arrivals = [0.1, 0.3, 0.5]
    play(device, virtual, arrivals)
    again = shown(102, 0.3)
    device.time.at(0.7, lambda: virtual.show(again))  # a session repeats pictures as well
    device.time.at(0.8, lambda: None)
    await live(device, virtual)
    assert [content_s for content_s, _ in left] == [at - 0.4 for at in arrivals]
    for arrival, (_, at) in zip(arrivals, left, strict=True):
        assert -1e-9 < at - 100.0 - arrival < 1 / 30 + 1e-9
    assert virtual.repeated >= 15


async def test_slow_device_gets_no_burst(device: Device) -> None:
    virtual = camera(device)
    play(device, virtual, [n / 30 for n in range(30)])

    def work_again() -> None:
        device.takes_s = 0.0

    device.takes_s = 0.1
    device.time.at(1.0, work_again)
    await live(device, virtual)
    gaps = [later - before for before, later in pairwise(device.times())]
    assert min(gaps) > 0.016, "what it was too slow for is not made up for"
    assert virtual.dropped >= 18


async def test_device_that_is_lost_is_opened_again_every_second(device: Device) -> None:
    virtual = camera(device)
    seen: list[tuple[str, bool]] = []

    def look() -> None:
        seen.append((virtual.state, bool(virtual.trouble)))

    def lose() -> None:
        device.sending = device.opening = OSError("gone")

    def bring_back() -> None:
        device.sending = device.opening = None

    play(device, virtual, [0.1, 2.0], first=100)
    device.time.at(1.0, lose)
    device.time.at(2.5, look)
    device.time.at(4.5, bring_back)
    device.time.at(6.0, look)
    await live(device, virtual)
    assert seen == [("waiting", True), ("running", False)]
    assert (device.opened, device.closed) == (2, 2)
    times = device.times()
    gap = max(later - before for before, later in pairwise(times))
    assert 3.5 < gap < 4.7, "it is there again at most a second after the device is"
    assert device.numbers()[-1] == 101, "the picture that came meanwhile"


async def test_clock_that_is_set_back_holds_up_nothing(device: Device) -> None:
    def set_back() -> None:
        device.time.now -= 3600
        device.time.at(device.time.now - 100.0 + 0.5, lambda: None)

    virtual = camera(device)
    device.time.at(0.5, set_back)
    await live(device, virtual)
    assert len(device.sent) == pytest.approx(31, abs=2)


def test_missing_device_is_an_error_at_once(device: Device) -> None:
    device.opening = RuntimeError("No v4l2 loopback device found at /dev/video[0-99].")
    with pytest.raises(MediaError, match="can't be opened") as caught:
        camera(device)
    assert "No v4l2 loopback device found" in str(caught.value)


def test_missing_package_says_how_to_get_it(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyvirtualcam", None)
    with pytest.raises(ConfigError, match="python -m pip install pyvirtualcam"):
        camera(device)


@pytest.mark.parametrize(
    ("system", "said", "step"),
    [
        pytest.param("linux", "No v4l2 loopback device found", MODPROBE, id="linux-none"),
        pytest.param("linux", "Device /dev/video9 does not exist.", MODPROBE, id="linux-other"),
        pytest.param("linux", "due to missing permissions", "usermod -aG video", id="linux-right"),
        pytest.param(
            "linux",
            "could not be configured: Device or resource busy",
            "stop the other lipstream",
            id="linux-busy",
        ),
        pytest.param("win32", "OBS Virtual Camera device not found!", "install OBS", id="windows"),
        pytest.param(
            "win32",
            "virtual camera output could not be started",
            "Stop Virtual Camera",
            id="windows-busy",
        ),
        pytest.param("darwin", "OBS Virtual Camera is not installed", "install OBS", id="macos"),
        pytest.param("darwin", "Couldn't start stream", "Stop Virtual Camera", id="macos-busy"),
        pytest.param(
            "darwin", "supports only the 'OBS …' device", "leave --virtual-camera", id="macos-other"
        ),
    ],
)
def test_refusal_says_the_next_step_in_one_sentence(system: str, said: str, step: str) -> None:
    """The words are those of pyvirtualcam 0.15."""
    message = refusal(said, None, system)
    assert step in message
    assert message.endswith(".")
    assert "\n" not in message


FIRST = Loopback(path="/dev/video3", label="phone", writable=True, busy=True)
SECOND = Loopback(path="/dev/video4", label="lipstream", writable=True, busy=False)


@pytest.mark.parametrize(
    ("wanted", "devices", "path"),
    [
        pytest.param(None, [FIRST, SECOND], "/dev/video4", id="first-free"),
        pytest.param("phone", [FIRST, SECOND], "/dev/video3", id="label"),
        pytest.param("/dev/video9", [FIRST, SECOND], "/dev/video9", id="path"),
        pytest.param(None, [FIRST], None, id="none-free"),
        pytest.param(None, [], None, id="none"),
    ],
)
def test_device_is_chosen_by_label_or_path(
    wanted: str | None, devices: list[Loopback], path: str | None
) -> None:
    assert choose(wanted, devices) == path
