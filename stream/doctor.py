"""``doctor``: looks at everything that ``camera`` needs and says what to do, one step a problem.

Probes look (:mod:`stream.doctor_probes`), :mod:`stream.doctor_checks` judges and
:mod:`stream.doctor_steps` advises. What a probe can't find out is a check without an answer, never
an error.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from engine.errors import ConfigError, LipstreamError, MediaError
from stream import doctor_checks as checks
from stream import doctor_sound as sound
from stream import doctor_steps as steps
from stream.config import Settings
from stream.doctor_checks import Check, LoopbackModule, Memory, RunTime, View
from stream.doctor_sound import SoundServer
from stream.doctor_steps import System

OFF = "off"  # no virtual camera

if TYPE_CHECKING:
    from rich.console import RenderableType

    from engine.bundle import Bundle


@dataclass(frozen=True, kw_only=True, slots=True)
class Probes:
    """How the doctor looks; each may raise, which makes a check without an answer.

    Attributes:
        system: the operating system.
        python: its version.
        broken_packages: name for pip to why it can't be imported, empty where it is missing.
        memory: of the computer.
        cores: of the processor.
        backend: the run time's name and version.
        bundle: loads a bundle.
        face_models: loads the face networks; where they lie.
        run_times: those that the program knows, and what each can run of a bundle.
        variant: what a bundle's generator takes with these settings; measured if need be.
        picture_ms: median time of a bundle's generator for one picture, with these settings.
        cameras: names of the cameras.
        camera: name of the camera that a text means, of the first one where it is empty.
        locked_cameras: device files of cameras that may not be opened.
        view: opens a camera and looks.
        loopback: state of v4l2loopback.
        virtual_camera: opens the virtual camera for a moment; its name. Not asked on Linux.
        sound_server: PulseAudio or PipeWire.
        outputs: names of the output devices.
        inputs: names of the input devices.
        device: name of the input or output device that a text means.
        peak: highest sample of an input device, 0..1, None where nothing came.
        sound_s: length of a file's sound, None where it has none.
        taken: why an address can't be listened on, empty where it can.
        free_port: the port itself where it is free, else another one.
    """

    system: Callable[[], System]
    python: Callable[[], Sequence[int]]
    broken_packages: Callable[[], Mapping[str, str]]
    memory: Callable[[], Memory]
    cores: Callable[[], int]
    backend: Callable[[], str]
    bundle: Callable[[Path], Bundle]
    face_models: Callable[[], str]
    run_times: Callable[[Bundle], Sequence[RunTime]]
    variant: Callable[[Bundle, Settings], str]
    picture_ms: Callable[[Bundle, Settings], float]
    cameras: Callable[[], Sequence[str]]
    camera: Callable[[str], str]
    locked_cameras: Callable[[], Sequence[str]]
    view: Callable[[Settings], View]
    loopback: Callable[[], LoopbackModule]
    virtual_camera: Callable[[Settings], str]
    sound_server: Callable[[], SoundServer]
    outputs: Callable[[], Sequence[str]]
    inputs: Callable[[], Sequence[str]]
    device: Callable[[str, Literal["input", "output"]], str]
    peak: Callable[[str], float | None]
    sound_s: Callable[[Path], float | None]
    taken: Callable[[str, int], str]
    free_port: Callable[[int], int]


def run(settings: Settings, probes: Probes | None = None) -> list[Check]:
    """Look at everything.

    Args:
        settings: what ``camera`` would be started with.
        probes: how to look; at this computer by default.

    Returns:
        The checks, in the order in which their steps are to be taken.
    """
    if probes is None:
        from stream.doctor_probes import this_computer

        probes = this_computer()
    return list(_examine(settings, probes))


def exit_code(found: Iterable[Check]) -> int:
    """0 if nothing is missing that ``camera`` needs, else 2."""
    return 2 if any(check.ok is False and check.needed for check in found) else 0


def to_json(found: Sequence[Check]) -> str:
    """The checks as JSON: whether ``camera`` is ``ready``, and the fields of all ``checks``."""
    content = {
        "ready": exit_code(found) == 0,
        "checks": [dataclasses.asdict(check) for check in found],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def table(found: Sequence[Check]) -> RenderableType:
    """The checks as a table and below it the steps, numbered, those that ``camera`` needs first."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    rows = Table(box=None, show_header=False, pad_edge=False)
    rows.add_column(width=1)
    rows.add_column(no_wrap=True)
    rows.add_column(overflow="fold")
    signs = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}  # noqa: RUF001 - no minus
    for check in found:
        sign, style = signs[check.ok]
        if check.ok is False and not check.needed:
            style = "yellow"
        rows.add_row(Text(sign, style), check.name, Text(check.found))
    problems = [check for check in found if check.ok is False]
    needed = [check for check in problems if check.needed]
    optional = [check for check in problems if not check.needed]
    parts: list[RenderableType] = [rows]
    if needed:
        parts += [Text(""), Text("Needed before camera can start:", "bold")]
        parts += [_numbered(i, check) for i, check in enumerate(needed, 1)]
    if optional:
        parts += [Text(""), Text("Recommended:", "bold")]
        parts += [_numbered(i, check) for i, check in enumerate(optional, len(needed) + 1)]
    if not needed:
        parts += [Text(""), Text(f"All that camera needs is there: {steps.CAMERA}")]
    return Group(*parts)


