"""OpenVINO on the processor, as every network of the program uses it."""

import functools
from typing import Any, Final

import openvino as ov

from engine.bundle_variants import Precision

HINTS: Final[dict[Precision, str]] = {"fp32": "f32", "bf16": "bf16", "int8": "f32"}
"""In what is computed what a graph leaves open: of int8, all that is not quantised."""


@functools.cache
def core() -> ov.Core:
    """Return OpenVINO, loaded once for the life of the process.

    Where the last network and its core are gone, the library unloads its threads; on some virtual
    machines the next signal then ends the process.
    """
    return ov.Core()


def compile_model(model: Any, *, threads: int, precision: Precision = "fp32") -> Any:
    """Compile a network for calls one at a time.

    Args:
        model: a path, or OpenVINO's own form.
        threads: processor threads of one call, from 1.
        precision: a key of ``HINTS``. Some processors would take bf16 unasked, which moves
            landmarks by tenths of a pixel.

    Raises:
        RuntimeError: OpenVINO can't.
    """
    settings = {
        "INFERENCE_PRECISION_HINT": HINTS[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    return core().compile_model(model, "CPU", settings)
