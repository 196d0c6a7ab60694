"""One bundle's generator on one run time, with chunks to paint."""

from __future__ import annotations

from typing import Final

import numpy as np

from engine.backends.interface import Network, Variant
from engine.backends.loading import load_network
from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, Bundle
from engine.generator import Chunk, Generator
from stream.bench.rounds import Candidate, timed

SESSIONS: Final = (1, 2, 4, 8)
"""Whose chunks are painted together, to see what a batch costs."""


class Painting:
    """A generator that paints noise: what it takes does not depend on what is seen.

    A step is what a live session asks for, from crops of bytes to rows of bytes.

    Args:
        bundle: whose generator it is.
        variant: the run time and its number format.
        threads: processor threads.
        checked: take only number formats that the bundle was judged in; else OpenVINO's is taken
            as it is, for an untrained network, of which only the speed counts.

    Attributes:
        generator: with a slot for each session.
        slots: the open ones.

    Raises:
        ConfigError: the run time can't run it here.
        BundleError: the bundle's graphs do not fit together.
        EngineError: the run time failed.
    """

    def __init__(
        self, bundle: Bundle, variant: Variant, threads: int, *, checked: bool = True
    ) -> None:
        network: Network
        if checked:
            network = load_network(bundle, variant, threads=threads)
        else:
            network = OpenVinoNetwork(bundle, GENERATOR, threads, variant.precision)
        self.generator = Generator(bundle, network=network, threads=threads, slots=max(SESSIONS))
        random = np.random.default_rng(0)
        k, side, bound = bundle.k, bundle.resolution, bundle.mel.max_abs
        window = k, 1, bundle.mel.bands, bundle.placement.columns
        self._chunk = Chunk(
            mel=random.uniform(-bound, bound, window).astype(np.float32),
            pose=random.integers(0, 256, (k, side, side, 3), np.uint8),
        )
        identity = random.integers(0, 256, (side, side, 3), np.uint8)
        self.slots = [self.generator.open(identity) for _ in range(max(SESSIONS))]

    def step(self, sessions: int = 1) -> Candidate:
        """Return a candidate that paints a chunk of each of so many sessions in one call."""
        chunks = dict.fromkeys(self.slots[:sessions], self._chunk)
        return timed(lambda: self.generator.step(chunks))
