"""From a graph in fp32 to one that computes in fp16, with float32 at its inputs and outputs.

Where a picture is sampled stays in float32: fp16 knows a position near 96 px to 1/16 px only.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.groups import CONVOLUTIONS

_SAMPLER: Final = "GridSample"
_FLOAT, _HALF = TensorProto.FLOAT, TensorProto.FLOAT16
_SUFFIXES: Final[dict[int, str]] = {_FLOAT: "float", _HALF: "half"}


def half(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph with weights and arithmetic in fp16.

    Args:
        model: a graph in fp32, its nodes in an order in which they can run; it is left as it is.
    """
    exact = sampling(model.graph)
    types = types_of(model)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    added: dict[str, onnx.TensorProto] = {}
    cast: set[str] = set()

    def take(name: str, kind: int) -> Iterator[onnx.NodeProto]:
        """Make a value there in a type, under the name that :func:`_named` gives."""
        known = _named(name, types[name], kind)
        if name in weights:
            added.setdefault(known, _weight(weights[name], known, kind))
        elif known != name and known not in cast:
            cast.add(known)
            yield helper.make_node("Cast", [name], [known], name=f"cast_{known}", to=kind)

    for node in model.graph.node:
        floats = [name for name in node.input if types.get(name) in _SUFFIXES]
        kind = _FLOAT if node.output[0] in exact else _HALF
        for name in floats:
            graph.node.extend(take(name, kind))
        copy = graph.node.add()
        copy.CopyFrom(node)
        for place, name in enumerate(node.input):
            if name in floats:
                copy.input[place] = _named(name, types[name], kind)
            elif name in weights:
                added.setdefault(name, weights[name])
        if floats:
            types.update({name: kind for name in node.output if types[name] in _SUFFIXES})
    for output in graph.output:
        if types[output.name] == _HALF:
            _cast_output(graph, output.name)
    graph.initializer.extend(added.values())
    onnx.checker.check_model(made, full_check=True)
    return made


def _named(name: str, kind: int, wanted: int) -> str:
    return name if kind == wanted else f"{name}.{_SUFFIXES[wanted]}"


def _weight(tensor: onnx.TensorProto, name: str, kind: int) -> onnx.TensorProto:
    if kind == _FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), name)


def _cast_output(graph: onnx.GraphProto, name: str) -> None:
    """Give an output float32 and its own name, and what was called so another one."""
    inner = _named(name, _FLOAT, _HALF)
    for node in graph.node:
        for values in (node.input, node.output):
            for place, value in enumerate(values):
                if value == name:
                    values[place] = inner
    graph.node.append(helper.make_node("Cast", [inner], [name], name=f"cast_{name}", to=_FLOAT))


def types_of(model: onnx.ModelProto) -> dict[str, int]:
    """Return the type of every value and weight."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def sampling(graph: onnx.GraphProto) -> set[str]:
    """Return what samplers put out, and the values that their positions are computed from.

    Args:
        graph: in an order in which it can run; convolutions end the search.
    """
    makers = {output: node for node in graph.node for output in node.output}
    found: set[str] = set()
    waiting = []
    for node in graph.node:
        if node.op_type == _SAMPLER:
            found.add(node.output[0])
            waiting.append(node.input[1])
    while waiting:
        name = waiting.pop()
        if name in found or name not in makers or makers[name].op_type in CONVOLUTIONS:
            continue
        found.add(name)
        waiting += makers[name].input
    return found
