"""A network that goes on with another run time where one fails."""

import logging
from collections.abc import Callable, Sequence
from typing import TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from engine.backends.choice import AUTO, ranked
from engine.backends.interface import Arrays, Kept, Network, Variant
from engine.backends.loading import load_network
from engine.backends.self_benchmark import Load
from engine.bundle import Bundle
from engine.errors import EngineError, one_line
from engine.generator import Generator

log = logging.getLogger(__name__)

_Result = TypeVar("_Result")


class FallbackNetwork:
    """A bundle's generator graph on the first run time that works. For one thread.

    One that can't be loaded, fails in a call or gives values that are no numbers is left for the
    next, with one line in the log, and the call is repeated there; it is not tried again. Errors
    of the last one are the caller's.

    Args:
        bundle: what to run.
        variants: the run times in the order in which they are taken; at least one.
        threads: processor threads of one call, from 1.
        load: loads one.

    Attributes:
        left: the run time that works now and those after it.

    Raises:
        LipstreamError: none can be loaded; what the last one says.
    """

    def __init__(
        self,
        bundle: Bundle,
        variants: Sequence[Variant],
        *,
        threads: int,
        load: Load = load_network,
    ) -> None:
        self._bundle = bundle
        self._threads = threads
        self._load = load
        self.left = tuple(variants)
        self._network: Network | None = None  # None: the first of those left is to be loaded
        self._run(lambda network: None)

    @property
    def variant(self) -> Variant:
        """The run time that works now."""
        return self.left[0]

    def keep(self, arrays: Arrays) -> Kept:
        """Take inputs of the length 1 that later calls repeat for every frame."""
        held = _Held(arrays)
        self._run(held.on)
        return held

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Run it; see :class:`engine.backends.interface.Network`."""

        def call(network: Network) -> dict[str, NDArray[np.float32]]:
            there = [(cast("_Held", held).on(network), count) for held, count in kept]
            results = network(feed, there)
            if len(self.left) > 1 and not _are_numbers(results) and _are_numbers(feed):
                raise EngineError("it gave values that are no numbers", retryable=True)
            return results

        return self._run(call)

    def _run(self, work: Callable[[Network], _Result]) -> _Result:
        while True:
            try:
                if self._network is None:
                    self._network = self._load(self._bundle, self.variant, threads=self._threads)
                return work(self._network)
            except Exception as error:  # native libraries raise what they like
                if len(self.left) == 1:
                    raise
                failed, *rest = self.left
                log.warning("%s failed, %s goes on: %s", failed, rest[0], one_line(error))
            # Out of the handler: the error's traceback would hold the old network's memory.
            self._network = None
            self.left = tuple(rest)


class _Held:
    """Kept inputs, which move to the network that runs."""

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = arrays
        self._network: Network | None = None
        self._kept: Kept | None = None

    def on(self, network: Network) -> Kept:
        if self._kept is None or self._network is not network:
            self._kept = network.keep(self._arrays)
            self._network = network
        return self._kept


def _are_numbers(arrays: Arrays) -> bool:
    return all(np.isfinite(array).all() for array in arrays.values())


def open_network(
    bundle: Bundle,
    wanted: str = AUTO,
    switched_off: Sequence[str] = (),
    *,
    threads: int,
) -> FallbackNetwork:
    """Load a bundle's generator graph on the run time that was asked for, or the fastest.

    The first time it is measured which one that is; see :func:`engine.backends.choice.ranked`.

    Raises:
        ConfigError: a name is wrong, or what was asked for can't be had here.
        BundleError: the graph is not what the bundle describes.
        EngineError: no run time can load it.
    """
    variants = ranked(bundle, wanted, switched_off, threads=threads)
    return FallbackNetwork(bundle, variants, threads=threads)


def open_generator(
    bundle: Bundle,
    wanted: str = AUTO,
    switched_off: Sequence[str] = (),
    *,
    threads: int,
    slots: int,
) -> Generator:
    """Load a bundle's generator; see :func:`open_network` and the generator itself."""
    network = open_network(bundle, wanted, switched_off, threads=threads)
    return Generator(bundle, network=network, threads=threads, slots=slots)
