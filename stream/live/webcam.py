"""Which real cameras there are, and opening them: v4l2, AVFoundation or DirectShow by FFmpeg."""

from __future__ import annotations

import errno
import os
import struct
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import av
from av.container import InputContainer
from av.device import enumerate_input_devices
from av.video.reformatter import Colorspace

from engine.errors import MediaError
from stream.live.camera_reader import CameraReader
from stream.live.cameras import Camera, Clock

Options: TypeAlias = dict[str, str]
"""Of FFmpeg."""

_FORMATS: Final = {"linux": "v4l2", "darwin": "avfoundation", "win32": "dshow"}
_SYS: Final = Path("/sys/class/video4linux")
# Cameras that lipstream itself plays into; shown to it, it would see its own pictures.
_OUTPUTS: Final = ("lipstream", "OBS Virtual Camera", "Unity Video Capture")
_SCREEN: Final = "Capture screen"  # AVFoundation lists screens beside cameras

# Raw 720p at 30 pictures a second is 442 Mbit/s, more than USB 2 carries.
_COMPRESSED_FROM: Final = 720
# No picture is to be held back for guessing what the stream is: the device says it.
_PROMPT: Final = {"fflags": "nobuffer", "fpsprobesize": "0"}
_BUFFER: Final = {"rtbufsize": "64000000"}  # bytes; DirectShow's own holds not one large picture

# From linux/videodev2.h: the request, and where the device's abilities stand in its 104 bytes.
_QUERYCAP, _QUERYCAP_BYTES, _ABILITIES_AT = 0x80685600, 104, 84
_CAPTURE, _OF_THIS_NODE = 0x0000_0001, 0x8000_0000


@dataclass(frozen=True, slots=True)
class DeviceName:
    """A camera.

    Attributes:
        id: what opens it: ``/dev/video0``, AVFoundation's number, or DirectShow's long name.
        label: as people call it.
    """

    id: str
    label: str


def list_cameras(system: str = sys.platform) -> list[DeviceName]:
    """The cameras that there are, without those that lipstream's own pictures go to.

    Args:
        system: ``linux``, ``darwin`` or ``win32``.
    """
    return [device for device in _devices(system) if device.label not in _OUTPUTS]


def find_camera(name: str, system: str = sys.platform) -> DeviceName:
    """The camera that a user means.

    Args:
        name: a label or part of one, a number, or what the system calls it (``/dev/video0``,
            ``video=Label``); empty: the first one.
        system: ``linux``, ``darwin`` or ``win32``.

    Raises:
        MediaError: there is no such camera, or several.
    """
    devices = _devices(system)
    wanted_id = name
    if name.isdecimal() and system == "linux":
        wanted_id = f"/dev/video{name}"
    elif name.isdecimal() and system == "win32" and int(name) < len(devices):
        wanted_id = devices[int(name)].id
    return pick(devices, name, wanted_id.removeprefix("video="))


def pick(
    devices: Sequence[DeviceName],
    name: str,
    wanted_id: str,
    exists: Callable[[str], bool] = os.path.exists,
) -> DeviceName:
    """The device of a list that a user means.

    Args:
        devices: to choose from.
        name: as the user wrote it.
        wanted_id: what the id would be, were it one.
        exists: whether there is such a device file, listed or not.

    Raises:
        MediaError: there is no such device, or several.
    """
    shown = [device for device in devices if device.label not in _OUTPUTS]
    if not name:
        if shown:
            return shown[0]
        raise MediaError(
            "No camera was found; plug one in, or name a film or a picture with --camera."
        )
    folded = name.removeprefix("video=").casefold()
    for fits in (
        lambda device: device.id == wanted_id,
        lambda device: device.label.casefold() == folded,
        lambda device: folded in device.label.casefold(),
    ):
        found = [device for device in devices if fits(device)]
        if len(found) == 1:
            return found[0]
        if found:
            raise MediaError(f"Several cameras are called {name!r}; name one of {_named(found)}.")
    if wanted_id.startswith("/dev/") and exists(wanted_id):
        return DeviceName(wanted_id, wanted_id)
    raise MediaError(
        f"There is neither a file nor a camera {name!r}; the cameras are:"
        f" {_named(shown) or 'none at all'}."
    )


