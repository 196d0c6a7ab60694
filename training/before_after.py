"""What fine-tuning changed: a generator before and after, on pieces that nobody learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from engine.bundle import Bundle
from engine.face_models import FaceModels
from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import Expert
from engine.lip_sync import avs
from engine.lips import correlation, mouth_opening
from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from engine.tracker import FaceTracker
from training.bench import (
    APART_S,
    LEAST_SPREAD,
    Bench,
    Likeness,
    Picture,
    mean_likeness,
    pictures_of,
)
from training.clips import FPS
from training.painter import TorchPainter
from training.regions import ReferenceForm
from training.scoring.judges import Embedded
from training.tables import Rows, markdown_table, show_table, write_figures, write_values

HEADS: Final = (
    *("", "frames", "PSNR", "PSNR lower", "SSIM", "SSIM lower"),
    *("correlation", "amplitude", "AVSu"),
)
TITLE: Final = "Before and after, on what was held out"

NOTES: Final = {
    "PSNR, SSIM": "the generated crops against the real ones, each piece with its own voice, frames"
    f" {APART_S:g} s or more from the identity reference; whole crop and its lower half",
    "correlation, amplitude": "of the mouth's opening, each piece's face with the voice of the next"
    " one, against the opening that the voice's own face had; the amplitude should be 1",
    "AVSu": "cosine of the same generated lips alone and the voice alone",
}
"""What the figures mean."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Figures:
    """One generator's figures on the held-out pieces.

    Attributes:
        frames: of self-reconstruction.
        made: likeness of the generated crops.
        copied: likeness of the same paste with the identity reference's own rows in it.
        correlation: of the mouth's opening; the mean over the pieces.
        amplitude: spread of the generated opening over that of the real one, likewise.
        avs_u: likewise; None where no face was found.
    """

    frames: int
    made: Likeness
    copied: Likeness
    correlation: float
    amplitude: float
    avs_u: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BeforeAfter:
    """The table.

    Attributes:
        before: figures of the bundle.
        after: figures of what was learnt.
        real_avs_u: of the real lips with their own voice; None where no face was found.
        pieces: how many were held out.
        expert: the lip expert's name.
        facts: what else belongs into the file.
    """

    before: Figures
    after: Figures
    real_avs_u: float | None
    pieces: int
    expert: str
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Watched:
    """What is seen of a mouth in some pictures.

    Attributes:
        opening: float64 (n,), of each picture.
        regions: uint8 (m, 96, 96), what the lip expert looks at, from the first face on; None
            without any face.
    """

    opening: NDArray[np.float64]
    regions: NDArray[np.uint8] | None

    def avs_u(self, sound: NDArray[np.float32], expert: Expert) -> float | None:
        """AVSu with a sound, float32 (samples,) at 16 kHz, that starts with the first picture."""
        if self.regions is None:
            return None
        frames = len(self.regions)
        first = (len(self.opening) - frames) * ROW_SAMPLES
        lips = Embedded(expert, expert.embed_regions(self.regions))
        alone = lips.alone(sound[first : first + frames * ROW_SAMPLES])
        return avs(alone.lips, alone.sound)


@dataclass(frozen=True, slots=True)
class Piece:
    """A held-out piece as it is.

    Attributes:
        path: of its video.
        sound: float32 (samples,), mono at 16 kHz.
        watched: its real mouth.
    """

    path: Path
    sound: NDArray[np.float32]
    watched: Watched


def watch(pictures: Iterable[Picture], models: FaceModels) -> Watched:
    """Follow the mouth through pictures, uint8 (H, W, 3) each, at 25 fps."""
    tracker, form = FaceTracker(models), ReferenceForm()
    known: NDArray[np.float32] | None = None
    openings = []
    for index, picture in enumerate(pictures):
        face = tracker.update(picture, index / FPS)
        known = known if face is None else face.mesh
        openings.append(0.0 if known is None else mouth_opening(known))
        if known is not None:
            form.push(picture, known, found=face is not None)
    return Watched(np.array(openings), None if known is None else form.finish())


