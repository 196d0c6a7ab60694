"""The figures of ``bench`` as tables for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.table import Table

from stream.bench.figures import Figures, ModelFigures
from stream.bench.stages import FRAME_STAGES


def tables(figures: Figures) -> Iterator[Table]:
    """Yield a table of run times, of batches, of stages, and of passes where they are known."""
    yield _run_times(figures)
    yield _sessions(figures)
    yield _stages(figures)
    if any(model.passes for model in figures.models.values()):
        yield _passes(figures)


def _run_times(figures: Figures) -> Table:
    machine = figures.machine
    peak = ", ".join(f"{name} {value:.0f}" for name, value in figures.peak_gflops.items())
    table = Table(
        title=f"{machine['processor']}, {machine['threads']} threads;"
        f" peak in GFLOP/s: {peak or '-'}",
        title_justify="left",
    )
    table.add_column("network")
    table.add_column("run time", no_wrap=True)
    for head in ("ms a chunk", "times torch", "budget", "GFLOP/s", "peak"):
        table.add_column(head, justify="right")
    for name, model in figures.models.items():
        label = name if name == model.bundle else f"{name} ({model.bundle})"
        for variant, ms in sorted(model.chunk_ms.items(), key=lambda item: item[1]):
            table.add_row(
                label if ms == min(model.chunk_ms.values()) else "",
                variant,
                f"{ms:.1f}",
                _text(model.torch_ratio(variant), 2),
                _percent(ms / model.budget_ms),
                _text(model.gflops(variant), 0),
                _percent(model.peak_share(variant, figures.peak_gflops)),
                style="bold" if variant == model.best else None,
                end_section=ms == max(model.chunk_ms.values()),
            )
    return table


def _sessions(figures: Figures) -> Table:
    table = Table(title="Sessions, by the scheduler", title_justify="left")
    table.add_column("network")
    table.add_column("run time", no_wrap=True)
    sizes = sorted({size for model in figures.models.values() for size in model.batch_ms})
    for size in sizes:
        table.add_column(f"ms, {size} frames", justify="right")
    table.add_column("sessions", justify="right")
    for name, model in figures.models.items():
        times = [_text(model.batch_ms.get(size), 1) for size in sizes]
        table.add_row(name, model.best, *times, _text(model.sessions(), 0))
    return table


def _stages(figures: Figures) -> Table:
    table = Table(title="A live frame, starter", title_justify="left")
    table.add_column("stage")
    table.add_column("ms", justify="right")
    for stage in FRAME_STAGES:
        table.add_row(stage, f"{figures.stages_ms[stage]:.2f}")
    table.add_section()
    table.add_row("all of a modified frame", f"{figures.frame_ms:.2f}", style="bold")
    table.add_row("detect, only while there is no face", f"{figures.stages_ms['detect']:.2f}")
    return table


def _passes(figures: Figures) -> Table:
    table = Table(title="Passes of the export, ms a chunk", title_justify="left")
    for head in ("network", "pass", "run time"):
        table.add_column(head)
    for head in ("without", "with", "gain"):
        table.add_column(head, justify="right")
    for name, model in figures.models.items():
        for row in _pass_rows(model):
            table.add_row(name, *row)
    return table


def _pass_rows(model: ModelFigures) -> Iterator[tuple[str, ...]]:
    for name, found in model.passes.items():
        without, within = found["without_ms"], found["with_ms"]
        yield (
            name,
            found.get("variant", "-"),
            f"{without:.1f}",
            f"{within:.1f}",
            _text(without / within if within else None, 2),
        )


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.1%}"


def _text(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