def open_webcam(
    device: DeviceName,
    clock: Clock,
    *,
    width: int,
    height: int,
    fps: int,
    system: str = sys.platform,
    open_: Callable[..., InputContainer] = av.open,
) -> Camera:
    """Open a camera; it gives what it can where it has not what is wanted.

    Args:
        device: which.
        clock: session seconds.
        width: wanted, in pixels.
        height: wanted, in pixels.
        fps: wanted, in pictures a second.
        system: ``linux``, ``darwin`` or ``win32``.
        open_: opens a device as ``av.open`` does.

    Raises:
        MediaError: it is missing, busy, not allowed or silent.
    """

    def opened() -> InputContainer:
        failure: av.FFmpegError | OSError | None = None
        for options in attempts(system, width, height, fps):
            try:
                return open_(_file(device, system), format=_format(system), options=options)
            except (av.FFmpegError, OSError) as error:
                failure = error
                if error.errno in (*_BUSY, *_FORBIDDEN, *_MISSING):
                    break
        raise MediaError(refusal(device.label, failure, system)) from failure

    # Where nothing is said, USB cameras mean BT.601 whatever the size; macOS has HD as BT.709.
    matrix = Colorspace.ITU709 if system == "darwin" else Colorspace.ITU601
    return CameraReader(device.label, device.id, opened, clock, matrix=matrix)


def attempts(system: str, width: int, height: int, fps: int) -> list[Options]:
    """FFmpeg's options to open a camera with, the best first, down to whatever it gives."""
    size, rate = {"video_size": f"{width}x{height}"}, {"framerate": str(fps)}
    if system == "linux":
        found = [size | rate, {}]
        if height >= _COMPRESSED_FROM:
            found.insert(0, {"input_format": "mjpeg"} | size | rate)
    elif system == "darwin":
        # It takes no other size and rate than the camera lists, and by default asks for 29.97.
        rates = [{"framerate": other} for other in dict.fromkeys((str(fps), "30", "25", "15"))]
        found = [*(size | other for other in rates), *rates, {}]
    else:
        found = [size | rate | _BUFFER, size | _BUFFER, _BUFFER]
    return [_PROMPT | options for options in found]


_BUSY: Final = (errno.EBUSY,)
_FORBIDDEN: Final = (errno.EACCES, errno.EPERM)
_MISSING: Final = (errno.ENOENT, errno.ENODEV, errno.ENXIO)


def refusal(label: str, error: av.FFmpegError | OSError | None, system: str) -> str:
    """Why a camera can't be opened and what to do, in one sentence."""
    number = None if error is None else error.errno
    if number in _BUSY:
        return (
            f"{label} is in use by another program; close that one (Zoom, Teams, a browser tab)"
            " and try again."
        )
    if number in _FORBIDDEN and system == "linux":
        return f"{label} may not be opened; run `sudo usermod -aG video $USER`, then log in again."
    if number in _MISSING:
        return f"{label} is not there or is no camera; plug it in, or choose another one."
    if system == "darwin":
        return (
            f"{label} can't be opened; allow it in System Settings > Privacy & Security > Camera"
            " for the program you start lipstream in, and close others that use it."
        )
    if system == "win32":
        return (
            f"{label} can't be opened; close other programs that use it, and switch on “Let desktop"
            " apps access your camera” in Settings > Privacy & security > Camera."
        )
    return f"{label} can't be opened; unplug it, plug it in again and try again."


def _named(devices: Sequence[DeviceName]) -> str:
    return ", ".join(f"{device.label!r} ({device.id})" for device in devices)


def _format(system: str) -> str:
    return _FORMATS.get(system, "v4l2")


def _file(device: DeviceName, system: str) -> str:
    """What FFmpeg opens."""
    if system == "darwin":
        return f"{device.id}:none"  # no microphone
    return f"video={device.id}" if system == "win32" else device.id


def _devices(system: str) -> list[DeviceName]:
    if system == "linux":
        return linux_cameras()
    found: list[Any] = []
    with suppress(OSError, ValueError):  # it has no such devices, or FFmpeg can't list them
        found = enumerate_input_devices(_format(system))
    return [
        DeviceName(device.name, device.description)
        for device in found
        if "video" in device.media_types and not device.description.startswith(_SCREEN)
    ]


def linux_cameras(
    folder: Path = _SYS, captures: Callable[[str], bool | None] | None = None
) -> list[DeviceName]:
    """The device files that give pictures.

    Args:
        folder: of the kernel's list.
        captures: whether one gives pictures; None where that can't be asked.
    """
    captures = captures or _captures
    found = []
    for node in sorted(folder.glob("video*"), key=lambda node: (len(node.name), node.name)):
        path = f"/dev/{node.name}"
        if "virtual" in node.resolve().parts and _read(node / "state") != "capture":
            continue  # nobody plays into it
        gives = captures(path)
        if gives is None:  # a camera's first node is the one with the pictures
            gives = _read(node / "index") in ("", "0")
        if gives:
            found.append(DeviceName(path, _read(node / "name") or path))
    return found


def _captures(path: str) -> bool | None:
    import fcntl  # there is none on Windows

    answer = bytearray(_QUERYCAP_BYTES)
    try:
        file = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.ioctl(file, _QUERYCAP, answer)
    except OSError:
        return None
    finally:
        os.close(file)
    of_driver, of_node = struct.unpack_from("=II", answer, _ABILITIES_AT)
    return bool((of_node if of_driver & _OF_THIS_NODE else of_driver) & _CAPTURE)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
