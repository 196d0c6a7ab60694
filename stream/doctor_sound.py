"""What each finding about sound means: facts in, a check with its one next step out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stream import doctor_steps as steps
from stream.doctor_checks import Check
from stream.doctor_steps import System

_DOORS = ("default", "sysdefault", "pulse", "pipewire")  # of ALSA, to whatever is behind


@dataclass(frozen=True, kw_only=True, slots=True)
class SoundServer:
    """PulseAudio or PipeWire as ``pactl`` sees it.

    Attributes:
        pactl: whether the program is there.
        answers: whether a server does.
        sinks: names of the outputs.
        sources: names of the inputs.
    """

    pactl: bool
    answers: bool
    sinks: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()


def virtual_mic_linux(
    system: System, wanted: str, server: SoundServer, outputs: Sequence[str]
) -> Check:
    """The virtual microphone of Linux: a sink that we play into, a source that others choose.

    Args:
        system: where the program runs.
        wanted: the sink's name where the settings have it, else empty.
        server: PulseAudio or PipeWire.
        outputs: names of the devices that we can play into.
    """
    name, needed = "virtual microphone", bool(wanted)
    if not server.pactl:
        return Check(name, False, "pactl is missing", steps.pactl_missing(system), needed)
    if not server.answers:
        return Check(name, False, "no sound server answers", steps.sound_server(), needed)
    if steps.SINK not in server.sinks:
        return Check(name, False, "none", steps.virtual_mic_missing(system), needed)
    if steps.SOURCE not in server.sources:
        step = steps.virtual_mic_missing(system, sink=True)
        return Check(name, False, "no microphone that others can choose", step, needed)
    if steps.SINK not in outputs:
        step = steps.pulse_plugin(system)
        return Check(name, False, f"PortAudio does not reach {steps.SINK}", step, needed)
    return _virtual_mic(system, wanted, f"{steps.SINK}; others choose {steps.SOURCE}")


def cable(system: System, wanted: str, outputs: Sequence[str]) -> Check:
    """The virtual microphone of macOS and Windows.

    Args:
        system: where the program runs.
        wanted: the device that the settings name, by its own name; empty for none.
        outputs: names of the devices that we can play into.
    """
    key = steps.BLACKHOLE if system.family == "macos" else steps.CABLE
    there = wanted or next((output for output in outputs if key.lower() in output.lower()), "")
    if not there:
        step = steps.virtual_mic_missing(system)
        return Check("virtual microphone", False, "none", step, needed=False)
    if system.family == "windows" and key.lower() in there.lower():
        return _virtual_mic(system, wanted, f"{there}; others choose CABLE Output")
    return _virtual_mic(system, wanted, f"{there}; others choose {there}")


def _virtual_mic(system: System, wanted: str, found: str) -> Check:
    name = "virtual microphone"
    if wanted:
        return Check(name, True, found)
    step = steps.virtual_mic_choose(system)
    return Check(name, False, f"{found}; not in use yet", step, needed=False)


def no_device(name: str, reason: str) -> Check:
    """A sound device that was asked for by a name which none has, or several have."""
    return Check(name, False, reason, steps.device_other())


def real_microphones(listed: Sequence[str]) -> list[str]:
    """The input devices that are neither a cable's end nor a door to the others."""
    return [
        name
        for name in listed
        if not is_virtual(name) and name not in _DOORS and not name.endswith(".monitor")
    ]


def is_virtual(name: str) -> bool:
    """Whether an input device carries what we play ourselves."""
    ends = (steps.SOURCE, f"{steps.SINK}.monitor", steps.BLACKHOLE, "CABLE Output")
    return any(end.lower() in name.lower() for end in ends)


def microphone_unused(listed: Sequence[str]) -> Check:
    """Which microphones there are, where the settings name none."""
    real = real_microphones(listed)
    if not real:
        return Check("microphone", False, "none", steps.microphone_none(), needed=False)
    return Check("microphone", None, f"none is set; there are {', '.join(real)}")


def microphone(system: System, name: str, peak: float | None) -> Check:
    """The speaker's microphone.

    Args:
        system: where the program runs.
        name: the input device that the settings name.
        peak: the highest sample that was heard, 0..1; None where nothing came.
    """
    if is_virtual(name):
        found = f"{name} is the virtual microphone: it would hear itself"
        return Check("microphone", False, found, steps.device_other())
    if not peak:
        found = f"{name} gives only silence"
        return Check("microphone", False, found, steps.microphone_silent(system))
    return Check("microphone", True, name)


def target_none() -> Check:
    """No target audio is set."""
    return Check("target audio", None, "none is set: your real picture and voice go out")


def target_pcm(host: str, port: int, taken: str) -> Check:
    """An address on which a translator is listened to.

    Args:
        host: of this computer.
        port: there.
        taken: why it can't be listened on, empty where it can.
    """
    name = "target audio"
    if taken:
        found = f"can't listen on {host}:{port}: {taken}"
        return Check(name, False, found, steps.target_port(host, port))
    return Check(name, True, f"waits for a translator on {host}:{port}")


def target_no_address(reason: str) -> Check:
    """A ``pcm://`` address that is none."""
    return Check("target audio", False, reason, steps.target_text())


def target_file(text: str, seconds: float | None) -> Check:
    """A file to speak; ``seconds`` is the length of its sound, None where it has none."""
    if seconds is None:
        return Check("target audio", False, f"{text} holds no sound", steps.target_file(text))
    return Check("target audio", True, f"{Path(text).name}, {seconds:.0f} s")


def target_device(name: str) -> Check:
    """An input device that carries the translation."""
    return Check("target audio", True, name)
