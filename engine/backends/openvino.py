"""One graph of a bundle on OpenVINO's CPU device."""

import importlib.metadata
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.backends.arrays import KeptArrays, check_shapes, with_kept
from engine.backends.interface import Arrays, Kept
from engine.bundle import Bundle, Graph
from engine.bundle_variants import Precision
from engine.errors import EngineError
from engine.openvino_cpu import HINTS, compile_model, core

_NEEDS = {"bf16": "BF16", "int8": "INT8"}  # of the processor


def version() -> str:
    """Return OpenVINO's version."""
    return importlib.metadata.version("openvino")


def missing(precision: Precision) -> str | None:
    """Return why a number format can't be had on this machine, or None where it can."""
    if precision not in HINTS:
        return f"OpenVINO does not compute in {precision} on a processor"
    offered: Sequence[str] = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if precision in _NEEDS and _NEEDS[precision] not in offered:
        return f"this processor has no instructions for {precision}"
    return None


class OpenVinoNetwork:
    """One graph of a bundle. For one thread.

    Args:
        bundle: what to run.
        role: the graph's.
        threads: processor threads of one call, from 1.
        precision: the number format; ``int8`` takes the bundle's graph of that name.

    Raises:
        BundleError: there is no such graph, or it is not what the bundle describes.
        EngineError: OpenVINO can't load it.
    """

    def __init__(
        self, bundle: Bundle, role: str, threads: int, precision: Precision = "fp32"
    ) -> None:
        self._role = role
        path = bundle.graph_path(role, "int8" if precision == "int8" else "fp32")
        self._graph: Graph = bundle.graphs[role]
        try:
            compiled = compile_model(str(path), threads=threads, precision=precision)
            found = {
                name: tuple(
                    None if length.is_dynamic else length.get_length()
                    for length in port.get_partial_shape()
                )
                for port in (*compiled.inputs, *compiled.outputs)
                for name in port.get_names()
            }
            self._request = compiled.create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"OpenVINO can't load {path}: {_reason(error)}") from error
        check_shapes(path, self._graph, found)

    def keep(self, arrays: Arrays) -> Kept:
        """Take inputs of the length 1 that later calls repeat for every frame."""
        return KeptArrays(arrays)

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Run it; see :class:`engine.backends.interface.Network`.

        Raises:
            EngineError: OpenVINO failed.
        """
        try:
            results: Any = self._request.infer(with_kept(feed, kept))
        except RuntimeError as error:
            raise EngineError(
                f"OpenVINO failed in the {self._role} graph: {_reason(error)}", retryable=True
            ) from error
        # Copies: the request writes its next results over these.
        return {name: np.array(results[name]) for name in self._graph.outputs}


def _reason(error: Exception) -> str:
    """Return the last line of OpenVINO's report; those before name places in its own source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
