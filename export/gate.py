"""The quality gate: how far a number format may stray from fp32 on crops that it never saw."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Network
from engine.bundle import Bundle
from engine.bundle_variants import PrecisionFacts
from engine.face_models import FaceModels
from engine.lips import correlation
from export.calibration import FRAMES, Feed, feeds_of, synced
from training.bench import openings, pictures_of
from training.clips import FPS
from training.metrics import psnr

LEAST_PSNR_DB: Final = 35.0
MOST_LIPS_LOST: Final = 0.02
_SPOKEN: Final = 0.02
"""Spread of the real opening below which a clip tells nothing of lips."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """What other number formats are held against.

    Attributes:
        bundle: the generator's.
        exact: its graph in fp32.
        feeds: inputs from clips that no scale was taken from.
        frames: what the graph in fp32 makes of each of them.
        lips: clip to the real opening of its mouth and the correlation with it in fp32.
        models: the face networks.
    """

    bundle: Bundle
    exact: Network
    feeds: Sequence[Feed]
    frames: Sequence[NDArray[np.float32]]
    lips: Mapping[Path, tuple[NDArray[np.float64], float]]
    models: FaceModels

    @classmethod
    def from_clips(
        cls, bundle: Bundle, exact: Network, clips: Sequence[Path], models: FaceModels
    ) -> "Judge":
        """Run the graph in fp32 on clips.

        Raises:
            MediaError: a clip can't be read, or none shows a face.
        """
        feeds = feeds_of(bundle, exact, clips, models)
        lips = {}
        for clip in clips:
            real, _ = openings(islice(pictures_of(clip), FRAMES), models)
            if len(real) >= FPS and real.std() > _SPOKEN:
                lips[clip] = real, _follows(bundle, exact, clip, real, models)
        return cls(
            bundle=bundle,
            exact=exact,
            feeds=feeds,
            frames=[exact(feed)["frames"] for feed in feeds],
            lips=lips,
            models=models,
        )

    def psnr_db(self, network: Network) -> float:
        """Return how near a network's painted rows are to those in fp32: the mean over frames."""
        pairs = zip(self.feeds, self.frames, strict=True)
        return float(np.mean([_likeness_db(network(feed)["frames"], f) for feed, f in pairs]))

    def judge(self, network: Network) -> PrecisionFacts:
        """Return what a network in another number format changes."""
        lost = [
            exact - _follows(self.bundle, network, clip, real, self.models)
            for clip, (real, exact) in self.lips.items()
        ]
        return PrecisionFacts(
            psnr_db=round(self.psnr_db(network), 2),
            lips_lost=round(float(np.mean(lost)), 4) if lost else 0.0,
            clips=len(lost),
        )


def passes(facts: PrecisionFacts) -> bool:
    """Whether a number format may be used."""
    return facts.psnr_db >= LEAST_PSNR_DB and facts.lips_lost <= MOST_LIPS_LOST


def _likeness_db(made: NDArray[np.float32], exact: NDArray[np.float32]) -> float:
    """PSNR of painted rows (N, 3, R, S) in 0..1, as the pictures of 255 levels that they become."""
    shown, wanted = (
        np.clip(frames * 255 + 0.5, 0, 255).astype(np.uint8).transpose(0, 2, 3, 1)
        for frames in (made, exact)
    )
    return float(np.mean([psnr(*pair) for pair in zip(shown, wanted, strict=True)]))


def _follows(
    bundle: Bundle, network: Network, clip: Path, real: NDArray[np.float64], models: FaceModels
) -> float:
    made, _ = openings(synced(bundle, network, clip, models), models)
    count = min(len(made), len(real))
    return correlation(real[:count], made[:count])