def _numbered(number: int, check: Check) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    row = Table(box=None, show_header=False, pad_edge=False, padding=(0, 1, 0, 0))
    row.add_column(width=2, justify="right")
    row.add_column(overflow="fold")
    sentence, *commands = (check.step or check.found).splitlines()
    row.add_row(f"{number}.", Text(f"{check.name}: {sentence}"))
    for command in commands:
        row.add_row("", Text(command, "cyan"))
    return row


def _examine(settings: Settings, probes: Probes) -> Iterator[Check]:
    system = probes.system()
    yield _check("Python", lambda: checks.python(probes.python()))
    yield _check("packages", lambda: checks.packages(system, probes.broken_packages()))
    yield _loads("backend", probes.backend, steps.backend())
    bundle, verdict = _bundle(settings, probes)
    yield verdict
    yield _check("run times", lambda: _run_times(settings, probes, bundle))
    yield _loads("face models", probes.face_models, steps.face_models())
    yield _check("speed", lambda: _speed(settings, probes, bundle))
    yield _check("memory", lambda: checks.memory(probes.memory()))
    yield _check("camera", lambda: _camera(settings, probes, system))
    yield checks.picture_size(settings)
    yield _check("virtual camera", lambda: _virtual_camera(settings, probes, system))
    yield _check("virtual microphone", lambda: _virtual_mic(settings, probes, system))
    yield _check("microphone", lambda: _microphone(settings, probes, system))
    yield _check("target audio", lambda: _target(settings, probes))
    yield _check("control page", lambda: _page(settings, probes))


def _check(name: str, look: Callable[[], Check]) -> Check:
    """A check, whatever its probe does: one that fails leaves it open and hides no other."""
    try:
        return look()
    except Exception as error:
        return Check(name, None, f"could not be checked ({_reason(error)})")


def _loads(name: str, load: Callable[[], str], step: str) -> Check:
    """A part that loads or is to be installed again."""
    try:
        return Check(name, True, load())
    except Exception as error:
        return Check(name, False, _reason(error), step)


def _reason(error: Exception) -> str:
    """What happened, in one line; the next step that our own errors name is given by the check."""
    lines = str(error).strip().splitlines()
    if not lines:
        return type(error).__name__
    if isinstance(error, LipstreamError):
        return re.split("; |: run ", lines[0].rstrip("."))[0]
    return lines[0] if isinstance(error, OSError) else f"{type(error).__name__}: {lines[0]}"


