"""The most that this machine computes: a large matrix product in each number format."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import openvino as ov

from engine.backends.openvino import missing
from engine.bundle_variants import Precision
from engine.errors import EngineError
from engine.openvino_cpu import compile_model
from stream.bench.rounds import Candidate, timed

SIDE: Final = 2048
"""Rows and columns of both matrices: 16 MB each in float32, more than caches hold."""
FORMATS: Final[tuple[Precision, ...]] = ("fp32", "bf16", "int8")


def peak_flops(side: int = SIDE) -> int:
    """Return the operations of one product, 2 for a multiplication with its addition."""
    return 2 * side**3


def products(threads: int, side: int = SIDE) -> dict[Precision, Candidate]:
    """Return candidates that multiply two matrices, for each format that this processor has.

    Args:
        threads: processor threads.
        side: rows and columns of the matrices.

    Raises:
        EngineError: OpenVINO can't do it.
    """
    return {
        precision: _product(precision, threads, side)
        for precision in FORMATS
        if missing(precision) is None
    }


def _product(precision: Precision, threads: int, side: int) -> Candidate:
    random = np.random.default_rng(0)
    values = random.random((side, side), np.float32)
    weights = random.standard_normal((side, side), np.float32)
    operators: Any = ov.opset13
    left = operators.parameter([side, side], np.float32)
    right: Any = operators.constant(weights)
    factor: Any = left
    if precision == "int8":
        factor = _rounded(operators, left, 0.0, 2.55, 256)
        right = _rounded(operators, right, -1.27, 1.27, 255)
    try:
        model = ov.Model([operators.matmul(factor, right, False, False)], [left])
        compiled = compile_model(model, threads=threads, precision=precision)
        request = compiled.create_infer_request()
    except RuntimeError as error:
        raise EngineError(f"OpenVINO can't multiply matrices in {precision}.") from error
    return timed(lambda: request.infer([values]))


def _rounded(operators: Any, node: Any, low: float, high: float, levels: int) -> Any:
    """Values rounded to so many levels, which is how OpenVINO is told to compute in int8."""
    bounds = [operators.constant(np.float32(bound)) for bound in (low, high, low, high)]
    return operators.fake_quantize(node, *bounds, levels)
