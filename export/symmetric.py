"""From a graph in asymmetric uint8 to one in symmetric int8, the only one that TensorRT takes.

Each pair of quantize and dequantize nodes keeps the range that it covers, so that nothing is cut
off; what has passed a ReLU lies on 128 of the 256 levels then.
"""

from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

_NODES: Final = ("QuantizeLinear", "DequantizeLinear")
_LARGEST: Final = 127
_UINT8_LARGEST: Final = 255


def symmetric(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose quantized values are all int8 around 0.

    Args:
        model: a graph as :func:`export.quantise.quantise` writes it; it is left as it is.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    del graph.value_info[:]  # says uint8
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    added: dict[str, onnx.TensorProto] = {}
    for node in graph.node:
        if node.op_type not in _NODES:
            continue
        value, scale, zero = node.input
        if tensors[zero].data_type != TensorProto.UINT8:
            continue
        step, middle = (numpy_helper.to_array(tensors[name]) for name in (scale, zero))
        wider = _step(step, middle)
        names = [f"{name}.symmetric" for name in (scale, zero)]
        added[names[0]] = numpy_helper.from_array(wider, names[0])
        added[names[1]] = numpy_helper.from_array(np.zeros(middle.shape, np.int8), names[1])
        node.input[1], node.input[2] = names
        if value in tensors:
            levels = numpy_helper.to_array(tensors[value]).astype(np.float32)
            exact = (levels - middle.astype(np.float32)) * step
            name = node.input[0] = f"{value}.symmetric"
            rounded = np.clip(np.rint(exact / wider), -_LARGEST, _LARGEST).astype(np.int8)
            added[name] = numpy_helper.from_array(rounded, name)
    graph.initializer.extend(added.values())
    _drop_unused(graph)
    onnx.checker.check_model(made, full_check=True)
    return made


def _step(step: NDArray[np.float32], middle: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the scale with which int8 covers what uint8 of a scale and a zero point covers."""
    below = middle.astype(np.float32)
    return (step * np.maximum(below, _UINT8_LARGEST - below) / _LARGEST).astype(np.float32)


def _drop_unused(graph: onnx.GraphProto) -> None:
    used = {name for node in graph.node for name in node.input}
    left = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.initializer[:]
    graph.initializer.extend(left)
