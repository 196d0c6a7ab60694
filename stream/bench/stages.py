"""What each step of a live frame takes, on the demo's pictures and speech."""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.face_models import FaceModels
from engine.generator import Chunk
from engine.identity import make_identity
from engine.mark import Badge
from engine.media import read_audio
from engine.mel import MelStream, cut_windows
from engine.paste import disagreement, paste
from engine.tracker import FaceTracker, TrackedFace
from stream.bench.painting import Painting
from stream.demo import FPS, SPEECH_FILE, speaker
from stream.web.broadcast import PREVIEW
from stream.web.conversion import Converter
from stream.web.encoding import PictureEncoder

FRAME_STAGES: Final = (
    "track",
    "crop",
    "mel",
    "generate",
    "judge",
    "paste",
    "mark",
    "encode",
)
"""What every modified frame goes through, in this order."""
STAGES: Final = ("detect", *FRAME_STAGES)
"""``detect``, the search for a face in the whole picture, is done only while there is none."""
CHUNKS: Final = 10
_WARM_UP: Final = 2  # chunks that don't count


class _Meter:
    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.found: dict[str, list[float]] = defaultdict(list)

    @contextmanager
    def of(self, stage: str, frames: int = 1) -> Iterator[None]:
        start = self._clock()
        yield
        self.found[stage].append((self._clock() - start) / frames)


def stage_times(
    bundle: Bundle,
    painting: Painting,
    *,
    chunks: int = CHUNKS,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Make lips move in the demo's pictures and time each step.

    Args:
        bundle: the generator's.
        painting: the generator.
        chunks: how many are painted, from 1.
        clock: seconds.

    Returns:
        Milliseconds of one frame by stage: medians, every name of ``STAGES``.

    Raises:
        ConfigError: the face models are missing.
        EngineError: the generator failed.
    """
    cv2.setNumThreads(1)  # as in a live session
    source = speaker()
    models = FaceModels(threads=1)
    tracker = FaceTracker(models, geometry=bundle.crop, resolution=bundle.resolution, live=True)
    badge = Badge(source.width, source.height)
    converter = Converter(None)
    encoder = PictureEncoder("VP8", PREVIEW.full)
    hearing = _Hearing(bundle)
    slot = painting.slots[0]
    meter = _Meter(clock)
    pictures = enumerate(source.pictures())
    for number in range(chunks + _WARM_UP):
        if number == _WARM_UP:
            meter.found.clear()
        taken: list[tuple[int, NDArray[np.uint8], TrackedFace, NDArray[np.uint8]]] = []
        windows = []
        for index, picture in islice(pictures, bundle.k):
            with meter.of("detect"):
                models.detect(picture)
            with meter.of("track"):
                face = tracker.update(picture, float(index / FPS))
            assert face is not None, "the portrait has a face"
            with meter.of("crop"):
                crop = face.crop(picture)
            with meter.of("mel"):
                windows.append(hearing.window(index))
            taken.append((index, picture, face, crop))
        if number == 0:
            _, _, face, crop = taken[0]
            painting.generator.replace_identity(slot, make_identity(face, crop).crop)
        chunk = Chunk(mel=np.concatenate(windows), pose=np.stack([crop for _, _, _, crop in taken]))
        with meter.of("generate", bundle.k):
            rows = painting.generator.step({slot: chunk})[slot]
        for (index, picture, face, crop), painted in zip(taken, rows, strict=True):
            with meter.of("judge"):
                disagreement(crop, painted, bundle.rows)
            with meter.of("paste"):
                made = paste(picture, crop, painted, bundle.rows, face.matrix)
            with meter.of("mark"):
                made = badge.on(made)
            at = float(index / FPS)
            with meter.of("encode"):
                converter.begin(made)
                frame: Any = converter.frame(made, "full")
                encoder.encode(frame, at=at, pts=at, key=index == 0, rate=PREVIEW.full)
    return {stage: statistics.median(meter.found[stage]) * 1e3 for stage in STAGES}


class _Hearing:
    """The speech as it arrives, a frame's samples at a time; it begins anew at its end."""

    def __init__(self, bundle: Bundle) -> None:
        self._placement = bundle.placement
        self._stream = MelStream(bundle.mel)
        self._samples = read_audio(SPEECH_FILE)
        self._step = round(bundle.mel.sample_rate / FPS)
        self._columns = np.zeros((bundle.mel.bands, 0), np.float32)
        self._first = 0  # the number of the first column that is kept
        self._most = 2 * bundle.placement.columns

    def window(self, index: int) -> NDArray[np.float32]:
        """The newest mel window once the samples of a frame have come; float32 (1, 1, B, C)."""
        start = index * self._step % max(len(self._samples) - self._step, 1)
        new = self._stream.push(self._samples[start : start + self._step])
        self._columns = np.concatenate([self._columns, new], axis=1)[:, -self._most :]
        width = self._placement.columns
        return cut_windows(self._columns, [self._columns.shape[1] - width], width)
