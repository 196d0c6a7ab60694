"""The words of the live commands: ``demo``, ``camera`` and ``doctor``."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stream.config import SYNC_MONITORS

LEAST_SECONDS, MOST_SECONDS = 0.2, 86_400.0


def add_live_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
    add_common: Callable[[argparse.ArgumentParser], None],
) -> None:
    """Add the live commands.

    Args:
        commands: where they go.
        add_common: adds the flags that every command has.
    """
    demo = commands.add_parser(
        "demo",
        help="a live session with a built-in speaker and speech: needs no file and no device",
        description="A live session with a built-in portrait and a built-in speech, shown on a"
        " page in the browser, until Ctrl-C.",
    )
    _add_session(demo)
    add_common(demo)

    camera = commands.add_parser(
        "camera",
        help="your camera and translated speech in, a virtual camera and microphone out",
        description="Make your lips, as others see you, follow the target audio. Other programs"
        " choose the virtual camera and the virtual microphone.",
    )
    camera.add_argument(
        "--list", action="store_true", dest="list_devices", help="name the devices and end"
    )
    for flag, word, text in (
        ("--camera", "DEV|FILE", "a camera, a film or a still picture (default: first camera)"),
        ("--target-audio", "DEV|FILE|pcm://HOST:PORT", "the speech that your lips follow"),
        ("--source-audio", "DEV", "your microphone"),
        ("--virtual-camera", "DEV", "the virtual camera (default: the first one; off: none)"),
        ("--virtual-mic", "DEV", "the output device that feeds the virtual microphone"),
    ):
        camera.add_argument(flag, metavar=word, help=text)
    camera.add_argument(
        "--size",
        metavar="WxH",
        type=_size,
        help="of the virtual camera in pixels (default: 1280x720)",
    )
    camera.add_argument("--fps", metavar="N", type=int, help="of the virtual camera (default: 30)")
    camera.add_argument(
        "--no-own-voice",
        dest="own_voice",
        action="store_const",
        const=False,
        help="keep your own voice off the virtual microphone; with target audio it is off anyway",
    )
    camera.add_argument(
        "--own-voice",
        dest="own_voice",
        action="store_const",
        const=True,
        help="let your own voice be heard beside the target audio",
    )
    _add_session(camera)
    add_common(camera)

    doctor = commands.add_parser(
        "doctor",
        help="check camera, virtual devices, model and speed, and say what to do",
        description="Check what `camera` needs and say, for each problem, the next step.",
    )
    doctor.add_argument("--json", action="store_true", help="print the checks as JSON")
    doctor.set_defaults(report=None, out=None)
    _add_bundle_and_config(doctor)
    add_backend(doctor)


def _add_session(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--seconds", metavar="N", type=_seconds, help="how long to go on (default: until Ctrl-C)"
    )
    command.add_argument(
        "--record", metavar="OUT.mp4", dest="out", type=Path, help="write what leaves to a video"
    )
    command.add_argument("--no-page", action="store_true", help="open no control page")
    command.add_argument(
        "--page-port", metavar="PORT", type=int, help="of the control page (default: 8765)"
    )
    command.add_argument(
        "--delay-ms", metavar="MS", type=int, help="added delay to begin with (default: 400)"
    )
    add_sync_monitor(command, "act")
    command.add_argument(
        "--plot", metavar="OUT.png", type=Path, help="draw delay, skew and gate over time"
    )
    command.add_argument(
        "--trace", metavar="OUT.jsonl", type=Path, help="write every decision, one JSON a line"
    )


def add_backend(command: argparse.ArgumentParser) -> None:
    """Add the flags that choose the generator's run time."""
    command.add_argument(
        "--backend",
        metavar="NAME",
        help="run time of the generator: auto (the fastest, measured once), openvino, onnxruntime"
        " or tensorrt, or with a number format, like openvino-int8 (default: auto)",
    )
    command.add_argument(
        "--no-backend",
        metavar="NAME",
        dest="backends_off",
        action="append",
        help="a run time that is never taken; may be given again",
    )


def add_sync_monitor(command: argparse.ArgumentParser, default: str) -> None:
    """Add the flags of the sync monitor."""
    command.add_argument(
        "--sync-monitor",
        choices=SYNC_MONITORS,
        help=f"let a lip expert watch what leaves, and correct it (default: {default})",
    )
    command.add_argument(
        "--lip-expert",
        metavar="DIR",
        dest="expert_folder",
        type=Path,
        help="a bundle whose lip expert watches (default: the bundle's own, or the starter's)",
    )


def _add_bundle_and_config(command: argparse.ArgumentParser) -> None:
    command.add_argument("--bundle", metavar="DIR", dest="bundle_folder", type=Path)
    command.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings")


def split_size(arguments: argparse.Namespace) -> dict[str, Any]:
    """Width and height as settings, where a size was given."""
    size = getattr(arguments, "size", None)
    return {} if size is None else {"width": size[0], "height": size[1]}


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not (cross and width.isdecimal() and height.isdecimal()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 1280x720")
    return int(width), int(height)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not LEAST_SECONDS <= value <= MOST_SECONDS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from {LEAST_SECONDS} to {MOST_SECONDS:.0f}"
        )
    return value
