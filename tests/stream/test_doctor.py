import dataclasses
import io
import json
import re
import tomllib
import wave
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from rich.console import Console

from engine.bundle import Bundle
from engine.errors import BundleError, ConfigError, MediaError
from engine.model_files import INSTALL_HINT
from stream import doctor, doctor_linux, doctor_probes, doctor_steps
from stream.config import Settings
from stream.doctor import Probes, exit_code, run, table, to_json
from stream.doctor_checks import Check, Loopback, LoopbackModule, Memory, RunTime, View
from stream.doctor_sound import SoundServer
from stream.doctor_steps import Family, Packager, System

pytestmark = pytest.mark.unit

APT = System(family="linux", packager="apt")
DNF = System(family="linux", packager="dnf")
PACMAN = System(family="linux", packager="pacman")
OTHER = System(family="linux")
WSL = System(family="linux", packager="apt", wsl=True)
MACOS = System(family="macos")
WINDOWS = System(family="windows")
SYSTEMS = [
    pytest.param(APT, id="apt"),
    pytest.param(DNF, id="dnf"),
    pytest.param(PACMAN, id="pacman"),
    pytest.param(OTHER, id="other-linux"),
    pytest.param(WSL, id="wsl"),
    pytest.param(MACOS, id="macos"),
    pytest.param(WINDOWS, id="windows"),
]
DEVICE = Loopback(path="/dev/video10", label="lipstream", writable=True, busy=False)
LOADED = LoopbackModule(
    installed=True, loaded=True, exclusive=True, secure_boot=False, devices=(DEVICE,)
)
SERVER = SoundServer(
    pactl=True, answers=True, sinks=("hdmi", "lipstream"), sources=("usb", "lipstream_mic")
)
OUTPUTS = ["lipstream", "BlackHole 2ch", "CABLE Input (VB-Audio Virtual Cable)"]
RUN_TIMES = [
    RunTime(name="openvino", version="2026.4.1", missing={"fp32": "", "int8": ""}),
    RunTime(name="onnxruntime", version="1.32", missing={"fp32": "", "int8": "too old a CPU"}),
    RunTime(name="tensorrt", version="", missing={"fp32": "not there", "int8": "not there"}),
]
INPUTS = ["lipstream_mic", "USB Microphone", "default", "hdmi.monitor"]


def fail(error: Exception) -> Any:
    def look(*_: object) -> Any:
        raise error

    return look


def named(wanted: str, kind: str) -> str:
    for name in INPUTS if kind == "input" else OUTPUTS:
        if wanted.lower() in name.lower():
            return name
    raise MediaError(f"There is no sound {kind} {wanted!r}; there are: {INPUTS}.")


def probes(system: System = APT, **others: Any) -> Probes:
    """A computer that has everything, but for what is said otherwise."""
    starter = SimpleNamespace(folder=Path("starter"), sha256={"generator.onnx": "0"})
    have: dict[str, Any] = {
        "system": lambda: system,
        "python": lambda: (3, 11, 7),
        "broken_packages": dict,
        "memory": lambda: Memory(total_mb=8192, free_mb=4096),
        "cores": lambda: 4,
        "backend": lambda: "OpenVINO 2026.4.1 (CPU)",
        "bundle": lambda folder: cast(Bundle, starter),
        "face_models": lambda: "there",
        "run_times": lambda bundle: RUN_TIMES,
        "variant": lambda bundle, settings: "openvino-int8",
        "picture_ms": lambda bundle, settings: 7.0,
        "cameras": lambda: ["HD Webcam"],
        "locked_cameras": list,
        "camera": lambda wanted: wanted or "HD Webcam",
        "view": lambda settings: View(name="HD Webcam", width=1280, height=720, fps=30.0),
        "loopback": lambda: LOADED,
        "virtual_camera": lambda settings: "OBS Virtual Camera",
        "sound_server": lambda: SERVER,
        "outputs": lambda: OUTPUTS,
        "inputs": lambda: INPUTS,
        "device": named,
        "peak": lambda name: 0.01,
        "sound_s": lambda file: 12.0,
        "taken": lambda host, port: "",
        "free_port": lambda port: port,
    }
    return Probes(**{**have, **others})


def diagnose(name: str, system: System = APT, settings: Any = None, **others: Any) -> Check:
    found = run(Settings(**(settings or {})), probes(system, **others))
    return next(check for check in found if check.name == name)


