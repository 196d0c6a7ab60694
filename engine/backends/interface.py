"""What every run time offers, and what it is called."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, Self, get_args

import numpy as np
from numpy.typing import NDArray

from engine.bundle_variants import PRECISIONS, Precision
from engine.errors import ConfigError

Backend = Literal["openvino", "onnxruntime", "tensorrt"]
BACKENDS: tuple[Backend, ...] = get_args(Backend)

BATCHES = (5, 10, 20, 40)
"""Frames that a run time with fixed shapes is built for; it fills a smaller batch up."""

Arrays = Mapping[str, NDArray[np.float32]]


class Variant(NamedTuple):
    """A run time and the number format that it computes in, written ``openvino-int8``."""

    backend: Backend
    precision: Precision

    def __str__(self) -> str:
        return f"{self.backend}-{self.precision}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``backend-precision``.

        Raises:
            ConfigError: it is none.
        """
        name, _, format_ = text.partition("-")
        if name in BACKENDS and format_ in PRECISIONS:
            return cls(name, format_)
        raise ConfigError(
            f"{text!r} is no run time; write BACKEND-PRECISION with one of"
            f" {', '.join(BACKENDS)} and one of {', '.join(PRECISIONS)}."
        )


class Kept(Protocol):
    """Inputs of one session that stay the same from step to step, where the network runs."""


class Network(Protocol):
    """One graph of a bundle, ready to run. For one thread."""

    def keep(self, arrays: Arrays) -> Kept:
        """Take inputs of the length 1 that later calls repeat for every frame.

        Args:
            arrays: by the inputs' names, float32 (1, …) each.

        Raises:
            EngineError: the run time failed.
        """

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Run it.

        Args:
            feed: inputs by name, float32 (N, …) each.
            kept: what :meth:`keep` gave, each with its number of frames, in the order of the
                batch; the numbers make N. Empty where ``feed`` holds every input.

        Returns:
            Outputs by name, (N, …) each; they are the caller's.

        Raises:
            EngineError: the run time failed.
        """
