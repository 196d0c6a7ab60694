"""How far a mean over clips may be off: the bootstrap (Efron, 1979) over clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

RESAMPLES: Final = 2000
SLOW_RESAMPLES: Final = 50  # of a figure that takes seconds each time
COVERED: Final = 0.95
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure of a set of clips.

    Attributes:
        value: the figure; None where nothing could be measured.
        low: lower end of its 95 % interval; None where there are less than two clips.
        high: upper end.
        clips: how many it comes from.
    """

    value: float | None
    low: float | None
    high: float | None
    clips: int


NOTHING: Final = Estimate(None, None, None, 0)


def mean_of(values: Sequence[float | None], *, seed: int = SEED) -> Estimate:
    """The mean over clips with its percentile interval; clips without a value are left out."""
    found = np.array([value for value in values if value is not None], np.float64)
    if not len(found):
        return NOTHING
    mean = float(found.mean())
    if len(found) < 2:
        return Estimate(mean, None, None, len(found))
    drawn = np.random.default_rng(seed).integers(0, len(found), (RESAMPLES, len(found)))
    low, high = _ends(found[drawn].mean(axis=1))
    return Estimate(mean, low, high, len(found))


def of_sets(
    figure: Callable[[NDArray[np.int_]], float],
    clips: int,
    *,
    resamples: int = SLOW_RESAMPLES,
    seed: int = SEED,
) -> Estimate:
    """A figure of all clips together, with its reflected (basic) interval.

    A resample has clips twice, by which a Fréchet distance rises; reflecting the percentiles about
    the figure takes that rise out again.

    Args:
        figure: of the clips with these indices, (n,), some of them more than once.
        clips: how many there are.
        resamples: how often it is taken.
        seed: of chance.
    """
    value = figure(np.arange(clips))
    if clips < 2:
        return Estimate(value, None, None, clips)
    chance = np.random.default_rng(seed)
    drawn = [figure(chance.integers(0, clips, clips)) for _ in range(resamples)]
    low, high = _ends(np.array(drawn))
    return Estimate(value, max(0.0, 2 * value - high), max(0.0, 2 * value - low), clips)


def _ends(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.quantile(values, ((1 - COVERED) / 2, (1 + COVERED) / 2)).tolist()
    return low, high