def commands(check: Check) -> list[str]:
    """The lines to type, each short enough for a terminal of 80 columns."""
    lines = (check.step or "").splitlines()[1:]
    typed = [line.removeprefix(doctor_steps.COMMAND) for line in lines]
    assert all(len(line) <= 72 for line in typed)
    return typed


def shown(found: list[Check], width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(table(found))
    return out.getvalue()


def test_computer_that_has_all_is_ready() -> None:
    settings = Settings(
        virtual_mic="lipstream", source_audio="usb", target_audio="pcm://[::1]:9000"
    )
    found = run(settings, probes())
    assert [check.name for check in found if check.ok is not True] == []
    assert len({check.name for check in found}) == len(found) == 15
    assert exit_code(found) == 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_every_problem_has_one_step_whose_lines_fit_a_terminal(system: System) -> None:
    """Nothing works; each problem names a step, and no command is wider than a terminal."""
    nothing = {
        field.name: fail(RuntimeError("not there"))
        for field in dataclasses.fields(Probes)
        if field.name != "system"
    }
    broken = probes(
        system,
        **nothing
        | {
            "broken_packages": lambda: {"aiortc": ""},
            "cameras": list,
            "locked_cameras": list,
            "outputs": list,
            "inputs": list,
            "loopback": lambda: LoopbackModule(
                installed=False, loaded=False, exclusive=None, secure_boot=True, devices=()
            ),
            "virtual_camera": fail(RuntimeError("OBS Virtual Camera device not found!")),
            "sound_server": lambda: SoundServer(pactl=False, answers=False),
        },
    )
    found = run(Settings(), broken)
    problems = [check for check in found if check.ok is False]
    assert {check.name for check in problems} == {
        "packages",
        "backend",
        "bundle",
        "face models",
        "camera",
        "virtual camera",
        "virtual microphone",
        "microphone",
    }
    for check in problems:
        assert check.step is not None
    text = shown(found)
    for line in (command for check in problems for command in commands(check)):
        assert line.strip() in [shown_line.strip() for shown_line in text.splitlines()]
    assert exit_code(found) == 2


def test_steps_are_numbered_needed_ones_first() -> None:
    found = [
        Check("camera", True, "HD Webcam"),
        Check("microphone", False, "none", "Plug in a microphone.", needed=False),
        Check("bundle", False, "changed", "Get it again:\n    get it"),
        Check("memory", None, "16 GiB"),
    ]
    text = shown(found)
    assert [line.split()[0] for line in text.splitlines()[:4]] == ["✓", "✗", "✗", "–"]  # noqa: RUF001
    assert text.index("1. bundle: Get it again:") < text.index("2. microphone: Plug")
    assert "All that camera needs is there" not in text
    assert exit_code(found) == 2
    assert exit_code(found[:2]) == 0
    assert "All that camera needs is there" in shown(found[:2])


def test_json_tells_what_the_table_tells() -> None:
    found = [
        Check("camera", True, "HD Webcam"),
        Check("bundle", False, "changed", "Get it again."),
    ]
    content = json.loads(to_json(found))
    assert content["ready"] is False
    assert [Check(**check) for check in content["checks"]] == found


@pytest.mark.parametrize(
    "name", [field.name for field in dataclasses.fields(Probes) if field.name != "system"]
)
@pytest.mark.parametrize("system", [APT, MACOS], ids=["linux", "macos"])
def test_probe_that_crashes_hides_no_other_check(system: System, name: str) -> None:
    settings = Settings(source_audio="usb", target_audio="pcm://127.0.0.1:9000")
    sound = run(settings, probes(system))
    found = run(settings, probes(system, **{name: fail(ZeroDivisionError("seven"))}))
    changed = [check for check, before in zip(found, sound, strict=True) if check != before]
    assert len(changed) <= (3 if name == "bundle" else 2)
    for check in changed:
        assert check.ok is not True
        assert "seven" in check.found or name == "bundle"


def test_probe_that_says_nothing_is_named_by_its_kind() -> None:
    assert "ZeroDivisionError" in diagnose("memory", memory=fail(ZeroDivisionError())).found


def test_run_times_are_listed_with_what_each_can_and_which_is_taken() -> None:
    check = diagnose("run times")
    assert check.ok
    assert check.found == (
        "openvino-int8 is taken; openvino 2026.4.1: fp32, int8; onnxruntime 1.32: fp32, no int8:"
        " too old a CPU; tensorrt: not there"
    )
    off = diagnose("run times", settings={"backends_off": ("openvino",)})
    assert "openvino 2026.4.1: switched off" in off.found


def test_run_time_that_can_t_be_had_says_why_and_what_to_do() -> None:
    refusal = fail(ConfigError("tensorrt can't be used here: not there; there is: openvino-fp32."))
    check = diagnose("run times", settings={"backend": "tensorrt"}, variant=refusal)
    assert (check.ok, check.needed) == (False, True)
    assert check.found == "tensorrt can't be used here: not there"
    assert "--backend" in str(check.step)


def test_speed_is_that_of_the_run_time_that_is_taken() -> None:
    seen = []

    def picture_ms(bundle: Bundle, settings: Settings) -> float:
        seen.append((settings.backend, settings.threads))
        return 7.0

    diagnose("speed", settings={"backend": "openvino", "threads": 3}, picture_ms=picture_ms)
    assert seen == [("openvino", 3)]


def test_old_python_is_refused() -> None:
    check = diagnose("Python", python=lambda: (3, 10, 12))
    assert check.ok is False
    assert "3.11" in str(check.step)
    assert diagnose("Python", python=lambda: (3, 12, 0)).ok


def test_missing_packages_come_in_one_pip_line() -> None:
    check = diagnose("packages", broken_packages=lambda: {"aiortc": "", "soxr": ""})
    assert commands(check) == ["python -m pip install aiortc soxr"]


@pytest.mark.parametrize(
    ("system", "command"),
    [
        pytest.param(APT, "sudo apt install libportaudio2", id="apt"),
        pytest.param(DNF, "sudo dnf install portaudio", id="dnf"),
        pytest.param(PACMAN, "sudo pacman -S portaudio", id="pacman"),
    ],
)
def test_missing_portaudio_is_a_package_of_the_system(system: System, command: str) -> None:
    broken = {"sounddevice": "PortAudio library not found"}
    assert commands(diagnose("packages", system, broken_packages=lambda: broken)) == [command]


def test_every_declared_package_is_looked_for() -> None:
    project = tomllib.loads((Path(doctor.__file__).parents[1] / "pyproject.toml").read_text())
    declared = {re.split("[<>=]", line)[0] for line in project["project"]["dependencies"]}
    assert set(doctor_probes.PACKAGES) == declared


def test_face_models_are_installed_as_their_reader_says() -> None:
    error = ConfigError(f"The face models are missing (none): run `{INSTALL_HINT}`.")
    check = diagnose("face models", face_models=fail(error))
    assert check.found == "The face models are missing (none)"
    assert commands(check) == [INSTALL_HINT]


def test_changed_starter_is_installed_again_but_another_bundle_named() -> None:
    error = BundleError("generator.onnx in starter has changed; get the bundle again.")
    check = diagnose("bundle", bundle=fail(error))
    assert check.found == "generator.onnx in starter has changed"
    assert commands(check)[0].startswith("python -m pip install --force-reinstall")
    own = diagnose("bundle", settings={"bundle_folder": Path("mine")}, bundle=fail(error))
    assert "--bundle" in str(own.step)
    assert diagnose("speed", bundle=fail(error)).ok is None


@pytest.mark.parametrize(
    ("ms", "ok", "needed"),
    [
        pytest.param(7.0, True, True, id="fast"),
        pytest.param(19.0, True, True, id="fits"),
        pytest.param(21.0, False, False, id="tight"),
        pytest.param(34.0, False, True, id="too-slow"),
    ],
)
def test_generator_is_compared_with_real_time(ms: float, ok: bool, needed: bool) -> None:
    check = diagnose("speed", picture_ms=lambda bundle, threads: ms)
    assert (check.ok, check.needed) == (ok, needed)
    assert f"{ms * 2.5:.0f} % at 25 fps, {ms * 3:.0f} % at 30 fps" in check.found


@pytest.mark.parametrize(
    ("free_mb", "ok"),
    [pytest.param(999, False), pytest.param(1000, True), pytest.param(None, None)],
)
def test_memory_that_is_free_counts(free_mb: int | None, ok: bool | None) -> None:
    check = diagnose("memory", memory=lambda: Memory(total_mb=8192, free_mb=free_mb))
    assert check.ok is ok


def test_camera_that_may_not_be_opened_asks_for_the_video_group() -> None:
    check = diagnose("camera", cameras=list, locked_cameras=lambda: ["/dev/video0"])
    assert commands(check) == ["sudo usermod -aG video $USER"]
    refused = MediaError("The camera /dev/video0 can't be opened (Permission denied); look.")
    assert diagnose("camera", view=fail(refused)).step == check.step


@pytest.mark.parametrize(
    ("system", "words"),
    [
        pytest.param(APT, "Plug in a camera", id="linux"),
        pytest.param(MACOS, "Plug in a camera", id="macos"),
        pytest.param(WINDOWS, "Plug in a camera", id="windows"),
        pytest.param(WSL, "in Windows itself", id="wsl"),
    ],
)
def test_no_camera(system: System, words: str) -> None:
    check = diagnose("camera", system, cameras=list)
    assert check.ok is False
    assert words in str(check.step)


@pytest.mark.parametrize("system", [APT, MACOS, WINDOWS], ids=["linux", "macos", "windows"])
def test_camera_in_use_is_freed_first(system: System) -> None:
    busy = MediaError("The camera can't be opened (Device or resource busy).")
    assert "Close the program" in str(diagnose("camera", system, view=fail(busy)).step)


@pytest.mark.parametrize(
    ("system", "words"),
    [
        pytest.param(MACOS, "Privacy_Camera", id="macos"),
        pytest.param(WINDOWS, "ms-settings:privacy-webcam", id="windows"),
        pytest.param(APT, "Unplug", id="linux"),
    ],
)
def test_camera_without_picture_leads_to_the_privacy_settings(system: System, words: str) -> None:
    check = diagnose("camera", system, view=fail(MediaError("The camera gives no picture.")))
    assert words in str(check.step)


def test_camera_tells_size_and_rate() -> None:
    assert diagnose("camera").found == "HD Webcam: 1280x720 at 30 fps"
    dark = diagnose(
        "camera", view=lambda settings: View(name="HD Webcam", width=640, height=480, fps=15.0)
    )
    assert (dark.ok, dark.needed) == (False, False)
    assert "light" in str(dark.step)


def test_camera_with_a_wrong_name() -> None:
    error = MediaError("There is no camera 'Logi'; there are: HD Webcam.")
    check = diagnose("camera", settings={"camera": "Logi"}, camera=fail(error))
    assert (check.ok, check.found) == (False, "There is no camera 'Logi'")
    assert commands(check) == ["python run_stream.py camera --list"]


def test_film_needs_no_camera(tmp_path: Path) -> None:
    film = tmp_path / "me.mp4"
    film.touch()
    check = diagnose("camera", settings={"camera": str(film)}, cameras=list)
    assert (check.ok, check.found) == (True, "me.mp4, a file")


def test_size_that_is_not_16_9_is_a_matter_of_taste() -> None:
    check = diagnose("picture size", settings={"width": 640, "height": 480})
    assert (check.ok, check.needed) == (False, False)
    assert diagnose("picture size", settings={"width": 854, "height": 480}).ok


@pytest.mark.parametrize(
    ("system", "first"),
    [
        pytest.param(APT, "sudo apt install v4l2loopback-dkms", id="apt"),
        pytest.param(DNF, "sudo dnf install akmod-v4l2loopback", id="dnf"),
        pytest.param(PACMAN, "sudo pacman -S v4l2loopback-dkms linux-headers", id="pacman"),
    ],
)
def test_missing_module_is_installed_and_loaded(system: System, first: str) -> None:
    module = dataclasses.replace(LOADED, installed=False, loaded=False, devices=())
    check = diagnose("virtual camera", system, loopback=lambda: module)
    assert commands(check)[0].startswith(first)
    assert commands(check)[-2:] == list(doctor_steps.MODPROBE)
    assert "Secure Boot" not in str(check.step)


def test_missing_module_of_another_linux_is_named() -> None:
    module = dataclasses.replace(LOADED, installed=False, loaded=False, devices=())
    check = diagnose("virtual camera", OTHER, loopback=lambda: module)
    assert "v4l2loopback" in str(check.step)


def test_module_that_is_there_is_only_loaded() -> None:
    module = dataclasses.replace(LOADED, loaded=False, secure_boot=True, devices=())
    check = diagnose("virtual camera", loopback=lambda: module)
    assert commands(check) == list(doctor_steps.MODPROBE)
    assert "Secure Boot" in str(check.step)
    page = Path(doctor.__file__).parents[1] / doctor_steps.DEVICES_PAGE
    assert "## Secure Boot\n" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("device", "found", "step"),
    [
        pytest.param({"writable": False}, "no right", "usermod -aG video", id="no-right"),
        pytest.param(
            {"busy": True, "users": ("obs",)}, "in use by obs", "Stop the other", id="taken"
        ),
        pytest.param({"busy": True}, "hangs", "modprobe -r v4l2loopback", id="hangs"),
    ],
)
def test_virtual_camera_that_can_not_be_had(device: Any, found: str, step: str) -> None:
    module = dataclasses.replace(LOADED, devices=(dataclasses.replace(DEVICE, **device),))
    check = diagnose("virtual camera", loopback=lambda: module)
    assert (check.ok, check.needed) == (False, True)
    assert found in check.found
    assert step in str(check.step)