def _bundle(settings: Settings, probes: Probes) -> tuple[Bundle | None, Check]:
    try:
        bundle = probes.bundle(settings.bundle_folder)
    except Exception as error:
        starter = settings.bundle_folder == Settings().bundle_folder
        return None, Check("bundle", False, _reason(error), steps.bundle(starter))
    found = f"{bundle.folder.name}, {len(bundle.sha256)} files unchanged"
    return bundle, Check("bundle", True, found)


def _run_times(settings: Settings, probes: Probes, bundle: Bundle | None) -> Check:
    if bundle is None:
        return Check("run times", None, "looked at with a bundle only")
    try:
        taken = probes.variant(bundle, settings)
    except ConfigError as error:
        return checks.no_run_time(_reason(error))
    return checks.run_times(probes.run_times(bundle), taken, settings.backends_off)


def _speed(settings: Settings, probes: Probes, bundle: Bundle | None) -> Check:
    if bundle is None:
        return Check("speed", None, f"{probes.cores()} cores; measured with a bundle only")
    return checks.speed(probes.picture_ms(bundle, settings), probes.cores())


def _camera(settings: Settings, probes: Probes, system: System) -> Check:
    wanted = settings.camera
    if wanted and Path(wanted).is_file():
        return checks.camera_file(wanted)
    if not probes.cameras():
        return checks.camera_none(system, probes.locked_cameras())
    try:
        probes.camera(wanted)
    except MediaError as error:
        return checks.camera_other(_reason(error))
    try:
        view = probes.view(settings)
    except MediaError as error:
        return checks.camera_closed(system, _reason(error))
    return checks.camera_view(view)


def _virtual_camera(settings: Settings, probes: Probes, system: System) -> Check:
    wanted = settings.virtual_camera
    if wanted == OFF:
        return Check("virtual camera", None, "off")
    if system.family == "linux":
        return checks.loopback(system, wanted, probes.loopback())
    try:
        return checks.obs_camera(system, probes.virtual_camera(settings), "")
    except Exception as error:
        return checks.obs_camera(system, "", str(error) or type(error).__name__)


def _virtual_mic(settings: Settings, probes: Probes, system: System) -> Check:
    wanted, linux = settings.virtual_mic, system.family == "linux"
    if linux and wanted in ("", steps.SINK):
        server = probes.sound_server()
        outputs = probes.outputs() if steps.SINK in server.sinks else []
        return sound.virtual_mic_linux(system, wanted, server, outputs)
    if not wanted:
        return sound.cable(system, "", probes.outputs())
    try:
        name = probes.device(wanted, "output")
    except MediaError as error:
        return sound.no_device("virtual microphone", _reason(error))
    return Check("virtual microphone", True, name) if linux else sound.cable(system, name, [])


def _microphone(settings: Settings, probes: Probes, system: System) -> Check:
    wanted = settings.source_audio
    if not wanted:
        return sound.microphone_unused(probes.inputs())
    try:
        name = probes.device(wanted, "input")
    except MediaError as error:
        return sound.no_device("microphone", _reason(error))
    return sound.microphone(system, name, probes.peak(wanted))


def _target(settings: Settings, probes: Probes) -> Check:
    from stream.live.pcm import parse_pcm_url

    wanted = settings.target_audio
    if not wanted:
        return sound.target_none()
    if wanted.startswith("pcm:"):
        try:
            host, port = parse_pcm_url(wanted)
        except ConfigError as error:
            return sound.target_no_address(_reason(error))
        return sound.target_pcm(host, port, probes.taken(host, port))
    if Path(wanted).is_file():
        return sound.target_file(wanted, probes.sound_s(Path(wanted)))
    try:
        return sound.target_device(probes.device(wanted, "input"))
    except MediaError as error:
        return sound.no_device("target audio", _reason(error))


def _page(settings: Settings, probes: Probes) -> Check:
    return checks.page_port(settings.page_port, probes.free_port(settings.page_port))
