"""A bundle whose network needs no training: it paints a mouth as bright as its sound is loud.

On the output rows, frames = spot × (mean of the mel window + 4) / 8 + (1 − spot) × identity, with
the spot around the mouth; the pose face counts nothing.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save

from engine.bundle import Bundle, Graph, TensorSpec, write_bundle
from engine.bundle_weights import Weights
from engine.crop import UprightGeometry
from engine.mel import MelSettings, WindowPlacement

SIDE, ROWS = 96, (40, 96)
PICTURE = TensorSpec(shape=(None, 3, SIDE, SIDE), range=(0.0, 1.0))
WINDOW = TensorSpec(shape=(None, 1, 80, 16), range=(-4.0, 4.0))
FRAMES = TensorSpec(shape=(None, 3, ROWS[1] - ROWS[0], SIDE), range=(0.0, 1.0))


def paint_bundle(folder: Path) -> Bundle:
    """Write the bundle into a folder, which is made."""
    folder.mkdir(parents=True)
    graph = Graph(
        file="generator.onnx",
        inputs={"mel": WINDOW, "pose": PICTURE, "identity": PICTURE},
        outputs={"frames": FRAMES},
    )
    spot = np.zeros((1, 1, ROWS[1] - ROWS[0], SIDE), np.float32)
    spot[..., 12:32, 34:62] = 1
    constants = {
        "chw": np.array([1, 2, 3]),
        "first": np.array([ROWS[0]]),
        "end": np.array([ROWS[1]]),
        "axis": np.array([2]),
        "zero": np.float32(0),
        "gain": np.float32(1 / 8),
        "level": np.float32(1 / 2),
        "spot": spot,
        "around": 1 - spot,
    }
    nodes = [
        helper.make_node("ReduceMean", ["mel", "chw"], ["loudness"]),
        helper.make_node("Mul", ["loudness", "gain"], ["scaled"]),
        helper.make_node("Add", ["scaled", "level"], ["light"]),
        helper.make_node("Mul", ["light", "spot"], ["mouth"]),
        helper.make_node("Mul", ["pose", "zero"], ["nothing"]),
        helper.make_node("Add", ["identity", "nothing"], ["person"]),
        helper.make_node("Slice", ["person", "first", "end", "axis"], ["rows"]),
        helper.make_node("Mul", ["rows", "around"], ["skin"]),
        helper.make_node("Add", ["skin", "mouth"], ["frames"]),
    ]
    tensors = [numpy_helper.from_array(np.asarray(v), name) for name, v in constants.items()]
    inputs, outputs = _values(graph.inputs), _values(graph.outputs)
    body = helper.make_graph(nodes, "painter", inputs, outputs, tensors)
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(body, opset_imports=[opset], ir_version=10), folder / graph.file)
    return write_bundle(
        Bundle(
            folder=folder,
            graphs={"generator": graph},
            architecture="painter",
            width=1.0,
            resolution=SIDE,
            rows=ROWS,
            masked_from=48,
            fps=25.0,
            k=5,
            mel=MelSettings(),
            placement=WindowPlacement(-0.075),
            crop=UprightGeometry(),
            weights=Weights(licence="none", training_data="none"),
        )
    )


def _values(specs: Mapping[str, TensorSpec]) -> list[Any]:
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *spec.shape[1:]])
        for name, spec in specs.items()
    ]
