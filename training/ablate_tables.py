"""An ablation's tables, with the budget that they were made with."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from rich.console import Console

from training.ablate import Ablation, Judged
from training.ablate_plan import COLOUR, TITLES
from training.scoring.sheet import picture_sheet, write_sheet
from training.scoring.tables import notes, tables, to_json
from training.tables import markdown_table, print_line, show_table, write_figures, write_values

JSON: Final = "ablation.json"
MARKDOWN: Final = "ablation.md"
SHEET: Final = "ablation.png"
_TEACHER: Final = (
    "the teacher of the AV-HuBERT forms, as in the paper; high scores may only say that they have"
    " learnt to please it"
)
_INDEPENDENT: Final = "independent: it had no part in training"


def _heading(judged: Judged) -> str:
    who = _TEACHER if judged.teacher else _INDEPENDENT
    return f"Table 4 by {judged.expert} ({who})"


def budget_lines(ablation: Ablation) -> list[str]:
    """What every row was given, a line each."""
    budget = ablation.budget
    config, clips = budget["config"], budget["clips"]
    objective = config["objective"]
    start = budget["start"]
    lines = [
        f"each row: {config['steps']} steps of {config['clips']} samples of {config['k']} frames,"
        f" {config['precision']}, seed {config['seed']}, {budget['threads']} processor threads,"
        f" {budget['device']}; the same samples in the same order",
        f"learnt from: {clips['learnt']} clips of {', '.join(clips['speakers'])}",
        f"judged by: {len(budget['clips_judged'])} held-out clips with their own sound, the whole"
        " clip around the identity reference included",
        "start: " + ("new weights" if start is None else _file(start)),
        f"audio encoder: {_file(budget['audio'])}",
        f"teacher of the AV-HuBERT forms: {_file(budget['expert'])}",
        f"other terms: adversarial {objective['adversarial']:g}, perceptual"
        f" {_perceptual(objective)}, pixels {config['weights']['pixel']:g}; lip-sync weight"
        f" {objective['sync_weight']:g}",
    ]
    if "syncnet" in budget["forms"]:
        lines.append(f"teacher of the baseline: {_colour(budget[COLOUR])}")
    lines += [
        f"{TITLES[form]}: {_time(spent)}; {_file(spent)}" for form, spent in budget["forms"].items()
    ]
    return lines + [f"left out {name}: {why}" for name, why in ablation.left_out.items()]


def _file(facts: dict[str, Any]) -> str:
    return f"{facts['name']}, SHA-256 {facts['sha256']}"


def _time(spent: dict[str, Any]) -> str:
    if spent["wall_s"] is None:
        return "wall time not known"
    return f"{spent['wall_s'] / 60:.1f} min, {spent['step_s']:.2f} s a step"


def _perceptual(objective: dict[str, Any]) -> str:
    kind = objective["perceptual"]
    return "none" if kind == "none" else f"{kind} {objective['perceptual_weight']:g}"


def _colour(facts: dict[str, Any]) -> str:
    if "sha256" in facts:
        return _file(facts)
    told = ""
    if facts["told_apart"] is not None:
        told = (
            f"; of a window's own sound and another of its clip it finds the own one in"
            f" {facts['told_apart']:.1%} of held-out pairs (50 % by chance)"
        )
    return (
        f"SyncNet on colours, taught on the same clips: {facts['steps']} steps of {facts['clips']}"
        f" clips with {facts['windows']} windows each, {_time(facts)}{told}"
    )


def show(ablation: Ablation, console: Console) -> None:
    """Print the table by each judge, and the budget."""
    for judged in ablation.judged:
        (_, heads, rows), _, (title, _, intervals) = tables(judged.scores)
        show_table(console, _heading(judged), heads, rows)
        show_table(console, title, heads, intervals)
    for line in budget_lines(ablation):
        print_line(console, line)
    print_line(console, "")
    for line in _notes(ablation):
        print_line(console, line)


def to_markdown(ablation: Ablation) -> str:
    """The same as Markdown."""
    lines = []
    for judged in ablation.judged:
        (_, heads, rows), (beside, more, others), (title, _, intervals) = tables(judged.scores)
        lines += markdown_table(_heading(judged), heads, rows)
        lines += markdown_table(f"{title}, by {judged.expert}", heads, intervals)
        lines += markdown_table(f"{beside}, by {judged.expert}", more, others)
    lines += ["## Budget", "", *(f"- {line}" for line in budget_lines(ablation)), ""]
    lines += ["## Notes", "", *(f"- {line}" for line in _notes(ablation)), ""]
    return "\n".join(lines)


def _notes(ablation: Ablation) -> list[str]:
    """What is to be known of all tables, each line once."""
    return list(dict.fromkeys(line for j in ablation.judged for line in notes(j.scores)))


def write(ablation: Ablation, folder: Path, truth: Path) -> tuple[Path, Path, Path]:
    """Write ``ablation.json``, ``ablation.md`` and frames side by side, ``ablation.png``.

    Args:
        ablation: what is written.
        folder: where.
        truth: folder of the true videos.

    Returns:
        Their paths.

    Raises:
        ConfigError: they can't be written.
    """
    values = {
        "budget": ablation.budget,
        "left_out": ablation.left_out,
        "judged": [
            {"expert": j.expert, "teacher": j.teacher, **to_json(j.scores)} for j in ablation.judged
        ],
    }
    write_values(folder / JSON, values)
    write_figures(folder / MARKDOWN, to_markdown(ablation))
    write_sheet(picture_sheet(ablation.videos, truth), folder / SHEET)
    return folder / JSON, folder / MARKDOWN, folder / SHEET
