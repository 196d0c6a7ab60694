"""A picture of a session over time: delay, skew, pictures a second, memory, and the gate."""

from __future__ import annotations

import importlib.util
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from engine.errors import ConfigError, MediaError
from stream.core.series import Moment
from stream.report import CASES

_ROWS: Final = (
    ("added_delay_ms", "added delay, ms\n(p95)", "#1b4f9c"),
    ("skew_ms", "skew, ms\n(p95 of its size)", "#8a1c5b"),
    ("fps", "new pictures\na second", "#1f6f3a"),
    ("rss_mb", "memory, MB", "#5a4a00"),
)
_GATE: Final = {"real": "#d9dde3", "speech": "#bfe3c7", "closed": "#f6d9a8"}
_MEANING: Final = {
    "real": "real mouth",
    "speech": "generated mouth",
    "closed": "closed mouth",
}
_SKEW_LIMIT_MS: Final = 45.0  # early sound is noticed from here on (ITU-R BT.1359)
_HEADROOM: Final = 1.15


def check_plot(path: Path) -> None:
    """Refuse a plot that can't be drawn, before a session runs.

    Raises:
        ConfigError: matplotlib is not installed, the folder is missing, or the name is no PNG's.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise ConfigError("A plot needs matplotlib, which is missing; pip install matplotlib.")
    if path.suffix.lower() != ".png":
        raise ConfigError(f"{path} can't be drawn; name a file ending in .png.")
    if not path.parent.is_dir():
        raise ConfigError(f"The folder {path.parent} does not exist; create it first.")


def plot(moments: Sequence[Moment], path: Path) -> None:
    """Draw a session, into a PNG that is there whole or not at all.

    Args:
        moments: as :meth:`stream.core.meters.Meters.series` gives them.
        path: ends in .png.

    Raises:
        ConfigError: as :func:`check_plot`.
        MediaError: the file can't be written.
    """
    check_plot(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 8), dpi=110, layout="constrained")
    canvas: Any = FigureCanvasAgg(figure)
    rows = figure.subplots(len(_ROWS), 1, sharex=True)
    bands = list(_bands(moments))
    for row, (name, label, colour) in zip(rows, _ROWS, strict=True):
        _draw(row, moments, bands, name, label, colour)
    rows[-1].set_xlabel("seconds of the session")
    _name_bands(figure)
    drawn = io.BytesIO()
    canvas.print_png(drawn)
    write_png(path, drawn.getvalue())


def _draw(
    row: Any,
    moments: Sequence[Moment],
    bands: Sequence[tuple[float, float, str]],
    name: str,
    label: str,
    colour: str,
) -> None:
    for start, end, case in bands:
        row.axvspan(start, end, color=_GATE[case], linewidth=0, zorder=0)
    values = [getattr(moment, name) for moment in moments]
    known = [value for value in values if value is not None]
    # A gap in the line where nothing was measured; dots, as a lone second makes no line.
    heights = [float("nan") if value is None else value for value in values]
    row.plot([m.at for m in moments], heights, color=colour, linewidth=1.4, marker=".", ms=3)
    if name == "skew_ms":
        row.axhline(_SKEW_LIMIT_MS, color="#b00000", linewidth=1, linestyle="--")
        known.append(_SKEW_LIMIT_MS)
    row.set_ylabel(label)
    row.set_ylim(0, max(known, default=1.0) * _HEADROOM or 1.0)
    row.set_xlim(0, max((m.at for m in moments), default=1.0) or 1.0)
    row.grid(color="white", linewidth=0.8)
    row.set_axisbelow(True)


def _name_bands(figure: Any) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    keys: list[Any] = [Patch(color=_GATE[case], label=f"gate: {_MEANING[case]}") for case in CASES]
    keys.append(Line2D([], [], color="#b00000", linestyle="--", label="skew is noticed"))
    figure.legend(handles=keys, loc="outside upper center", ncols=len(keys), frameon=False)


def _bands(moments: Sequence[Moment]) -> Iterator[tuple[float, float, str]]:
    """(start, end, case) of each stretch of one case."""
    start = end = 0.0
    case: str | None = None
    for moment in moments:
        if moment.case != case:
            if case is not None:
                yield start, end, case
            start, case = end, moment.case
        end = moment.at
    if case is not None:
        yield start, end, case


def write_png(path: Path, content: bytes) -> None:
    """Write a drawn picture, whole or not at all.

    Raises:
        MediaError: the file can't be written.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise MediaError(
            f"The plot {path} can't be written ({error.strerror}); check its folder."
        ) from error
