"""True videos and what systems made of them: toys of one speaker, scored once."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import STARTER
from engine.media import VideoWriter, read_audio
from tests.training.toys import RATE, SIDE
from training.bench import pictures_of
from training.clips import FPS
from training.scoring.judges import JudgeFiles, Judges, open_judges


def join(pictures: Path, sound: Path, out: Path, *, right: int = 0) -> None:
    """Write the pictures of one video, shifted by so many pixels, with the sound of another."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        out, width=SIDE, height=SIDE, fps=Fraction(FPS), audio_rate=RATE, crf=10, preset="ultrafast"
    ) as writer:
        for picture in pictures_of(pictures):
            moved: NDArray[np.uint8] = np.roll(picture, right, axis=1)
            writer.write_frame(moved)
        writer.write_audio(read_audio(sound, RATE))


@pytest.fixture(scope="session")
def truth(toy_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two true clips, ``one`` and ``two``."""
    folder = tmp_path_factory.mktemp("scoring") / "truth"
    folder.mkdir()
    for name, path in zip(("one", "two"), sorted((toy_videos / "ann").iterdir()), strict=False):
        (folder / f"{name}.mp4").symlink_to(path)
    return folder


@pytest.fixture(scope="session")
def same(truth: Path) -> Path:
    """A system that gives the true videos themselves."""
    folder = truth.parent / "same"
    folder.mkdir()
    for path in truth.iterdir():
        (folder / path.name).symlink_to(path.resolve())
    return folder


@pytest.fixture(scope="session")
def swapped(truth: Path) -> Path:
    """A system that shows each clip's pictures with the other one's sound, under its name."""
    folder = truth.parent / "swapped"
    one, two = truth / "one.mp4", truth / "two.mp4"
    join(two, one, folder / "one.mp4")
    join(one, two, folder / "two.mp4")
    return folder


@pytest.fixture(scope="session")
def judges() -> Judges:
    """The starter's lip expert alone."""
    return open_judges(JudgeFiles(bundles=(STARTER,)))
