"""``python -m training shards``: its arguments and what it does."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Final

from training.terminal import add_out, count, whole_number

SIZE_MB: Final = 256


def add_shards(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to a parser's."""
    command = commands.add_parser(
        "shards",
        help="prepared clips to tar files",
        description="Pack prepared clips into tar files in WebDataset's layout, for training"
        " beyond one disk: train takes the folder in place of one of prepared clips. The same"
        " command goes on where it was stopped.",
    )
    command.add_argument("clips", metavar="PREPARED", type=Path, help="prepared clips")
    add_out(command, "SHARDS", "folder of the shards")
    command.add_argument(
        "--size",
        metavar="MB",
        type=count,
        default=SIZE_MB,
        help="of a shard at most (default: %(default)s)",
    )
    command.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of the order (default: 0)"
    )
    command.add_argument("--workers", metavar="N", type=count, help="threads (default: cores)")


def run(arguments: argparse.Namespace) -> None:
    """Pack what the arguments name.

    Raises:
        ConfigError: there are no clips, or the folder holds other shards.
        MediaError: the folder can't be written.
    """
    from training.shards import MB, Packer

    def say(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    packer = Packer(
        arguments.clips,
        arguments.out,
        size=arguments.size * MB,
        seed=arguments.seed,
        workers=arguments.workers or os.cpu_count() or 1,
        say=say,
    )
    shards = [shard for found in packer.pack().values() for shard in found]
    clips = sum(sum(shard.speakers.values()) for shard in shards)
    size = sum(shard.bytes for shard in shards) / MB
    say(f"{clips} clips in {len(shards)} shards, {size:.1f} MB: {arguments.out}")
