"""One graph of a bundle, ready to run."""

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from engine.bundle import Bundle, Graph
from engine.errors import BundleError, EngineError

Arrays = dict[str, NDArray[np.float32]]


class Network:
    """One graph of a bundle on OpenVINO's CPU device, in float32. For one thread.

    Args:
        bundle: what to run.
        role: the graph's.
        threads: processor threads of one call, from 1.

    Raises:
        BundleError: there is no such graph, or it is not what the bundle describes.
        EngineError: the run time can't load it.
    """

    def __init__(self, bundle: Bundle, role: str, threads: int) -> None:
        self._role = role
        self._graph: Graph = bundle.graphs[role]
        path = bundle.graph_path(role)
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # some processors would run bf16 unasked
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        try:
            compiled = ov.Core().compile_model(str(path), "CPU", settings)
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
        # OpenVINO itself takes arrays of other shapes and paints nonsense from them.
        for name, spec in (*self._graph.inputs.items(), *self._graph.outputs.items()):
            if found.get(name) != spec.shape:
                raise BundleError(
                    f"{path} does not have {name!r} of the shape {list(spec.shape)} that the"
                    " bundle describes; export it again."
                )

    def __call__(self, feed: Arrays) -> Arrays:
        """Run it: inputs by name to outputs by name.

        Raises:
            EngineError: the run time failed.
        """
        try:
            results: Any = self._request.infer(feed)
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
