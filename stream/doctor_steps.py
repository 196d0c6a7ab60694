"""What a user does about a problem, for each operating system: one step, its commands copyable.

A step is a sentence; lines that begin with four spaces are commands, each short enough not to be
broken in a terminal of 80 columns.
"""

from dataclasses import dataclass
from typing import Final, Literal

from engine.model_files import INSTALL_HINT

Family = Literal["linux", "macos", "windows"]
Packager = Literal["apt", "dnf", "pacman", ""]

COMMAND: Final = "    "  # begins a line that is a command
SINK, SOURCE = "lipstream", "lipstream_mic"  # of PulseAudio and PipeWire
BLACKHOLE, CABLE = "BlackHole", "CABLE Input"  # in the names of the devices that we play into
DEVICES_PAGE: Final = "docs/virtual-devices.md"

CAMERA: Final = "python run_stream.py camera"

MODPROBE: Final = (
    "sudo modprobe v4l2loopback video_nr=10 \\",
    "    card_label=lipstream exclusive_caps=1",
)
LOAD_SINK: Final = (
    f"pactl load-module module-null-sink sink_name={SINK} \\",
    "    rate=48000 channels=2 sink_properties=device.description=lipstream",
)
LOAD_SOURCE: Final = (
    f"pactl load-module module-remap-source source_name={SOURCE} \\",
    f"    master={SINK}.monitor \\",
    "    source_properties=device.description=lipstream_mic",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class System:
    """Where the program runs.

    Attributes:
        family: of the operating system; every Unix but macOS counts as Linux.
        packager: what installs packages, empty where it is another one.
        wsl: whether this is Linux inside Windows.
    """

    family: Family
    packager: Packager = ""
    wsl: bool = False


def step(sentence: str, *commands: str) -> str:
    """A step of one sentence and the lines to type."""
    return "\n".join((sentence, *(COMMAND + command for command in commands)))


def python_version(least: str) -> str:
    """A newer Python."""
    return step(f"Make a new virtual environment with Python {least} or 3.12 and install again.")


def packages(missing: list[str]) -> str:
    """Packages that can't be imported."""
    return step("Install what is missing:", "python -m pip install " + " ".join(missing))


def port_audio(system: System) -> str:
    """The library below sounddevice, which its wheels bring for macOS and Windows alone."""
    if system.family != "linux":
        return step(
            "Install sounddevice again:", "python -m pip install --force-reinstall sounddevice"
        )
    return _install(
        system,
        "the sound library PortAudio",
        {
            "apt": ("sudo apt install libportaudio2",),
            "dnf": ("sudo dnf install portaudio",),
            "pacman": ("sudo pacman -S portaudio",),
        },
    )


def camera_none(system: System) -> str:
    """No camera is there."""
    if system.wsl:
        return step(
            "Run lipstream in Windows itself: its cameras do not reach Linux inside Windows."
        )
    return step(
        "Plug in a camera, or name a film or picture instead:",
        f"{CAMERA} --camera FILE",
    )


def video_group() -> str:
    """A device file under /dev that may not be opened."""
    return step(
        "Join the group that may use cameras, then log out and in again:",
        "sudo usermod -aG video $USER",
    )


def camera_closed(system: System, reason: str) -> str:
    """A camera that is listed but gives no picture."""
    words = reason.lower()
    if "busy" in words or "in use" in words or "already" in words:
        return step(
            "Close the program that uses the camera (Zoom, Teams, a browser tab), then try again."
        )
    if system.family == "linux" and "permission" in words:
        return video_group()
    if system.family == "macos":
        return step(
            "In System Settings > Privacy & Security > Camera, switch on the program you type"
            " this in (Terminal, iTerm, …), then quit and reopen it:",
            'open "x-apple.systempreferences:com.apple.preference.security?Privacy_Camera"',
        )
    if system.family == "windows":
        return step(
            "In Settings > Privacy & security > Camera, switch on “Camera access” and “Let desktop"
            " apps access your camera”:",
            "start ms-settings:privacy-webcam",
        )
    return step("Unplug the camera and plug it in again, then try again.")


def camera_slow() -> str:
    """Fewer pictures a second than speech needs."""
    return step("Turn on more light: in the dark, many cameras give fewer pictures a second.")


def virtual_camera_missing(system: System, *, installed: bool, secure_boot: bool) -> str:
    """No virtual camera device is there.

    Args:
        system: where the program runs.
        installed: Linux: whether the kernel module is there and only has to be loaded.
        secure_boot: Linux: whether the firmware refuses modules without a known signature.
    """
    if system.wsl:
        return step("Run lipstream in Windows itself: programs there can't see a camera made here.")
    if system.family == "windows":
        return step(
            "Install OBS Studio (obsproject.com), which brings “OBS Virtual Camera”:",
            "winget install OBSProject.OBSStudio",
        )
    if system.family == "macos":
        return step(
            "Install OBS Studio 30 or later (obsproject.com), click “Start Virtual Camera” in it,"
            " allow its camera extension in System Settings, click “Stop Virtual Camera” and quit"
            " OBS:",
            "brew install --cask obs",
        )
    note = (
        f" (Secure Boot is on: if the key is rejected, see “Secure Boot” in {DEVICES_PAGE})"
        if secure_boot
        else ""
    )
    if installed:
        return step(f"Load the virtual camera{note}:", *MODPROBE)
    if system.packager == "dnf":
        note = ", from RPM Fusion (free), which you enable first" + note
    return _install(
        system,
        f"and load the virtual camera{note}",
        {
            "apt": (
                "sudo apt install v4l2loopback-dkms linux-headers-$(uname -r)",
                *MODPROBE,
            ),
            "dnf": ("sudo dnf install akmod-v4l2loopback", "sudo akmods --force", *MODPROBE),
            "pacman": ("sudo pacman -S v4l2loopback-dkms linux-headers", *MODPROBE),
        },
        otherwise="v4l2loopback",
    )


def virtual_camera_reload() -> str:
    """The module is loaded, but has no device, hangs, or lacks ``exclusive_caps``."""
    return step(
        "Close every program that shows a camera and load the module again:",
        "sudo modprobe -r v4l2loopback",
        *MODPROBE,
    )


def virtual_camera_other(name: str) -> str:
    """A virtual camera that was asked for by a name which none has."""
    return step("Choose one that is there:", f'{CAMERA} --virtual-camera "{name}"')


def virtual_camera_busy(system: System) -> str:
    """Something else sends pictures to the virtual camera."""
    if system.family == "linux":
        return step("Stop the other lipstream, or the virtual camera of OBS, then try again.")
    return step("Click “Stop Virtual Camera” in OBS, or stop the other lipstream, then try again.")


def virtual_camera_closed(system: System) -> str:
    """The virtual camera of OBS is there but refuses pictures."""
    if system.family == "macos":
        return step(
            "Allow the camera extension of OBS in System Settings > General > Login Items &"
            " Extensions > Camera Extensions, then restart the Mac."
        )
    return step("Install OBS Studio again, then restart the computer.")


def virtual_mic_missing(system: System, *, sink: bool = False) -> str:
    """There is no device that hands our sound to other programs as a microphone.

    Args:
        system: where the program runs.
        sink: Linux: whether the sink is there and only its source is missing.
    """
    if system.family == "macos":
        return step(
            "Install BlackHole 2ch (existential.audio/blackhole), then restart the Mac:",
            "brew install blackhole-2ch",
        )
    if system.family == "windows":
        return step(
            "Install VB-CABLE (vb-audio.com/Cable): unzip it, run VBCABLE_Setup_x64.exe as"
            " administrator, then restart the computer."
        )
    if sink:
        return step("Make the microphone that others choose:", *LOAD_SOURCE)
    return step("Make the virtual microphone (until you log out):", *LOAD_SINK, *LOAD_SOURCE)


def virtual_mic_choose(system: System) -> str:
    """The device is there, but nothing is told to play into it."""
    names = {"linux": SINK, "macos": "BlackHole", "windows": '"CABLE Input"'}
    return step(
        "Name it, so that others hear you:", f"{CAMERA} --virtual-mic {names[system.family]}"
    )


def pactl_missing(system: System) -> str:
    """The program that asks PulseAudio and PipeWire is not there."""
    return _install(
        system,
        "pactl, which makes virtual microphones",
        {
            "apt": ("sudo apt install pulseaudio-utils",),
            "dnf": ("sudo dnf install pulseaudio-utils",),
            "pacman": ("sudo pacman -S libpulse",),
        },
    )


def pulse_plugin(system: System) -> str:
    """PortAudio speaks ALSA alone; its door to PulseAudio and PipeWire is not there."""
    return _install(
        system,
        "the door from ALSA to PulseAudio and PipeWire",
        {
            "apt": ("sudo apt install libasound2-plugins",),
            "dnf": ("sudo dnf install alsa-plugins-pulseaudio",),
            "pacman": ("sudo pacman -S alsa-plugins",),
        },
        otherwise="alsa-plugins",
    )


def sound_server() -> str:
    """Neither PulseAudio nor PipeWire answers."""
    return step(
        "Start the sound server:",
        "systemctl --user start pipewire-pulse || pulseaudio --start",
    )


def microphone_none() -> str:
    """No input device at all."""
    return step(
        "Plug in a microphone; without one, lipstream can't tell when you speak and are not yet"
        " translated."
    )


def device_other() -> str:
    """A camera or sound device that was asked for by a name which none has."""
    return step("Choose a device that is listed:", f"{CAMERA} --list")


def microphone_silent(system: System) -> str:
    """Every sample is zero: muted, or the system does not let us listen."""
    if system.family == "macos":
        return step(
            "In System Settings > Privacy & Security > Microphone, switch on the program you type"
            " this in (Terminal, iTerm, …), then quit and reopen it:",
            'open "x-apple.systempreferences:com.apple.preference.security?Privacy_Microphone"',
        )
    if system.family == "windows":
        return step(
            "In Settings > Privacy & security > Microphone, switch on “Microphone access” and “Let"
            " desktop apps access your microphone”:",
            "start ms-settings:privacy-microphone",
        )
    return step(
        "Unmute the microphone, in the sound settings or with:",
        "pactl set-source-mute @DEFAULT_SOURCE@ 0",
    )


def target_file(text: str) -> str:
    """A target audio file that is not there or holds no sound."""
    return step(f"Check the path {text} and that it holds sound.")


def target_port(host: str, port: int) -> str:
    """The port that a translator shall feed is taken."""
    return step(
        "Stop the program that uses the port, or name another port:",
        f"{CAMERA} --target-audio pcm://{host}:{port + 1}",
    )


def target_text() -> str:
    """A ``pcm://`` address that is none."""
    return step("Name host and port:", f"{CAMERA} --target-audio pcm://127.0.0.1:9000")


def bundle(starter: bool) -> str:
    """A bundle that can't be used."""
    if starter:
        return step(
            "Install lipstream again, in its folder:",
            "python -m pip install --force-reinstall --no-deps .",
        )
    return step("Name another bundle, or leave --bundle out for the starter.")


def backend() -> str:
    """OpenVINO can't run."""
    return step(
        "Install OpenVINO again:", 'python -m pip install --force-reinstall "openvino>=2025.4"'
    )


def run_times() -> str:
    """What was asked for can't be had."""
    return step("Leave --backend and --no-backend out, or ask for one that is there.")


def face_models() -> str:
    """The networks that find faces are not there."""
    return step(
        "Install the releases that carry them, without what they ask for:",
        INSTALL_HINT,
    )


def speed() -> str:
    """The generator takes longer than it may."""
    return step("Close other programs, plug in the power supply and run doctor again.")


def memory() -> str:
    """Hardly any memory is free."""
    return step("Close other programs, above all browser tabs, and run doctor again.")


def size() -> str:
    """A picture that is not 16:9."""
    return step("Use a size that meeting programs show whole:", f"{CAMERA} --size 1280x720")


def page_port(free: int) -> str:
    """The control page's port is taken."""
    return step(
        "Stop the other lipstream, or give the page another port:",
        f"{CAMERA} --page-port {free}",
    )


def _install(
    system: System,
    what: str,
    commands: dict[Packager, tuple[str, ...]],
    *,
    otherwise: str = "",
) -> str:
    if system.packager in commands:
        return step(f"Install {what}:", *commands[system.packager])
    package = f" (package {otherwise})" if otherwise else ""
    return step(f"Install {what}, with the package manager of your system{package}.")
