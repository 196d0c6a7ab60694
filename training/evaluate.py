"""Judge a bundle by clips that nobody learnt from.

    python -m training evaluate SPEAKER_CLIPS --others OTHER_CLIPS --bundle DIR

How well the lips follow: the face of one clip gets the voice of another, and the opening of the
generated mouth is set against the opening that the voice's own speaker had. How well the person is
kept: a clip's face gets its own voice, and its crops are set against the real ones. Whether the
face that comes in leaks (``--leakage``): a clip's face gets silence, with its own identity
reference and with another one's. Everything is measured on the pictures that leave the chain,
before any video codec. Finished videos of any system are judged by :mod:`training.scoring`.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.bundle import MANIFEST, Bundle, load_bundle
from engine.errors import ConfigError, MediaError
from engine.files import sha256_of
from training.bench import Bench, ClipFigures, PairFigures, SpeechFigures, judge_speech
from training.clips import is_held_out
from training.leakage import LeakFigures
from training.prepare import find_videos


@dataclass(frozen=True, slots=True)
class Silent:
    """A clip's face with silence and the identity reference of a clip."""

    face: Path
    reference: Path


Job = tuple[Path, Path | None] | Silent
"""A clip's face with another clip's voice, or (None) with its own, or with none at all."""

Judged = PairFigures | ClipFigures | LeakFigures


@dataclass(frozen=True, slots=True)
class Failed:
    """Clips that could not be judged, and why."""

    clips: str
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """All figures of one evaluation.

    Attributes:
        bundle: the bundle's folder name.
        bundle_sha256: of its description, which holds the hashes of all its files.
        speaker: name of the speaker's folder.
        seed: which pairs were drawn.
        pairs: rows of face and voice, by name.
        clips: rows of self-reconstruction, by name.
        leaks: rows of faces driven by silence, by name; none where they were not asked for.
        speech: a finished video, where one was given.
        failed: what could not be judged.
    """

    bundle: str
    bundle_sha256: str
    speaker: str
    seed: int
    pairs: dict[str, list[PairFigures]]
    clips: dict[str, list[ClipFigures]]
    leaks: dict[str, list[LeakFigures]]
    speech: SpeechFigures | None
    failed: list[Failed]


def draw_pairs(
    faces: Sequence[Path], voices: Sequence[Path], count: int, seed: int
) -> list[tuple[Path, Path]]:
    """Draw pairs of a face and another clip's voice, no clip more often than need be.

    Args:
        faces: clips whose face may be taken.
        voices: clips whose voice may be taken.
        count: pairs wanted; fewer come where there are not so many.
        seed: of chance.
    """
    all_pairs = [(f, v) for f in range(len(faces)) for v in range(len(voices))]
    left = [all_pairs[i] for i in np.random.default_rng(seed).permutation(len(all_pairs))]
    left = [(f, v) for f, v in left if faces[f] != voices[v]]
    uses = np.zeros(len(faces)), np.zeros(len(voices))
    drawn = []
    for _ in range(min(count, len(left))):
        at = int(np.argmin([uses[0][f] + uses[1][v] for f, v in left]))
        face, voice = left.pop(at)
        uses[0][face] += 1
        uses[1][voice] += 1
        drawn.append((faces[face], voices[voice]))
    return drawn


_bench: Bench | None = None


def _open_bench(folder: Path) -> None:
    """Load a worker's bench."""
    global _bench
    _bench = Bench(load_bundle(folder))


def _judge_in_worker(job: Job) -> Judged | Failed:
    if _bench is None:
        raise RuntimeError("the worker has no bench")
    return _judge(_bench, job)


def _judge(bench: Bench, job: Job) -> Judged | Failed:
    try:
        match job:
            case Silent(face, reference):
                return bench.silent(face, reference)
            case face, None:
                return bench.clip(face)
            case face, voice:
                return bench.pair(face, voice)
    except MediaError as error:
        return Failed(_clips_of(job), str(error))


def _clips_of(job: Job) -> str:
    match job:
        case Silent(face, reference):
            return f"{face.stem} with {reference.stem}'s reference"
        case face, None:
            return face.stem
        case face, voice:
            return f"{face.stem}+{voice.stem}"