def test_virtual_camera_of_linux_is_not_tried() -> None:
    assert diagnose("virtual camera", virtual_camera=fail(AssertionError("tried"))).ok


def test_second_virtual_camera_is_taken_where_the_first_is_busy() -> None:
    other = dataclasses.replace(DEVICE, path="/dev/video11")
    devices = (dataclasses.replace(DEVICE, busy=True), other)
    module = dataclasses.replace(LOADED, devices=devices)
    check = diagnose("virtual camera", loopback=lambda: module)
    assert (check.ok, check.found) == (True, "/dev/video11 (lipstream)")


def test_module_without_exclusive_caps_is_loaded_again() -> None:
    module = dataclasses.replace(LOADED, exclusive=False)
    check = diagnose("virtual camera", loopback=lambda: module)
    assert (check.ok, check.needed) == (False, False)
    assert commands(check)[0] == "sudo modprobe -r v4l2loopback"
    assert "Chrome" in check.found


def test_named_virtual_camera_is_found_by_its_path() -> None:
    devices = (dataclasses.replace(DEVICE, path="/dev/video9", label="obs"), DEVICE)
    module = dataclasses.replace(LOADED, devices=devices)
    for wanted, path in (("/dev/video7", "/dev/video9"), ("lipstream", "/dev/video10")):
        settings = {"virtual_camera": wanted}
        check = diagnose("virtual camera", settings=settings, loopback=lambda: module)
        assert check.ok is False
        assert commands(check) == [f'python run_stream.py camera --virtual-camera "{path}"']
    settings = {"virtual_camera": "/dev/video10"}
    check = diagnose("virtual camera", settings=settings, loopback=lambda: module)
    assert (check.ok, check.found) == (True, "/dev/video10 (lipstream)")


