"""The figures of ``bench`` as a picture: a chunk on every run time, and a live frame's stages."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, Final

from stream.bench.figures import TORCH, Figures, ModelFigures
from stream.bench.stages import FRAME_STAGES
from stream.report_plot import check_plot, write_png

_BAR: Final = "#1b4f9c"
_TORCH_BAR: Final = "#a9a9a9"
_LIMIT: Final = "#b00000"


def plot(figures: Figures, path: Path) -> None:
    """Draw a run, into a PNG that is there whole or not at all.

    Args:
        figures: of the run.
        path: ends in .png.

    Raises:
        ConfigError: matplotlib is not installed, the folder is missing, or the name is no PNG's.
        MediaError: the file can't be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    count = len(figures.models) + 1
    figure = Figure(figsize=(9, 2.6 * count), dpi=110, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    rows = figure.subplots(count, 1, squeeze=False)[:, 0]
    for row, (name, model) in zip(rows, figures.models.items(), strict=False):
        _draw_model(row, name, model)
    values = [figures.stages_ms[stage] for stage in FRAME_STAGES]
    _bars(rows[-1], list(FRAME_STAGES), values, [_BAR] * len(values))
    rows[-1].set_title(f"a live frame, starter: {figures.frame_ms:.1f} ms", loc="left")
    rows[-1].set_xlabel("ms")
    drawn = io.BytesIO()
    canvas.print_png(drawn)
    write_png(path, drawn.getvalue())


def _draw_model(row: Any, name: str, model: ModelFigures) -> None:
    found = sorted(model.chunk_ms.items(), key=lambda item: item[1])
    colours = [_TORCH_BAR if variant == TORCH else _BAR for variant, _ in found]
    _bars(row, [variant for variant, _ in found], [ms for _, ms in found], colours)
    row.axvline(model.budget_ms, color=_LIMIT, linestyle="--", linewidth=1)
    row.set_title(f"{name}: ms for {model.k} frames; the line is how long they last", loc="left")


def _bars(row: Any, names: list[str], values: list[float], colours: list[str]) -> None:
    bars = row.barh(names, values, color=colours)
    row.bar_label(bars, fmt="%.1f", padding=3)
    row.invert_yaxis()
    row.margins(x=0.12)
    row.grid(axis="x", color="#dddddd", linewidth=0.8)
    row.set_axisbelow(True)
