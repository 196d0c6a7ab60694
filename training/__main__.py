"""``python -m training COMMAND``: make a model, from videos to figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.data

from engine.bundle import STARTER
from engine.errors import ConfigError, LipstreamError, MediaError

SUCCESS, WRONG_USE, INTERRUPTED = 0, 2, 130  # exit codes
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        The exit code: 0, 2 where an input or a setting is wrong, 130 after Ctrl-C.
    """
    arguments = _parser().parse_args(argv)
    try:
        arguments.command(arguments)
    except KeyboardInterrupt:
        print("lipstream-train: stopped; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    except LipstreamError as error:
        print(f"lipstream-train: {error}", file=sys.stderr)
        return WRONG_USE
    return SUCCESS


# The commands import what they need themselves: torch takes seconds that --help need not take.


def _prepare(arguments: argparse.Namespace) -> None:
    from training.prepare import prepare, summary

    skipped = prepare(
        arguments.videos,
        arguments.out,
        resolution=arguments.resolution,
        workers=arguments.workers,
    )
    print(summary(skipped))


def _animate(arguments: argparse.Namespace) -> None:
    from training.animate import animate

    pictures = [path for given in arguments.pictures for path in _images(given)]
    with tempfile.TemporaryDirectory() as folder:
        if arguments.portrait:
            portrait = Path(folder) / "astronaut.png"
            rgb = np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]
            cv2.imwrite(str(portrait), np.ascontiguousarray(rgb[..., ::-1]))
            pictures.append(portrait)
        if not pictures:
            raise MediaError("There is no picture to animate: name pictures, or add --portrait.")
        problems = animate(
            pictures,
            arguments.clips,
            arguments.out,
            clips_each=arguments.clips_each,
            resolution=arguments.resolution,
            seed=arguments.seed,
        )
    for problem in problems:
        print(f"skipped {problem}")
    print(f"animated {len(pictures) - len(problems)} of {len(pictures)} pictures")


def _images(given: Path) -> list[Path]:
    """A picture, or those of a folder in order."""
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.iterdir() if path.suffix.lower() in IMAGES)
    if not found:
        raise MediaError(f"{given} holds no pictures ({', '.join(sorted(IMAGES))}).")
    return found


def _pretrain(arguments: argparse.Namespace) -> None:
    from training.config import run_named
    from training.pretrain import PretrainConfig, pretrain, second_lesson

    run = run_named(arguments.run)
    config = PretrainConfig(
        audio_width=run.generator.audio_width,
        placement=run.placement,
        speakers=tuple(arguments.speakers),
        synthetic=arguments.synthetic,
    )
    if arguments.start is not None:
        config = second_lesson(config, arguments.start)
    path = pretrain(arguments.clips, arguments.out, replace(config, **_overrides(arguments)))
    print(path)


def _train(arguments: argparse.Namespace) -> None:
    from training.config import run_named
    from training.train import Run

    config = replace(run_named(arguments.run), **_overrides(arguments))
    facts = {"licence": arguments.licence, "training_data": arguments.training_data}
    facts = {name: text for name, text in facts.items() if text is not None}
    run = Run(
        arguments.clips, arguments.audio, arguments.out, config, facts=facts, start=arguments.start
    )
    if run.step >= config.steps:
        print(f"the run stands at step {run.step} already; --steps asks for more")
        run.save()  # with the facts of this call
    elif run.step:
        print(f"going on from step {run.step} of {config.steps}", flush=True)
    else:
        print(f"starting; {config.steps} steps", flush=True)
    print(run.train())


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fields of a run's configuration that the command line changes."""
    given = {name: getattr(arguments, name) for name in ("steps", "threads", "seed")}
    return {name: value for name, value in given.items() if value is not None}


