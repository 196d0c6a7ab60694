"""A short race of the run times that can run a bundle's generator, to find the fastest.

Two networks at most are loaded at a time: the fastest so far and the next one, which take turns,
so that whatever else the machine does falls on both alike.
"""

import logging
import math
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from engine.backends.interface import Arrays, Network, Variant
from engine.backends.loading import load_network
from engine.backends.noise import random_feed
from engine.bundle import Bundle
from engine.bundle_variants import Precision
from engine.errors import one_line

log = logging.getLogger(__name__)

WARM_UP: Final = 2
"""Calls that don't count: run times choose their kernels and buffers in them."""
ROUNDS: Final = 9
LEAST_ROUNDS: Final = 3
RACE_S: Final = 0.6
"""No further round of a pair begins after so many seconds, beyond the least."""
CLEARLY: Final = 1.5
"""A network that needs so many times as long needs no further round."""
GAIN: Final = 0.05
"""A less exact number format must save more than this share of the time to come first."""

_LIKELY: Final[tuple[Precision, ...]] = ("int8", "fp16", "bf16", "fp32")
"""The sooner the fastest is met, the fewer rounds have the others."""
_CHUNK_INPUTS: Final = ("mel", "pose")  # the rest is kept from step to step


class Timing(NamedTuple):
    """What a run time takes.

    Attributes:
        variant: the run time and its number format.
        chunk_ms: time for a chunk of the bundle's k frames in ms, the median.
    """

    variant: Variant
    chunk_ms: float


class Load(Protocol):
    """Loads a bundle's generator; see :func:`engine.backends.loading.load_network`."""

    def __call__(self, bundle: Bundle, variant: Variant, *, threads: int) -> Network: ...  # noqa: D102


def self_benchmark(
    bundle: Bundle,
    variants: Iterable[Variant],
    *,
    threads: int,
    load: Load = load_network,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time run times on one chunk of noise, which takes as long as any other.

    Args:
        bundle: what they run.
        variants: those that can run it here.
        threads: processor threads of one call, from 1.
        load: loads one.
        clock: seconds.

    Returns:
        The fastest first; of those that hardly differ, the most exact. One that can't be loaded
        or fails is left out, with a line in the log.
    """
    noise = _Noise(bundle)
    likely = sorted(variants, key=lambda variant: _LIKELY.index(variant.precision))
    timings: dict[Variant, float] = {}
    fastest: _Runner | None = None
    for variant in likely:
        challenger: _Runner | None = None  # frees the last one before the next is loaded
        try:
            challenger = _Runner(variant, load(bundle, variant, threads=threads), noise, clock)
        except Exception as error:  # native libraries raise what they like
            _leave_out(variant, error)
            continue
        fastest = _meet(fastest, challenger, timings, clock)
    return _in_order([Timing(v, round(s * 1000, 3)) for v, s in timings.items()], bundle)


class _Noise:
    """The inputs of one chunk: those of each call, and those that are kept."""

    def __init__(self, bundle: Bundle) -> None:
        whole = random_feed(bundle, bundle.k)
        live = bundle.identity_policy == "live"
        kept = [name for name in whole if live and name not in _CHUNK_INPUTS]
        self.count = bundle.k
        self.kept: Arrays = {name: whole[name][:1] for name in kept}
        self.feed: Arrays = {name: noise for name, noise in whole.items() if name not in kept}


class _Runner:
    """A loaded network that paints the noise."""

    def __init__(
        self, variant: Variant, network: Network, noise: _Noise, clock: Callable[[], float]
    ) -> None:
        self.variant = variant
        self._network = network
        self._feed = noise.feed
        self._kept = [(network.keep(noise.kept), noise.count)] if noise.kept else []
        self._clock = clock
        self.seconds: list[float] = []

    def run(self) -> float:
        """Paint once and return the seconds that it took."""
        start = self._clock()
        self._network(self._feed, self._kept)
        return self._clock() - start


def _meet(
    fastest: _Runner | None,
    challenger: _Runner,
    timings: dict[Variant, float],
    clock: Callable[[], float],
) -> _Runner | None:
    """Time another one, note its seconds, and return the fastest of those that don't fail."""
    runners = [challenger] if fastest is None else [fastest, challenger]
    medians = _race(runners, clock)
    if fastest is not None and fastest.variant not in medians:
        del timings[fastest.variant]
        fastest = None
    if challenger.variant not in medians:
        return fastest
    # Beside the same rival: a machine that is busier than before slows both.
    busier = medians[fastest.variant] / timings[fastest.variant] if fastest else 1.0
    timings[challenger.variant] = medians[challenger.variant] / busier
    if fastest is None or timings[challenger.variant] < timings[fastest.variant]:
        return challenger
    return fastest


def _race(runners: Sequence[_Runner], clock: Callable[[], float]) -> dict[Variant, float]:
    """Return the median seconds of each that doesn't fail; they take turns, the first changes."""
    running = list(runners)

    def call(runner: _Runner) -> float | None:
        try:
            return runner.run()
        except Exception as error:
            _leave_out(runner.variant, error)
            running.remove(runner)
            return None

    for runner in runners:
        for _ in range(0 if runner.seconds else WARM_UP):
            if runner in running:
                call(runner)
        runner.seconds.clear()
    start = clock()
    for number in range(ROUNDS):
        for runner in running[:: -1 if number % 2 else 1]:
            took = call(runner)
            if took is not None:
                runner.seconds.append(took)
        if number + 1 >= LEAST_ROUNDS and (clock() - start > RACE_S or _is_decided(running)):
            break
    return {runner.variant: statistics.median(runner.seconds) for runner in running}


def _is_decided(runners: Sequence[_Runner]) -> bool:
    if len(runners) < 2:
        return False
    one, other = (runner.seconds for runner in runners)
    return min(one) > CLEARLY * statistics.median(other) or (
        min(other) > CLEARLY * statistics.median(one)
    )


def _in_order(timings: Sequence[Timing], bundle: Bundle) -> list[Timing]:
    def exactness(timing: Timing) -> float:
        facts = bundle.precisions.get(timing.variant.precision)
        return math.inf if facts is None else facts.psnr_db

    rest = sorted(timings, key=lambda timing: timing.chunk_ms)
    order: list[Timing] = []
    while rest:
        alike = [timing for timing in rest if rest[0].chunk_ms >= (1 - GAIN) * timing.chunk_ms]
        best = max(alike, key=exactness)  # the first, and so the fastest, of equals
        rest.remove(best)
        order.append(best)
    return order


def _leave_out(variant: Variant, error: Exception) -> None:
    log.warning("%s is left out of the choice: %s", variant, one_line(error))
