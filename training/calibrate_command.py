"""``python -m training calibrate``: its arguments and what it does."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from training.terminal import add_out, count, progress, whole_number

PAIRS = 96


def add_calibrate(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    command = commands.add_parser(
        "calibrate",
        help="make the painted mouth open as it is heard",
        description="Paint clips that a generator learnt from, measure how far the painted mouth"
        " opens, and correct what the generator makes of an embedding, so that it opens as the"
        " audio encoder hears. Export comes after it.",
    )
    command.add_argument(
        "checkpoint", metavar="GENERATOR.pt", type=Path, help="what train has made"
    )
    command.add_argument(
        "videos", metavar="SPEAKER_VIDEOS", type=Path, help="videos of one person it learnt from"
    )
    command.add_argument(
        "--audio",
        metavar="AUDIO.pt",
        type=Path,
        required=True,
        help="what pretrain has made, and the generator was trained with",
    )
    add_out(command, "CALIBRATED.pt", "the corrected checkpoint")
    command.add_argument(
        "--pairs",
        metavar="N",
        type=count,
        default=PAIRS,
        help="pairs of a face and another clip's voice; a fifth of them tells what it brought"
        " (default: %(default)s)",
    )
    command.add_argument("--threads", metavar="N", type=count, default=1, help="of torch")
    command.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of the pairs drawn"
    )


def run(arguments: argparse.Namespace) -> None:
    """Do what the command line asks for.

    Raises:
        LipstreamError: an input is wrong.
    """
    from training.calibrate import calibrate

    with progress("Painting") as show:
        found = calibrate(
            arguments.checkpoint,
            arguments.audio,
            arguments.videos,
            arguments.out,
            pairs=arguments.pairs,
            seed=arguments.seed,
            threads=arguments.threads,
            progress=show,
        )
    sys.stdout.write(
        f"{arguments.out}: heard and painted opening correlate by {found.after:.3f} on"
        f" {found.control} pairs that were kept apart, before by {found.before:.3f}\n"
    )
