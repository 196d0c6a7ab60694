"""The figures of finished videos: tables as the paper has them, for people and for programs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from training.scoring.intervals import COVERED, RESAMPLES, Estimate
from training.scoring.pair import METRICS, PAPER, Metric
from training.scoring.systems import Row, Scores
from training.tables import (
    Rows,
    markdown_table,
    print_line,
    show_table,
    write_figures,
    write_values,
)

_ARROWS: Final = {"higher": " ↑", "lower": " ↓", "": ""}
_NONE: Final = "-"
MORE: Final = tuple(METRICS)[len(PAPER) :]
"""Metrics of the second table."""


def _head(metric: Metric) -> str:
    return metric.title + _ARROWS[metric.better]


def _value(name: str, estimate: Estimate) -> str:
    value = estimate.value
    return _NONE if value is None else f"{value:.{METRICS[name].digits}f}"


def _interval(name: str, estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return _value(name, estimate)
    digits = METRICS[name].digits
    return f"{_value(name, estimate)} [{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def paper_rows(scores: Scores) -> Rows:
    """The rows of the paper's table: nine metrics a system."""
    return [
        (row.title, *(_value(name, row.figures[name]) for name in PAPER)) for row in scores.rows
    ]


def tables(scores: Scores) -> list[tuple[str, tuple[str, ...], Rows]]:
    """The paper's table, what stands beside it, and its intervals: title, heads, rows of each."""
    paper = "Method", *(_head(METRICS[name]) for name in PAPER)
    more = "Method", "clips", "frames", "lost", *(_head(METRICS[name]) for name in MORE)
    others: Rows = [
        (
            row.title,
            str(len(row.clips)),
            str(sum(clip.compared.frames for clip in row.clips)),
            str(sum(clip.compared.lost for clip in row.clips)),
            *(_value(name, row.figures[name]) for name in MORE),
        )
        for row in scores.rows
    ]
    intervals: Rows = [
        (row.title, *(_interval(name, row.figures[name]) for name in PAPER)) for row in scores.rows
    ]
    return [
        (f"Against {scores.truth}", paper, paper_rows(scores)),
        ("Beside them", more, others),
        (f"{100 * COVERED:.0f} % intervals", paper, intervals),
    ]


def missing(scores: Scores) -> list[str]:
    """A sentence for each judge that is not there, naming the metrics that stay empty."""
    empty: dict[str, list[str]] = {}
    for name, metric in METRICS.items():
        if metric.needs and all(row.figures[name].value is None for row in scores.rows):
            empty.setdefault(metric.needs, []).append(metric.title)
    return [
        f"{', '.join(titles)}: empty, since {judge} was not given, or nothing it could judge."
        for judge, titles in empty.items()
    ]


def notes(scores: Scores) -> list[str]:
    """What is to be known of the tables, a line each."""
    return [
        *missing(scores),
        *(f"{name}: {text}" for name, text in scores.judges.items()),
        *(f"left out {what}: {why}" for what, why in scores.left_out.items()),
        f"intervals: {COVERED:.0%} of {RESAMPLES} bootstrap resamples of the clips,"
        f" seed {scores.seed}",
        *(f"{metric.title}: {metric.definition}" for metric in METRICS.values()),
    ]


def show(scores: Scores, console: Console) -> None:
    """Print the tables and what is to be known of them."""
    for title, heads, rows in tables(scores):
        show_table(console, title, heads, rows)
    for line in notes(scores):
        print_line(console, line)


def to_markdown(scores: Scores) -> str:
    """The tables as Markdown."""
    lines = []
    for title, heads, rows in tables(scores):
        lines += markdown_table(title, heads, rows)
    return "\n".join([*lines, *(f"- {line}" for line in notes(scores)), ""])


def to_json(scores: Scores) -> dict[str, Any]:
    """All figures, of sets and of clips; what has no value is null."""
    return {
        "truth": scores.truth,
        "seed": scores.seed,
        "judges": scores.judges,
        "definitions": {name: metric.definition for name, metric in METRICS.items()},
        "rows": [_row(row) for row in scores.rows],
        "left_out": scores.left_out,
    }


def _row(row: Row) -> dict[str, Any]:
    return {
        "system": row.system,
        "vp8_kbps": row.kbps,
        "figures": {name: asdict(estimate) for name, estimate in row.figures.items()},
        "clips": [{"name": clip.name, **asdict(clip.compared)} for clip in row.clips],
    }


def write_json(scores: Scores, path: Path) -> None:
    """Write :func:`to_json`; see :func:`training.tables.write_values`."""
    write_values(path, to_json(scores))


def write_markdown(scores: Scores, path: Path) -> None:
    """Write :func:`to_markdown`; see :func:`training.tables.write_figures`."""
    write_figures(path, to_markdown(scores))
