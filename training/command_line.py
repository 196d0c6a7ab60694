"""What ``python -m training`` takes on its command line."""

from __future__ import annotations

import argparse
from pathlib import Path

from training.ablate_command import add_ablate
from training.calibrate_command import add_calibrate
from training.contrast_command import add_contrast
from training.evaluate_command import add_evaluate
from training.personalize_command import add_personalize
from training.prepare_command import add_prepare
from training.shards_command import add_shards
from training.terminal import add_out, add_resolution, count, whole_number


def parser() -> argparse.ArgumentParser:
    """What the command line takes; ``command`` is the name of the command."""
    whole = argparse.ArgumentParser(prog="python -m training", description="Make a model.")
    commands = whole.add_subparsers(dest="command", required=True, metavar="COMMAND")

    add_prepare(commands)

    command = commands.add_parser(
        "animate",
        help="pictures to prepared clips that speak",
        description="Make clips of new people: still pictures with the mouths of prepared clips.",
    )
    command.add_argument(
        "pictures", metavar="PICTURES", type=Path, nargs="*", help="pictures, or folders of them"
    )
    command.add_argument("clips", metavar="PREPARED", type=Path, help="one speaker's clips")
    add_out(command, "FOLDER", "folder of the new clips, such as PREPARED/stills")
    command.add_argument(
        "--portrait",
        action="store_true",
        help="also animate the public-domain portrait that scikit-image ships",
    )
    command.add_argument(
        "--clips-each",
        metavar="N",
        type=count,
        default=24,
        help="clips made of each face (default: %(default)s)",
    )
    command.add_argument(
        "--blends",
        metavar="N",
        type=whole_number,
        default=0,
        help="faces to make besides, each of two of the pictures (default: %(default)s)",
    )
    add_resolution(command)
    command.add_argument(
        "--seed", metavar="N", type=whole_number, default=0, help="of chance (default: 0)"
    )

    add_shards(commands)

    command = commands.add_parser(
        "pretrain",
        help="teach the audio encoder",
        description="Teach the audio encoder to hear the shape of the mouth.",
    )
    command.add_argument("clips", metavar="PREPARED", type=Path, help="prepared clips")
    add_out(command, "RUN", "folder of the run: audio.pt and TensorBoard events")
    _add_run(command)
    command.add_argument(
        "--speakers",
        metavar="NAME",
        nargs="+",
        default=[],
        help="speakers to learn from (default: all)",
    )
    command.add_argument(
        "--synthetic",
        metavar="N",
        type=whole_number,
        default=300,
        help="utterances of synthetic speech; 0 needs no espeak-ng (default: %(default)s)",
    )
    command.add_argument(
        "--voices",
        metavar="N",
        type=whole_number,
        default=0,
        help="other voices that each clip is spoken with as well; needs pyworld (default: 0)",
    )
    command.add_argument(
        "--start", metavar="AUDIO.pt", type=Path, help="a further lesson, after this one"
    )
    _add_bf16(command)

    command = commands.add_parser(
        "train",
        help="teach the generator",
        description="Teach the generator. The same command goes on with a run that was stopped.",
    )
    command.add_argument(
        "clips", metavar="PREPARED", type=Path, help="prepared clips, or shards of them"
    )
    command.add_argument(
        "--audio",
        metavar="AUDIO.pt",
        type=Path,
        required=True,
        help="what pretrain has made, or a bundle's folder",
    )
    add_out(command, "RUN", "folder of the run: generator.pt and TensorBoard events")
    _add_run(command)
    command.add_argument(
        "--start",
        metavar="GENERATOR.pt",
        type=Path,
        help="begin a new run with these weights, or those of a bundle's folder",
    )
    _add_objective(command)
    _add_hardware(command)
    _add_facts(command)

    add_contrast(commands)
    add_calibrate(commands)

    command = add_personalize(commands)
    add_out(command, "RUN", "folder of the run: generator.pt, the table and TensorBoard events")
    _add_numbers(command)
    _add_objective(command)
    _add_hardware(command)
    _add_facts(command)

    command = commands.add_parser(
        "regions",
        help="videos to prepared mouth regions",
        description="Cut mouth regions and sound out of videos, for the lip expert. Each person's"
        " videos belong in a folder of their own. What is prepared already is kept.",
    )
    command.add_argument("videos", metavar="VIDEOS", type=Path, help="folder of videos")
    add_out(command, "REGIONS", "folder of prepared mouth regions")
    command.add_argument("--workers", metavar="N", type=count, help="processes (default: cores)")

    command = commands.add_parser(
        "expert",
        help="teach a lip expert",
        description="Teach a narrow lip expert of AV-HuBERT's form. The same command goes on with"
        " a run that was stopped.",
    )
    command.add_argument("regions", metavar="REGIONS", type=Path, help="prepared mouth regions")
    add_out(command, "RUN", "folder of the run: expert.pt and TensorBoard events")
    command.add_argument(
        "--judge",
        metavar="CLIP",
        nargs="+",
        default=[],
        help="clips to keep for judging, besides a tenth of each speaker's",
    )
    _add_bf16(command)
    _add_numbers(command)
    _add_facts(command)

    command = commands.add_parser(
        "expert-report",
        help="judge a lip expert",
        description="Measure a lip expert by the clips that it did not learn from.",
    )
    command.add_argument("expert", metavar="EXPERT.pt", type=Path, help="what expert has made")
    command.add_argument("regions", metavar="REGIONS", type=Path, help="prepared mouth regions")
    command.add_argument("--json", metavar="OUT", type=Path, help="write all figures")
    command.add_argument("--markdown", metavar="OUT", type=Path, help="write the tables")

    command = commands.add_parser(
        "import",
        help="a public checkpoint to weights for here",
        description="Take the weights out of a public checkpoint: Wav2Lip, its lip expert,"
        " AV-HuBERT, SyncNet v2 or TalkLip. Nothing in the file is run.",
    )
    command.add_argument("checkpoint", metavar="FILE", type=Path, help="as its publishers give it")
    add_out(command, "OUT.safetensors", "file of the weights")
    command.add_argument(
        "--licence", metavar="TEXT", help="of these weights (default: the public ones')"
    )
    command.add_argument("--training-data", metavar="TEXT", help="likewise")

    add_evaluate(commands)

    command = add_ablate(commands)
    _add_run(command)
    _add_other_terms(command.add_argument_group("the other terms, the same for every form"))
    _add_hardware(command)
    return whole


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run",
        metavar="NAME",
        default="narrow",
        help="narrow, starter or paper (default: %(default)s)",
    )
    _add_numbers(command)


