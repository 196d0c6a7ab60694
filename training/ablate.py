"""The paper's ablation (Table 4): one generator for each form of the lip-sync loss, all else equal.

    python -m training ablate PREPARED --truth VIDEOS --audio AUDIO.pt --expert EXPERT.pt -o FOLDER

Every form is a run of its own in ``FOLDER/<form>``, with the same seed, start, samples, steps and
other terms. The baseline's lip expert is taught on the same clips in ``FOLDER/syncnet-colour``
where none is given. Then each generator gives held-out clips their own sound (self-reconstruction,
as in the paper's tables), and the videos are scored. What is finished is kept, so the same command
goes on; ``plan.json`` holds what must stay the same, ``times.json`` what was spent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch

from engine.errors import ConfigError
from engine.lip_expert import AROUND, Expert
from engine.mouth_region import INNER
from training.ablate_plan import (
    COLOUR,
    PLAN,
    TIMES,
    TITLES,
    Settings,
    Times,
    digest,
    judged_videos,
    keep_plan,
    learnt_clips,
    plan_of,
)
from training.ablate_videos import write_videos
from training.avhubert import AvHubert
from training.colour_expert import FILE as COLOUR_FILE
from training.colour_expert import ColourRun
from training.config import SyncForm
from training.hardware import Hardware
from training.objective import NetworkFiles, open_expert
from training.prepare import worker_models
from training.scoring.judges import Judges, open_judges
from training.scoring.systems import Scores, score
from training.train import Run
from training.wav2lip import SyncNetColour

VIDEOS: Final = "videos"
_SAVE_EVERY: Final = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Taught:
    """The runs of an ablation, all at their last step.

    Attributes:
        checkpoints: of the forms, in the order of the table.
        judges: who will judge, the teacher first; each set has one lip expert.
        videos: the held-out videos, by name.
        budget: what every form was given, as plain values.
    """

    checkpoints: dict[SyncForm, Path]
    judges: list[Judges]
    videos: dict[str, Path]
    budget: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Judged:
    """The table as one lip expert fills it.

    Attributes:
        expert: its name.
        teacher: whether it taught the three forms that ask an AV-HuBERT.
        scores: the figures.
    """

    expert: str
    teacher: bool
    scores: Scores


@dataclass(frozen=True, kw_only=True, slots=True)
class Ablation:
    """All that came of an ablation.

    Attributes:
        budget: what every form was given, as plain values.
        videos: folder of each row's videos, by the row's title.
        judged: the table by each lip expert, the teacher first.
        left_out: clips that could not be made, and why.
    """

    budget: dict[str, Any]
    videos: dict[str, Path]
    judged: list[Judged]
    left_out: dict[str, str]


def teach(settings: Settings, hardware: Hardware, say: Callable[[str], None]) -> Taught:
    """Look at all that is given, then teach every form to its last step.

    Args:
        settings: the ablation.
        hardware: this process's place; there is one process.
        say: told what begins.

    Raises:
        ConfigError: too few held-out clips, networks that are missing or others than they must be,
            a folder of another ablation, or the face models are missing.
        MediaError: ``truth`` holds no videos.
        BundleError: a judge's bundle can't be used.
    """
    hardware.check(settings.config.precision)
    torch.set_num_threads(settings.config.threads)
    videos = judged_videos(settings)
    judges = _open_all(settings)
    worker_models()
    plan = _keep_plan(settings)
    times = Times(settings.folder / TIMES)
    # The baseline comes last: its expert's lesson would hide what is wrong with the other runs.
    forms = sorted(settings.forms, key=lambda form: form == "syncnet")
    if forms == ["syncnet"]:
        _run(settings, "none", hardware, None)
    taught: dict[str, Any] = {}
    checkpoints: dict[SyncForm, Path] = {}
    for form in forms:
        colour = settings.colour
        if form == "syncnet" and colour is None:
            colour, told_apart = _teach_colour(settings, hardware, times, say)
            taught = plan[COLOUR] | times.of(COLOUR) | {"told_apart": told_apart}
        _keep_plan(settings)  # clips may have come or gone while the form before was taught
        run = _run(settings, form, hardware, colour)
        say(f"{form}: step {run.step} of {settings.config.steps}")
        with times.counting(form, lambda: run.step):  # noqa: B023, called within
            checkpoints[form] = run.train()
    ordered: list[SyncForm] = [form for form in TITLES if form in checkpoints]
    budget = plan | {
        "threads": settings.config.threads,
        "device": hardware.device.type,
        "clips_judged": sorted(videos),
        "forms": {form: times.of(form) | digest(checkpoints[form]) for form in ordered},
    }
    return Taught(
        checkpoints={form: checkpoints[form] for form in ordered},
        judges=judges,
        videos=videos,
        budget=budget | ({COLOUR: taught} if taught else {}),
    )


def judge(
    settings: Settings,
    taught: Taught,
    hardware: Hardware,
    progress: Callable[[int, int], None] | None = None,
) -> Ablation:
    """Make the videos and score them.

    Args:
        settings: the ablation.
        taught: its runs.
        hardware: this process's place.
        progress: called with the clips done and all clips while they are made, and by each judge.
    """
    folders = {TITLES[form]: settings.folder / form / VIDEOS for form in taught.checkpoints}
    left_out = write_videos(
        taught.videos,
        dict(zip(folders.values(), taught.checkpoints.values(), strict=True)),
        hardware.device,
        progress,
    )
    judged = [
        Judged(
            expert=judges.experts[0].name,
            teacher=place == 0,
            scores=score(
                folders, settings.truth, judges, seed=settings.config.seed, progress=progress
            ),
        )
        for place, judges in enumerate(taught.judges)
    ]
    return Ablation(budget=taught.budget, videos=folders, judged=judged, left_out=left_out)


def _keep_plan(settings: Settings) -> dict[str, Any]:
    """The plan of the ablation, if it is still what it began with."""
    plan = plan_of(settings, learnt_clips(settings.clips, settings.config))
    keep_plan(settings.folder / PLAN, plan)
    return plan


def _open_all(settings: Settings) -> list[Judges]:
    """One set of judges for each lip expert, the teacher first; and the baseline's is looked at."""
    if not isinstance(open_expert(settings.expert), AvHubert):
        raise ConfigError(
            f"{settings.expert} is no AV-HuBERT, which three of the forms learn from and whose"
            " scores the table holds: name what `python -m training expert` has made, or an"
            " imported one, and give Wav2Lip's lip expert with --syncnet-colour."
        )
    if settings.colour is not None and not isinstance(open_expert(settings.colour), SyncNetColour):
        raise ConfigError(
            f"{settings.colour} is not Wav2Lip's lip expert, which the baseline learns from:"
            " import one, or leave --syncnet-colour out and it is taught here."
        )
    given = settings.judges
    plain = replace(given, experts=(), bundles=())
    teacher = open_judges(replace(plain, experts=(settings.expert,)))
    others = [open_judges(replace(plain, experts=(path,))) for path in given.experts]
    others += [open_judges(replace(plain, bundles=(path,))) for path in given.bundles]
    for other, path in zip(others, (*given.experts, *given.bundles), strict=True):
        if _alike(teacher.experts[0], other.experts[0]):
            raise ConfigError(
                f"The lip expert of {path} is the one that teaches, {settings.expert.name}, which"
                " judges anyway: name one that had no part in training, or leave it out."
            )
    return [teacher, *others]


