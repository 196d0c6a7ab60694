"""Make prepared clips of videos: crops, mesh and audio, exactly as live use would see them.

    python -m training prepare VIDEOS -o PREPARED

A video is prepared whole or not at all, so a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import LipstreamError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.media import VideoReader, read_audio, retime
from engine.mel import SAMPLE_RATE
from engine.tracker import FaceTracker
from training.clips import FPS, ClipInfo, write_clip

SUFFIXES: Final = {".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg"}
# A clip must show its face nearly always: training pairs pictures with sound by position.
MIN_FACE_SHARE: Final = 0.98
MIN_FRAMES: Final = 2 * FPS


@dataclass(frozen=True, slots=True)
class Skipped:
    """A video that was left out, and why."""

    path: str
    reason: str


_models: FaceModels | None = None


def worker_models() -> FaceModels:
    """The process's own face models, loaded once."""
    global _models
    if _models is None:
        cv2.setNumThreads(1)
        _models = FaceModels()
    return _models


def prepare_clip(path: Path, folder: Path, speaker: str, resolution: int) -> None:
    """Prepare one video.

    Args:
        path: the video, with sound.
        folder: where the clip goes.
        speaker: who is seen.
        resolution: pixels a side of the crops.

    Raises:
        MediaError: unreadable, too short, or without sound.
        NoFaceError: the face is missing in more than a fiftieth of the frames.
    """
    geometry = UprightGeometry()
    tracker = FaceTracker(worker_models(), geometry=geometry, resolution=resolution)
    crops: list[NDArray[np.uint8]] = []
    meshes: list[NDArray[np.float32]] = []
    missing = before = 0
    with VideoReader(path) as video:
        for index, picture in enumerate(retime(video, Fraction(FPS))):
            face = tracker.update(picture, index / FPS)
            if face is None:
                missing += 1
                if crops:  # a short gap repeats its last picture, so that time stays right
                    crops.append(crops[-1])
                    meshes.append(meshes[-1])
                else:
                    before += 1
                continue
            crops.append(face.crop(picture))
            meshes.append(face.crop_mesh())
    if missing > (1 - MIN_FACE_SHARE) * (len(crops) + before) or not crops:
        raise NoFaceError(f"{path.name} shows no face in {missing} frames.")
    # The clip starts at its first face, and so does its sound.
    samples = read_audio(path, SAMPLE_RATE)[before * SAMPLE_RATE // FPS :]
    frames = min(len(crops), int(len(samples) * FPS / SAMPLE_RATE))
    if frames < MIN_FRAMES:
        raise MediaError(f"{path.name} is shorter than {MIN_FRAMES / FPS:.0f} s.")
    info = ClipInfo(
        name=path.stem,
        speaker=speaker,
        source=str(path),
        frames=frames,
        resolution=resolution,
        crop=geometry_to_dict(geometry),
    )
    write_clip(folder, info, np.stack(crops[:frames]), np.stack(meshes[:frames]), samples)


def find_videos(source: Path) -> list[Path]:
    """Videos in a folder and its subfolders, in order.

    Raises:
        MediaError: there are none.
    """
    if not source.is_dir():
        raise MediaError(f"{source} is not a folder: name the folder that holds the videos.")
    videos = sorted(p for p in source.rglob("*") if p.suffix.lower() in SUFFIXES)
    if not videos:
        raise MediaError(f"{source} holds no videos ({', '.join(sorted(SUFFIXES))}).")
    return videos


def prepare(
    source: Path, out: Path, *, resolution: int = 96, workers: int | None = None
) -> list[Skipped]:
    """Prepare every video under a folder; what is there already is kept.

    A video's speaker is its folder's name, so each person's videos belong in a folder of their
    own. The report ``skipped.json`` in ``out`` says what was left out and why.

    Args:
        source: folder of videos.
        out: folder of prepared clips.
        resolution: pixels a side of the crops.
        workers: processes; one a core by default.

    Returns:
        What was skipped.

    Raises:
        MediaError: there are no videos.
    """
    jobs = []
    for path in find_videos(source):
        folder = out / path.relative_to(source).with_suffix("")
        if not (folder / "clip.json").is_file():
            jobs.append((path, folder, path.parent.name, resolution))
    return prepare_all(prepare_clip, jobs, out, workers)


def prepare_all(
    work: Callable[..., None],
    jobs: Sequence[tuple[Path, *tuple[Any, ...]]],
    out: Path,
    workers: int | None = None,
) -> list[Skipped]:
    """Do the same work for many videos, in processes; write ``skipped.json`` into ``out``.

    Args:
        work: a function of a module; what it raises as :class:`LipstreamError` skips its video.
        jobs: its arguments, the video first.
        out: folder, which is made.
        workers: processes; one a core by default.

    Returns:
        What was skipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    skipped = []
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        futures = {pool.submit(work, *job): job[0] for job in jobs}
        for done in track(as_completed(futures), "Preparing", total=len(futures)):
            try:
                done.result()
            except LipstreamError as error:
                skipped.append(Skipped(str(futures[done]), str(error)))
    _report(out, skipped)
    return skipped


def _report(out: Path, skipped: Iterable[Skipped]) -> None:
    rows = [{"path": s.path, "reason": s.reason} for s in skipped]
    (out / "skipped.json").write_text(json.dumps(rows, indent=1))


def summary(skipped: list[Skipped]) -> str:
    """One line a reason, most frequent first."""
    # The name of the file differs in every reason; what follows it does not.
    reasons = Counter(s.reason.partition(" ")[2] for s in skipped)
    lines = [f"  {count} x {reason}" for reason, count in reasons.most_common()]
    return "\n".join([f"skipped {len(skipped)} (skipped.json names them)", *lines])
