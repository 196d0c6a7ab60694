"""Real crops with real speech, as the generator's graph gets them in use."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.backends.arrays import with_kept
from engine.backends.interface import Arrays, Kept, Network
from engine.bundle import Bundle
from engine.chain import Chain
from engine.errors import ConfigError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.generator import Generator
from engine.media import VideoReader, read_audio, retime
from engine.mel import SAMPLE_RATE
from training.clips import FPS

Feed = dict[str, NDArray[np.float32]]

SUFFIXES: Final = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m4v")
MOST_CLIPS: Final = 16
FRAMES: Final = 75
"""Of one clip: 3 s."""
CHUNKS: Final = 8
"""Of one clip whose inputs are kept."""


class Clips(NamedTuple):
    """Videos of speaking people.

    Attributes:
        calibration: those that the scales are taken from.
        judging: the others, by which a number format is judged.
    """

    calibration: list[Path]
    judging: list[Path]


def find_clips(folder: Path, judging: Path | None = None) -> Clips:
    """Choose clips of a folder and of the folders in it, spread over all of them.

    Args:
        folder: with videos for calibration.
        judging: with videos to judge by; where it is left out, half of those in ``folder`` are.

    Raises:
        ConfigError: there are too few.
    """
    if judging is not None:
        return Clips(_spread(folder, 1), _spread(judging, 1))
    chosen = _spread(folder, 2)
    return Clips(chosen[::2], chosen[1::2])


def _spread(folder: Path, least: int) -> list[Path]:
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if len(found) < least:
        raise ConfigError(
            f"{folder} holds {len(found) or 'no'} videos of speaking people, and {least} or more"
            " are needed; name another folder."
        )
    places = np.linspace(0, len(found) - 1, min(len(found), MOST_CLIPS)).round().astype(int)
    return [found[place] for place in places]


class Recorder:
    """A network that keeps what some of its calls were fed.

    Args:
        network: what runs.
        every: of how many calls one is kept.
    """

    def __init__(self, network: Network, every: int = 1) -> None:
        self._network = network
        self._every = every
        self._calls = 0
        self.feeds: list[Feed] = []

    def keep(self, arrays: Arrays) -> Kept:
        """As the network does."""
        return self._network.keep(arrays)

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """As the network does."""
        if self._calls % self._every == 0:
            self.feeds.append(with_kept(feed, kept))
        self._calls += 1
        return self._network(feed, kept)


def feeds_of(
    bundle: Bundle, network: Network, clips: Sequence[Path], models: FaceModels
) -> list[Feed]:
    """Run clips with their own speech, and return what the generator's graph was fed.

    Args:
        bundle: the generator's.
        network: its graph, on a run time that keeps inputs in the computer's memory.
        clips: videos.
        models: the face networks.

    Returns:
        Inputs by name for up to ``CHUNKS`` chunks of each clip.

    Raises:
        MediaError: no clip can be read or shows a face.
    """
    feeds = []
    for clip in clips:
        recorder = Recorder(network, max(1, FRAMES // bundle.k // CHUNKS))
        for _ in synced(bundle, recorder, clip, models):
            pass
        feeds += recorder.feeds
    if not feeds:
        raise MediaError("No clip for calibration shows a face; name a folder with other videos.")
    return feeds


def synced(
    bundle: Bundle, network: Network, clip: Path, models: FaceModels
) -> list[NDArray[np.uint8]]:
    """Give a clip's face its own speech, painted by a network.

    Returns:
        Its first ``FRAMES`` pictures, uint8 (H, W, 3) each; none where it shows no face.

    Raises:
        MediaError: it can't be read or has no sound.
    """
    rate = Fraction(FPS)
    with VideoReader(clip) as video:
        pictures = list(islice(retime(video, rate), FRAMES))
    chain = Chain(bundle, Generator(bundle, network=network, threads=1, slots=1), models)
    try:
        identity = chain.choose_identity(pictures, rate)
    except NoFaceError:
        return []
    samples = read_audio(clip, SAMPLE_RATE)
    return [s.picture for s in chain.run(pictures, samples, rate, identity)]
