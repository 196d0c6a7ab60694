"""The graphs that are rewritten, for GPUs or to be judged, run by ONNX Runtime on the processor."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.backends.noise import random_feed
from engine.bundle import GENERATOR, load_bundle
from export.bfloat import rounded
from export.calibration import Feed
from export.half import half
from export.quantise import quantise
from export.symmetric import symmetric

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def exact() -> onnx.ModelProto:
    return onnx.load(load_bundle().graph_path(GENERATOR))


@pytest.fixture(scope="module")
def feed() -> Feed:
    return random_feed(load_bundle(), 3)


@pytest.fixture(scope="module")
def quantised(feed: Feed, tmp_path_factory: pytest.TempPathFactory) -> onnx.ModelProto:
    target: Path = tmp_path_factory.mktemp("int8") / "generator.onnx"
    quantise(load_bundle().graph_path(GENERATOR), target, [feed])
    return onnx.load(target)


def run(model: onnx.ModelProto, feed: Feed) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    frames: NDArray[np.float32] = session.run(["frames"], feed)[0]
    return frames


def psnr_db(made: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(10 * np.log10(1 / np.mean(np.square(made - wanted))))


def test_fp16_takes_and_gives_float32_and_is_half_as_large(exact: onnx.ModelProto) -> None:
    made = half(exact)
    for value in (*made.graph.input, *made.graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
    assert made.ByteSize() < 0.55 * exact.ByteSize()


def test_fp16_paints_nearly_the_same(exact: onnx.ModelProto, feed: Feed) -> None:
    assert psnr_db(run(half(exact), feed), run(exact, feed)) > 45


def test_fp16_samples_at_places_in_float32(exact: onnx.ModelProto) -> None:
    made = half(exact)
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(made).graph.value_info
    }
    places = [node.input[1] for node in made.graph.node if node.op_type == "GridSample"]
    assert places
    assert {types[name] for name in places} == {TensorProto.FLOAT}


def bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.from_numpy(values).bfloat16().float().numpy()


def test_bf16_rounds_inputs_weights_and_every_value_between() -> None:
    random = np.random.default_rng(0)
    x, shift, weight = random.normal(size=(3, 1, 64)).astype(np.float32)
    nodes = [
        helper.make_node("Add", ["x", "shift"], ["sum"]),
        helper.make_node("Mul", ["sum", "weight"], ["frames"]),
    ]
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 64]) for n in ("x", "frames")]
    constants = [numpy_helper.from_array(shift, "shift"), numpy_helper.from_array(weight, "weight")]
    graph = helper.make_graph(nodes, "small", ports[:1], ports[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    expected = bf16(bf16(x) + bf16(shift)) * bf16(weight)
    np.testing.assert_array_equal(run(rounded(model), {"x": x}), expected)


def test_bf16_paints_nearly_the_same_and_samples_at_exact_places(
    exact: onnx.ModelProto, feed: Feed
) -> None:
    made = rounded(exact)
    assert 35 < psnr_db(run(made, feed), run(exact, feed)) < 70
    givers = {output: node.op_type for node in made.graph.node for output in node.output}
    samplers = [node for node in made.graph.node if node.op_type == "GridSample"]
    assert samplers
    assert not [name for node in samplers for name in node.input if givers.get(name) == "Cast"]


def test_symmetric_int8_holds_no_uint8(quantised: onnx.ModelProto) -> None:
    made = symmetric(quantised)
    zeros = {
        node.input[2]
        for node in made.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for tensor in made.graph.initializer:
        assert tensor.data_type != TensorProto.UINT8
        if tensor.name in zeros:
            assert not onnx.numpy_helper.to_array(tensor).any()


def test_symmetric_int8_stays_as_near_to_fp32(
    exact: onnx.ModelProto, quantised: onnx.ModelProto, feed: Feed
) -> None:
    wanted = run(exact, feed)
    before = psnr_db(run(quantised, feed), wanted)
    assert psnr_db(run(symmetric(quantised), feed), wanted) > before - 3
