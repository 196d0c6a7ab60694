"""What an ablation is asked for, what must stay the same when it goes on, and what it has taken."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from engine.bundle import MANIFEST
from engine.errors import ConfigError
from engine.files import sha256_of, write_whole
from training.clips import find_clips, is_held_out, read_clip
from training.colour_expert import ColourConfig
from training.config import SyncForm, TrainConfig
from training.pairs import OTHERS
from training.scoring.judges import JudgeFiles
from training.scoring.systems import named_videos
from training.tables import write_values
from training.terminal import make_folder

TITLES: Final[Mapping[SyncForm, str]] = {
    "none": "No lip-sync loss (not in the paper)",
    "syncnet": "Baseline",
    "visual": "Visual-visual",
    "multimodal": "Multimodal",
    "unsupervised": "Unsupervised",
}
"""The rows of the table in the paper's order, under its names."""

COLOUR: Final = "syncnet-colour"
PLAN: Final = "plan.json"
TIMES: Final = "times.json"
LEAST_CLIPS: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """One ablation.

    Attributes:
        clips: prepared clips to learn from.
        truth: folder of videos; those whose name is held out are judged.
        audio: the pretrained audio encoder, as ``train`` takes it.
        expert: the AV-HuBERT that teaches and, as in the paper, judges.
        folder: of runs, videos and figures.
        config: the runs', but for the form of the lip-sync loss.
        forms: rows of the table.
        start: weights that every form starts from, as ``train`` takes them.
        vgg: VGG-19's weights, where the runs ask for it.
        colour: Wav2Lip's lip expert, imported; without it one is taught here.
        lesson: of that one.
        judges: other lip experts, and the weights of SyncNet v2 and FID's Inception.
        count: clips that are judged at most, drawn by the seed.
    """

    clips: Path
    truth: Path
    audio: Path
    expert: Path
    folder: Path
    config: TrainConfig
    forms: tuple[SyncForm, ...]
    start: Path | None = None
    vgg: Path | None = None
    colour: Path | None = None
    lesson: ColourConfig = field(default_factory=ColourConfig)
    judges: JudgeFiles = field(default_factory=JudgeFiles)
    count: int = 30


def judged_videos(settings: Settings) -> dict[str, Path]:
    """The held-out videos, by name.

    Raises:
        ConfigError: there are too few.
        MediaError: there are no videos.
    """
    held_out = {n: p for n, p in named_videos(settings.truth).items() if is_held_out(p.stem)}
    if len(held_out) < LEAST_CLIPS:
        raise ConfigError(
            f"{settings.truth} holds {len(held_out)} held-out clips (a tenth of all, drawn by"
            f" name), but at least {LEAST_CLIPS} are needed: name a folder with more videos."
        )
    names = sorted(held_out)
    drawn = np.random.default_rng(settings.config.seed).permutation(len(names))[: settings.count]
    return {names[i]: held_out[names[i]] for i in sorted(drawn)}


def learnt_clips(root: Path, config: TrainConfig) -> list[str]:
    """Names of the prepared clips that samples are drawn from, the speaker's before each.

    Raises:
        ConfigError: there are none.
    """
    infos = [read_clip(path).info for path in find_clips(root) if not is_held_out(path.name)]
    wanted = [i for i in infos if i.speaker in config.speakers or OTHERS in config.speakers]
    return sorted(f"{info.speaker}/{info.name}" for info in wanted)


def lesson_for(config: TrainConfig, steps: int) -> ColourConfig:
    """The lesson of the baseline's lip expert, under the runs' conditions."""
    return ColourConfig(
        augment=config.augment,
        steps=steps,
        precision=config.precision,
        seed=config.seed,
        threads=config.threads,
    )


def plan_of(settings: Settings, learnt: Sequence[str]) -> dict[str, Any]:
    """What must be the same when an ablation goes on, as plain values."""
    config = settings.config.to_dict()
    for free in ("threads", "save_every"):
        del config[free]
    del config["objective"]["sync"]
    return {
        "config": config,
        "clips": {
            "learnt": len(learnt),
            "speakers": sorted({name.split("/")[0] for name in learnt}),
            "names_sha256": hashlib.sha256("\n".join(learnt).encode()).hexdigest(),
        },
        "audio": digest(settings.audio),
        "start": None if settings.start is None else digest(settings.start),
        "expert": digest(settings.expert),
        "vgg": None if settings.vgg is None else digest(settings.vgg),
        COLOUR: _colour_plan(settings),
    }


def _colour_plan(settings: Settings) -> dict[str, Any]:
    if settings.colour is not None:
        return digest(settings.colour)
    lesson = settings.lesson
    return {"steps": lesson.steps, "clips": lesson.clips, "windows": lesson.windows}


def digest(path: Path) -> dict[str, Any]:
    """A file's or bundle's name and hash.

    Raises:
        ConfigError: there is none.
    """
    file = path / MANIFEST if path.is_dir() else path
    if not file.is_file():
        raise ConfigError(f"There is nothing at {file}: name what training has made.")
    return {"name": path.name, "sha256": sha256_of(file)}


def keep_plan(path: Path, plan: Mapping[str, Any]) -> None:
    """Write the plan of a new ablation, or compare it with that of the one that is there.

    Raises:
        ConfigError: another ablation is there, or the folder can't be written to.
    """
    wanted = json.loads(json.dumps(plan))
    if path.is_file():
        stored = _read(path)
        differs = sorted(name for name in wanted if stored.get(name) != wanted[name])
        if differs:
            raise ConfigError(
                f"{path.parent} holds another ablation (different: {', '.join(differs)}): put back"
                " what has changed, or name another folder with -o."
            )
        return
    make_folder(path.parent)
    write_values(path, wanted)


def _read(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{path} can't be read ({error}); name another folder with -o."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds something else; name another folder with -o.")
    return values


class Times:
    """What each run has taken, over all calls; a call that was killed is not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spent: dict[str, Any] = _read(path) if path.is_file() else {}

    @contextmanager
    def counting(self, name: str, step: Callable[[], int]) -> Iterator[None]:
        """Count the time and the steps of what is done within, also where it is broken off."""
        started, first = time.monotonic(), step()
        try:
            yield
        finally:
            spent = self._spent.setdefault(name, {"wall_s": 0.0, "steps": 0})
            made = step() - first
            if made:
                spent["wall_s"] += time.monotonic() - started
                spent["steps"] += made
            write_whole(self._path, json.dumps(self._spent, indent=1) + "\n")

    def of(self, name: str) -> dict[str, Any]:
        """Wall time of a run in seconds, and per step; None where nothing was counted."""
        spent = self._spent.get(name, {"wall_s": 0.0, "steps": 0})
        steps, wall_s = spent["steps"], spent["wall_s"]
        return {
            "wall_s": round(wall_s, 1) if steps else None,
            "step_s": round(wall_s / steps, 3) if steps else None,
        }
