"""Kept inputs of a run time that works in the computer's own memory."""

from collections.abc import Sequence
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Arrays, Kept


class KeptArrays(NamedTuple):
    """Inputs of one session.

    Attributes:
        arrays: by name, float32 (1, …) each.
    """

    arrays: Arrays


def with_kept(feed: Arrays, kept: Sequence[tuple[Kept, int]]) -> dict[str, NDArray[np.float32]]:
    """Join a feed with the kept inputs, each repeated for its frames."""
    whole = dict(feed)
    if not kept:
        return whole
    sessions = [(cast("KeptArrays", holder).arrays, count) for holder, count in kept]
    frames = sum(count for _, count in sessions)
    for name, first in sessions[0][0].items():
        joined = np.empty((frames, *first.shape[1:]), np.float32)
        start = 0
        for arrays, count in sessions:
            joined[start : start + count] = arrays[name]
            start += count
        whole[name] = joined
    return whole
