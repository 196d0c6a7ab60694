"""Make prepared clips of videos: crops, mesh and audio, exactly as live use would see them.

    python -m training prepare VIDEOS -o PREPARED

A video is prepared whole or not at all, so a stopped run goes on where it was.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path, PurePosixPath
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from engine.bundle import STARTER
from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import ConfigError, LipstreamError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.media import VideoReader, read_audio, read_image, retime
from engine.mel import SAMPLE_RATE
from engine.tracker import FaceTracker
from training.clips import FPS, ClipInfo, read_clip, write_clip
from training.layouts import LAYOUT, Item, LayoutName, choose_items, find_items, find_videos
from training.offsets import (
    LEAST_FRAMES,
    Policy,
    Treatment,
    measure,
    move_sound,
    treat,
    worker_expert,
)

__all__ = [
    "MIN_FACE_SHARE",
    "MIN_FRAMES",
    "Prepared",
    "Settings",
    "Skipped",
    "find_videos",
    "prepare",
    "prepare_all",
    "prepare_clip",
    "prepare_item",
    "summary",
    "worker_models",
]

# A clip must show its face nearly always: training pairs pictures with sound by position.
MIN_FACE_SHARE: Final = 0.98
MIN_FRAMES: Final = 2 * FPS

# A face that fills a picture to its edges is found better with a margin around it, as a share of
# the picture's side.
_MARGIN: Final = 0.5


@dataclass(frozen=True, slots=True)
class Skipped:
    """A video that was left out, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Prepared:
    """What became of a data set.

    Attributes:
        skipped: what was left out.
        offsets: how many of the new clips had which treatment of their offset.
    """

    skipped: list[Skipped]
    offsets: Counter[Treatment]


@dataclass(frozen=True, kw_only=True, slots=True)
class Settings:
    """How clips are prepared.

    Attributes:
        resolution: pixels a side of the crops.
        least_frames: shorter clips are left out.
        offsets: what is done about sound that is early or late.
        expert: bundle whose lip expert finds it.
    """

    resolution: int = 96
    least_frames: int = MIN_FRAMES
    offsets: Policy = "keep"
    expert: Path = STARTER


_models: FaceModels | None = None


def worker_models() -> FaceModels:
    """The process's own face models, loaded once."""
    global _models
    if _models is None:
        cv2.setNumThreads(1)
        _models = FaceModels()
    return _models


def prepare_clip(path: Path, folder: Path, speaker: str, resolution: int) -> None:
    """Prepare one video; :func:`prepare_item` says what it may raise.

    Args:
        path: the video, with sound.
        folder: where the clip goes.
        speaker: who is seen.
        resolution: pixels a side of the crops.
    """
    place = PurePosixPath(path.stem)
    item = Item(pictures=path, speaker=speaker, name=path.stem, place=place, key=path.stem)
    prepare_item(item, folder, Settings(resolution=resolution))


