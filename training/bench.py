"""What a bundle is judged by: mouths that follow, and crops that stay alike.

Everything is measured on the pictures that leave the chain, before any video codec; a finished
video is measured as it is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.chain import Chain, LipSync, Synced
from engine.crop import cut
from engine.errors import MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.identity import Identity
from engine.lips import correlation, mouth_opening
from engine.media import VideoReader, read_audio, retime
from engine.mel import SAMPLE_RATE
from engine.paste import paste
from engine.phonemes import load_spans, opening_of, pauses_of
from engine.tracker import FaceTracker
from training.clips import FPS
from training.leakage import OPEN, LeakFigures, leak_figures
from training.metrics import lag_curve, psnr, ssim
from training.prepare import MIN_FACE_SHARE

if TYPE_CHECKING:  # torch takes seconds that judging a bundle need not take
    from training.painter import TorchPainter

Picture = NDArray[np.uint8]

CLOSED: Final = OPEN
"""A mouth open less than this (inner-lip over inter-ocular distance) counts as closed."""

APART_S: Final = 1.0
"""Frames nearer than this to the identity reference do not count in self-reconstruction."""

PAUSE_MARGIN_S: Final = 0.08
"""Taken off both ends of a pause: lips take time to close, and open before they sound."""

LEAST_FRAMES: Final = FPS
LEAST_SPREAD: Final = 1e-6


@dataclass(frozen=True, kw_only=True, slots=True)
class PairFigures:
    """One face with the voice of another clip.

    Attributes:
        face: the clip whose face is seen.
        voice: the clip whose voice is heard.
        frames: frames compared.
        lost: of them, those in which no face was found in the generated picture.
        curve: correlation of the real opening with the generated one at each lag.
        unrelated: correlation of the voice's real opening with that of the face's own clip.
        real_spread: standard deviation of the real opening.
        made_spread: standard deviation of the generated opening.
    """

    face: str
    voice: str
    frames: int
    lost: int
    curve: list[float]
    unrelated: float
    real_spread: float
    made_spread: float

    @property
    def amplitude(self) -> float:
        """Spread of the generated opening over that of the real one."""
        return self.made_spread / max(self.real_spread, LEAST_SPREAD)


@dataclass(frozen=True, kw_only=True, slots=True)
class Likeness:
    """How alike crops are: means over frames; PSNR in dB."""

    psnr: float
    psnr_lower: float
    ssim: float
    ssim_lower: float


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipFigures:
    """One clip's face with its own voice.

    Attributes:
        clip: which.
        frames: frames compared.
        made: of the generated crops.
        copied: of the same paste with the identity reference's own rows in it.
    """

    clip: str
    frames: int
    made: Likeness
    copied: Likeness


@dataclass(frozen=True, kw_only=True, slots=True)
class SpeechFigures:
    """A finished video against the phoneme times of its speech.

    Attributes:
        video: file name.
        frames: frames compared, up to the last phoneme.
        lost: of them, those without a face.
        curve: correlation of the implied opening with the seen one at each lag.
        pause_frames: frames in pauses, less their margins.
        closed_share: of them, those with a closed mouth.
        pause_median: their median opening.
        pause_max: their largest opening.
    """

    video: str
    frames: int
    lost: int
    curve: list[float]
    pause_frames: int
    closed_share: float
    pause_median: float
    pause_max: float


def pictures_of(path: Path) -> Iterator[Picture]:
    """A video's pictures at 25 fps, RGB uint8 (H, W, 3)."""
    with VideoReader(path) as video:
        yield from retime(video, Fraction(FPS))


