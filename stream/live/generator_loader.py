"""Loads the generator of a live session, and knows what it runs on."""

from engine.backends.choice import ranked
from engine.backends.fallback import FallbackNetwork
from engine.bundle import Bundle
from engine.generator import Generator
from stream.config import Settings


class GeneratorLoader:
    """Loads a bundle's generator, again whenever it broke.

    A run time that failed once in a session is not tried again in it: the next loading begins
    with the one that worked last.

    Args:
        bundle: whose generator.
        settings: say which run time, and how many threads.
    """

    def __init__(self, bundle: Bundle, settings: Settings) -> None:
        self._bundle = bundle
        self._settings = settings
        self._network: FallbackNetwork | None = None

    def backend(self) -> str:
        """Return what the generator runs on now, like ``openvino-int8``; empty before that."""
        return "" if self._network is None else str(self._network.variant)

    def load(self) -> Generator:
        """Load it; the first time this measures which run time is the fastest, unless it is known.

        Raises:
            LipstreamError: it can't be loaded.
        """
        bundle, settings, threads = self._bundle, self._settings, self._settings.threads
        variants = (
            ranked(bundle, settings.backend, settings.backends_off, threads=threads)
            if self._network is None
            else self._network.left
        )
        self._network = FallbackNetwork(bundle, variants, threads=threads)
        return Generator(bundle, network=self._network, threads=threads, slots=1)
