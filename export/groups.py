"""The parts of a network as its ONNX graph shows them, and one of them in int8 alone."""

from typing import Final

import onnx

CONVOLUTIONS: Final = ("Conv", "ConvTranspose")
_PREFIXES: Final = ("model.",)
_WHOLE: Final = "encoder"  # a part of this name is one group, others are one group per number


def groups(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Return the convolutions by the part of the network that they belong to: group to nodes."""
    found: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in CONVOLUTIONS:
            found.setdefault(_group(node.input[1]), []).append(node.name)
    return found


def only(group: str, quantised: onnx.ModelProto, exact: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantised graph in which all convolutions but a group's are as they were.

    Args:
        group: a name of :func:`groups`.
        quantised: what :func:`export.quantise.quantise` made.
        exact: what it made it from.
    """
    left = set(groups(exact)[group])
    weights = {node.name: node.input[1] for node in exact.graph.node if len(node.input) > 1}
    values = {tensor.name: tensor for tensor in exact.graph.initializer}
    mixed = onnx.ModelProto()
    mixed.CopyFrom(quantised)
    makers = {node.output[0]: node for node in mixed.graph.node}
    known = {tensor.name for tensor in mixed.graph.initializer}
    for node in mixed.graph.node:
        if node.op_type not in CONVOLUTIONS or node.name in left:
            continue
        dequantised = makers[node.input[0]]
        if dequantised.op_type == "DequantizeLinear":
            node.input[0] = makers[dequantised.input[0]].input[0]
        node.input[1] = weights[node.name]
        if node.input[1] not in known:
            known.add(node.input[1])
            mixed.graph.initializer.append(values[node.input[1]])
    return mixed


def _group(weight: str) -> str:
    for prefix in _PREFIXES:
        weight = weight.removeprefix(prefix)
    part, number, *_ = weight.split(".")
    return f"{part}.{number}" if number.isdigit() and not part.endswith(_WHOLE) else part
