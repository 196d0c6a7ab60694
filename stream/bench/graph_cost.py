"""What a graph costs: the multiplications and additions of its convolutions and matrix products."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from engine.errors import BundleError
from engine.openvino_cpu import core

_CONVOLUTIONS: Final = ("Convolution", "GroupConvolution")
_TRANSPOSED: Final = ("ConvolutionBackpropData", "GroupConvolutionBackpropData")
_GROUPED: Final = ("GroupConvolution", "GroupConvolutionBackpropData")


def graph_flops(path: Path, frames: int) -> int:
    """Count the operations of one call, 2 for a multiplication with its addition.

    Only convolutions and matrix products count; all else is less than a hundredth of them.

    Args:
        path: the graph, ONNX or OpenVINO's own form.
        frames: of the batch.

    Raises:
        BundleError: it can't be read, or its inputs have more free lengths than the batch.
    """
    return sum(_operations(node) for node in _nodes(path, frames))


def graph_parameters(path: Path) -> int:
    """Count the numbers in the weights of convolutions and matrix products, and their biases.

    Raises:
        BundleError: the graph can't be read.
    """
    seen: dict[str, int] = {}
    for node in _nodes(path, 1):
        if node.get_type_name() == "Constant":
            shape = node.output(0).get_shape()
            if len(shape) > 1:
                seen[node.get_name()] = math.prod(shape)
    return sum(seen.values())


def _nodes(path: Path, frames: int) -> Iterator[Any]:
    try:
        model = core().read_model(str(path))
        shapes = {}
        for port in model.inputs:
            shape = port.get_partial_shape()
            shape[0] = frames
            shapes[port.get_any_name()] = shape
        model.reshape(shapes)
        nodes = model.get_ordered_ops()
    except RuntimeError as error:
        raise BundleError(f"{path} can't be read as a graph; export it again.") from error
    yield from nodes


def _operations(node: Any) -> int:
    kind = node.get_type_name()
    if kind not in (*_CONVOLUTIONS, *_TRANSPOSED, "MatMul"):
        return 0
    first, second, out = (
        [int(length) for length in port.get_shape()]
        for port in (node.input(0), node.input(1), node.output(0))
    )
    if kind == "MatMul":
        shared = first[-2 if node.get_attributes()["transpose_a"] and len(first) > 1 else -1]
        return 2 * math.prod(out) * shared
    # Weights: (groups,) out, in, kernel…; of transposed ones (groups,) in, out, kernel….
    each = second[1:] if kind in _GROUPED else second
    taps = math.prod(each[1:])
    if kind in _TRANSPOSED:
        # Every input value is multiplied by the whole kernel, once for each of its outputs.
        return 2 * math.prod(first) * taps
    return 2 * math.prod(out) * taps
