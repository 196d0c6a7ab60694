"""``python -m training contrast``: its arguments and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.terminal import add_out, count, progress, whole_number

CLIPS_EACH = 3


def add_contrast(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    command = commands.add_parser(
        "contrast",
        help="paint the inside of mouths with the contrast of real ones",
        description="Paint clips that a generator learnt from, measure how much flatter than in the"
        " real mouth the brightness between the lips is, and give it its spread. Calibrate and"
        " export come after it.",
    )
    command.add_argument(
        "checkpoint", metavar="GENERATOR.pt", type=Path, help="what train has made"
    )
    command.add_argument(
        "clips", metavar="PREPARED", type=Path, help="prepared clips that it learnt from"
    )
    add_out(command, "SHARPENED.pt", "the corrected checkpoint")
    command.add_argument(
        "--clips-each",
        metavar="N",
        type=count,
        default=CLIPS_EACH,
        help="clips of each speaker at most; a fifth of all tells what it brought"
        " (default: %(default)s)",
    )
    command.add_argument("--threads", metavar="N", type=count, default=1, help="of torch")
    command.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of the clips drawn"
    )


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises:
        LipstreamError: an input is wrong.
    """
    from training.contrast import contrast

    with progress("Painting") as show:
        found = contrast(
            arguments.checkpoint,
            arguments.clips,
            arguments.out,
            clips_each=arguments.clips_each,
            seed=arguments.seed,
            threads=arguments.threads,
            progress=show,
        )
    sys.stdout.write(
        f"{arguments.out}: between the lips brightness spreads {found.after:.2f} times as far as in"
        f" real mouths, on {found.control} clips that were kept apart; before {found.before:.2f}"
        " times\n"
    )