@pytest.mark.parametrize("system", SYSTEMS)
def test_virtual_camera_can_be_off(system: System) -> None:
    check = diagnose("virtual camera", system, settings={"virtual_camera": "off"})
    assert (check.ok, check.found) == (None, "off")


@pytest.mark.parametrize(
    ("system", "reason", "words"),
    [
        pytest.param(
            WINDOWS, "OBS Virtual Camera device not found! Did …", "winget", id="windows-none"
        ),
        pytest.param(
            WINDOWS,
            "virtual camera output could not be started",
            "Stop Virtual Camera",
            id="windows-busy",
        ),
        pytest.param(
            MACOS,
            "OBS Virtual Camera is not installed in your system.",
            "Start Virtual Camera",
            id="macos-none",
        ),
        pytest.param(MACOS, "Couldn't start stream", "Camera Extensions", id="macos-refused"),
    ],
)
def test_obs_camera(system: System, reason: str, words: str) -> None:
    """The reasons are those of pyvirtualcam 0.15."""
    check = diagnose("virtual camera", system, virtual_camera=fail(RuntimeError(reason)))
    assert check.ok is False
    assert words in str(check.step)


def test_obs_camera_that_is_there() -> None:
    assert diagnose("virtual camera", MACOS).found == "OBS Virtual Camera"


