"""``python -m training COMMAND``: make a model, from videos to figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import skimage.data

from engine.errors import LipstreamError, MediaError
from training.ablate_command import run as run_ablate
from training.calibrate_command import run as run_calibrate
from training.command_line import parser
from training.contrast_command import run as run_contrast
from training.evaluate_command import run as run_evaluate
from training.personalize_command import run as run_personalize
from training.prepare_command import run as run_prepare
from training.shards_command import run as run_shards
from training.terminal import check_folders, progress

SUCCESS, WRONG_USE, INTERRUPTED = 0, 2, 130  # exit codes
IMAGES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}


def main(argv: list[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the words after the program's name; the process's own by default.

    Returns:
        The exit code: 0, 2 where an input or a setting is wrong, 130 after Ctrl-C.
    """
    arguments = parser().parse_args(argv)
    try:
        COMMANDS[arguments.command](arguments)
    except KeyboardInterrupt:
        print("lipstream-train: stopped; the same command goes on.", file=sys.stderr)
        return INTERRUPTED
    except LipstreamError as error:
        print(f"lipstream-train: {error}", file=sys.stderr)
        return WRONG_USE
    return SUCCESS


# The commands import what they need themselves: torch takes seconds that --help need not take.


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
            blends=arguments.blends,
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
        voices=arguments.voices,
        bf16=arguments.bf16,
    )
    if arguments.start is not None:
        config = second_lesson(config, arguments.start)
    path = pretrain(arguments.clips, arguments.out, replace(config, **_overrides(arguments)))
    print(path)


def _train(arguments: argparse.Namespace) -> None:
    from training.config import run_named
    from training.hardware import hardware
    from training.objective import NetworkFiles
    from training.train import Run

    named = run_named(arguments.run)
    changes, given = _changes(arguments)
    config = replace(named, objective=replace(named.objective, **given), **changes)
    with hardware(arguments.device) as place:
        run = Run(
            arguments.clips,
            arguments.audio,
            arguments.out,
            config,
            facts=_facts(arguments),
            start=arguments.start,
            files=NetworkFiles(expert=arguments.expert, vgg=arguments.vgg),
            hardware=place,
        )
        if place.writes:
            _say_start(run.step, config.steps)
        if run.step >= config.steps:
            run.save()  # with the facts of this call
        path = run.train()
        if place.writes:
            print(path)


def _personalize(arguments: argparse.Namespace) -> None:
    changes, objective = _changes(arguments)
    run_personalize(arguments, changes, objective, _facts(arguments))


def _ablate(arguments: argparse.Namespace) -> None:
    from training.config import run_named

    named = run_named(arguments.run)
    changes, given = _changes(arguments)
    run_ablate(arguments, replace(named, objective=replace(named.objective, **given), **changes))


def _regions(arguments: argparse.Namespace) -> None:
    from training.prepare import summary
    from training.regions import prepare_regions

    print(summary(prepare_regions(arguments.videos, arguments.out, workers=arguments.workers)))


def _expert(arguments: argparse.Namespace) -> None:
    from training.expert import ExpertConfig, ExpertRun

    config = replace(
        ExpertConfig(judge=tuple(arguments.judge), bf16=arguments.bf16), **_overrides(arguments)
    )
    run = ExpertRun(arguments.regions, arguments.out, config, facts=_facts(arguments))
    _say_start(run.step, config.steps)
    if run.step >= config.steps:
        run.save()  # with the facts of this call
    print(run.train())


def _expert_report(arguments: argparse.Namespace) -> None:
    from rich.console import Console

    from training.expert_evaluation import judge_expert
    from training.expert_tables import show, write_json, write_markdown

    check_folders(arguments.json, arguments.markdown)
    with progress() as advance:
        report = judge_expert(arguments.expert, arguments.regions, progress=advance)
    show(report, Console())
    if arguments.json is not None:
        write_json(report, arguments.json)
    if arguments.markdown is not None:
        write_markdown(report, arguments.markdown)


def _facts(arguments: argparse.Namespace) -> dict[str, str]:
    """What the user says of the weights."""
    facts = {"licence": arguments.licence, "training_data": arguments.training_data}
    return {name: text for name, text in facts.items() if text is not None}


def _say_start(step: int, steps: int) -> None:
    if step >= steps:
        print(f"the run stands at step {step} already; --steps asks for more")
    elif step:
        print(f"going on from step {step} of {steps}", flush=True)
    else:
        print(f"starting; {steps} steps", flush=True)


def _overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Fields of a run's configuration that the command line changes."""
    return _given(arguments, "steps", "threads", "seed")


def _changes(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Likewise of a generator's run, and of its objective."""
    changes = _overrides(arguments) | _given(arguments, "precision", "accumulate", "clips_a_step")
    if "clips_a_step" in changes:
        changes["clips"] = changes.pop("clips_a_step")
    return changes, _given(arguments, "perceptual", "sync", "adversarial")


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of some flags that the user has set."""
    given = {name: getattr(arguments, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _import(arguments: argparse.Namespace) -> None:
    from training.importing import import_checkpoint

    imported = import_checkpoint(
        arguments.checkpoint,
        arguments.out,
        licence=arguments.licence,
        training_data=arguments.training_data,
    )
    print(imported.summary(arguments.out))


COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], None]]] = {
    "prepare": run_prepare,
    "animate": _animate,
    "shards": run_shards,
    "pretrain": _pretrain,
    "train": _train,
    "personalize": _personalize,
    "regions": _regions,
    "expert": _expert,
    "expert-report": _expert_report,
    "import": _import,
    "calibrate": run_calibrate,
    "contrast": run_contrast,
    "evaluate": run_evaluate,
    "ablate": _ablate,
}


if __name__ == "__main__":
    sys.exit(main())