def prepare_item(item: Item, folder: Path, settings: Settings) -> Treatment | None:
    """Prepare one clip of a data set.

    Args:
        item: the clip.
        folder: where it goes; a clip that is there already is replaced.
        settings: how.

    Returns:
        What was done about its offset; None where that was not asked for.

    Raises:
        MediaError: unreadable, too short, without sound, or off in a way that leaves it out.
        NoFaceError: the face is missing in more than a fiftieth of the frames.
    """
    (folder / "clip.json").unlink(missing_ok=True)
    geometry = UprightGeometry()
    crops: list[NDArray[np.uint8]] = []
    meshes: list[NDArray[np.float32]] = []
    missing = before = 0
    for face in _faces(item.pictures, geometry, settings.resolution):
        if face is not None:
            crops.append(face[0])
            meshes.append(face[1])
            continue
        missing += 1
        if crops:  # a short gap repeats its last picture, so that time stays right
            crops.append(crops[-1])
            meshes.append(meshes[-1])
        else:
            before += 1
    title = item.pictures.name if item.sound is None else item.key
    if missing > (1 - MIN_FACE_SHARE) * (len(crops) + before) or not crops:
        raise NoFaceError(f"{title} shows no face in {missing} frames.")
    # The clip starts at its first face, and so does its sound.
    sound = item.pictures if item.sound is None else item.sound
    samples = read_audio(sound, SAMPLE_RATE)[before * SAMPLE_RATE // FPS :]
    whole = np.stack(crops), np.stack(meshes), samples
    measured, treatment = None, None
    if settings.offsets != "keep":
        measured = measure(worker_expert(settings.expert), *whole)
        treatment = treat(title, measured, settings.offsets)
        if measured is not None and treatment == "repaired":
            whole = move_sound(measured.frames, *whole)
    pictures, mesh, samples = whole
    frames = min(len(pictures), int(len(samples) * FPS / SAMPLE_RATE))
    if frames < settings.least_frames:
        raise MediaError(f"{title} is shorter than {settings.least_frames / FPS:.0f} s.")
    info = ClipInfo(
        name=item.name,
        speaker=item.speaker,
        source=str(item.pictures),
        frames=frames,
        resolution=settings.resolution,
        crop=geometry_to_dict(geometry),
        split=item.split,
        offset=None if measured is None else measured.frames,
        offset_confidence=None if measured is None else round(measured.confidence, 3),
        offset_treatment=treatment,
    )
    write_clip(folder, info, pictures[:frames], mesh[:frames], samples)
    return treatment


_Face = tuple[NDArray[np.uint8], NDArray[np.float32]]
"""A crop and the mesh in its pixels."""


def _faces(path: Path, geometry: UprightGeometry, resolution: int) -> Iterator[_Face | None]:
    """The face of each frame at 25 a second; None where there is none."""
    if path.is_dir():
        yield from _faces_of_pictures(path, geometry, resolution)
        return
    tracker = FaceTracker(worker_models(), geometry=geometry, resolution=resolution)
    with VideoReader(path) as video:
        for index, picture in enumerate(retime(video, Fraction(FPS))):
            face = tracker.update(picture, index / FPS)
            yield None if face is None else (face.crop(picture), face.crop_mesh())


def _faces_of_pictures(
    folder: Path, geometry: UprightGeometry, resolution: int
) -> Iterator[_Face | None]:
    """The same of pictures that are named by the frame's number; numbers without one have no face.

    Each shows what a face detector has boxed in that frame, in a size of its own: where the face
    lies in one says nothing of the next, so nothing is smoothed.
    """
    pictures = {int(p.stem): p for p in folder.glob("*.jpg") if p.stem.isdecimal()}
    if not pictures:
        raise MediaError(f"{folder} holds no pictures named 0.jpg, 1.jpg and so on.")
    for index in range(max(pictures) + 1):
        if index not in pictures:
            yield None
            continue
        boxed = read_image(pictures[index])
        height, width = (round(_MARGIN * side) for side in boxed.shape[:2])
        picture: NDArray[np.uint8] = np.pad(
            boxed, ((height, height), (width, width), (0, 0)), mode="edge"
        )
        tracker = FaceTracker(worker_models(), geometry=geometry, resolution=resolution)
        face = tracker.update(picture, 0.0)
        yield None if face is None else (face.crop(picture), face.crop_mesh())


def prepare(
    source: Path,
    out: Path,
    *,
    layout: LayoutName = "own",
    listed: Path | None = None,
    resolution: int = 96,
    offsets: Policy = "keep",
    expert: Path = STARTER,
    workers: int | None = None,
) -> Prepared:
    """Prepare the clips of a data set; what is there already is kept.

    A clip that is there but was never measured is prepared again where offsets are asked for. The
    report ``skipped.json`` in ``out`` says what was left out and why.

    Args:
        source: folder of the data set.
        out: folder of prepared clips.
        layout: how the data set lies.
        listed: file that names the clips to prepare; all by default.
        resolution: pixels a side of the crops.
        offsets: what is done about sound that is early or late.
        expert: bundle whose lip expert finds it.
        workers: processes; one a core by default.

    Raises:
        MediaError: there are no clips, or the folder has another layout.
        ConfigError: the list names none of them, or they are too short for offsets.
        BundleError: the bundle carries no lip expert.
    """
    least_frames = round(LAYOUT[layout].least_s * FPS)
    if layout == "lrw" and offsets != "keep":
        raise ConfigError(
            f"The clips of LRW are too short for a lip expert, which needs {LEAST_FRAMES / FPS:.0f}"
            " s: leave --offsets out."
        )
    items, missing = find_items(source, layout), list[str]()
    if listed is not None:
        items, missing = choose_items(items, listed)
    if offsets != "keep":
        worker_expert(expert)  # so that it fails once, and at the start
    settings = Settings(
        resolution=resolution, least_frames=least_frames, offsets=offsets, expert=expert
    )
    folders = {item: out / item.place for item in items}
    jobs = {
        str(item.pictures): (item, folder, settings)
        for item, folder in folders.items()
        if not _is_done(folder, offsets)
    }
    done: list[Treatment | None] = []
    absent = [Skipped(n, f"{n} is in the list {listed} but not in {source}.") for n in missing]
    skipped = prepare_all(prepare_item, jobs, out, workers, done=done.append, before=absent)
    return Prepared(skipped, Counter(treatment for treatment in done if treatment is not None))


def _is_done(folder: Path, offsets: Policy) -> bool:
    if not (folder / "clip.json").is_file():
        return False
    return offsets == "keep" or read_clip(folder).info.offset_treatment is not None


def prepare_all(
    work: Callable[..., Any],
    jobs: Mapping[str, tuple[Any, ...]],
    out: Path,
    workers: int | None = None,
    *,
    done: Callable[[Any], None] = lambda result: None,
    before: Iterable[Skipped] = (),
) -> list[Skipped]:
    """Do the same work for many videos, in processes; write ``skipped.json`` into ``out``.

    Args:
        work: a function of a module; what it raises as :class:`LipstreamError` skips its video.
        jobs: its arguments, by what the report calls the video.
        out: folder, which is made.
        workers: processes; one a core by default.
        done: called with what the work gives back.
        before: what was left out before any work, for the report.

    Returns:
        What was skipped.
    """
    out.mkdir(parents=True, exist_ok=True)
    skipped = list(before)
    # Forked children would inherit the locks of this process's threads.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or os.cpu_count(), mp_context=context) as pool:
        futures = {pool.submit(work, *job): name for name, job in jobs.items()}
        for future in track(as_completed(futures), "Preparing", total=len(futures)):
            try:
                done(future.result())
            except LipstreamError as error:
                skipped.append(Skipped(futures[future], str(error)))
    _report(out, skipped)
    return skipped


def _report(out: Path, skipped: Iterable[Skipped]) -> None:
    rows = [{"path": s.path, "reason": s.reason} for s in skipped]
    (out / "skipped.json").write_text(json.dumps(rows, indent=1))


_FIGURES: Final = re.compile(r" \([^()]*\)")


def summary(skipped: list[Skipped]) -> str:
    """One line a reason, most frequent first."""
    # The name of the file differs in every reason, and so do figures in brackets.
    reasons = Counter(_FIGURES.sub("", s.reason.partition(" ")[2]) for s in skipped)
    lines = [f"  {count} x {reason}" for reason, count in reasons.most_common()]
    return "\n".join([f"skipped {len(skipped)} (skipped.json names them)", *lines])
