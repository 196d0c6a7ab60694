"""A graph in fp32 that rounds every value to bf16, for processors that have no bf16.

Processors that have it keep every value in bf16 and add up products in float32; so does this,
slowly. It is only judged, never shipped: run times compute bf16 from the graph in fp32.
"""

from collections.abc import Iterator

import onnx
from onnx import TensorProto, helper

from export.half import sampling, types_of

_FLOAT, _BF16 = TensorProto.FLOAT, TensorProto.BFLOAT16


def rounded(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a graph whose weights and values are bf16 numbers held in float32.

    Where a picture is sampled, and at what place, stays exact; see :mod:`export.half`.

    Args:
        model: a graph in fp32; it is left as it is.
    """
    exact = sampling(model.graph)
    floats = {name for name, kind in types_of(model).items() if kind == _FLOAT}
    # What only the sampling takes is not rounded, nor is what leaves the network.
    taken = {n for node in model.graph.node if node.output[0] not in exact for n in node.input}
    made = onnx.ModelProto()
    made.CopyFrom(model)
    del made.graph.node[:], made.graph.value_info[:]
    given = [*(v.name for v in model.graph.input), *(t.name for t in model.graph.initializer)]
    for name in given:
        if name in floats & taken:
            made.graph.node.extend(_casts(name))
    for node in model.graph.node:
        copy = made.graph.node.add()
        copy.CopyFrom(node)
        if node.output[0] not in exact:
            for place, name in enumerate(node.input):
                if name in floats - exact:
                    copy.input[place] = _named(name)
        for name in node.output:
            if name in (floats & taken) - exact:
                made.graph.node.extend(_casts(name))
    onnx.checker.check_model(made, full_check=True)
    return made


def _named(name: str) -> str:
    return f"{name}.rounded"


def _casts(name: str) -> Iterator[onnx.NodeProto]:
    yield helper.make_node("Cast", [name], [f"{name}.bf16"], to=_BF16)
    yield helper.make_node("Cast", [f"{name}.bf16"], [_named(name)], to=_FLOAT)
