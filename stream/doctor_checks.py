"""What each finding means: facts about the computer in, a check with its one next step out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from stream import doctor_steps as steps
from stream.config import Settings
from stream.doctor_steps import System

LEAST_PYTHON: Final = (3, 11)
LEAST_FREE_MB: Final = 1000  # a session takes about half of it
SPEECH_FPS: Final = 20  # a camera that gives fewer shows no lips in motion
RATES: Final = (25, 30)  # pictures a second that the generator is compared with
# The generator's share of a picture's time at 30 fps: above the first there is too little left for
# tracking, pasting and encoding; at the second it can't keep up at all.
TIGHT_SHARE, FULL_SHARE = 0.6, 1.0


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the doctor.

    Attributes:
        name: what was looked at.
        ok: False where something is to be done; None where it could not or need not be checked.
        found: what is there, in a few words.
        step: the one next step where ``ok`` is False; lines that begin with four spaces are
            commands.
        needed: whether ``camera`` can't do its work before that step.
    """

    name: str
    ok: bool | None
    found: str
    step: str | None = None
    needed: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Memory:
    """Of the computer, in MB; ``free_mb`` is None where the system does not tell."""

    total_mb: int
    free_mb: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What a camera gave: its name, size in px, and pictures a second, None if not counted."""

    name: str
    width: int
    height: int
    fps: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class RunTime:
    """A run time of the generator.

    Attributes:
        name: as ``--backend`` takes it.
        version: empty where it is not installed.
        missing: number format to why it can't be had, empty where it can.
    """

    name: str
    version: str
    missing: Mapping[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Loopback:
    """A device of v4l2loopback.

    Attributes:
        path: under ``/dev``.
        label: the name that other programs show.
        writable: whether we may open it.
        busy: whether something sends pictures to it already.
        users: the programs that have it open, as far as we may see.
    """

    path: str
    label: str
    writable: bool
    busy: bool
    users: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class LoopbackModule:
    """The state of v4l2loopback.

    Attributes:
        installed: whether it is there for the running kernel.
        loaded: whether it runs.
        exclusive: whether its devices look like mere cameras, which Chrome asks for; None where
            that is not known.
        secure_boot: whether the firmware refuses modules without a known signature.
        devices: its devices, in the order of their numbers.
    """

    installed: bool
    loaded: bool
    exclusive: bool | None
    secure_boot: bool
    devices: tuple[Loopback, ...]


def python(version: Sequence[int]) -> Check:
    """The interpreter, as (major, minor, micro)."""
    found = ".".join(map(str, version))
    if tuple(version[:2]) < LEAST_PYTHON:
        least = ".".join(map(str, LEAST_PYTHON))
        return Check("Python", False, f"{found}, too old", steps.python_version(least))
    return Check("Python", True, found)


def packages(system: System, broken: Mapping[str, str]) -> Check:
    """The packages of the live session.

    Args:
        system: where the program runs.
        broken: name for pip to why it can't be imported, empty where it is not there at all.
    """
    name = "packages"
    absent = [package for package, reason in broken.items() if not reason]
    if absent:
        return Check(name, False, f"missing: {', '.join(absent)}", steps.packages(absent))
    if "PortAudio" in broken.get("sounddevice", ""):
        return Check(name, False, "PortAudio is missing", steps.port_audio(system))
    if broken:
        package, reason = next(iter(broken.items()))
        return Check(name, False, f"{package}: {reason}", steps.packages(list(broken)))
    return Check(name, True, "all there")


def memory(memory: Memory) -> Check:
    """Memory for a session."""
    total = f"{memory.total_mb / 1024:.1f} GiB"
    if memory.free_mb is None:
        return Check("memory", None, f"{total} in all")
    found = f"{memory.free_mb / 1024:.1f} of {total} free"
    if memory.free_mb < LEAST_FREE_MB:
        return Check("memory", False, found, steps.memory(), needed=False)
    return Check("memory", True, found)


def run_times(found: Sequence[RunTime], taken: str, switched_off: Sequence[str]) -> Check:
    """Which run times there are for the generator, and which one it takes.

    Args:
        found: all that the program knows.
        taken: what the settings come to.
        switched_off: names of those that the settings leave out.
    """
    there = (_run_time(one, one.name in switched_off) for one in found)
    return Check("run times", True, f"{taken} is taken; {'; '.join(there)}")


def no_run_time(reason: str) -> Check:
    """The settings ask for one that can't be had."""
    return Check("run times", False, reason, steps.run_times())


def _run_time(one: RunTime, switched_off: bool) -> str:
    named = f"{one.name} {one.version}".strip()
    if switched_off:
        return f"{named}: switched off"
    usable = [format_ for format_, reason in one.missing.items() if not reason]
    if not usable:
        return f"{named}: {next(filter(None, one.missing.values()), 'nothing')}"
    reasons = (f"no {format_}: {reason}" for format_, reason in one.missing.items() if reason)
    return f"{named}: {', '.join((*usable, *reasons))}"