def _evaluate(arguments: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from engine.bundle import load_bundle
    from training.evaluate import evaluate
    from training.evaluation_tables import show, write_json

    if arguments.json is not None and not arguments.json.parent.is_dir():
        raise ConfigError(f"The folder {arguments.json.parent} does not exist; create it first.")
    bundle = load_bundle(arguments.bundle)
    columns = BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    errors = Console(stderr=True)
    with Progress(
        "Evaluating", *columns, console=errors, transient=True, disable=not errors.is_terminal
    ) as bar:
        task = bar.add_task("", total=None)
        report = evaluate(
            arguments.videos,
            arguments.others,
            bundle,
            pairs=arguments.pairs,
            seed=arguments.seed,
            workers=arguments.workers,
            speech=arguments.speech_video,
            progress=lambda done, count: bar.update(task, completed=done, total=count),
        )
    show(report, Console())
    if arguments.json is not None:
        write_json(report, arguments.json)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training", description="Make a model.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser(
        "prepare",
        help="videos to prepared clips",
        description="Cut faces and sound out of videos. Each person's videos belong in a folder of"
        " their own, whose name is the speaker's. What is prepared already is kept.",
    )
    command.set_defaults(command=_prepare)
    command.add_argument("videos", metavar="VIDEOS", type=Path, help="folder of videos")
    _add_out(command, "PREPARED", "folder of prepared clips")
    _add_resolution(command)
    command.add_argument("--workers", metavar="N", type=_count, help="processes (default: cores)")

    command = commands.add_parser(
        "animate",
        help="pictures to prepared clips that speak",
        description="Make clips of new people: still pictures with the mouths of prepared clips.",
    )
    command.set_defaults(command=_animate)
    command.add_argument(
        "pictures", metavar="PICTURES", type=Path, nargs="*", help="pictures, or folders of them"
    )
    command.add_argument("clips", metavar="PREPARED", type=Path, help="one speaker's clips")
    _add_out(command, "FOLDER", "folder of the new clips, such as PREPARED/stills")
    command.add_argument(
        "--portrait",
        action="store_true",
        help="also animate the public-domain portrait that scikit-image ships",
    )
    command.add_argument(
        "--clips-each",
        metavar="N",
        type=_count,
        default=24,
        help="clips made of each picture (default: %(default)s)",
    )
    _add_resolution(command)
    command.add_argument(
        "--seed", metavar="N", type=_whole, default=0, help="of chance (default: 0)"
    )

    command = commands.add_parser(
        "pretrain",
        help="teach the audio encoder",
        description="Teach the audio encoder to hear the shape of the mouth.",
    )
    command.set_defaults(command=_pretrain)
    command.add_argument("clips", metavar="PREPARED", type=Path, help="prepared clips")
    _add_out(command, "RUN", "folder of the run: audio.pt and TensorBoard events")
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
        type=_whole,
        default=300,
        help="utterances of synthetic speech; 0 needs no espeak-ng (default: %(default)s)",
    )
    command.add_argument(
        "--start", metavar="AUDIO.pt", type=Path, help="the second lesson, after this one"
    )

    command = commands.add_parser(
        "train",
        help="teach the generator",
        description="Teach the generator. The same command goes on with a run that was stopped.",
    )
    command.set_defaults(command=_train)
    command.add_argument("clips", metavar="PREPARED", type=Path, help="prepared clips")
    command.add_argument(
        "--audio", metavar="AUDIO.pt", type=Path, required=True, help="what pretrain has made"
    )
    _add_out(command, "RUN", "folder of the run: generator.pt and TensorBoard events")
    _add_run(command)
    command.add_argument(
        "--start", metavar="GENERATOR.pt", type=Path, help="begin a new run with these weights"
    )
    command.add_argument(
        "--licence", metavar="TEXT", help="of the weights; export asks for it in the checkpoint"
    )
    command.add_argument(
        "--training-data", metavar="TEXT", help="what they were trained on; likewise"
    )

    command = commands.add_parser(
        "evaluate",
        help="judge a bundle",
        description="Measure how well the lips follow and how well the person is kept.",
    )
    command.set_defaults(command=_evaluate)
    command.add_argument(
        "videos",
        metavar="SPEAKER_CLIPS",
        type=Path,
        help="folder of videos of the person learnt from; the held-out tenth is used",
    )
    command.add_argument(
        "--others", metavar="OTHER_CLIPS", type=Path, help="folder of videos of unseen people"
    )
    command.add_argument(
        "--bundle", metavar="DIR", type=Path, default=STARTER, help="default: the starter"
    )
    command.add_argument(
        "--pairs",
        metavar="N",
        type=_count,
        default=30,
        help="pairs of a row at most (default: %(default)s)",
    )
    command.add_argument(
        "--speech-video",
        metavar=("VIDEO", "PHONEMES.json"),
        type=Path,
        nargs=2,
        help="also judge a finished video by the phoneme times of its speech",
    )
    command.add_argument("--json", metavar="OUT", type=Path, help="write all figures")
    command.add_argument("--workers", metavar="N", type=_count, default=1, help="processes")
    command.add_argument("--seed", metavar="N", type=_whole, default=0, help="of the pairs drawn")
    return parser


def _add_out(command: argparse.ArgumentParser, metavar: str, text: str) -> None:
    command.add_argument("-o", "--out", metavar=metavar, type=Path, required=True, help=text)


def _add_resolution(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--resolution",
        metavar="PX",
        type=_count,
        default=96,
        help="side of the crops (default: %(default)s)",
    )


def _add_run(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--run",
        metavar="NAME",
        default="narrow",
        help="narrow, starter or paper (default: %(default)s)",
    )
    command.add_argument("--steps", metavar="N", type=_count, help="another number of steps")
    command.add_argument("--threads", metavar="N", type=_count, help="of torch (default: 1)")
    command.add_argument("--seed", metavar="N", type=_whole, help="of chance (default: 0)")


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
