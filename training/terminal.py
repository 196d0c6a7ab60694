"""What commands share: arguments and their numbers, folders of outputs, and a bar."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from engine.errors import ConfigError


def whole_number(text: str) -> int:
    """A whole number from 0, for ``type`` of an argument."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def count(text: str) -> int:
    """A whole number from 1, likewise."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def add_out(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    """Add ``-o``, which a command can't do without."""
    command.add_argument("-o", "--out", metavar=metavar, type=Path, required=True, help=text)


def add_resolution(command: argparse.ArgumentParser) -> None:
    """Add ``--resolution``, of crops."""
    command.add_argument(
        "--resolution",
        metavar="PX",
        type=count,
        default=96,
        help="side of the crops (default: %(default)s)",
    )


def add_score_weights(group: argparse._ArgumentGroup) -> None:
    """Add the imported networks that some scores need."""
    group.add_argument(
        "--syncnet", metavar="WEIGHTS", type=Path, help="imported SyncNet v2, for LSE-C and LSE-D"
    )
    group.add_argument(
        "--inception", metavar="WEIGHTS", type=Path, help="imported Inception of FID"
    )


def make_folder(folder: Path) -> None:
    """Make the folder of a run, with those above it.

    Raises:
        ConfigError: it can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"The folder {folder} can't be made ({error.strerror}); name another with -o."
        ) from error


def check_folders(*outs: Path | None) -> None:
    """Refuse files whose folders are missing, before the work for them is done.

    Raises:
        ConfigError: a folder is missing.
    """
    for out in outs:
        if out is not None and not out.parent.is_dir():
            raise ConfigError(f"The folder {out.parent} does not exist; create it first.")


@contextmanager
def progress(what: str = "Evaluating") -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, and what moves it: called with what is done and all there is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    errors = Console(stderr=True)
    with Progress(
        what, *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