def evaluate(
    speaker_clips: Path,
    other_clips: Path | None,
    bundle: Bundle,
    *,
    pairs: int = 30,
    seed: int = 0,
    workers: int = 1,
    speech: tuple[Path, Path] | None = None,
    leakage: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Judge a bundle.

    Args:
        speaker_clips: folder of videos of the person learnt from; only those count whose name is
            held out (:func:`training.clips.is_held_out`).
        other_clips: folder of videos of people that nobody learnt from; without it the rows about
            them are left out.
        bundle: what to judge.
        pairs: pairs of a row, and clips of a row of self-reconstruction, at most.
        seed: which ones are drawn.
        workers: processes; the figures are the same whatever their number.
        speech: a finished video and the phoneme times of its speech.
        leakage: whether faces are driven by silence as well.
        progress: called with the jobs done and all jobs after each one.

    Raises:
        MediaError: a folder holds no videos, or the speech's files can't be read.
        ConfigError: too few held-out clips, or the face models are missing.
        BundleError: the bundle's graphs can't be run.
    """
    if pairs < 1 or workers < 1:
        raise ConfigError("The numbers of pairs and of workers must be at least 1.")
    own = [path for path in find_videos(speaker_clips) if is_held_out(path.stem)]
    others = [] if other_clips is None else find_videos(other_clips)
    if len(own) < 2:
        raise ConfigError(
            f"{speaker_clips} holds {len(own)} held-out clips (a tenth of all, drawn by name), but"
            " at least 2 are needed: name a folder with more clips."
        )
    spoken = judge_speech(*speech) if speech else None
    name = speaker_clips.resolve().name
    pair_rows = {
        f"{name}'s face, {name}'s voice": draw_pairs(own, own, pairs, seed),
        f"other face, {name}'s voice": draw_pairs(others, own, pairs, seed),
        f"{name}'s face, other voice": draw_pairs(own, others, pairs, seed),
        "other face, other voice": draw_pairs(others, others, pairs, seed),
    }
    chance = np.random.default_rng(seed)
    clip_rows = {
        row: [clips[i] for i in sorted(chance.permutation(len(clips))[:pairs])]
        for row, clips in ((f"{name}, held-out clips", own), ("others", others))
    }
    leak_rows = _leak_rows(name, clip_rows, own, others) if leakage else {}
    jobs: list[tuple[str, Job]] = []
    for row, drawn in pair_rows.items():
        jobs += [(row, pair) for pair in drawn]
    for row, clips in clip_rows.items():
        jobs += [(row, (path, None)) for path in clips]
    for row, silent in leak_rows.items():
        jobs += [(row, job) for job in silent]

    pair_figures: dict[str, list[PairFigures]] = {row: [] for row, d in pair_rows.items() if d}
    clip_figures: dict[str, list[ClipFigures]] = {row: [] for row, d in clip_rows.items() if d}
    leak_figures: dict[str, list[LeakFigures]] = {row: [] for row in leak_rows}
    failed = []
    judged = _judge_all([job for _, job in jobs], bundle, workers)
    for done, ((row, _), figures) in enumerate(zip(jobs, judged, strict=True), 1):
        match figures:
            case PairFigures():
                pair_figures[row].append(figures)
            case ClipFigures():
                clip_figures[row].append(figures)
            case LeakFigures():
                leak_figures[row].append(figures)
            case Failed():
                failed.append(figures)
        if progress is not None:
            progress(done, len(jobs))
    return Report(
        bundle=bundle.folder.name,
        bundle_sha256=sha256_of(bundle.folder / MANIFEST),
        speaker=name,
        seed=seed,
        pairs=pair_figures,
        clips=clip_figures,
        leaks=leak_figures,
        speech=spoken,
        failed=failed,
    )


def _leak_rows(
    speaker: str,
    drawn: Mapping[str, Sequence[Path]],
    own: Sequence[Path],
    others: Sequence[Path],
) -> dict[str, list[Silent]]:
    """Faces with their own identity reference and with that of somebody else, where there are any.

    Without others, the second is that of another clip of the speaker.
    """
    first, second = drawn.values()
    strangers = others or own
    whose = "another person" if others else "another clip"
    rows = {
        f"{speaker}, own reference": [Silent(face, face) for face in first],
        f"{speaker}, reference of {whose}": [
            Silent(face, _other(face, strangers, place)) for place, face in enumerate(first)
        ],
    }
    if second:
        rows["others, own reference"] = [Silent(face, face) for face in second]
        rows[f"others, reference of {speaker}"] = [
            Silent(face, own[place % len(own)]) for place, face in enumerate(second)
        ]
    return rows


def _other(face: Path, clips: Sequence[Path], place: int) -> Path:
    """A clip that is not this one, another from place to place."""
    left = [clip for clip in clips if clip != face]
    return left[place % len(left)]


def _judge_all(jobs: Sequence[Job], bundle: Bundle, workers: int) -> Iterator[Judged | Failed]:
    """Do jobs in order, here or in processes of their own."""
    if workers == 1:
        bench = Bench(bundle)
        yield from (_judge(bench, job) for job in jobs)
        return
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_open_bench, initargs=(bundle.folder,)
    ) as pool:
        yield from pool.map(_judge_in_worker, jobs)
