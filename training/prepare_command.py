"""``python -m training prepare``: its arguments and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from engine.bundle import STARTER
from engine.errors import ConfigError
from training.layouts import LAYOUTS
from training.offsets import POLICIES, TREATMENTS
from training.terminal import add_out, add_resolution, count


def add_prepare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    command = commands.add_parser(
        "prepare",
        help="videos to prepared clips",
        description="Cut faces and sound out of videos. Each person's videos belong in a folder of"
        " their own, whose name is the speaker's; --layout names a data set that lies otherwise."
        " What is prepared already is kept.",
    )
    command.add_argument("videos", metavar="VIDEOS", type=Path, help="folder of the videos")
    add_out(command, "PREPARED", "folder of prepared clips")
    command.add_argument(
        "--layout", choices=LAYOUTS, default="own", help="how they lie (default: %(default)s)"
    )
    command.add_argument(
        "--list",
        dest="listed",
        metavar="FILE",
        type=Path,
        help="prepare only the clips that the lines of a list begin with, such as train.txt",
    )
    command.add_argument(
        "--offsets",
        choices=POLICIES,
        default="keep",
        help="sound that is early or late: leave it, move it, or leave such clips out (default:"
        " %(default)s)",
    )
    command.add_argument(
        "--expert",
        metavar="BUNDLE",
        type=Path,
        help="bundle whose lip expert finds offsets (default: the starter)",
    )
    add_resolution(command)
    command.add_argument("--workers", metavar="N", type=count, help="processes (default: cores)")


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises:
        LipstreamError: an input is wrong.
    """
    from training.prepare import prepare, summary

    if arguments.expert is not None and arguments.offsets == "keep":
        raise ConfigError("--expert judges offsets: add --offsets repair or drop, or leave it out.")
    prepared = prepare(
        arguments.videos,
        arguments.out,
        layout=arguments.layout,
        listed=arguments.listed,
        resolution=arguments.resolution,
        offsets=arguments.offsets,
        expert=arguments.expert or STARTER,
        workers=arguments.workers,
    )
    lines = [summary(prepared.skipped)]
    if prepared.offsets:
        found = (f"{prepared.offsets[t]} {t}" for t in TREATMENTS if prepared.offsets[t])
        lines.append(f"lips and sound: {', '.join(found)} (each clip.json says more)")
    sys.stdout.write("\n".join(lines) + "\n")
