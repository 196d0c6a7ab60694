"""File in, file out: a face, filmed or still, says what is heard in another file.

Pictures stream through, so memory does not grow with a film's length; only the 16 kHz copy of the
speech that drives the mouth is held whole.
"""

import json
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import Final

from engine.backends.choice import candidates
from engine.backends.fallback import open_network
from engine.bundle import MANIFEST, Bundle
from engine.chain import LipSync, Synced
from engine.enhance import STRENGTH, Enhancer, EnhanceReport
from engine.errors import MediaError, NoFaceError
from engine.files import sha256_of, write_whole
from engine.generator import FP32
from engine.identity import Identity
from engine.mark import Badge
from engine.sources import FaceSource, Speech, back_and_forth, open_face
from engine.video_writer import VideoWriter

IDENTITY_S: Final = 20  # of a film are searched at a time for the identity reference
IDENTITY_FPS: Final = 8  # pictures a second that are looked at for it

_ENCODER_QUEUE = 8  # pictures that wait for the encoder at most
_BIT_RATE_PER_CHANNEL = 96_000  # of the AAC sound
_FRAME_TOLERANCE = Fraction(1, 10)  # so much of a frame of sound needs no picture of its own


@dataclass(frozen=True, kw_only=True, slots=True)
class DubReport:
    """What a dub made, and how fast.

    Attributes:
        out: the file written.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
        fps: pictures a second.
        frames: pictures written.
        modified_frames: of them, those with a generated mouth.
        passthrough_frames: of them, those left as they were.
        duration_s: of the speech.
        wall_s: time it took once the inputs were opened, with loading the networks.
        times_real_time: duration_s / wall_s.
        badge: whether the modified pictures carry the badge.
        enhance: how the painted mouths were enhanced; None where they were not.
        bundle: the bundle folder's name.
        bundle_sha256: hash of its description, which holds the hashes of its files.
        backend: the generator's run time and number format, like ``openvino-fp32``.
        threads: processor threads of the networks.
    """

    out: str
    width: int
    height: int
    fps: float
    frames: int
    modified_frames: int
    passthrough_frames: int
    duration_s: float
    wall_s: float
    times_real_time: float
    badge: bool
    enhance: EnhanceReport | None
    bundle: str
    bundle_sha256: str
    backend: str
    threads: int

    def summary(self) -> str:
        """One line for the terminal."""
        done = "lip-synced" if self.enhance is None else "lip-synced and enhanced"
        return (
            f"{self.out}: {self.duration_s:.1f} s, {self.frames} frames"
            f" ({self.modified_frames} {done}), {self.times_real_time:.1f} x real time"
        )

    def write(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all.

        Raises:
            MediaError: the file can't be written.
        """
        try:
            write_whole(path, json.dumps(asdict(self), indent=2) + "\n")
        except OSError as error:
            raise MediaError(
                f"The report {path} can't be written ({error.strerror}); check its folder."
            ) from error


def dub(
    face: Path,
    speech: Path,
    out: Path,
    *,
    bundle: Bundle,
    threads: int = 2,
    backend: str = str(FP32),
    backends_off: Sequence[str] = (),
    badge: bool = True,
    enhance: Path | None = None,
    enhance_strength: float = STRENGTH,
    crf: int = 18,
    preset: str = "veryfast",
    progress: Callable[[int, int], None] | None = None,
) -> DubReport:
    """Make a face speak, from files to a file.

    The video has the face's rate and size, the speech's sound and length. A film that is shorter
    plays forward and backward; frames without a face pass as they are.

    Args:
        face: a video or a still picture.
        speech: any audio or video file.
        out: the MP4 file; it is written whole or not at all.
        bundle: the model to run.
        threads: processor threads of the networks.
        backend: the generator's run time; ``auto`` measures which is the fastest, see
            :func:`engine.backends.choice.ranked`.
        backends_off: run times that are never taken for it.
        badge: whether modified pictures carry the badge.
        enhance: an ONNX file that enhances the painted mouths, if any.
        enhance_strength: share of its change that is taken over; 0 leaves it out.
        crf: x264's constant rate factor, 0 (lossless) to 51.
        preset: x264's preset.
        progress: called with the frames done and all frames after each one.

    Raises:
        NoFaceError: no picture that would be shown has a face.
        MediaError: a file can't be read or written, or does not hold what is needed.
        BundleError: the bundle's graphs do not fit together.
        ConfigError: the face models are not installed, or ``backend`` or ``enhance`` can't be
            used.
        EngineError: the run time failed.
    """
    for given in (face, speech):
        if _same_file(given, out):
            raise MediaError(f"{out} is an input as well; name another output file.")
    return dub_source(
        open_face(face),
        Speech(speech),
        out,
        bundle=bundle,
        threads=threads,
        backend=backend,
        backends_off=backends_off,
        badge=badge,
        enhance=enhance,
        enhance_strength=enhance_strength,
        crf=crf,
        preset=preset,
        progress=progress,
    )


def dub_source(
    face: FaceSource,
    speech: Speech,
    out: Path,
    *,
    bundle: Bundle,
    threads: int = 2,
    backend: str = str(FP32),
    backends_off: Sequence[str] = (),
    badge: bool = True,
    enhance: Path | None = None,
    enhance_strength: float = STRENGTH,
    crf: int = 18,
    preset: str = "veryfast",
    progress: Callable[[int, int], None] | None = None,
) -> DubReport:
    """Make a face speak whose pictures come from anywhere; see :func:`dub`."""
    started_s = time.monotonic()
    candidates(bundle, backend, backends_off)  # said before anything is opened or measured
    count = max(1, math.ceil(speech.duration * face.fps - _FRAME_TOLERANCE))
    modified = 0
    # The writer comes before the networks: what is wrong with the output shows at once.
    with VideoWriter(
        out,
        width=face.width,
        height=face.height,
        fps=face.fps,
        audio_rate=speech.rate,
        audio_channels=speech.channels,
        audio_bit_rate=_BIT_RATE_PER_CHANNEL * speech.channels,
        crf=crf,
        preset=preset,
    ) as writer:
        enhancer = None
        if enhance is not None and enhance_strength > 0:
            enhancer = Enhancer(enhance, strength=enhance_strength, threads=threads)
        network = open_network(bundle, backend, backends_off, threads=threads)
        lips = LipSync(bundle, threads=threads, network=network)
        identity = _choose_identity(lips, face, count)
        film = _Film(writer, face, speech, badge=badge)
        pictures = islice(back_and_forth(face.pictures), count)
        shown = lips.run(pictures, speech.mono, face.fps, identity)
        if enhancer is not None:
            shown = enhancer.run(shown)
        waiting: deque[Future[None]] = deque()
        # Encoding has a thread of its own: it fills the core that the networks leave idle.
        with ThreadPoolExecutor(max_workers=1) as encoder:
            for number, synced in enumerate(shown, 1):
                modified += synced.modified
                waiting.append(encoder.submit(film.write, synced))
                if len(waiting) > _ENCODER_QUEUE:
                    waiting.popleft().result()
                if progress is not None:
                    progress(number, count)
            for written in waiting:
                written.result()
        film.finish()
    wall_s = time.monotonic() - started_s
    return DubReport(
        out=str(out),
        width=face.width,
        height=face.height,
        fps=round(float(face.fps), 3),
        frames=count,
        modified_frames=modified,
        passthrough_frames=count - modified,
        duration_s=round(float(speech.duration), 3),
        wall_s=round(wall_s, 3),
        times_real_time=round(float(speech.duration) / wall_s, 3),
        badge=badge,
        enhance=None if enhancer is None else enhancer.report(),
        bundle=bundle.folder.name,
        bundle_sha256=sha256_of(bundle.folder / MANIFEST),
        backend=str(network.variant),
        threads=threads,
    )


class _Film:
    """Puts pictures, marked where they are modified, and their sound into a file in step."""

    def __init__(
        self, writer: VideoWriter, face: FaceSource, speech: Speech, *, badge: bool
    ) -> None:
        self._writer = writer
        self._mark = Badge(face.width, face.height) if badge else None
        self._blocks = speech.blocks()
        self._samples_per_picture = speech.rate / face.fps
        self._pictures = 0
        self._samples = 0

    def write(self, synced: Synced) -> None:
        mark = self._mark if synced.modified else None
        self._writer.write_frame(mark.on(synced.picture) if mark else synced.picture)
        self._pictures += 1
        while self._samples < self._pictures * self._samples_per_picture:
            block = next(self._blocks, None)
            if block is None:
                break
            self._writer.write_audio(block)
            self._samples += len(block)

    def finish(self) -> None:
        """The rest of the sound: less than a picture's, for which there is none."""
        for block in self._blocks:
            self._writer.write_audio(block)


def _choose_identity(lips: LipSync, face: FaceSource, count: int) -> Identity:
    """The identity reference, from the first stretch of the shown pictures that has a face."""
    step = max(1, round(face.fps / IDENTITY_FPS))
    fps = face.fps / step
    pictures = islice(face.pictures(), 0, count, step)
    for first in pictures:
        with suppress(NoFaceError):
            stretch = islice(pictures, math.ceil(IDENTITY_S * fps) - 1)
            return lips.choose_identity(chain([first], stretch), fps)
    raise NoFaceError(
        f"No face was found in {face.name}; choose a picture or video that shows one, frontal"
        " and not too small."
    )


def _same_file(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them does not exist
        return False
