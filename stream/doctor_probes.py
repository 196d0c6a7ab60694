"""How the doctor looks at this computer: thin, each look on its own, nothing judged."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np

from stream import doctor_linux as linux
from stream.config import Settings
from stream.doctor import Probes
from stream.doctor_checks import Memory, RunTime, View
from stream.doctor_sound import SoundServer
from stream.doctor_steps import Family, System

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.bundle_variants import Precision

PACKAGES: Final = {
    "aiohttp": "aiohttp",
    "aiortc": "aiortc",
    "av": "av",
    "numpy": "numpy",
    "onnxruntime": "onnxruntime",
    "opencv-python-headless": "cv2",
    "openvino": "openvino",
    "prometheus-client": "prometheus_client",
    "pyjwt": "jwt",
    "pyvirtualcam": "pyvirtualcam",
    "rich": "rich",
    "scikit-image": "skimage",
    "scipy": "scipy",
    "sounddevice": "sounddevice",
    "soxr": "soxr",
}
"""Names for pip and for import."""

PACTL_S: Final = 3.0  # it answers within some ms, or waits for a server that never comes
VIEW_S: Final = 2.0  # how long a camera is watched
LISTEN_S: Final = 3.0  # some devices begin late, with zeros
LISTEN_STEP_S: Final = 0.05
CALLS: Final = 10
PORTS_TRIED: Final = 20
MB: Final = 1024 * 1024


def this_computer() -> Probes:
    """The looks at the computer that this runs on."""
    return Probes(
        system=system,
        python=lambda: sys.version_info[:3],
        broken_packages=broken_packages,
        memory=memory,
        cores=cores,
        backend=backend,
        bundle=bundle,
        face_models=face_models,
        run_times=run_times,
        variant=variant,
        picture_ms=picture_ms,
        cameras=cameras,
        camera=camera,
        locked_cameras=linux.locked_cameras,
        view=view,
        loopback=linux.loopback,
        virtual_camera=virtual_camera,
        sound_server=sound_server,
        outputs=outputs,
        inputs=inputs,
        device=device,
        peak=peak,
        sound_s=sound_s,
        taken=taken,
        free_port=free_port,
    )


def system() -> System:
    """The operating system."""
    families: dict[str, Family] = {"Windows": "windows", "Darwin": "macos"}
    family = families.get(platform.system(), "linux")
    if family != "linux":
        return System(family=family)
    return System(
        family=family,
        packager=linux.packager(),
        wsl="microsoft" in platform.release().lower(),
    )


def broken_packages() -> Mapping[str, str]:
    """Packages that can't be imported, with the reason; an empty one for those not there."""
    broken = {}
    for package, module in PACKAGES.items():
        if importlib.util.find_spec(module) is None:
            broken[package] = ""
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # a wheel may fail in any way, at its own libraries above all
            broken[package] = str(error) or type(error).__name__
    return broken


def cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory() -> Memory:
    """The computer's memory.

    Raises:
        OSError: the system does not tell.
    """
    if platform.system() == "Windows":
        return _windows_memory()
    if Path("/proc/meminfo").is_file():
        return linux.memory()
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Memory(total_mb=total // MB, free_mb=None)


class _MemoryStatus(ctypes.Structure):
    """MEMORYSTATUSEX of the Windows API."""

    _fields_ = (
        ("length", ctypes.c_uint32),
        ("load", ctypes.c_uint32),
        *((name, ctypes.c_uint64) for name in ("total", "free", "a", "b", "c", "d", "e")),
    )


def _windows_memory() -> Memory:
    status: Any = _MemoryStatus()
    status.length = ctypes.sizeof(status)
    windows = vars(ctypes)["windll"]  # there on Windows alone
    if not windows.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        raise OSError("GlobalMemoryStatusEx failed")
    return Memory(total_mb=status.total // MB, free_mb=status.free // MB)


def backend() -> str:
    """The run time, after it has named its devices."""
    from engine.openvino_cpu import core

    devices = ", ".join(core().available_devices)
    return f"OpenVINO {importlib.metadata.version('openvino')} ({devices})"


def bundle(folder: Path) -> Bundle:
    """Load a bundle, which checks its hashes."""
    from engine.bundle import load_bundle

    return load_bundle(folder)


def face_models() -> str:
    """Load the face networks."""
    from engine.face_models import FaceModels

    FaceModels(threads=1)
    return "there"


def run_times(bundle: Bundle) -> Sequence[RunTime]:
    """What each run time can run of a bundle."""
    from engine.backends.interface import BACKENDS, Variant
    from engine.backends.loading import missing, version

    formats: list[Precision] = ["fp32", *bundle.precisions]
    return [
        RunTime(
            name=name,
            version=version(name),
            missing={each: missing(Variant(name, each), bundle) or "" for each in formats},
        )
        for name in BACKENDS
    ]


def variant(bundle: Bundle, settings: Settings) -> str:
    """The run time that is taken, measured now unless that was done before.

    Raises:
        ConfigError: what the settings ask for can't be had.
    """
    from engine.backends.choice import ranked

    threads = settings.threads
    return str(ranked(bundle, settings.backend, settings.backends_off, threads=threads)[0])


def picture_ms(bundle: Bundle, settings: Settings) -> float:
    """Median time of the generator for one picture, a chunk at a time."""
    from engine.backends.fallback import open_generator
    from engine.generator import Chunk

    generator = open_generator(
        bundle, settings.backend, settings.backends_off, threads=settings.threads, slots=1
    )
    side, count = bundle.resolution, bundle.k
    window = (count, 1, bundle.mel.bands, bundle.placement.columns)
    chunk = Chunk(
        mel=np.zeros(window, np.float32), pose=np.full((count, side, side, 3), 127, np.uint8)
    )
    slot = generator.open(chunk.pose[0])
    generator.step({slot: chunk})  # the first call allocates
    took = []
    for _ in range(CALLS):
        start = time.perf_counter()
        generator.step({slot: chunk})
        took.append(time.perf_counter() - start)
    return statistics.median(took) / count * 1000


def cameras() -> Sequence[str]:
    """Names of the cameras."""
    from stream.live.webcam import list_cameras

    return [camera.label for camera in list_cameras()]


def camera(wanted: str) -> str:
    """Name of the camera that a text means."""
    from stream.live.webcam import find_camera

    return find_camera(wanted).label


def view(settings: Settings) -> View:
    """Open the camera and watch it for a moment."""
    from stream.live.cameras import open_camera

    camera = open_camera(
        settings.camera,
        time.monotonic,
        width=settings.width,
        height=settings.height,
        fps=settings.fps,
    )
    try:
        shown = camera.read()
        height, width = shown.picture.shape[:2]
        first = last = shown.time
        count = 0
        while last - first < VIEW_S:
            last = camera.read().time
            count += 1
    finally:
        camera.close()
    return View(name=camera.name, width=width, height=height, fps=count / (last - first))


def virtual_camera(settings: Settings) -> str:
    """Open the virtual camera and close it."""
    import pyvirtualcam

    device = settings.virtual_camera or None
    with pyvirtualcam.Camera(
        settings.width, settings.height, settings.fps, device=device
    ) as camera:
        return str(camera.device)


def sound_server() -> SoundServer:
    """PulseAudio or PipeWire."""
    if shutil.which("pactl") is None:
        return SoundServer(pactl=False, answers=False)
    sinks, sources = _pactl_names("sinks"), _pactl_names("sources")
    if sinks is None or sources is None:
        return SoundServer(pactl=True, answers=False)
    return SoundServer(pactl=True, answers=True, sinks=sinks, sources=sources)


def _pactl_names(what: str) -> tuple[str, ...] | None:
    """Names of the server's sinks or sources; None where it does not answer."""
    try:
        done = subprocess.run(
            ["pactl", "list", "short", what],
            capture_output=True,
            text=True,
            timeout=PACTL_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        return None
    return tuple(line.split("\t")[1] for line in done.stdout.splitlines() if "\t" in line)


def outputs() -> Sequence[str]:
    """Names of the output devices."""
    from stream.live.sound_devices import list_outputs

    return [device.name for device in list_outputs()]


def inputs() -> Sequence[str]:
    """Names of the input devices."""
    from stream.live.sound_devices import list_inputs

    return [device.name for device in list_inputs()]


def device(wanted: str, kind: Literal["input", "output"]) -> str:
    """Name of the sound device that a text means."""
    from stream.live.sound_devices import find

    return find(wanted, kind).name


def peak(wanted: str) -> float | None:
    """Listen to an input device until it is not silent any more, or for a moment."""
    from stream.live.portaudio import portaudio

    heard: list[float] = []

    def listen(block: Any, _count: int, _times: Any, _flags: Any) -> None:
        heard.append(float(np.abs(block).max()))

    system = portaudio()
    stream = system.open(wanted, "input", listen, lambda: None)
    try:
        system.start(stream)
        until = time.monotonic() + LISTEN_S
        while not any(heard) and time.monotonic() < until:
            time.sleep(LISTEN_STEP_S)
    finally:
        system.close(stream)
    return max(heard, default=None)


def sound_s(file: Path) -> float | None:
    """Length of a file's sound."""
    import av

    with av.open(str(file)) as container:
        if not container.streams.audio:
            return None
        return float(container.duration or 0) / av.time_base


def taken(host: str, port: int) -> str:
    """Why an address can't be listened on; empty where it can."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        for family, kind, protocol, _, address in found[:1]:
            with socket.socket(family, kind, protocol) as listener:
                _reuse(listener)
                listener.bind(address)
    except OSError as error:
        return error.strerror or str(error)
    return ""


def free_port(port: int) -> int:
    """The port itself where it is free on this computer, else one of the next."""
    for candidate in range(port, min(port + PORTS_TRIED, 65536)):
        if not taken("127.0.0.1", candidate):
            return candidate
    return 0


def _reuse(listener: socket.socket) -> None:
    if os.name == "posix":  # as servers do: a connection that has just ended does not hold a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