class HeldOut(Bench):
    """Judges one generator by held-out pieces."""

    def figures(self, pieces: Sequence[Piece], expert: Expert) -> Figures:
        """All figures.

        Args:
            pieces: of the speaker, two or more.
            expert: that gives AVSu.

        Raises:
            MediaError: a piece can't be read, or shows no face.
        """
        clips = [self.clip(piece.path) for piece in pieces]
        weights = [clip.frames for clip in clips]
        turns = zip(pieces, (*pieces[1:], pieces[0]), strict=True)
        spoken = [self._speak(face, voice, expert) for face, voice in turns]
        correlations, amplitudes, scores = zip(*spoken, strict=True)
        return Figures(
            frames=sum(weights),
            made=mean_likeness([clip.made for clip in clips], weights),
            copied=mean_likeness([clip.copied for clip in clips], weights),
            correlation=float(np.mean(correlations)),
            amplitude=float(np.mean(amplitudes)),
            avs_u=_mean(scores),
        )

    def _speak(
        self, face: Piece, voice: Piece, expert: Expert
    ) -> tuple[float, float, float | None]:
        """Correlation, amplitude and AVSu of a face with the voice of another piece."""
        real = voice.watched.opening[: len(face.watched.opening)]
        synced = self._run(face.path, voice.path, self._identity(face.path))
        with closing(synced):
            made = watch((s.picture for s in islice(synced, len(real))), self._models)
        amplitude = float(made.opening.std() / max(real.std(), LEAST_SPREAD))
        return correlation(real, made.opening), amplitude, made.avs_u(voice.sound, expert)


def _mean(scores: Sequence[float | None]) -> float | None:
    known = [score for score in scores if score is not None]
    return float(np.mean(known)) if known else None


def compare(
    before: Bundle,
    after: TorchPainter,
    paths: Sequence[Path],
    expert: Expert,
    facts: dict[str, Any],
) -> BeforeAfter:
    """Judge a bundle and what was learnt from it by the same pieces.

    Args:
        before: what was started from.
        after: what was learnt.
        paths: videos of the pieces that are held out, two or more.
        expert: that gives AVSu.
        facts: what else belongs into the file.

    Raises:
        MediaError: a piece can't be read, or shows no face.
        ConfigError: the face models are missing.
    """
    models = FaceModels(threads=1)
    pieces = [
        Piece(path, read_audio(path, SAMPLE_RATE), watch(pictures_of(path), models))
        for path in paths
    ]
    return BeforeAfter(
        before=HeldOut(before).figures(pieces, expert),
        after=HeldOut(after).figures(pieces, expert),
        real_avs_u=_mean([piece.watched.avs_u(piece.sound, expert) for piece in pieces]),
        pieces=len(pieces),
        expert=expert.name,
        facts=facts,
    )


def rows(table: BeforeAfter) -> Rows:
    """The table's rows: before, after, and what stands beside them."""
    floor = _likeness(table.before.copied)
    frames = str(table.before.frames)
    return [
        ("before", *_cells(table.before)),
        ("after", *_cells(table.after)),
        ("floor: the reference copied", frames, *floor, "-", "-", "-"),
        ("the real video", frames, *("-",) * 6, _score(table.real_avs_u)),
    ]


def _cells(figures: Figures) -> tuple[str, ...]:
    follows = f"{figures.correlation:.3f}", f"{figures.amplitude:.2f}", _score(figures.avs_u)
    return str(figures.frames), *_likeness(figures.made), *follows


def _likeness(found: Likeness) -> tuple[str, str, str, str]:
    decibels = f"{found.psnr:.2f}", f"{found.psnr_lower:.2f}"
    return *decibels, f"{found.ssim:.4f}", f"{found.ssim_lower:.4f}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def show(table: BeforeAfter, console: Console) -> None:
    """Print the table."""
    show_table(console, TITLE, HEADS, rows(table))


def write(table: BeforeAfter, json: Path, markdown: Path) -> None:
    """Write the table, as JSON with all that belongs to it and as Markdown.

    Raises:
        ConfigError: a file can't be written.
    """
    write_values(json, {**asdict(table), "notes": NOTES})
    notes = [f"- {name}: {text}." for name, text in NOTES.items()]
    facts = [f"- {name}: {value}" for name, value in table.facts.items()]
    lines = [*markdown_table(TITLE, HEADS, rows(table)), *notes, "", *facts, ""]
    write_figures(markdown, "\n".join(lines))
