"""Score any systems' videos by file name, between a floor and a ceiling.

The floor are unrelated pairs of true videos: another clip's face, laid on the true one, takes the
place of the generated one, and its lips are heard with this clip's sound. The ceiling are the true
videos against themselves, as one more system, so through every codec setting too.
"""

from __future__ import annotations

import math
import multiprocessing
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from training.prepare import find_videos
from training.scoring.codec import through_vp8
from training.scoring.film import sound_of
from training.scoring.frechet import frechet_distance
from training.scoring.intervals import NOTHING, SEED, Estimate, mean_of, of_sets
from training.scoring.judges import JudgeFiles, Judges, open_judges
from training.scoring.pair import METRICS, Compared, Side, compare, crop_features, look, matrices_of

CEILING: Final = "ceiling: the true videos"
FLOOR: Final = "floor: unrelated true videos"
_REMEMBERED: Final = 2  # true videos that were watched
_TURNS: Final = 4  # of each process: the last ones end at about the same time


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip's figures in a row.

    Attributes:
        name: of the file, from its folder on and without its ending.
        compared: what was found.
    """

    name: str
    compared: Compared


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One row of the tables.

    Attributes:
        system: its name.
        kbps: of VP8 that its videos went through; None where they are as they are.
        clips: each one's figures.
        figures: of the set, by metric.
    """

    system: str
    kbps: int | None
    clips: list[Clip]
    figures: dict[str, Estimate]

    @property
    def title(self) -> str:
        """For tables."""
        return self.system if self.kbps is None else f"{self.system}, VP8 {self.kbps} kbit/s"


@dataclass(frozen=True, kw_only=True, slots=True)
class Scores:
    """All figures of an evaluation of videos.

    Attributes:
        truth: name of the folder of true videos.
        seed: of the unrelated pairs and of the intervals.
        judges: which networks judged, with their hashes.
        rows: the systems, then ceiling and floor.
        left_out: what could not be scored, and why.
    """

    truth: str
    seed: int
    judges: dict[str, str]
    rows: list[Row]
    left_out: dict[str, str]


_Place = tuple[str, int | None]
"""A row: its system and VP8 rate."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """One clip: its true video, each system's, and an unrelated true one."""

    name: str
    true: Path
    videos: dict[str, Path]
    unrelated: Path | None


@dataclass(frozen=True, slots=True)
class _Done:
    """A clip's figures and FID's features of it (generated, true) by row, and what failed."""

    clips: dict[_Place, Compared] = field(default_factory=dict)
    features: dict[_Place, tuple[NDArray[np.float32], NDArray[np.float32]]] = field(
        default_factory=dict
    )
    left_out: dict[str, str] = field(default_factory=dict)


