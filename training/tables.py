"""Tables of figures: on a terminal, in Markdown, and as JSON in files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from engine.errors import ConfigError
from engine.files import write_whole

Rows = list[tuple[str, ...]]


def print_line(console: Console, text: str) -> None:
    """Print a line as it is."""
    console.print(text, markup=False, highlight=False, soft_wrap=True)


def show_table(console: Console, title: str, heads: tuple[str, ...], rows: Rows) -> None:
    """Print a table: drawn on a terminal, as plain aligned text elsewhere."""
    if console.is_terminal:
        table = Table(title=title, title_justify="left")
        for place, head in enumerate(heads):
            table.add_column(head, justify="right" if place else "left")
        for row in rows:
            table.add_row(*row)
        console.print(table)
        return
    widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
    print_line(console, title)
    for row in (heads, *rows):
        first, *rest = (
            text.rjust(width) if place else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print_line(console, "  ".join(("", first, *rest)).rstrip())
    print_line(console, "")


def markdown_table(title: str, heads: Sequence[str], rows: Rows) -> list[str]:
    """The lines of a table with its title, and an empty one."""
    rule = ("---", *("---:",) * (len(heads) - 1))
    return [f"## {title}", "", *map(_markdown_row, (heads, rule, *rows)), ""]


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def write_values(path: Path, values: Mapping[str, Any]) -> None:
    """Write figures as JSON, whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    write_figures(path, json.dumps(values, indent=1, allow_nan=False) + "\n")


def write_figures(path: Path, text: str) -> None:
    """Write a text file of figures, whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    try:
        write_whole(path, text)
    except OSError as error:
        raise ConfigError(
            f"The figures can't be written to {path} ({error.strerror}); check its folder."
        ) from error
