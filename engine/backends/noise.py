"""Noise for a generator: what a call takes does not depend on what is seen."""

import numpy as np
from numpy.typing import NDArray

from engine.bundle import GENERATOR, Bundle


def random_feed(bundle: Bundle, frames: int, seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return noise within the ranges that a bundle states, in 0..1 where it states none.

    Args:
        bundle: whose generator it is for.
        frames: of the batch, from 1.
        seed: of the noise.

    Returns:
        Inputs by name, float32 (frames, …) each.
    """
    random = np.random.default_rng(seed)
    feed = {}
    for name, spec in bundle.graphs[GENERATOR].inputs.items():
        low, high = spec.range or (0.0, 1.0)
        shape = (frames, *(length or frames for length in spec.shape[1:]))
        feed[name] = random.uniform(low, high, shape).astype(np.float32)
    return feed