def _add_objective(command: argparse.ArgumentParser) -> None:
    objective = command.add_argument_group("objective", "what else the generator is judged by")
    objective.add_argument(
        "--expert",
        metavar="FILE",
        type=Path,
        help="lip expert: what expert or import has made",
    )
    objective.add_argument(
        "--sync",
        metavar="FORM",
        help="lip-sync loss: none, unsupervised, visual, multimodal or syncnet (default: the"
        " run's)",
    )
    _add_other_terms(objective)


def _add_other_terms(objective: argparse._ArgumentGroup) -> None:
    objective.add_argument(
        "--perceptual",
        metavar="KIND",
        help="perceptual loss: none, vgg19 or expert (default: the run's)",
    )
    objective.add_argument(
        "--vgg", metavar="FILE", type=Path, help="VGG-19's weights, as torchvision has them"
    )
    objective.add_argument(
        "--adversarial",
        metavar="WEIGHT",
        type=float,
        help="weight of a discriminator's opinion; 0 trains without one (default: the run's)",
    )


def _add_hardware(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="default: %(default)s"
    )
    command.add_argument(
        "--precision", metavar="KIND", help="fp32, bf16 or fp16 (default: the run's)"
    )
    command.add_argument(
        "--clips-a-step", metavar="N", type=count, help="samples of a step, over all processes"
    )
    command.add_argument(
        "--accumulate", metavar="N", type=count, help="parts that they are computed in"
    )


def _add_facts(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--licence", metavar="TEXT", help="of the weights; export asks for it in the checkpoint"
    )
    command.add_argument(
        "--training-data", metavar="TEXT", help="what they were trained on; likewise"
    )


def _add_bf16(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--bf16", action="store_true", help="learn in bfloat16; quicker where the processor has it"
    )


def _add_numbers(command: argparse.ArgumentParser) -> None:
    command.add_argument("--steps", metavar="N", type=count, help="another number of steps")
    command.add_argument("--threads", metavar="N", type=count, help="of torch (default: 1)")
    command.add_argument("--seed", metavar="N", type=whole_number, help="of chance (default: 0)")
