"""``python -m training ablate``: its arguments, and what it does with them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from engine.errors import ConfigError
from training.terminal import add_out, add_score_weights, count, progress

if TYPE_CHECKING:
    from training.config import TrainConfig

CLIPS, COLOUR_STEPS = 30, 600
FORMS: Final = ("none", "syncnet", "visual", "multimodal", "unsupervised")


def add_ablate(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> argparse.ArgumentParser:
    """Add the command to a parser's, without the flags that it shares with ``train``."""
    command = commands.add_parser(
        "ablate",
        help="compare the forms of the lip-sync loss",
        description="Teach one generator for each form of the lip-sync loss, all else equal, and"
        " print the paper's Table 4 for them. The same command goes on where it was stopped.",
    )
    command.add_argument("clips", metavar="PREPARED", type=Path, help="prepared clips")
    command.add_argument(
        "--truth",
        metavar="VIDEOS",
        type=Path,
        required=True,
        help="folder of the videos; the held-out tenth is judged",
    )
    command.add_argument(
        "--audio", metavar="AUDIO.pt", type=Path, required=True, help="what pretrain has made"
    )
    command.add_argument(
        "--expert",
        metavar="EXPERT",
        type=Path,
        required=True,
        help="AV-HuBERT that teaches: what expert or import has made",
    )
    add_out(command, "FOLDER", "folder of the runs, their videos, ablation.json and ablation.md")
    command.add_argument(
        "--start", metavar="GENERATOR.pt", type=Path, help="begin every form with these weights"
    )
    command.add_argument(
        "--forms",
        metavar="FORM",
        nargs="+",
        choices=FORMS,
        default=list(FORMS),
        help=f"rows of the table: {', '.join(FORMS)} (default: all)",
    )
    baseline = command.add_argument_group("the baseline's lip expert")
    which = baseline.add_mutually_exclusive_group()
    which.add_argument(
        "--syncnet-colour",
        metavar="WEIGHTS",
        type=Path,
        help="imported lip expert of Wav2Lip; without it one is taught on the same clips",
    )
    which.add_argument(
        "--syncnet-colour-steps",
        metavar="N",
        type=count,
        default=COLOUR_STEPS,
        help="of its lesson (default: %(default)s)",
    )
    judges = command.add_argument_group("who judges, besides the expert that teaches")
    judges.add_argument(
        "--judge-expert",
        metavar="FILE",
        nargs="+",
        type=Path,
        default=[],
        help="lip experts that had no part in training: what expert or import has made, or a"
        " bundle's folder",
    )
    add_score_weights(judges)
    judges.add_argument(
        "--clips",
        dest="judged",
        metavar="N",
        type=count,
        default=CLIPS,
        help="held-out clips that are judged at most (default: %(default)s)",
    )
    command.set_defaults(sync=None)  # the forms are the rows
    return command


def run(arguments: argparse.Namespace, config: TrainConfig) -> None:
    """Do what the command line asks for.

    Args:
        arguments: of the command line.
        config: of every form's run.

    Raises:
        LipstreamError: an input is wrong.
    """
    from rich.console import Console

    from training.ablate import judge, teach
    from training.ablate_plan import Settings, lesson_for
    from training.ablate_tables import show, write
    from training.hardware import hardware
    from training.scoring.judges import JudgeFiles
    from training.tables import print_line

    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "An ablation runs in one process: teach the forms with `torchrun … train`, each into"
            " its folder, and start this without torchrun."
        )
    console = Console()
    settings = Settings(
        clips=arguments.clips,
        truth=arguments.truth,
        audio=arguments.audio,
        expert=arguments.expert,
        folder=arguments.out,
        config=config,
        forms=tuple(dict.fromkeys(arguments.forms)),
        start=arguments.start,
        vgg=arguments.vgg,
        colour=arguments.syncnet_colour,
        lesson=lesson_for(config, arguments.syncnet_colour_steps),
        judges=JudgeFiles(
            experts=tuple(path for path in arguments.judge_expert if not path.is_dir()),
            bundles=tuple(path for path in arguments.judge_expert if path.is_dir()),
            syncnet=arguments.syncnet,
            inception=arguments.inception,
        ),
        count=arguments.judged,
    )
    with hardware(arguments.device) as place:
        taught = teach(settings, place, lambda text: print_line(console, text))
        with progress() as advance:
            ablation = judge(settings, taught, place, advance)
    show(ablation, console)
    for path in write(ablation, settings.folder, settings.truth):
        print_line(console, str(path))