def _alike(one: Expert, other: Expert) -> bool:
    """Whether two lip experts are the same network: they see the same in noise."""
    noise = np.random.default_rng(0).normal(size=(1 + 2 * AROUND, INNER, INNER))
    seen, other_seen = (expert.watch(noise.astype(np.float32)) for expert in (one, other))
    if seen.shape != other_seen.shape:
        return False
    return bool(np.abs(seen - other_seen).max() < 0.01 * np.abs(seen).max())


def _run(settings: Settings, form: SyncForm, hardware: Hardware, colour: Path | None) -> Run:
    config = settings.config
    return Run(
        settings.clips,
        settings.audio,
        settings.folder / form,
        replace(
            config,
            objective=replace(config.objective, sync=form),
            save_every=min(config.save_every, _SAVE_EVERY),
        ),
        start=settings.start,
        files=NetworkFiles(expert=settings.expert, vgg=settings.vgg, colour=colour),
        hardware=hardware,
    )


def _teach_colour(
    settings: Settings, hardware: Hardware, times: Times, say: Callable[[str], None]
) -> tuple[Path, float | None]:
    """The baseline's lip expert, and how well it tells held-out pairs apart."""
    run = ColourRun(settings.clips, settings.folder / COLOUR, settings.lesson, hardware=hardware)
    path = settings.folder / COLOUR / COLOUR_FILE
    if run.step < run.config.steps or not path.is_file():
        say(f"{COLOUR}: step {run.step} of {run.config.steps}")
        with times.counting(COLOUR, lambda: run.step):
            path = run.train()
    return path, run.told_apart()