def test_missing_sink_and_source_are_made_by_pactl() -> None:
    server = dataclasses.replace(SERVER, sinks=("hdmi",), sources=("usb",))
    check = diagnose("virtual microphone", sound_server=lambda: server)
    assert (check.ok, check.needed) == (False, False)
    assert commands(check) == [*doctor_steps.LOAD_SINK, *doctor_steps.LOAD_SOURCE]
    half = dataclasses.replace(SERVER, sources=("lipstream.monitor",))
    check = diagnose("virtual microphone", sound_server=lambda: half)
    assert commands(check) == list(doctor_steps.LOAD_SOURCE)


def test_virtual_microphone_that_is_named_is_needed() -> None:
    server = dataclasses.replace(SERVER, sinks=())
    settings = {"virtual_mic": "lipstream"}
    assert diagnose("virtual microphone", settings=settings, sound_server=lambda: server).needed
    check = diagnose("virtual microphone", settings=settings)
    assert (check.ok, check.found) == (True, "lipstream; others choose lipstream_mic")


def test_virtual_microphone_that_is_there_but_not_named() -> None:
    names: dict[System, str] = {APT: "lipstream", MACOS: "BlackHole", WINDOWS: '"CABLE Input"'}
    for system, name in names.items():
        check = diagnose("virtual microphone", system)
        assert (check.ok, check.needed) == (False, False)
        assert commands(check) == [f"python run_stream.py camera --virtual-mic {name}"]
        named = {"virtual_mic": name.strip('"')}
        assert diagnose("virtual microphone", system, settings=named).ok


