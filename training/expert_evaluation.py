"""Judge a lip expert by clips that it did not learn from.

    python -m training expert-report RUN/expert.pt REGIONS

Speech is moved against the lips by known offsets and must be found again; lips are set against
their own sound and against that of other clips; a picture that stands still and a sound that is
muted must not match. Everything is measured for both forms of the mouth region: the causal one is
what live use has.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.files import sha256_of
from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import Alone
from engine.lip_sync import avs, estimate_offset
from training.avhubert import AvHubert
from training.expert_features import (
    clip_alone,
    expert_checkpoint,
    expert_network,
    hear_alone,
    watch_alone,
)
from training.regions import FORMS, Form, RegionFile, find_regions
from training.sync_samples import TENTH

MOST_IMPOSED: Final = 7
"""Frames either way by which speech is moved."""
OTHERS: Final = 10
"""Other clips whose sound a clip's lips are set against."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFigures:
    """What the expert says of one clip.

    Attributes:
        clip: speaker and name.
        learnt: whether the expert learnt from it.
        found: offset found less offset imposed, in frames, for each from −7 to +7.
        confidence: of the offset with the sound in place.
        matching: AVSu with its own sound.
        others: AVSu with the sound of other clips of its folder.
        others_confidence: of the offsets that are found with these.
        frozen: AVSu of one picture held all the time with the clip's sound.
        muted: AVSu of the lips with digital silence.
    """

    clip: str
    learnt: bool
    found: tuple[int, ...]
    confidence: float
    matching: float
    others: tuple[float, ...]
    others_confidence: tuple[float, ...]
    frozen: float
    muted: float

    def share_within(self, frames: int) -> float:
        """Share of the imposed offsets that are found to so many frames."""
        return float(np.mean(np.abs(self.found) <= frames))


@dataclass(frozen=True, kw_only=True, slots=True)
class ExpertReport:
    """All figures of one lip expert.

    Attributes:
        expert: the checkpoint's file name.
        sha256: of the file.
        step: of the run.
        speakers: by the speaker's name: the unseen clips of those with ten clips or more.
        single: the clips of the other speakers, learnt or not.
    """

    expert: str
    sha256: str
    step: int
    speakers: dict[str, dict[Form, list[ClipFigures]]]
    single: dict[Form, list[ClipFigures]]


def judge_expert(
    expert: Path, regions: Path, *, progress: Callable[[int, int], None] | None = None
) -> ExpertReport:
    """Judge a lip expert.

    Args:
        expert: checkpoint of ``python -m training expert``.
        regions: folder of prepared mouth regions, those that the run had.
        progress: called with the clips done and all clips after each one.

    Raises:
        ConfigError: no lip expert, or no clips that it did not learn from.
    """
    checkpoint = expert_checkpoint(expert)
    model, training = expert_network(checkpoint), checkpoint.training
    kept = set(training["kept"])
    files = find_regions(regions)
    counts = Counter(file.speaker for file in files)
    groups: dict[str, list[RegionFile]] = {}
    for file in files:
        if counts[file.speaker] < TENTH or _title(file) in kept:
            groups.setdefault(file.speaker, []).append(file)
    if not any(_title(file) in kept for own in groups.values() for file in own):
        raise ConfigError(
            f"{regions} holds no clip that {expert} did not learn from: name the folder that the"
            " run had."
        )
    every, done = sum(map(len, groups.values())) * len(FORMS), 0
    speakers: dict[str, dict[Form, list[ClipFigures]]] = {}
    single: dict[Form, list[ClipFigures]] = {form: [] for form in FORMS}
    for speaker, own in groups.items():
        for form in FORMS:
            figures = []
            alone = [clip_alone(model, file.lips(form), file.sound()) for file in own]
            for place, file in enumerate(own):
                learnt = _title(file) not in kept
                others = [alone[(place + n) % len(own)] for n in range(1, OTHERS + 1)][
                    : len(own) - 1
                ]
                figures.append(_judge(model, file, form, alone[place], others, learnt=learnt))
                done += 1
                if progress is not None:
                    progress(done, every)
            if counts[speaker] < TENTH:
                single[form] += figures
            else:
                speakers.setdefault(speaker, {})[form] = figures
    return ExpertReport(
        expert=expert.name,
        sha256=sha256_of(expert),
        step=int(training["step"]),
        speakers=speakers,
        single=single,
    )