def speed(ms: float, cores: int) -> Check:
    """Whether the generator keeps up.

    Args:
        ms: median time for one picture.
        cores: processor cores of the computer.
    """
    shares = ", ".join(f"{ms * rate / 10:.0f} % at {rate} fps" for rate in RATES)
    found = f"{ms:.1f} ms a picture on {cores} cores, of real time {shares}"
    share = ms * RATES[-1] / 1000
    if share <= TIGHT_SHARE:
        return Check("speed", True, found)
    return Check("speed", False, found, steps.speed(), needed=share >= FULL_SHARE)


def picture_size(settings: Settings) -> Check:
    """The size of the virtual camera, even already by its settings."""
    found = f"{settings.width}x{settings.height} at {settings.fps} fps"
    if abs(settings.width / settings.height - 16 / 9) > 0.02:
        return Check("picture size", False, f"{found}, not 16:9", steps.size(), needed=False)
    return Check("picture size", True, f"{found}, 16:9")


def camera_none(system: System, locked: Sequence[str]) -> Check:
    """No camera that can be used.

    Args:
        system: where the program runs.
        locked: device files of cameras that may not be opened.
    """
    if locked:
        return Check("camera", False, f"no right to open {locked[0]}", steps.video_group())
    return Check("camera", False, "none", steps.camera_none(system))


def camera_other(reason: str) -> Check:
    """A camera that was asked for by a name which none has."""
    return Check("camera", False, reason, steps.device_other())


def camera_file(wanted: str) -> Check:
    """A film or picture in place of a camera."""
    return Check("camera", True, f"{Path(wanted).name}, a file")


def camera_view(view: View) -> Check:
    """What the camera shows."""
    found = f"{view.name}: {view.width}x{view.height}"
    if view.fps is None:
        return Check("camera", True, found)
    found += f" at {view.fps:.0f} fps"
    if view.fps < SPEECH_FPS:
        return Check("camera", False, found, steps.camera_slow(), needed=False)
    return Check("camera", True, found)


def camera_closed(system: System, reason: str) -> Check:
    """The camera gives no picture, for a reason in the words of the system or of ours."""
    return Check("camera", False, reason, steps.camera_closed(system, reason))


def loopback(system: System, wanted: str, module: LoopbackModule) -> Check:
    """The virtual camera of Linux.

    It is never tried: v4l2loopback 0.12.5 can be opened only once with ``exclusive_caps``, and
    the trial would be that once.

    Args:
        system: where the program runs.
        wanted: path that the settings name; empty for the first that is free.
        module: the state of v4l2loopback.
    """
    name = "virtual camera"
    if not module.loaded:
        found = "v4l2loopback is not " + ("loaded" if module.installed else "installed")
        step = steps.virtual_camera_missing(
            system, installed=module.installed, secure_boot=module.secure_boot
        )
        return Check(name, False, found, step)
    if not module.devices:
        return Check(name, False, "no device", steps.virtual_camera_reload())
    fitting = [device for device in module.devices if wanted in ("", device.path)]
    if not fitting:
        there = ", ".join(f"{device.path} ({device.label})" for device in module.devices)
        meant = [d for d in module.devices if d.label == wanted] or module.devices
        step = steps.virtual_camera_other(meant[0].path)
        return Check(name, False, f"there is no device {wanted}, but {there}", step)
    device = next((d for d in fitting if d.writable and not d.busy), fitting[0])
    found = f"{device.path} ({device.label})"
    if not device.writable:
        return Check(name, False, f"no right to open {found}", steps.video_group())
    if device.busy and device.users:
        found += f" is in use by {', '.join(device.users)}"
        return Check(name, False, found, steps.virtual_camera_busy(system))
    if device.busy:  # its last user is gone, and it did not notice
        return Check(name, False, f"{found} hangs", steps.virtual_camera_reload())
    if module.exclusive is False:
        step = steps.virtual_camera_reload()
        return Check(name, False, f"{found}, which Chrome does not list", step, needed=False)
    return Check(name, True, found)


def obs_camera(system: System, device: str, reason: str) -> Check:
    """The virtual camera of OBS on macOS and Windows, tried.

    Args:
        system: where the program runs.
        device: its name, empty where it could not be opened.
        reason: why not, in the words of pyvirtualcam.
    """
    name = "virtual camera"
    if device:
        return Check(name, True, device)
    words = reason.lower()
    if "not found" in words or "not installed" in words:
        step = steps.virtual_camera_missing(system, installed=False, secure_boot=False)
        return Check(name, False, "OBS Virtual Camera is not installed", step)
    if "could not be started" in words:  # its shared memory is there already
        step = steps.virtual_camera_busy(system)
        return Check(name, False, "OBS Virtual Camera is in use", step)
    if "supports only" in words:
        step = steps.virtual_camera_other("OBS Virtual Camera")
        return Check(name, False, "only OBS Virtual Camera is there", step)
    return Check(name, False, reason, steps.virtual_camera_closed(system))


def page_port(port: int, free: int) -> Check:
    """The control page's port.

    Args:
        port: what the settings name; 0 for any.
        free: the same where it is free, another that is where not.
    """
    if port in (0, free):
        return Check("control page", True, f"port {port or 'any'}")
    return Check("control page", False, f"port {port} is taken", steps.page_port(free))