@pytest.mark.parametrize(
    ("system", "words"),
    [
        pytest.param(MACOS, "brew install blackhole-2ch", id="macos"),
        pytest.param(WINDOWS, "VBCABLE_Setup_x64.exe", id="windows"),
    ],
)
def test_missing_cable(system: System, words: str) -> None:
    check = diagnose("virtual microphone", system, outputs=lambda: ["Speakers"])
    assert words in str(check.step)


def test_windows_listeners_choose_the_other_end_of_the_cable() -> None:
    check = diagnose("virtual microphone", WINDOWS, settings={"virtual_mic": "CABLE Input"})
    assert check.found.endswith("others choose CABLE Output")


@pytest.mark.parametrize(
    ("system", "command"),
    [
        pytest.param(APT, "sudo apt install pulseaudio-utils", id="apt"),
        pytest.param(DNF, "sudo dnf install pulseaudio-utils", id="dnf"),
        pytest.param(PACMAN, "sudo pacman -S libpulse", id="pacman"),
    ],
)
def test_missing_pactl(system: System, command: str) -> None:
    server = SoundServer(pactl=False, answers=False)
    check = diagnose("virtual microphone", system, sound_server=lambda: server)
    assert commands(check) == [command]


def test_silent_sound_server_is_started() -> None:
    server = SoundServer(pactl=True, answers=False)
    check = diagnose("virtual microphone", sound_server=lambda: server)
    assert "pipewire-pulse" in commands(check)[0]


@pytest.mark.parametrize(
    ("system", "words"),
    [
        pytest.param(APT, "set-source-mute", id="linux"),
        pytest.param(MACOS, "Privacy_Microphone", id="macos"),
        pytest.param(WINDOWS, "ms-settings:privacy-microphone", id="windows"),
    ],
)
def test_microphone_that_gives_only_zeros_is_muted_or_forbidden(system: System, words: str) -> None:
    settings = {"source_audio": "usb"}
    check = diagnose("microphone", system, settings=settings, peak=lambda name: 0.0)
    assert (check.ok, check.needed) == (False, True)
    assert words in str(check.step)
    assert diagnose("microphone", system, settings=settings, peak=lambda name: 1e-5).ok


def test_microphone_that_is_not_asked_for_is_not_listened_to() -> None:
    check = diagnose("microphone", peak=fail(AssertionError("listened")))
    assert (check.ok, check.found) == (None, "none is set; there are USB Microphone")
    none = diagnose("microphone", inputs=lambda: ["default", "lipstream_mic", "hdmi.monitor"])
    assert (none.ok, none.needed) == (False, False)


def test_microphone_with_a_wrong_name() -> None:
    check = diagnose("microphone", settings={"source_audio": "Rode"})
    assert (check.ok, check.needed) == (False, True)
    assert "--list" in str(check.step)


@pytest.mark.parametrize("name", ["lipstream_mic", "BlackHole 2ch", "CABLE Output (VB-Audio)"])
def test_microphone_must_not_be_the_virtual_one(name: str) -> None:
    settings = {"source_audio": name}
    check = diagnose("microphone", settings=settings, device=lambda wanted, kind: name)
    assert (check.ok, check.needed) == (False, True)
    assert "hear itself" in check.found


def test_sink_that_portaudio_does_not_reach_needs_a_plugin() -> None:
    for system, package in (
        (APT, "libasound2-plugins"),
        (DNF, "alsa-plugins-pulseaudio"),
        (PACMAN, "alsa-plugins"),
    ):
        check = diagnose("virtual microphone", system, outputs=lambda: ["HDA Intel"])
        assert commands(check)[0].endswith(package)


def test_virtual_microphone_with_a_wrong_name() -> None:
    for system in (APT, MACOS, WINDOWS):
        check = diagnose("virtual microphone", system, settings={"virtual_mic": "Rode"})
        assert (check.ok, check.needed) == (False, True)
        assert check.found == "There is no sound output 'Rode'"


