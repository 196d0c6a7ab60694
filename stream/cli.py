"""The command line: what can be typed, and the bar that shows how far a command is."""

import argparse
import dataclasses
import importlib.metadata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ConfigError
from stream.cli_bench import add_bench_command
from stream.cli_live import add_backend, add_live_commands, split_size
from stream.cli_relay import add_relay_command
from stream.config import Settings
from stream.relay.config import RelaySettings

_LIVE_FPS = 25  # pictures a second that live sessions are made for, at least


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Wrong use, ``--help`` and ``--version`` end the program, as argparse does.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        ``command`` is ``dub``, ``demo``, ``camera``, ``relay``, ``doctor`` or ``bench``; ``inputs``
        are the files to read and ``out`` the one to write, None for none; ``settings`` holds the
        flags that are fields of :class:`stream.config.Settings`, or, for ``relay``, of
        :class:`stream.relay.config.RelaySettings`, None where not given.
    """
    parser = argparse.ArgumentParser(
        description="Make a speaker's mouth follow other audio.",
        epilog="Only your own face, or with the person's consent.",
    )
    parser.add_argument("--version", action="version", version=f"lipstream {_version()}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    dub = commands.add_parser(
        "dub",
        help="make the face of a video or picture say what is heard in another file",
        description="Make the face of FACE say what is heard in SPEECH. OUT has the rate and size"
        " of FACE and the sound and length of SPEECH; a shorter video plays forward and backward.",
    )
    dub.add_argument("face", metavar="FACE", type=Path, help="a video or a still picture")
    dub.add_argument("speech", metavar="SPEECH", type=Path, help="any audio or video file")
    dub.add_argument(
        "-o", "--out", metavar="OUT.mp4", type=Path, required=True, help="the video to write"
    )
    _add_enhancement(dub)
    _add_common(dub)

    add_live_commands(commands, _add_common)
    add_relay_command(commands)
    add_bench_command(commands)
    for live in ("demo", "camera", "relay"):  # they say why not
        commands.choices[live].add_argument(
            "--enhance", dest="enhance_model", type=Path, help=argparse.SUPPRESS
        )

    arguments = parser.parse_args(argv)
    arguments.inputs = [arguments.face, arguments.speech] if arguments.command == "dub" else []
    kind = RelaySettings if arguments.command == "relay" else Settings
    names = {field.name for field in dataclasses.fields(kind)}
    arguments.settings = {name: value for name, value in vars(arguments).items() if name in names}
    arguments.settings |= split_size(arguments)
    return arguments


def check_report(report: Path | None, *others: Path | None) -> None:
    """Refuse a report that can't be written, before any work is done.

    Args:
        report: where it goes, if it was asked for.
        *others: the command's other files, as far as there are any.

    Raises:
        ConfigError: its folder is missing, or it would overwrite another file of the command.
    """
    if report is None:
        return
    if not report.parent.is_dir():
        raise ConfigError(f"The folder {report.parent} does not exist; create it first.")
    if report.is_dir():
        raise ConfigError(f"{report} is a folder; name a file for the report.")
    if report.resolve() in (other.resolve() for other in others if other is not None):
        raise ConfigError(f"The report would overwrite {report}; name another file.")


def refuse_enhancement(model: Path | None, threads: int) -> None:
    """Refuse to enhance the pictures of a live session, and say what it would cost here.

    Args:
        model: the ONNX file that was asked for, if any.
        threads: processor threads of the networks.

    Raises:
        ConfigError: one was asked for.
    """
    if model is None:
        return
    from engine.enhance import Enhancer  # loads the run time of networks

    trial_ms = Enhancer(model, threads=threads).trial_ms()
    raise ConfigError(
        f"Live pictures are not enhanced: {model.name} takes {trial_ms:.0f} ms for one on this"
        f" machine, and in the {1000 / _LIVE_FPS:.0f} ms that a live picture has it must be"
        " followed, painted, pasted and encoded too; leave --enhance (enhance_model) out here, and"
        " use it with `dub`."
    )


@contextmanager
def progress_bar(text: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, shown only on a terminal.

    Args:
        text: what is going on.

    Yields:
        A function that takes the frames done and all frames.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, count: bar.update(task, completed=done, total=count)


def _add_enhancement(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--enhance",
        metavar="MODEL.onnx",
        dest="enhance_model",
        type=Path,
        help="restore the generated mouths with a GFPGAN-type model of yours; it invents detail"
        " (docs/dub.md)",
    )
    command.add_argument(
        "--enhance-strength",
        metavar="X",
        type=float,
        help="share of what it changes that is taken over, 0 (off) to 1 (default: 0.8)",
    )


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bundle",
        metavar="DIR",
        dest="bundle_folder",
        type=Path,
        help="the model to run (default: the starter that comes with the program)",
    )
    command.add_argument(
        "--report", metavar="OUT.json", type=Path, help="write what was made, and how fast"
    )
    command.add_argument(
        "--no-badge",
        dest="badge",
        action="store_const",
        const=False,
        help='leave the "AI lip-sync" badge off the modified frames',
    )
    command.add_argument(
        "--threads", metavar="N", type=int, help="processor threads of the networks (default: 2)"
    )
    add_backend(command)
    command.add_argument("--config", metavar="FILE", type=Path, help="a TOML file of settings")


def _version() -> str:
    try:
        return importlib.metadata.version("lipstream")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"