def _title(file: RegionFile) -> str:
    return f"{file.speaker}/{file.name}"


def _judge(
    model: AvHubert,
    file: RegionFile,
    form: Form,
    alone: Alone,
    others: Sequence[Alone],
    *,
    learnt: bool,
) -> ClipFigures:
    regions, samples = file.lips(form), file.sound()
    found = []
    for offset in range(-MOST_IMPOSED, MOST_IMPOSED + 1):
        heard = hear_alone(model, late(samples, offset * ROW_SAMPLES), len(regions))
        found.append(estimate_offset(heard, alone.lips).frames - offset)
    still = np.repeat(regions[len(regions) // 2, None], len(regions), axis=0)
    silence = hear_alone(model, np.zeros_like(samples), len(regions))
    shared = [min(len(other.sound), len(alone.lips)) for other in others]
    pairs = [(o.sound[:n], alone.lips[:n]) for o, n in zip(others, shared, strict=True)]
    return ClipFigures(
        clip=_title(file),
        learnt=learnt,
        found=tuple(found),
        confidence=estimate_offset(alone.sound, alone.lips).confidence,
        matching=avs(alone.lips, alone.sound),
        others=tuple(avs(lips, sound) for sound, lips in pairs),
        others_confidence=tuple(estimate_offset(*pair).confidence for pair in pairs),
        frozen=avs(watch_alone(model, still), alone.sound),
        muted=avs(alone.lips, silence),
    )


def late(samples: NDArray[np.float32], by: int) -> NDArray[np.float32]:
    """A sound (n,) that comes so many samples later, or earlier; silence fills its end."""
    moved = np.zeros_like(samples)
    if by >= 0:
        moved[by:] = samples[: len(samples) - by]
    else:
        moved[:by] = samples[-by:]
    return moved


@dataclass(frozen=True, kw_only=True, slots=True)
class Thresholds:
    """Where own and foreign sound part.

    Each is halfway between the value that 5 % of clips do not reach with their own sound and the
    one that 5 % exceed with another's.

    Attributes:
        matching: AVSu from which lips and speech belong together.
        confident: confidence from which an offset counts.
    """

    matching: float
    confident: float


def thresholds(clips: Sequence[ClipFigures]) -> Thresholds | None:
    """Thresholds by unseen clips; None where there is a single one, which has no others."""
    if not any(clip.others for clip in clips):
        return None

    def between(own: list[float], foreign: list[float]) -> float:
        return float(np.percentile(own, 5) + np.percentile(foreign, 95)) / 2

    return Thresholds(
        matching=between([c.matching for c in clips], [v for c in clips for v in c.others]),
        confident=between(
            [c.confidence for c in clips], [v for c in clips for v in c.others_confidence]
        ),
    )


def judge_quickly(
    model: AvHubert, files: Sequence[RegionFile], count: int = 20
) -> dict[str, float]:
    """A few figures while a run learns.

    Args:
        model: the expert, in ``eval``.
        files: clips that it does not learn from, one or more.
        count: of clips at most.

    Returns:
        ``within_1``, the share of clips whose offset is found to a frame, ``matching`` and
        ``shuffled``, the mean AVSu of clips with their own sound and with another's.
    """
    some = files[:: max(1, len(files) // count)][:count]
    alone = [clip_alone(model, file.lips("reference"), file.sound()) for file in some]
    found = [abs(estimate_offset(a.sound, a.lips).frames) <= 1 for a in alone]
    shuffled = []
    for own, other in zip(alone, [*alone[1:], alone[0]], strict=True):
        shared = min(len(own.lips), len(other.sound))
        shuffled.append(avs(own.lips[:shared], other.sound[:shared]))
    return {
        "within_1": float(np.mean(found)),
        "matching": float(np.mean([avs(a.lips, a.sound) for a in alone])),
        "shuffled": float(np.mean(shuffled)),
    }