def test_target_audio(tmp_path: Path) -> None:
    speech = tmp_path / "speech.wav"
    speech.touch()
    none = diagnose("target audio")
    assert (none.ok, none.step) == (None, None)
    for text, ok in (
        ("pcm://127.0.0.1:9000", True),
        ("pcm://127.0.0.1:x", False),
        (str(speech), True),
        ("USB", True),
        ("Rode", False),
    ):
        assert diagnose("target audio", settings={"target_audio": text}).ok is ok, text
    dumb = {"target_audio": str(speech)}
    assert diagnose("target audio", settings=dumb, sound_s=lambda file: None).ok is False


def test_translator_port_that_is_taken() -> None:
    check = diagnose(
        "target audio",
        settings={"target_audio": "pcm://127.0.0.1:9000"},
        taken=lambda host, port: "Address already in use",
    )
    assert "Address already in use" in check.found
    assert commands(check)[0].endswith("--target-audio pcm://127.0.0.1:9001")


def test_taken_page_port_leads_to_a_free_one() -> None:
    check = diagnose("control page", free_port=lambda port: port + 2)
    assert commands(check) == ["python run_stream.py camera --page-port 8767"]
    assert diagnose("control page", settings={"page_port": 0}, free_port=lambda port: 0).ok


def write(root: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def test_linux_files_tell_the_state_of_the_module(tmp_path: Path) -> None:
    assert doctor_linux.loopback(tmp_path, "6.1") == LoopbackModule(
        installed=False, loaded=False, exclusive=None, secure_boot=False, devices=()
    )
    write(tmp_path, {"lib/modules/6.1/modules.dep": "updates/v4l2loopback.ko.xz: mc.ko"})
    write(tmp_path, {doctor_linux.SECURE_BOOT: b"\x06\0\0\0\1"})
    module = doctor_linux.loopback(tmp_path, "6.1")
    assert (module.installed, module.loaded, module.secure_boot) == (True, False, True)
    assert not doctor_linux.loopback(tmp_path, "6.2").installed

    virtual = tmp_path / doctor_linux.VIRTUAL
    for number, state in ((10, "capture"), (2, "output"), (4, "")):
        files = {"max_openers": "10", "name": f"cam {number}\n", "state": f"{state}\n"}
        write(virtual / f"video{number}", dict(files))
        write(tmp_path, {f"dev/video{number}": ""})
    write(tmp_path, {"proc/7/comm": "zoom\n", "proc/7/fd/0": "", "proc/8/comm": "gone\n"})
    (tmp_path / "proc/7/fd/1").symlink_to(tmp_path / "dev/video4")
    write(virtual / "video3", {"name": "another module's"})
    write(tmp_path, {"sys/module/v4l2loopback/parameters/exclusive_caps": "N,Y,N\n"})
    module = doctor_linux.loopback(tmp_path, "6.1")
    assert module.loaded
    assert module.exclusive
    assert module.devices == (
        Loopback(path="/dev/video2", label="cam 2", writable=True, busy=False),
        Loopback(path="/dev/video4", label="cam 4", writable=True, busy=True, users=("zoom",)),
        Loopback(path="/dev/video10", label="cam 10", writable=True, busy=True),
    )
    write(tmp_path, {"sys/module/v4l2loopback/parameters/exclusive_caps": "N,N\n"})
    assert doctor_linux.loopback(tmp_path, "6.1").exclusive is False


def test_linux_files_tell_which_cameras_are_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"dev/video0": "", "dev/video1": "", "dev/video10": ""})
    write(tmp_path, {f"{doctor_linux.VIRTUAL}/video10/name": "lipstream"})
    monkeypatch.setattr("os.access", lambda node, mode: node.name == "video1")  # root may all
    assert doctor_linux.locked_cameras(tmp_path) == ["/dev/video0"]


def test_linux_files_tell_the_memory(tmp_path: Path) -> None:
    write(tmp_path, {"proc/meminfo": "MemTotal: 8388608 kB\nMemAvailable: 2097152 kB\n"})
    assert doctor_linux.memory(tmp_path) == Memory(total_mb=8192, free_mb=2048)


