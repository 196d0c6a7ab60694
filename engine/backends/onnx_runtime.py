"""One graph of a bundle on ONNX Runtime: any processor, and the accelerators of its packages."""

from collections.abc import Sequence

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from engine.backends.arrays import KeptArrays, check_shapes, with_kept
from engine.backends.interface import Arrays, Kept
from engine.bundle import Bundle, Graph
from engine.bundle_variants import Precision
from engine.errors import EngineError, one_line

_PROVIDERS = (  # the fastest first; each is used where its package is installed
    "CUDAExecutionProvider",
    "CoreMLExecutionProvider",
    "DmlExecutionProvider",
    "CPUExecutionProvider",
)
_ACCELERATED = ("CUDAExecutionProvider", "DmlExecutionProvider")  # these gain by fp16
_WARNING = 2  # of ONNX Runtime's log levels


def version() -> str:
    """Return ONNX Runtime's version with the providers it would use."""
    return f"{ort.__version__} ({', '.join(_installed())})"


def missing(precision: Precision) -> str | None:
    """Return why a number format can't be had on this machine, or None where it can."""
    if precision == "bf16":
        return "ONNX Runtime has no bf16 convolutions on a processor"
    if precision == "fp16" and not any(p in _installed() for p in _ACCELERATED):
        return "no provider of ONNX Runtime here computes in fp16"
    return None


class OnnxRuntimeNetwork:
    """One graph of a bundle. For one thread.

    Args:
        bundle: what to run.
        role: the graph's.
        threads: processor threads of one call, from 1.
        precision: the number format; ``fp16`` and ``int8`` take the bundle's graphs of that name.

    Raises:
        BundleError: there is no such graph, or it is not what the bundle describes.
        EngineError: ONNX Runtime can't load it.
    """

    def __init__(
        self, bundle: Bundle, role: str, threads: int, precision: Precision = "fp32"
    ) -> None:
        self._role = role
        path = bundle.graph_path(role, precision)
        self._graph: Graph = bundle.graphs[role]
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _WARNING + 1
        # Threads that spin between calls would take a core from the rest of a live session.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # Processors without VNNI add products of 8 bits up in 16, which overflow: mouths come out
        # wrong. There this takes a slower way, elsewhere it changes nothing.
        options.add_session_config_entry("session.x64quantprecision", "1")
        try:
            self._session = ort.InferenceSession(str(path), options, providers=_installed())
        except Exception as error:  # its classes have no base in common
            raise EngineError(f"ONNX Runtime can't load {path}: {_reason(error)}") from error
        found = {
            port.name: tuple(n if isinstance(n, int) else None for n in port.shape)
            for port in (*self._session.get_inputs(), *self._session.get_outputs())
        }
        check_shapes(path, self._graph, found)

    def keep(self, arrays: Arrays) -> Kept:
        """Take inputs of the length 1 that later calls repeat for every frame."""
        return KeptArrays(arrays)

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Run it; see :class:`engine.backends.interface.Network`.

        Raises:
            EngineError: ONNX Runtime failed.
        """
        names = list(self._graph.outputs)
        try:
            results = self._session.run(names, with_kept(feed, kept))
        except Exception as error:
            raise EngineError(
                f"ONNX Runtime failed in the {self._role} graph: {_reason(error)}",
                retryable=True,
            ) from error
        return dict(zip(names, results, strict=True))


def _installed() -> list[str]:
    available = ort.get_available_providers()
    return [provider for provider in _PROVIDERS if provider in available]


def _reason(error: Exception) -> str:
    return one_line(error)[:300]  # it can go on for pages
