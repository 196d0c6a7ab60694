"""Small networks in the place of GFPGAN and its like: what they change is known."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper, save

Size = Sequence[int | str]
"""Lengths of axes; a name is one left open."""


def write_restorer(
    path: Path,
    *,
    size: Size = (1, 3, 128, 128),
    gives: Size | None = None,
    add: float | NDArray[np.float32] = 0.0,
    weighted: Size | None = None,
    second: Size | None = None,
    kind: int = TensorProto.FLOAT,
    halved: bool = False,
) -> Path:
    """Write an ONNX file: picture + add, or picture + w × add.

    Args:
        path: the file.
        size: of the picture it takes.
        gives: the size that it says it gives; as the picture's by default.
        add: added to the picture's values, which are −1..1 for it.
        weighted: size of the number w in double precision, as CodeFormer has it; none by default.
        second: size of another input, which counts nothing; none by default.
        kind: number format of the picture.
        halved: whether the picture it gives has half the side.
    """
    inputs = [helper.make_tensor_value_info("x", kind, size)]
    constant = np.asarray(add, helper.tensor_dtype_to_np_dtype(kind))
    tensors = [numpy_helper.from_array(constant, "add")]
    nodes, change = [], "add"
    if weighted is not None:
        inputs.append(helper.make_tensor_value_info("w", TensorProto.DOUBLE, weighted))
        nodes.append(helper.make_node("Cast", ["w"], ["weight"], to=kind))
        nodes.append(helper.make_node("Mul", ["weight", "add"], ["weighted"]))
        change = "weighted"
    if second is not None:
        inputs.append(helper.make_tensor_value_info("z", kind, second))
        tensors.append(numpy_helper.from_array(np.zeros((), np.float32), "zero"))
        nodes.append(helper.make_node("ReduceMax", ["z"], ["most"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["most", "zero"], ["nothing"]))
        nodes.append(helper.make_node("Add", [change, "nothing"], ["sum"]))
        change = "sum"
    nodes.append(helper.make_node("Add", ["x", change], ["whole" if halved else "y"]))
    if halved:
        nodes.append(
            helper.make_node("AveragePool", ["whole"], ["y"], kernel_shape=[2, 2], strides=[2, 2])
        )
    output = helper.make_tensor_value_info("y", kind, size if gives is None else gives)
    graph = helper.make_graph(nodes, "restorer", inputs, [output], tensors)
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)
    return path