def openings(pictures: Iterable[Picture], models: FaceModels) -> tuple[NDArray[np.float64], int]:
    """The mouth opening in each picture.

    Args:
        pictures: uint8 (H, W, 3) each, at 25 fps.
        models: the face models.

    Returns:
        float64 (n,), between neighbours where no face is found and 0 where there never is one;
        and in how many pictures there is none.
    """
    tracker = FaceTracker(models)
    found = [
        np.nan if face is None else mouth_opening(face.mesh)
        for face in (tracker.update(p, i / FPS) for i, p in enumerate(pictures))
    ]
    opening = np.array(found, dtype=np.float64)
    seen = np.flatnonzero(np.isfinite(opening))
    lost = len(opening) - len(seen)
    if not len(seen):
        return np.zeros_like(opening), lost
    return np.interp(np.arange(len(opening)), seen, opening[seen]), lost


class Bench:
    """The chain of one generator with what measures it; one thread."""

    def __init__(self, generator: Bundle | TorchPainter) -> None:
        """Load the networks.

        Args:
            generator: a bundle, or a checkpoint's as it is.

        Raises:
            ConfigError: the face models are missing.
            BundleError: the bundle's graphs can't be run.
        """
        cv2.setNumThreads(1)
        self._rows = generator.rows
        self._lips = (
            LipSync(generator, threads=1)
            if isinstance(generator, Bundle)
            else Chain(generator, generator)
        )
        self._models = FaceModels(threads=1)
        self._real: dict[Path, NDArray[np.float64]] = {}
        self._identities: dict[Path, Identity] = {}

    def real(self, path: Path) -> NDArray[np.float64]:
        """The real opening in a clip, measured once.

        Raises:
            MediaError: the clip can't be read or is shorter than 1 s.
            NoFaceError: its face is missing in more than a fiftieth of the frames.
        """
        if path not in self._real:
            opening, lost = openings(pictures_of(path), self._models)
            if len(opening) < LEAST_FRAMES:
                raise MediaError(f"{path.name} is shorter than {LEAST_FRAMES / FPS:.0f} s.")
            if lost > (1 - MIN_FACE_SHARE) * len(opening):
                raise NoFaceError(f"{path.name} shows no face in {lost} frames.")
            self._real[path] = opening
        return self._real[path]

    def pair(self, face: Path, voice: Path) -> PairFigures:
        """Give a clip's face another clip's voice, and compare the mouths."""
        wanted, own = self.real(voice), self.real(face)
        made, lost = self.painted(face, voice, min(len(wanted), len(own)))
        wanted, own = wanted[: len(made)], own[: len(made)]
        return PairFigures(
            face=face.stem,
            voice=voice.stem,
            frames=len(made),
            lost=lost,
            curve=lag_curve(wanted, made).tolist(),
            unrelated=correlation(wanted, own),
            real_spread=float(wanted.std()),
            made_spread=float(made.std()),
        )

    def painted(
        self, face: Path, voice: Path, frames: int | None = None
    ) -> tuple[NDArray[np.float64], int]:
        """The generated opening of a clip's face with a clip's voice, as :func:`openings` has it.

        Args:
            face: the clip whose face is seen.
            voice: the clip whose voice is heard.
            frames: the first ones, at most; by default all.

        Raises:
            MediaError: a clip can't be read, or no face is found.
        """
        with closing(self._run(face, voice, self._identity(face))) as synced:
            return openings((s.picture for s in islice(synced, frames)), self._models)

    def clip(self, path: Path) -> ClipFigures:
        """Give a clip's face its own voice, and compare the crops with the real ones.

        Raises:
            MediaError: the clip can't be read, or has no face 1 s from its identity reference.
        """
        identity = self._identity(path)
        made, copied = [], []
        for index, synced in enumerate(self._run(path, path, identity)):
            if synced.face is None or abs(index - identity.index) < APART_S * FPS:
                continue
            real = synced.face.crop(synced.original)
            side = len(real)
            made.append(_likeness(cut(synced.picture, synced.face.matrix, side), real))
            copy = self._copy(synced, real, identity)
            copied.append(_likeness(cut(copy, synced.face.matrix, side), real))
        if not made:
            raise MediaError(
                f"{path.name} shows no face {APART_S:.0f} s from its identity reference."
            )
        return ClipFigures(
            clip=path.stem,
            frames=len(made),
            made=mean_likeness(made),
            copied=mean_likeness(copied),
        )

    def silent(self, face: Path, reference: Path) -> LeakFigures:
        """Drive a clip's face by silence, with a clip's identity reference."""
        real = self.real(face)
        silence = np.zeros(len(real) * SAMPLE_RATE // FPS, np.float32)
        identity = self._identity(reference)
        synced = self._lips.run(pictures_of(face), silence, Fraction(FPS), identity)
        made, lost = openings((s.picture for s in synced), self._models)
        return leak_figures(face.stem, reference.stem, made, real[: len(made)], lost)

    def _identity(self, path: Path) -> Identity:
        if path not in self._identities:
            chosen = self._lips.choose_identity(pictures_of(path), Fraction(FPS))
            self._identities[path] = chosen
        return self._identities[path]

    def _run(self, face: Path, voice: Path, identity: Identity) -> Generator[Synced, None, None]:
        samples = read_audio(voice, SAMPLE_RATE)
        yield from self._lips.run(pictures_of(face), samples, Fraction(FPS), identity)

    def _copy(self, synced: Synced, crop: Picture, identity: Identity) -> Picture:
        """The picture with the identity reference's rows where the painted ones would be."""
        if synced.face is None:
            return synced.original
        first, end = rows = self._rows
        copied = identity.crop[first:end]
        return paste(synced.original, crop, copied, rows, synced.face.matrix)


def _likeness(made: Picture, real: Picture) -> Likeness:
    lower = len(real) // 2
    return Likeness(
        psnr=psnr(made, real),
        psnr_lower=psnr(made[lower:], real[lower:]),
        ssim=ssim(made, real),
        ssim_lower=ssim(made[lower:], real[lower:]),
    )


def mean_likeness(rows: Sequence[Likeness], weights: Sequence[float] | None = None) -> Likeness:
    """The mean of each figure, by default every one counting the same."""
    figures = [(r.psnr, r.psnr_lower, r.ssim, r.ssim_lower) for r in rows]
    whole, lower, whole_ssim, lower_ssim = np.average(figures, axis=0, weights=weights).tolist()
    return Likeness(psnr=whole, psnr_lower=lower, ssim=whole_ssim, ssim_lower=lower_ssim)


def judge_speech(video: Path, phonemes: Path) -> SpeechFigures:
    """Set a finished video's mouth against the phoneme times of its speech.

    Args:
        video: what ``dub`` or ``demo`` wrote, speech from its start.
        phonemes: JSON as :func:`engine.phonemes.load_spans` reads it.

    Raises:
        MediaError: a file can't be read, or they have less than 1 s in common.
        NoFaceError: no picture shows a face.
    """
    spans = load_spans(phonemes)
    end_s = max((span.end_s for span in spans), default=0.0)
    pictures = islice(pictures_of(video), int(end_s * FPS))
    seen, lost = openings(pictures, FaceModels(threads=1))
    if len(seen) < LEAST_FRAMES:
        raise MediaError(f"{video} and {phonemes} have less than 1 s in common.")
    if lost == len(seen):
        raise NoFaceError(f"No face was found in {video}; name the video that shows the speech.")
    times = (np.arange(len(seen)) + 0.5) / FPS  # the middle of each picture's time
    quiet = np.zeros(len(seen), dtype=bool)
    for start, end in pauses_of(spans):
        quiet |= (times >= start + PAUSE_MARGIN_S) & (times <= end - PAUSE_MARGIN_S)
    pause = seen[quiet]
    return SpeechFigures(
        video=video.name,
        frames=len(seen),
        lost=lost,
        curve=lag_curve(opening_of(spans, times), seen).tolist(),
        pause_frames=len(pause),
        closed_share=float(np.mean(pause < CLOSED)) if len(pause) else float("nan"),
        pause_median=float(np.median(pause)) if len(pause) else float("nan"),
        pause_max=float(pause.max()) if len(pause) else float("nan"),
    )
