"""What a bundle does on each run time of this machine: how near, how fast, how large."""

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar

import numpy as np

from engine.backends.interface import Network, Variant
from engine.backends.loading import load_network, usable
from engine.bundle import GENERATOR, Bundle
from engine.errors import LipstreamError
from export.calibration import Feed

ROUNDS: Final = 7
MB: Final = 1e6

Name = TypeVar("Name", bound=Hashable)


class Compared(NamedTuple):
    """One run time.

    Attributes:
        variant: which.
        difference: the largest from OpenVINO in float32, in pictures of the range 0..1.
        chunk_ms: time of k frames, the median of runs in turn with the others'.
        size_mb: of the graph's file.
    """

    variant: Variant
    difference: float
    chunk_ms: float
    size_mb: float


def compare_run_times(
    bundle: Bundle, feeds: Sequence[Feed], *, threads: int, rounds: int = ROUNDS
) -> tuple[list[Compared], dict[Variant, str]]:
    """Run a bundle's generator on every run time that there is.

    Args:
        bundle: what to run.
        feeds: inputs of its generator, of k frames where time is taken; at least one.
        threads: processor threads of one call, from 1.
        rounds: how often each is timed.

    Returns:
        The run times, and those that can't run it with the reason.
    """
    networks: dict[Variant, Network] = {}
    failed = {}
    for variant in usable(bundle):
        try:
            networks[variant] = load_network(bundle, variant, threads=threads)
        except LipstreamError as error:
            failed[variant] = str(error)
    exact = [networks[Variant("openvino", "fp32")](feed)["frames"] for feed in feeds]
    differences = {
        variant: max(
            float(np.abs(network(feed)["frames"] - frames).max())
            for feed, frames in zip(feeds, exact, strict=True)
        )
        for variant, network in networks.items()
    }
    times = times_ms({v: partial(network, feeds[0]) for v, network in networks.items()}, rounds)
    compared = [
        Compared(
            variant,
            differences[variant],
            times[variant],
            _graph_size(bundle, variant) / MB,
        )
        for variant in networks
    ]
    return sorted(compared, key=lambda found: found.chunk_ms), failed


def times_ms(calls: Mapping[Name, Callable[[], object]], rounds: int) -> dict[Name, float]:
    """Time calls in turn, so that what else the machine does hits all alike: medians in ms."""
    took: dict[Name, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()  # brings its own weights back into the caches
            start = time.perf_counter()
            call()
            took[name].append(time.perf_counter() - start)
    return {name: 1000 * statistics.median(values) for name, values in took.items()}


def _graph_size(bundle: Bundle, variant: Variant) -> int:
    held = bundle.graphs[GENERATOR].variants
    precision = variant.precision if variant.precision in held else "fp32"
    return bundle.graph_path(GENERATOR, precision).stat().st_size
