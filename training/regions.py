"""Make prepared mouth regions of videos: what the lip expert learns from and is judged by.

    python -m training regions VIDEOS -o REGIONS

Each video becomes one file, ``REGIONS/SPEAKER/NAME.npz``: ``reference`` and ``causal``, the mouth
regions as clips and as live use have them, uint8 (T, 96, 96); ``sound``, float32 (n,), 16 kHz;
``fps``, 25. A file is written whole or not at all, so a stopped run goes on where it was.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Final, Literal, get_args
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError, NoFaceError
from engine.filterbank import ROW_SAMPLES
from engine.media import VideoReader, read_audio, retime
from engine.mel import SAMPLE_RATE
from engine.mouth_region import SMOOTHED, MouthStream, mouth_regions
from engine.tracker import FaceTracker
from training.clips import FPS
from training.prepare import (
    MIN_FACE_SHARE,
    MIN_FRAMES,
    Skipped,
    find_videos,
    prepare_all,
    worker_models,
)

Form = Literal["reference", "causal"]
"""How the points of the face are smoothed: over the frames that follow, or over those before."""
FORMS: Final[tuple[Form, ...]] = get_args(Form)

BLOCK: Final = 500  # frames that are held in memory while the reference form is made


@dataclass(frozen=True, slots=True)
class RegionFile:
    """One clip's prepared mouth regions; its arrays are read when they are asked for.

    Attributes:
        path: of the file, which lies in a folder with the speaker's name.
    """

    path: Path

    @property
    def name(self) -> str:
        """The clip's name."""
        return self.path.stem

    @property
    def speaker(self) -> str:
        """Who is seen."""
        return self.path.parent.name

    def lips(self, form: Form) -> NDArray[np.uint8]:
        """The mouth regions, uint8 (T, 96, 96) gray, 25 a second.

        Raises:
            ConfigError: the file can't be read or holds something else.
        """
        return np.asarray(self._read(form), np.uint8)

    def sound(self) -> NDArray[np.float32]:
        """The sound, float32 (n,), mono at 16 kHz in [−1, 1]; its first sample is of frame 0.

        Raises:
            ConfigError: the file can't be read or holds something else.
        """
        return np.asarray(self._read("sound"), np.float32)

    def _read(self, array: str) -> NDArray[np.generic]:
        try:
            with np.load(self.path, allow_pickle=False) as file:
                found: NDArray[np.generic] = file[array]
        except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
            raise ConfigError(
                f"{self.path} holds no prepared mouth regions ({error}): delete it and run"
                " `python -m training regions` again."
            ) from error
        return found


def find_regions(root: Path) -> list[RegionFile]:
    """The files under a folder, in order of their names.

    Raises:
        ConfigError: there are none.
    """
    found = sorted(path for path in root.rglob("*.npz") if not path.name.startswith("."))
    if not found:
        raise ConfigError(
            f"{root} holds no prepared mouth regions: run `python -m training regions`."
        )
    return [RegionFile(path) for path in found]


def write_regions(
    path: Path,
    reference: NDArray[np.uint8],
    causal: NDArray[np.uint8],
    sound: NDArray[np.float32],
) -> None:
    """Write one clip's file; a reader sees it whole or not at all.

    Args:
        path: the file, ``…/SPEAKER/NAME.npz``.
        reference: uint8 (T, 96, 96).
        causal: uint8 (T, 96, 96).
        sound: float32 (n,), 16 kHz.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}")
    with partial.open("wb") as file:  # stored, not packed: training reads it again and again
        np.savez(file, reference=reference, causal=causal, sound=sound, fps=np.array(FPS))
    os.replace(partial, path)


def prepare_regions_of(video: Path, out: Path) -> None:
    """Prepare one video.

    Args:
        video: with sound.
        out: the file to write.

    Raises:
        MediaError: unreadable, too short, or without sound.
        NoFaceError: the face is missing in more than a fiftieth of the frames.
    """
    tracker = FaceTracker(worker_models())
    stream, whole = MouthStream(), ReferenceForm()
    causal: list[NDArray[np.uint8]] = []
    known: NDArray[np.float32] | None = None
    missing = before = 0
    with VideoReader(video) as reader:
        for index, picture in enumerate(retime(reader, Fraction(FPS))):
            face = tracker.update(picture, index / FPS)
            missing += face is None
            if face is not None:
                known = face.mesh
            if known is None:
                before += 1
                continue
            whole.push(picture, known, found=face is not None)
            causal.append(stream.push(picture, known))
    if not causal or missing > (1 - MIN_FACE_SHARE) * (len(causal) + before):
        raise NoFaceError(f"{video.name} shows no face in {missing} frames.")
    # The clip starts at its first face, and so does its sound.
    sound = read_audio(video, SAMPLE_RATE)[before * ROW_SAMPLES :]
    frames = min(len(causal), len(sound) // ROW_SAMPLES)
    if frames < MIN_FRAMES:
        raise MediaError(f"{video.name} is shorter than {MIN_FRAMES / FPS:.0f} s.")
    write_regions(out, whole.finish()[:frames], np.stack(causal[:frames]), sound)


class ReferenceForm:
    """The reference form of a video of any length, without all its pictures in memory."""

    def __init__(self) -> None:
        self._pictures: list[NDArray[np.uint8]] = []
        self._meshes: list[NDArray[np.float32] | None] = []
        self._done: list[NDArray[np.uint8]] = []

    def push(self, picture: NDArray[np.uint8], mesh: NDArray[np.float32], *, found: bool) -> None:
        """Take a picture and its mesh, or the last known one where none was found."""
        # A block begins with a mesh, so that one without any face can be cut as well.
        self._meshes.append(mesh if found or not self._pictures else None)
        self._pictures.append(picture)
        if len(self._pictures) == BLOCK + SMOOTHED - 1:
            self._done.append(mouth_regions(self._pictures, self._meshes)[:BLOCK])
            del self._pictures[:BLOCK], self._meshes[:BLOCK]
            if self._meshes[0] is None:
                self._meshes[0] = mesh

    def finish(self) -> NDArray[np.uint8]:
        """All regions, uint8 (T, 96, 96)."""
        if self._pictures:
            self._done.append(mouth_regions(self._pictures, self._meshes))
        return np.concatenate(self._done)


def prepare_regions(source: Path, out: Path, *, workers: int | None = None) -> list[Skipped]:
    """Prepare the mouth regions of every video under a folder; what is there already is kept.

    A video's speaker is its folder's name. The report ``skipped.json`` in ``out`` says what was
    left out and why.

    Args:
        source: folder of videos.
        out: folder of the files.
        workers: processes; one a core by default.

    Returns:
        What was skipped.

    Raises:
        MediaError: there are no videos.
    """
    files = {v: out / v.parent.name / f"{v.stem}.npz" for v in find_videos(source)}
    left = {str(video): (video, path) for video, path in files.items() if not path.is_file()}
    return prepare_all(prepare_regions_of, left, out, workers)
