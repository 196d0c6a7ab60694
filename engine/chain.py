"""The offline chain: pictures and samples in, pictures whose lips follow the samples out.

Tracker → crop → generator → paste, the same steps in the same order as live, without a clock.
``dub``, ``training evaluate`` and the calibration of exports all run this.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Network
from engine.bundle import Bundle
from engine.crop import CropGeometry
from engine.errors import NoFaceError
from engine.face_models import FaceModels
from engine.generator import MAX_FRAMES, Chunk, Generator
from engine.identity import Identity, make_identity, reference_cost
from engine.mel import MelSettings, WindowPlacement, cut_windows, log_mel
from engine.paste import paste
from engine.tracker import FaceTracker, TrackedFace


@dataclass(frozen=True, slots=True)
class Synced:
    """One picture that left the chain.

    Attributes:
        picture: uint8 (H, W, 3).
        original: uint8 (H, W, 3), the picture that came in.
        face: where its face is; None where there is none, and the picture left as it came.
    """

    picture: NDArray[np.uint8]
    original: NDArray[np.uint8]
    face: TrackedFace | None

    @property
    def modified(self) -> bool:
        """Whether the lips were changed."""
        return self.face is not None


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A picture on its way to the generator."""

    picture: NDArray[np.uint8]
    crop: NDArray[np.uint8] | None
    face: TrackedFace | None


class Form(Protocol):
    """What the chain must know of a generator; a bundle says it, see there."""

    @property
    def crop(self) -> CropGeometry:
        """How the crop lies on the face."""

    @property
    def resolution(self) -> int:
        """Side of the crop in px."""

    @property
    def rows(self) -> tuple[int, int]:
        """First painted row of the crop and the row after the last."""

    @property
    def k(self) -> int:
        """Frames of a chunk."""

    @property
    def mel(self) -> MelSettings:
        """Audio feature settings."""

    @property
    def placement(self) -> WindowPlacement:
        """Where a frame's mel window lies."""


class Painter(Protocol):
    """A generator as the chain drives it, whatever runs it: :class:`engine.generator.Generator`."""

    def open(self, identity: NDArray[np.uint8]) -> int:
        """Take a slot for an identity reference, uint8 (S, S, 3); returns its number."""

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, NDArray[np.uint8]]:
        """Paint chunks by slot: uint8 (k, R, S, 3) each."""

    def close(self, slot: int) -> None:
        """Free a slot."""


class Chain:
    """The offline chain around a generator; not for use from several threads at once.

    Args:
        form: of the generator.
        painter: the generator, with a slot to spare.
        models: the face networks; loaded here where missing.

    Raises:
        ConfigError: the face models are missing.
    """

    def __init__(self, form: Form, painter: Painter, models: FaceModels | None = None) -> None:
        self._form = form
        self._painter = painter
        self._models = models or FaceModels()

    def _tracker(self) -> FaceTracker:
        return FaceTracker(self._models, geometry=self._form.crop, resolution=self._form.resolution)

    def choose_identity(self, pictures: Iterable[NDArray[np.uint8]], fps: Fraction) -> Identity:
        """Pick the picture that serves best as identity reference, and shut its mouth if need be.

        Args:
            pictures: uint8 (H, W, 3) each, in order.
            fps: their rate.

        Raises:
            NoFaceError: none of them shows a face.
        """
        tracker = self._tracker()
        best: tuple[float, int, TrackedFace, NDArray[np.uint8]] | None = None
        for index, picture in enumerate(pictures):
            face = tracker.update(picture, float(index / fps))
            if face is None:
                continue
            crop = face.crop(picture)
            cost = reference_cost(face, crop)
            if best is None or cost < best[0]:
                best = cost, index, face, crop
        if best is None:
            raise NoFaceError(
                "No face was found: use a picture or video that shows one face from the front,"
                " well lit and not too small."
            )
        _, index, face, crop = best
        return make_identity(face, crop, index)

    def run(
        self,
        pictures: Iterable[NDArray[np.uint8]],
        samples: NDArray[np.float32],
        fps: Fraction,
        identity: Identity,
    ) -> Iterator[Synced]:
        """Make the lips of the pictures follow the samples.

        Args:
            pictures: uint8 (H, W, 3) each; the first is heard at sample 0.
            samples: float32 (N,) mono at 16 kHz; beyond their end is silence.
            fps: rate of the pictures.
            identity: the person's identity reference.

        Yields:
            One picture for each that came in, in order; unchanged where no face is.
        """
        tracker = self._tracker()
        mel = log_mel(samples, self._form.mel)
        slot = self._painter.open(identity.crop)
        try:
            chunk: list[_Waiting] = []
            start = 0
            for picture in pictures:
                face = tracker.update(picture, float((start + len(chunk)) / fps))
                crop = None if face is None else face.crop(picture)
                chunk.append(_Waiting(picture, crop, face))
                if len(chunk) == min(self._form.k, MAX_FRAMES):
                    yield from self._finish(slot, chunk, mel, start, fps)
                    start += len(chunk)
                    chunk = []
            yield from self._finish(slot, chunk, mel, start, fps)
        finally:
            self._painter.close(slot)

    def _finish(
        self,
        slot: int,
        chunk: list[_Waiting],
        mel: NDArray[np.float32],
        start: int,
        fps: Fraction,
    ) -> Iterator[Synced]:
        placement = self._form.placement
        faces = [i for i, waiting in enumerate(chunk) if waiting.face is not None]
        painted: dict[int, NDArray[np.uint8]] = {}
        if faces:
            columns = [placement.first_column(float((start + i) / fps)) for i in faces]
            crops = [crop for w in chunk if (crop := w.crop) is not None]
            windows = cut_windows(mel, columns, placement.columns)
            frames = self._painter.step({slot: Chunk(mel=windows, pose=np.stack(crops))})[slot]
            painted = dict(zip(faces, frames, strict=True))
        for index, waiting in enumerate(chunk):
            if waiting.face is None or waiting.crop is None:
                yield Synced(waiting.picture, waiting.picture, None)
                continue
            picture = paste(
                waiting.picture,
                waiting.crop,
                painted[index],
                self._form.rows,
                waiting.face.matrix,
            )
            yield Synced(picture, waiting.picture, waiting.face)


class LipSync(Chain):
    """The offline chain of one bundle; not for use from several threads at once."""

    def __init__(self, bundle: Bundle, *, threads: int = 2, network: Network | None = None) -> None:
        """Load the networks.

        Args:
            bundle: the generator's.
            threads: of the generator on the CPU.
            network: the generator's graph on some run time; OpenVINO in float32 where it is left
                out.

        Raises:
            ConfigError: the face models are missing.
            BundleError: the bundle's graphs can't be run.
        """
        self.bundle = bundle
        super().__init__(bundle, Generator(bundle, network=network, threads=threads, slots=1))
