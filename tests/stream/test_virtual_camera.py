"""The virtual camera through pyvirtualcam's own API, with a backend that keeps what it gets."""

import asyncio
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pytest
import pyvirtualcam
from numpy.typing import NDArray

from engine.errors import MediaError
from stream.core.sinks import Shown
from stream.live.clock import SessionClock
from stream.live.picture_fit import fit
from stream.live.virtual_camera import VirtualCamera

pytestmark = pytest.mark.media

QUADRANTS = ((200, 30, 30), (30, 180, 40), (20, 40, 210), (240, 240, 230))


class Memory:
    """A device in memory; lists what it got, and can be unplugged."""

    frames: ClassVar[list[NDArray[np.uint8]]] = []
    present: ClassVar[bool] = True
    busy: ClassVar[bool] = False

    def __init__(self, *, width: int, height: int, fps: float, **rest: Any) -> None:
        if not Memory.present:
            raise RuntimeError("no such device")
        if Memory.busy:
            raise RuntimeError("Device or resource busy")
        self.shape = height, width, 3

    def close(self) -> None:
        pass

    def send(self, frame: NDArray[np.uint8]) -> None:
        if not Memory.present:
            raise OSError("unplugged")
        Memory.frames.append(frame.reshape(self.shape).copy())

    def device(self) -> str:
        return "memory"

    def native_fourcc(self) -> None:
        return None


@pytest.fixture(autouse=True)
def memory() -> Iterator[type[Memory]]:
    if "memory" not in pyvirtualcam.camera.BACKENDS:
        pyvirtualcam.register_backend("memory", Memory)
    Memory.frames.clear()
    Memory.present, Memory.busy = True, False
    yield Memory
    Memory.frames.clear()


def quadrants(width: int, height: int) -> NDArray[np.uint8]:
    picture = np.zeros((height, width, 3), np.uint8)
    h, w = height // 2, width // 2
    for number, colour in enumerate(QUADRANTS):
        y, x = divmod(number, 2)
        picture[y * h : (y + 1) * h, x * w : (x + 1) * w] = colour
    return picture


def shown(number: int, picture: NDArray[np.uint8]) -> Shown:
    return Shown(number, number / 25, picture, picture, False, number / 25)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def camera(**rest: Any) -> VirtualCamera:
    return VirtualCamera(320, 240, 60, clock=SessionClock(), backend="memory", **rest)


async def test_the_device_gets_the_colours_that_were_shown() -> None:
    picture = quadrants(320, 240)
    virtual = camera()
    task = asyncio.create_task(virtual.run())
    await until(lambda: len(Memory.frames) > 2)
    started = len(Memory.frames)
    assert Memory.frames[0].mean() < 60, (
        "a dark card first: the device must be fed before it is opened"
    )
    virtual.show(shown(0, picture))
    await until(lambda: len(Memory.frames) > started + 3)
    np.testing.assert_array_equal(Memory.frames[-1], picture)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_each_new_picture_is_reported_once_and_repeats_are_counted() -> None:
    left: list[tuple[float, float]] = []
    virtual = camera(on_left=lambda content, at: left.append((content, at)))
    task = asyncio.create_task(virtual.run())
    for number in range(5):
        virtual.show(shown(number, np.full((240, 320, 3), number, np.uint8)))
        before = virtual.sent
        await until(lambda before=before: virtual.sent >= before + 3)  # type: ignore[misc]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert [content for content, _ in left] == [number / 25 for number in range(5)]
    assert all(b[1] > a[1] for a, b in pairwise(left))
    assert virtual.repeated >= 10


async def test_a_device_that_goes_is_opened_again_when_it_is_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("stream.live.virtual_camera.RETRY_S", 0.01)
    virtual = camera()
    task = asyncio.create_task(virtual.run())
    virtual.show(shown(0, quadrants(320, 240)))
    await until(lambda: len(Memory.frames) > 2)
    Memory.present = False
    await until(lambda: virtual.trouble is not None)
    Memory.present = True
    count = len(Memory.frames)
    await until(lambda: len(Memory.frames) > count + 2)
    assert virtual.trouble is None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_missing_device_is_said_with_the_next_step(memory: type[Memory]) -> None:
    memory.present = False
    with pytest.raises(MediaError, match="can't be opened") as caught:
        camera()
    assert "--virtual-camera off" in str(caught.value)


def test_a_second_instance_is_said_as_such(memory: type[Memory]) -> None:
    memory.busy = True
    with pytest.raises(MediaError, match="in use"):
        camera()


def test_pictures_of_another_shape_keep_theirs() -> None:
    framed = fit(np.full((100, 100, 3), 200, np.uint8), 320, 240)
    assert framed.shape == (240, 320, 3)
    assert (framed[:, :40] == 0).all()
    assert (framed[:, 280:] == 0).all()
    assert (framed[:, 40:280] == 200).all()
    same = quadrants(320, 240)
    assert fit(same, 320, 240) is same
