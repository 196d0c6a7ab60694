"""The figures of a lip expert's report as tables for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from engine.lip_sync import MOST_OFFSET
from training.clips import FPS
from training.expert_evaluation import (
    MOST_IMPOSED,
    OTHERS,
    ClipFigures,
    ExpertReport,
    thresholds,
)
from training.regions import FORMS
from training.tables import (
    Rows,
    markdown_table,
    print_line,
    show_table,
    write_figures,
    write_values,
)

SETTINGS: Final = {
    "fps": FPS,
    "exact, ±1": f"share of offsets, each up to ±{MOST_IMPOSED} frames imposed on"
    f" each clip, that are found exactly or to a frame among ±{MOST_OFFSET}",
    "AVSu": "mean cosine of lips alone and sound alone; 5 % of clips are lower",
    "others": f"AVSu with the sound of {OTHERS} other clips; 5 % are higher",
    "above": "share of these below the clip's own",
    "frozen": "mean AVSu of one picture held all the time with the clip's sound",
    "muted": "mean AVSu of the lips with digital silence",
    "confidence": "of the offset, mean with the clip's own sound",
}
"""What the figures mean."""

_HEADS: Final = (
    *("clips", "exact", "±1", "AVSu", "5 %", "others", "95 %", "above"),
    *("frozen", "muted", "confidence"),
)


def _row(clips: Sequence[ClipFigures]) -> tuple[str, ...]:
    matching = [clip.matching for clip in clips]
    others = [value for clip in clips for value in clip.others]
    foreign = ("-",) * 3
    if others:
        above = np.mean([value < clip.matching for clip in clips for value in clip.others])
        top = np.percentile(others, 95)
        foreign = f"{np.mean(others):.2f}", f"{top:.2f}", f"{100 * above:.1f} %"
    return (
        str(len(clips)),
        *(f"{100 * np.mean([c.share_within(n) for c in clips]):.1f} %" for n in (0, 1)),
        f"{np.mean(matching):.2f}",
        f"{np.percentile(matching, 5):.2f}",
        *foreign,
        *(f"{np.mean([getattr(c, n) for c in clips]):.2f}" for n in ("frozen", "muted")),
        f"{np.mean([c.confidence for c in clips]):.2f}",
    )


def speaker_rows(report: ExpertReport) -> Rows:
    """The rows of the table of unseen clips, one for each speaker and form."""
    return [
        (f"{speaker}, {form} form", *_row(by_form[form]))
        for speaker, by_form in report.speakers.items()
        for form in FORMS
    ]


def single_rows(report: ExpertReport) -> Rows:
    """The rows of the table of single clips, the reference form."""
    return [
        (f"{clip.clip}, {'learnt' if clip.learnt else 'unseen'}", *_row([clip])[1:])
        for clip in report.single["reference"]
    ]


def threshold_rows(report: ExpertReport) -> Rows:
    """The rows of the table of thresholds, by the causal form, which live use has."""
    rows: Rows = []
    for speaker, by_form in report.speakers.items():
        at = thresholds(by_form["causal"])
        if at is not None:
            rows.append((speaker, f"{at.matching:.2f}", f"{at.confident:.2f}"))
    return rows


def _tables(report: ExpertReport) -> list[tuple[str, tuple[str, ...], Rows]]:
    return [
        ("Unseen clips", ("", *_HEADS), speaker_rows(report)),
        ("Speakers with few clips, reference form", ("", *_HEADS[1:]), single_rows(report)),
        ("Thresholds, causal form", ("", "matching", "confident"), threshold_rows(report)),
    ]


def show(report: ExpertReport, console: Console) -> None:
    """Print the tables."""
    for title, heads, rows in _tables(report):
        if rows:
            show_table(console, title, heads, rows)
    for name, value in SETTINGS.items():
        print_line(console, f"{name}: {value}")
    print_line(console, _what(report))


def _what(report: ExpertReport) -> str:
    return f"expert: {report.expert} of step {report.step}, SHA-256 {report.sha256}"


def to_markdown(report: ExpertReport) -> str:
    """The tables as Markdown."""
    lines = []
    for title, heads, rows in _tables(report):
        if rows:
            lines += markdown_table(title, heads, rows)
    lines += [f"- {name}: {value}" for name, value in SETTINGS.items()]
    return "\n".join([*lines, f"- {_what(report)}", ""])


def to_json(report: ExpertReport) -> dict[str, Any]:
    """All figures and settings as JSON can hold them."""
    return {
        "settings": SETTINGS,
        **asdict(report),
        "thresholds": {
            speaker: asdict(at)
            for speaker, by_form in report.speakers.items()
            if (at := thresholds(by_form["causal"])) is not None
        },
    }


def write_json(report: ExpertReport, path: Path) -> None:
    """Write :func:`to_json`; see :func:`training.tables.write_values`."""
    write_values(path, to_json(report))


def write_markdown(report: ExpertReport, path: Path) -> None:
    """Write :func:`to_markdown`; see :func:`training.tables.write_figures`."""
    write_figures(path, to_markdown(report))
