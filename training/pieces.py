"""One speaker's videos in pieces of some seconds; some are held out for judging.

A folder of pieces holds ``videos/speaker/NAME.mp4``, 25 frames a second, and the prepared clips
``clips/speaker/NAME``. What is held out is told by the names, as everywhere
(:func:`training.clips.is_held_out`), so every other command sees it the same way.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from engine.media import VideoReader, VideoWriter, read_audio, retime
from engine.mel import SAMPLE_RATE
from training.clips import FPS, find_clips, is_held_out, read_clip
from training.prepare import prepare

PIECE_S: Final = 5
LEAST_S: Final = 30
"""Of a face with its sound: below it nothing is left to learn from."""
HELD_OUT_ONE_IN: Final = 10
LEAST_HELD_OUT: Final = 2
LEAST_HELD_OUT_S: Final = 10

_SPEAKER: Final = "speaker"
_CRF: Final = 12  # held-out pieces are judged, so they must look like their source
_SOUND_BIT_RATE: Final = 96_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Pieces:
    """What was cut.

    Attributes:
        clips: folder of prepared clips, those that are held out included.
        held_out: videos of the held-out pieces, in order.
        learnt_s: seconds to learn from.
        held_out_s: seconds held out.
    """

    clips: Path
    held_out: list[Path]
    learnt_s: float
    held_out_s: float


def cut_pieces(
    sources: Sequence[Path], folder: Path, *, resolution: int, workers: int | None = None
) -> Pieces:
    """Cut videos into pieces and prepare them, unless the folder is there already.

    Pieces without a face, or shorter than two seconds, are left out.

    Args:
        sources: videos of one person, with sound.
        folder: of the pieces; it appears whole or not at all.
        resolution: pixels a side of the crops.
        workers: processes that prepare; one a core by default.

    Raises:
        MediaError: a video can't be read or has no sound, or they show too little of a face.
        NoFaceError: likewise, where there is none.
    """
    if not folder.is_dir():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        _make(sources, partial, resolution, workers)
        os.replace(partial, folder)
    lengths = _lengths(folder)
    return Pieces(
        clips=folder / "clips",
        held_out=[_video(folder, name) for name in lengths if is_held_out(name)],
        learnt_s=sum(s for name, s in lengths.items() if not is_held_out(name)),
        held_out_s=sum(s for name, s in lengths.items() if is_held_out(name)),
    )


def choose_held_out(lengths_s: Sequence[float]) -> list[int]:
    """Which pieces are held out: a tenth, at least two and ten seconds, spread evenly.

    Args:
        lengths_s: of each piece, :data:`LEAST_S` together at least.
    """
    pieces = len(lengths_s)
    for wanted in range(max(LEAST_HELD_OUT, round(pieces / HELD_OUT_ONE_IN)), pieces):
        chosen = [(2 * n + 1) * pieces // (2 * wanted) for n in range(wanted)]
        if sum(lengths_s[index] for index in chosen) >= LEAST_HELD_OUT_S:
            return chosen
    raise ValueError(f"{pieces} pieces are too few to hold {LEAST_HELD_OUT_S} s out")


def _make(sources: Sequence[Path], folder: Path, resolution: int, workers: int | None) -> None:
    numbers = count()
    (folder / "videos" / _SPEAKER).mkdir(parents=True)
    for source in sources:
        _cut(source, folder, numbers)
    prepare(folder / "videos", folder / "clips", resolution=resolution, workers=workers)
    try:
        lengths = _lengths(folder)
    except ConfigError:  # not one piece could be used
        lengths = {}
    whole_s = sum(lengths.values())
    if whole_s < LEAST_S:
        shown = ", ".join(path.name for path in sources)
        raise MediaError(
            f"{shown}: {whole_s:.0f} s of a face with its sound can be used, but at least"
            f" {LEAST_S} are needed: film the speaker, alone and from the front, for two minutes."
        )
    held_out = choose_held_out(list(lengths.values()))
    for index, name in enumerate(lengths):
        final = _named(index, held_out=index in held_out)
        os.replace(_video(folder, name), _video(folder, final))
        os.replace(_clip(folder, name), _clip(folder, final))


def _cut(source: Path, folder: Path, numbers: Iterator[int]) -> None:
    """Write a video's pieces under names that will be given up."""
    samples = read_audio(source, SAMPLE_RATE)
    frames = PIECE_S * FPS
    with VideoReader(source) as video:
        pictures = retime(video, Fraction(FPS))
        for start in count(0, frames):
            first = next(pictures, None)
            if first is None:
                return
            path = _video(folder, f"cut-{next(numbers):05}")
            sound = samples[start * SAMPLE_RATE // FPS :][: PIECE_S * SAMPLE_RATE]
            _write(path, chain([first], islice(pictures, frames - 1)), first.shape, sound)


def _write(
    path: Path,
    pictures: Iterator[NDArray[np.uint8]],
    shape: tuple[int, ...],
    sound: NDArray[np.float32],
) -> None:
    with VideoWriter(
        path,
        width=shape[1],
        height=shape[0],
        fps=Fraction(FPS),
        audio_rate=SAMPLE_RATE,
        audio_bit_rate=_SOUND_BIT_RATE,
        crf=_CRF,
    ) as writer:
        writer.write_audio(sound)
        for picture in pictures:
            writer.write_frame(picture)


def _lengths(folder: Path) -> dict[str, float]:
    """Seconds of each prepared piece, by its name and in order."""
    clips = find_clips(folder / "clips")
    return {path.name: read_clip(path).info.frames / FPS for path in clips}


def _named(number: int, *, held_out: bool) -> str:
    """A piece's name, which tells whether it is held out."""
    names = (f"{number:04}-{turn}" for turn in count())
    return next(name for name in names if is_held_out(name) == held_out)


def _video(folder: Path, name: str) -> Path:
    return folder / "videos" / _SPEAKER / f"{name}.mp4"


def _clip(folder: Path, name: str) -> Path:
    return folder / "clips" / _SPEAKER / name