def named_videos(folder: Path) -> dict[str, Path]:
    """A folder's videos by their names: the way from the folder, without the ending.

    Raises:
        MediaError: it is no folder or holds no videos.
        ConfigError: two of them have one name.
    """
    found: dict[str, Path] = {}
    for path in find_videos(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            raise ConfigError(f"{folder} holds two videos named {name}; remove one of them.")
        found[name] = path
    return found


def score(
    generated: Mapping[str, Path],
    truth: Path,
    judges: Judges,
    *,
    codec_kbps: Sequence[int] = (),
    seed: int = SEED,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Scores:
    """Score systems' videos against the true ones of the same names.

    Args:
        generated: folder of each system's videos.
        truth: folder of the true videos.
        judges: who is asked; metrics whose judge is missing stay empty.
        codec_kbps: rates of VP8 at which everything is scored once more.
        seed: of the unrelated pairs and the intervals.
        workers: processes; more than one open the judges' files for themselves.
        progress: called with the clips done and all clips after each one.

    Raises:
        MediaError: a folder holds no videos.
        ConfigError: a system has no video whose name is a true one's.
    """
    true_videos = named_videos(truth)
    folders = {system: named_videos(folder) for system, folder in generated.items()}
    for system, videos in folders.items():
        if not videos.keys() & true_videos.keys():
            raise ConfigError(
                f"No video of {system} has the name of one in {truth}; name them alike."
            )
    left_out = {
        f"{system}: {name}": f"there is no video {name} in {truth}."
        for system, videos in folders.items()
        for name in videos
        if name not in true_videos
    }
    wanted = [name for name in true_videos if any(name in videos for videos in folders.values())]
    left_out |= {
        f"{system}: {name}": "it has no such video."
        for system, videos in folders.items()
        for name in wanted
        if name not in videos
    }
    # Unrelated are neighbours in an order of chance, each clip with the one before it.
    order = [wanted[i] for i in np.random.default_rng(seed).permutation(len(wanted))]
    jobs = [
        _Job(
            name=name,
            true=true_videos[name],
            videos={s: paths[name] for s, paths in folders.items() if name in paths},
            unrelated=true_videos[before] if before != name else None,
        )
        for before, name in zip([order[-1], *order], order, strict=False)
    ]
    found: dict[str, _Done] = {}
    for job, done in zip(jobs, _do_all(jobs, judges, codec_kbps, workers), strict=True):
        found[job.name] = done
        left_out |= done.left_out
        if progress is not None:
            progress(len(found), len(jobs))
    places: list[_Place] = [
        (system, kbps) for system in (*generated, CEILING) for kbps in (None, *codec_kbps)
    ]
    return Scores(
        truth=truth.resolve().name,
        seed=seed,
        judges=judges.names,
        rows=[_row(place, found, seed) for place in (*places, (FLOOR, None))],
        left_out=left_out,
    )


def _do_all(
    jobs: Sequence[_Job], judges: Judges, codec_kbps: Sequence[int], workers: int
) -> Iterator[_Done]:
    """Do jobs in order, here or in processes of their own."""
    if workers == 1:
        yield from map(_Scoring(judges, codec_kbps), jobs)
        return
    if judges.files is None:
        raise ValueError("processes of their own need judges that were opened from files")
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    # Neighbours stay together: the second finds the first one's true video watched.
    together = math.ceil(len(jobs) / (_TURNS * workers))
    with ProcessPoolExecutor(
        workers, mp_context=context, initializer=_open_worker, initargs=(judges.files, codec_kbps)
    ) as pool:
        yield from pool.map(_do_in_worker, jobs, chunksize=together)


_scoring: _Scoring | None = None


def _open_worker(files: JudgeFiles, codec_kbps: Sequence[int]) -> None:
    """Load a worker's judges."""
    global _scoring
    torch.set_num_threads(1)
    _scoring = _Scoring(open_judges(files), codec_kbps)


def _do_in_worker(job: _Job) -> _Done:
    if _scoring is None:
        raise RuntimeError("the worker has no judges")
    return _scoring(job)


class _Scoring:
    """Scores clip after clip; it remembers the last true videos, one's neighbours in the floor."""

    def __init__(self, judges: Judges, codec_kbps: Sequence[int]) -> None:
        self._judges = judges
        self._kbps = codec_kbps
        self._watched: dict[Path, Side] = {}

    def __call__(self, job: _Job) -> _Done:
        """Score one clip of every system."""
        done = _Done()
        with suppress(MediaError):  # its own job names it
            if job.unrelated is not None:
                self._true(job.unrelated)
        try:
            true = self._true(job.true)
        except MediaError as error:
            done.left_out[f"truth: {job.name}"] = str(error)
            return done
        if job.unrelated in self._watched:
            compared = compare(self._watched[job.unrelated], true, paired=False)
            done.clips[FLOOR, None] = compared
        true_features = crop_features(true.film, true.film.matrices, self._judges)
        with tempfile.TemporaryDirectory() as folder:
            for system, video in {**job.videos, CEILING: job.true}.items():
                for kbps in (None, *self._kbps):
                    try:
                        as_is = system == CEILING and kbps is None
                        side = true if as_is else self._look(video, kbps, Path(folder))
                    except MediaError as error:
                        done.left_out[f"{system}: {job.name}"] = str(error)
                        continue
                    done.clips[system, kbps] = compare(side, true)
                    places = matrices_of(side.film, true.film)
                    features = crop_features(side.film, places, self._judges)
                    if features is not None and true_features is not None:
                        done.features[system, kbps] = features, true_features
        return done

    def _true(self, video: Path) -> Side:
        side = self._watched.pop(video, None) or look(video, self._judges)
        self._watched[video] = side
        while len(self._watched) > _REMEMBERED:
            del self._watched[next(iter(self._watched))]
        return side

    def _look(self, video: Path, kbps: int | None, folder: Path) -> Side:
        """Watch a video as it is, or after VP8 in a folder of coded ones, with its own sound."""
        if kbps is None:
            return look(video, self._judges)
        coded = folder / "coded.webm"
        through_vp8(video, coded, kbps)
        return look(coded, self._judges, sound=sound_of(video))


def _row(place: _Place, found: Mapping[str, _Done], seed: int) -> Row:
    clips = [
        Clip(name=name, compared=found[name].clips[place])
        for name in sorted(found)
        if place in found[name].clips
    ]
    figures = {
        name: mean_of([clip.compared.figures[name] for clip in clips], seed=seed)
        for name in METRICS
    }
    pairs = [found[name].features[place] for name in sorted(found) if place in found[name].features]
    figures["fid"] = _fid(pairs, seed)
    return Row(system=place[0], kbps=place[1], clips=clips, figures=figures)


def _fid(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]], seed: int) -> Estimate:
    """FID of the clips of a row; unrelated pairs have none, since a set knows no pairs."""
    if not pairs:
        return NOTHING

    def of(clips: NDArray[np.int_]) -> float:
        made, true = zip(*(pairs[i] for i in clips), strict=True)
        return frechet_distance(np.concatenate(made), np.concatenate(true))

    return of_sets(of, len(pairs), seed=seed)
