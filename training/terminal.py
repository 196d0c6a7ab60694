"""What commands share: numbers of the command line, checks of outputs, and a bar."""

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


def check_folders(*outs: Path | None) -> None:
    """Refuse files whose folders are missing, before the work for them is done.

    Raises:
        ConfigError: a folder is missing.
    """
    for out in outs:
        if out is not None and not out.parent.is_dir():
            raise ConfigError(f"The folder {out.parent} does not exist; create it first.")


@contextmanager
def progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal, and what moves it: called with what is done and all there is."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    errors = Console(stderr=True)
    with Progress(
        "Evaluating", *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)
