"""Which sound devices there are, by name.

As a program of its own (``python -m``) it prints them as JSON, freshly listed.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Literal

from engine.errors import ConfigError, MediaError

Kind = Literal["input", "output"]

# One device often has several drivers' names: the first of these is taken. WDM-KS locks it.
_HOSTS: Final = (
    "PulseAudio",
    "Core Audio",
    "Windows WASAPI",
    "Windows DirectSound",
    "MME",
    "JACK Audio Connection Kit",
    "ALSA",
    "OSS",
    "ASIO",
    "Windows WDM-KS",
)
PULSE: Final = "pulse"  # ALSA's door to PulseAudio and PipeWire, and the prefix of ids there
_DEFAULT: Final = "default"  # ALSA has it in its list; elsewhere it is the system's choice

_ASK_S: Final = 3.0  # time limit of pactl
_LOCK_S: Final = 15.0

_lock = threading.RLock()


@dataclass(frozen=True, slots=True)
class SoundDevice:
    """A device that takes or gives sound.

    Attributes:
        id: PortAudio's number, or ``pulse:NAME`` for a sink or source of PulseAudio or PipeWire.
        name: as the system calls it.
        host: the driver system: ``Core Audio``, ``Windows WASAPI``, ``ALSA``, ``PulseAudio``, …
        channels: how many it has in the direction asked for.
        rate: its own, in Hz.
    """

    id: str
    name: str
    host: str
    channels: int
    rate: int


def list_inputs() -> list[SoundDevice]:
    """Every device that gives sound.

    Raises:
        ConfigError: sounddevice or PortAudio is missing.
    """
    return _listed("input")


def list_outputs() -> list[SoundDevice]:
    """Every device that takes sound.

    Raises:
        ConfigError: sounddevice or PortAudio is missing.
    """
    return _listed("output")


def find(name_or_index: str | int, kind: Kind) -> SoundDevice:
    """The device that a user means.

    Args:
        name_or_index: see :func:`pick`.
        kind: its direction.

    Raises:
        ConfigError: sounddevice or PortAudio is missing.
        MediaError: there is no such device, or several.
    """
    return pick(_listed(kind), name_or_index, kind)


def pick(devices: Sequence[SoundDevice], wanted: str | int, kind: Kind) -> SoundDevice:
    """The device of a list that a user means.

    Args:
        devices: to choose from.
        wanted: a name, a number or other id, or a part of a name in any case, in this order. Of
            one device that several driver systems offer the best one's is taken.
        kind: for the message.

    Raises:
        MediaError: there is no such device, or several.
    """
    text = str(wanted).strip()
    for fits in (
        lambda device: device.name == text,
        lambda device: device.id == text,
        lambda device: text and text.casefold() in device.name.casefold(),
    ):
        found = [device for device in devices if fits(device)]
        if found:
            break
    else:
        raise MediaError(
            f"There is no sound {kind} {text!r}; there are: {_named(devices) or 'none at all'}."
        )
    best = min(_rank(device) for device in found)
    found = [device for device in found if _rank(device) == best]
    if len({device.id for device in found}) > 1:
        raise MediaError(f"Several sound {kind}s fit {text!r}; name one of {_named(found)}.")
    return found[0]


def _named(devices: Sequence[SoundDevice]) -> str:
    return ", ".join(f"{device.id} {device.name!r} ({device.host})" for device in devices)


def _rank(device: SoundDevice) -> int:
    return _HOSTS.index(device.host) if device.host in _HOSTS else len(_HOSTS)


def _listed(kind: Kind) -> list[SoundDevice]:
    with one_at_a_time():
        return read_devices(load_sounddevice(), kind)


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Whoever calls PortAudio holds this, but for starting and closing streams.

    Raises:
        MediaError: a call does not come back.
    """
    if not _lock.acquire(timeout=_LOCK_S):
        raise MediaError("The sound system does not answer; start lipstream again.")
    try:
        yield
    finally:
        _lock.release()


def load_sounddevice() -> Any:
    """The package, which starts PortAudio.

    Raises:
        ConfigError: it or PortAudio's library is missing, or the latter can't start.
    """
    try:
        return importlib.import_module("sounddevice")
    except ImportError as error:
        raise ConfigError(
            "Sound devices need the package sounddevice; run `pip install sounddevice`."
        ) from error
    except OSError as error:  # PortAudio's library, which its wheels hold but for Linux
        step = (
            "run `sudo apt install libportaudio2`"
            if sys.platform == "linux"
            else "run `pip install --force-reinstall sounddevice`"
        )
        raise ConfigError(f"Sound devices need the library PortAudio; {step}.") from error
    except Exception as error:  # sounddevice's own, when PortAudio can't start
        raise ConfigError(
            f"The sound system can't be started ({reason(error)}); check the computer's sound."
        ) from error


def reason(error: Exception | None) -> str:
    """What PortAudio says, for the middle of a sentence."""
    return str(error.args[0] if error and error.args else error).rstrip(".")


def read_devices(module: Any, kind: Kind) -> list[SoundDevice]:
    """The devices as PortAudio found them when it started; those of PulseAudio as of now.

    Args:
        module: sounddevice.
        kind: their direction.
    """
    hosts = [host["name"] for host in module.query_hostapis()]
    found = [
        SoundDevice(
            id=str(index),
            name=str(facts["name"]),
            host=hosts[facts["hostapi"]],
            channels=int(facts[f"max_{kind}_channels"]),
            rate=int(facts["default_samplerate"]),
        )
        for index, facts in enumerate(module.query_devices())
        if facts[f"max_{kind}_channels"] > 0
    ]
    if "PulseAudio" not in hosts and any(device.name == PULSE for device in found):
        found += _pulse_devices(kind)
    if found and all(device.name != _DEFAULT for device in found):
        number = module.default.device[0 if kind == "input" else 1]
        chosen = [device for device in found if device.id == str(number)]
        found += [replace(device, name=_DEFAULT) for device in chosen]
    return found


def _pulse_devices(kind: Kind) -> list[SoundDevice]:
    """Sinks or sources, which PortAudio does not list: none where nobody can be asked."""
    ask = shutil.which("pactl")
    if ask is None:
        return []
    what = "sources" if kind == "input" else "sinks"
    try:
        answer = subprocess.run(
            [ask, "list", "short", what],
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ASK_S,
            check=True,
            text=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return []
    return parse_pulse_list(answer)


def parse_pulse_list(answer: str) -> list[SoundDevice]:
    """The devices in what ``pactl list short sinks`` or ``sources`` prints."""
    found = []
    for line in answer.splitlines():
        fields = line.split("\t")
        form = fields[3].split() if len(fields) > 3 else []  # s16le 2ch 48000Hz
        if len(form) == 3 and form[1][:-2].isdecimal() and form[2][:-2].isdecimal():
            name, channels, rate = fields[1], int(form[1][:-2]), int(form[2][:-2])
            found.append(SoundDevice(f"{PULSE}:{name}", name, "PulseAudio", channels, rate))
    return found


if __name__ == "__main__":
    sys.stdout.write(
        json.dumps(
            {
                "input": [asdict(device) for device in list_inputs()],
                "output": [asdict(device) for device in list_outputs()],
            }
        )
    )
