"""``python -m training personalize``: its arguments, and what it does."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.bundle import load_bundle
from training.terminal import count


def add_personalize(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the command to a parser's, without what it has in common with ``train``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "personalize",
        help="fine-tune a bundle on one speaker",
        description="Fine-tune a bundle on two minutes or more of one speaker, and print what it"
        " changed on parts that were held out. The same command goes on with a run that was"
        " stopped.",
    )
    command.add_argument(
        "videos",
        metavar="VIDEO",
        type=Path,
        nargs="+",
        help="videos of the speaker alone, with sound, or folders of them",
    )
    command.add_argument("--bundle", metavar="DIR", type=Path, help="default: the starter")
    command.add_argument(
        "--minutes",
        metavar="N",
        type=count,
        help="stop learning after so long; given again, the command goes on from there",
    )
    command.add_argument(
        "--workers", metavar="N", type=count, help="processes that prepare (default: cores)"
    )
    return command


def run(
    arguments: argparse.Namespace,
    changes: Mapping[str, Any],
    objective: Mapping[str, Any],
    facts: Mapping[str, str],
) -> None:
    """Do what the command line asks for.

    Args:
        arguments: of the command.
        changes: fields of the run's configuration that it sets.
        objective: likewise, of its objective.
        facts: what it says of the weights.
    """
    from rich.console import Console

    from training.before_after import show
    from training.hardware import hardware
    from training.objective import NetworkFiles
    from training.personalize import JSON, MARKDOWN, Personalization
    from training.tables import print_line

    console = Console()
    bundle = load_bundle() if arguments.bundle is None else load_bundle(arguments.bundle)
    with hardware(arguments.device) as place:
        personal = Personalization(arguments.videos, bundle, arguments.out)
        config = personal.config(changes, objective)
        pieces = personal.cut(arguments.workers)
        print_line(
            console,
            f"{pieces.learnt_s:.0f} s to learn from, {pieces.held_out_s:.0f} s in"
            f" {len(pieces.held_out)} pieces held out",
        )
        learning = personal.run(
            pieces,
            config,
            facts=facts,
            files=NetworkFiles(expert=arguments.expert, vgg=arguments.vgg),
            hardware=place,
        )
        print_line(console, f"at step {learning.step} of {config.steps}")
        limit_s = math.inf if arguments.minutes is None else 60.0 * arguments.minutes
        learning.train(limit_s)
        if learning.step < config.steps:
            print_line(
                console,
                f"stopped at step {learning.step} of {config.steps}; the same command goes on",
            )
        table = personal.judge(pieces, learning)
    show(table, console)
    print_line(console, f"{arguments.out / JSON}, {arguments.out / MARKDOWN}")
    print_line(console, f"make a bundle of it: {personal.export_line()}")
