"""A study as a table, a CSV file and a plot."""

from __future__ import annotations

import csv
import importlib.util
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.console import Console

from engine.errors import ConfigError
from training.clips import FPS
from training.scoring.study import UNITS, Study
from training.tables import Rows, print_line, show_table, write_figures

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_UNMOVED: Final = {"scale": 1.0}  # all others: 0


def summary_rows(study: Study) -> Rows:
    """Each judge's figure with nothing displaced, its range, and its spread within clips."""
    rows: Rows = []
    for judge, quantity in dict.fromkeys((p.judge, p.quantity) for p in study.points):
        own = [p for p in study.points if (p.judge, p.quantity) == (judge, quantity)]
        values = {p.amount: p.estimate.value for p in own if p.estimate.value is not None}
        spreads = [
            float(np.std(c.values))
            for c in study.curves
            if (c.judge, c.quantity) == (judge, quantity)
        ]
        at_rest = values[_UNMOVED.get(study.kind, 0.0)]
        rows.append(
            (
                f"{judge}: {quantity}",
                str(own[0].estimate.clips),
                f"{at_rest:.3f}",
                f"{min(values.values()):.3f}",
                f"{max(values.values()):.3f}",
                f"{np.mean(spreads):.3f}" if spreads else "-",
            )
        )
    return rows


def show(study: Study, console: Console) -> None:
    """Print the summary."""
    heads = "", "clips", "unmoved", "lowest", "highest", "spread in a clip"
    show_table(console, f"Study of {study.kind} on {study.truth}", heads, summary_rows(study))
    for name, text in study.names.items():
        print_line(console, f"{name}: {text}")
    for clip, why in study.left_out.items():
        print_line(console, f"left out {clip}: {why}")


def write_csv(study: Study, path: Path) -> None:
    """Write the points, and for ``stability`` every frame's value instead.

    Raises:
        ConfigError: the file can't be written.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if study.curves:
        writer.writerow(("judge", "quantity", "clip", "frame", "value"))
        for curve in study.curves:
            for frame, value in enumerate(curve.values):
                writer.writerow((curve.judge, curve.quantity, curve.clip, frame, f"{value:.6f}"))
    else:
        writer.writerow(("judge", "quantity", study.kind, "clips", "mean", "low", "high"))
        for point in study.points:
            e = point.estimate
            ends = ("" if v is None else f"{v:.6f}" for v in (e.value, e.low, e.high))
            writer.writerow((point.judge, point.quantity, f"{point.amount:g}", e.clips, *ends))
    write_figures(path, text.getvalue())


def check_plot(path: Path) -> None:
    """Refuse a plot that can't be made, before the work for it is done.

    Raises:
        ConfigError: matplotlib is not installed, or the name is no PNG's.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("A plot needs matplotlib, which is missing; pip install matplotlib.")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"The plot is a PNG: give a name that ends with .png, not {path.name}.")


def plot(study: Study, path: Path) -> None:
    """Draw the study as PNG: one panel a quantity, and a judge where single clips are drawn.

    Raises:
        ConfigError: matplotlib is not installed, the name is no PNG's, or it can't be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(layout="constrained")
    FigureCanvasAgg(figure)
    (_plot_curves if study.curves else _plot_points)(study, figure)
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise ConfigError(
            f"The plot can't be written to {path} ({error.strerror}); check its folder."
        ) from error


def _plot_points(study: Study, figure: Figure) -> None:
    quantities = list(dict.fromkeys(point.quantity for point in study.points))
    figure.set_size_inches(4.5 * len(quantities), 3.6)
    panels: Any = figure.subplots(1, len(quantities), squeeze=False)
    for panel, quantity in zip(panels[0], quantities, strict=True):
        own = [point for point in study.points if point.quantity == quantity]
        for judge in dict.fromkeys(point.judge for point in own):
            line = [point for point in own if point.judge == judge]
            amounts = [point.amount for point in line]
            drawn = panel.plot(amounts, [p.estimate.value for p in line], "o-", ms=3, label=judge)
            if all(p.estimate.low is not None for p in line):
                low, high = [p.estimate.low for p in line], [p.estimate.high for p in line]
                panel.fill_between(amounts, low, high, color=drawn[0].get_color(), alpha=0.15)
        panel.set_title(quantity)
        panel.set_xlabel(UNITS[study.kind])
        panel.grid(alpha=0.3)
        panel.legend()


def _plot_curves(study: Study, figure: Figure) -> None:
    quantities = list(dict.fromkeys(curve.quantity for curve in study.curves))
    judges = list(dict.fromkeys(curve.judge for curve in study.curves))
    figure.set_size_inches(5.0 * len(judges), 2.8 * len(quantities))
    panels: Any = figure.subplots(len(quantities), len(judges), squeeze=False, sharey="row")
    for row, quantity in zip(panels, quantities, strict=True):
        for panel, judge in zip(row, judges, strict=True):
            for curve in study.curves:
                if (curve.judge, curve.quantity) == (judge, quantity):
                    times = np.arange(len(curve.values)) / FPS
                    panel.plot(times, curve.values, lw=1, alpha=0.8)
            panel.set_title(f"{judge}: {quantity}")
            panel.set_xlabel("s")
            panel.grid(alpha=0.3)