@pytest.mark.parametrize(
    ("release", "packager"),
    [
        pytest.param({"ID": "ubuntu", "ID_LIKE": "debian"}, "apt", id="ubuntu"),
        pytest.param({"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "apt", id="mint"),
        pytest.param({"ID": "fedora"}, "dnf", id="fedora"),
        pytest.param({"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "dnf", id="rocky"),
        pytest.param({"ID": "manjaro", "ID_LIKE": "arch"}, "pacman", id="manjaro"),
    ],
)
def test_linux_is_known_by_its_family(
    release: dict[str, str], packager: Packager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.freedesktop_os_release", lambda: release)
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert doctor_linux.packager() == packager


@pytest.mark.parametrize(
    ("name", "family"),
    [("Linux", "linux"), ("FreeBSD", "linux"), ("Darwin", "macos"), ("Windows", "windows")],
)
def test_operating_system_is_told_apart(
    name: str, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.system", lambda: name)
    assert doctor_probes.system().family == family


def test_port_that_is_listened_on_is_taken() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert doctor_probes.taken("127.0.0.1", port)
        assert doctor_probes.free_port(port) not in (port, 0)
    assert doctor_probes.taken("127.0.0.1", port) == ""
    assert doctor_probes.taken("no such host.invalid", 9000)


def test_names_of_sinks_are_read_from_pactl(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "0\thdmi\tmodule-alsa\ts16le 2ch 48000Hz\tIDLE\n1\tlipstream\tm\t…\tRUN\n"
    answer = SimpleNamespace(returncode=0, stdout=lines)
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr("subprocess.run", lambda *args, **options: answer)
    assert doctor_probes.sound_server().sinks == ("hdmi", "lipstream")
    answer.returncode = 1
    assert not doctor_probes.sound_server().answers


@pytest.mark.models
def test_this_computer_is_looked_at_to_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it has: what every computer with lipstream has is found, and no look is broken."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    found = {check.name: check for check in run(Settings(page_port=0))}
    assert len(found) == 15
    broken = re.compile("could not be checked \\((Name|Type|Attribute|NotImplemented|Import)")
    assert [check for check in found.values() if broken.match(check.found)] == []
    for name in ("Python", "backend", "bundle", "run times", "face models", "memory"):
        assert found[name].ok, found[name]
    assert found["control page"].ok
    assert re.search(r"(openvino|onnxruntime|tensorrt)-\w+ is taken", found["run times"].found)
    assert [*tmp_path.rglob("backends.json")] != []
    assert "ms a picture" in found["speed"].found


def test_camera_is_watched_for_two_seconds_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        name = "HD Webcam"
        closed = False
        shown = 0

        def read(self) -> Any:
            self.shown += 1
            picture = SimpleNamespace(shape=(480, 640, 3))
            return SimpleNamespace(picture=picture, time=7 + self.shown / 25)

        def close(self) -> None:
            self.closed = True

    camera = Fake()
    monkeypatch.setattr("stream.live.cameras.open_camera", lambda *name, **wanted: camera)
    view = doctor_probes.view(Settings())
    assert (view.name, view.width, view.height) == ("HD Webcam", 640, 480)
    assert view.fps == pytest.approx(25)
    assert camera.shown == pytest.approx(51, abs=1)
    assert camera.closed


@pytest.mark.parametrize(
    ("levels", "peak", "steps"),
    [
        pytest.param([0.0, 0.0, -0.4, 0.2], 0.4, 2, id="begins-with-zeros"),
        pytest.param([0.0] * 100, 0.0, 60, id="silent"),
    ],
)
def test_microphone_is_listened_to_until_it_is_heard(
    levels: list[float], peak: float, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Fake:
        closed = False
        now = 0.0

        def open(self, wanted: str, kind: str, listen: Any, finished: Any) -> Any:
            assert (wanted, kind) == ("usb", "input")
            self.blocks = iter(levels)
            self.listen = listen
            return listen

        def start(self, listen: Any) -> None:
            self.sleep(0.0)

        def sleep(self, seconds: float) -> None:
            self.now += seconds
            self.listen(np.full((480, 1), next(self.blocks), np.float32), 480, None, None)

        def close(self, listen: Any) -> None:
            self.closed = True

    system = Fake()
    monkeypatch.setattr("stream.live.portaudio.portaudio", lambda: system)
    clock = SimpleNamespace(sleep=system.sleep, monotonic=lambda: system.now)
    monkeypatch.setattr(doctor_probes, "time", clock)
    assert doctor_probes.peak("usb") == pytest.approx(peak)
    assert system.now == pytest.approx(steps * doctor_probes.LISTEN_STEP_S, abs=0.1)
    assert system.closed


def test_length_of_a_sound_is_read(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "speech.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 24_000))
    assert doctor_probes.sound_s(tmp_path / "speech.wav") == pytest.approx(1.5)
