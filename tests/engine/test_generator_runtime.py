"""The run time on a network so small that the right answer can be written down.

frames = (pose + identity + the identity's mean colour + the mel window's mean) / 4, on the output
rows; so each pixel shows which pose, reference and window it was made from.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from engine.bundle import Bundle, Graph, TensorSpec, write_bundle
from engine.bundle_weights import Weights
from engine.crop import UprightGeometry
from engine.errors import BundleError, ConfigError, EngineError, EngineFullError
from engine.generator import Chunk, Generator
from engine.mel import MelSettings, WindowPlacement

pytestmark = pytest.mark.models

SIDE, ROWS, MASKED_FROM = 16, (8, 16), 10
PICTURE = TensorSpec(shape=(None, 3, SIDE, SIDE), range=(0.0, 1.0))
WINDOW = TensorSpec(shape=(None, 1, 80, 16), range=(-4.0, 4.0))
COLOUR = TensorSpec(shape=(None, 3, 1, 1))
FRAMES = TensorSpec(shape=(None, 3, ROWS[1] - ROWS[0], SIDE), range=(0.0, 1.0))

Crops = NDArray[np.uint8]


def save(path: Path, graph: Graph, nodes: list[Any], constants: Mapping[str, Any]) -> None:
    def values(specs: Mapping[str, TensorSpec]) -> list[Any]:
        return [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s.shape[1:]])
            for n, s in specs.items()
        ]

    tensors = [numpy_helper.from_array(np.asarray(v), n) for n, v in constants.items()]
    body = helper.make_graph(nodes, "g", values(graph.inputs), values(graph.outputs), tensors)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.save(model, path)


QUARTER = (helper.make_node("Mul", ["sum", "quarter"], ["frames"]),)


def make_bundle(folder: Path, *, end: Sequence[Any] = QUARTER, **fields: Any) -> Bundle:
    """The bundle; ``end`` makes the frames of the sum."""
    encoder = Graph(
        file="identity.onnx", inputs={"identity": PICTURE}, outputs={"identity_0": COLOUR}
    )
    mean = helper.make_node("ReduceMean", ["identity", "hw"], ["identity_0"])
    save(folder / encoder.file, encoder, [mean], {"hw": np.array([2, 3])})
    generator = Graph(
        file="generator.onnx",
        inputs={"mel": WINDOW, "pose": PICTURE, "identity": PICTURE, "identity_0": COLOUR},
        outputs={"frames": FRAMES},
    )
    nodes = [
        helper.make_node("ReduceMean", ["mel", "chw"], ["loudness"]),
        helper.make_node("Add", ["pose", "identity"], ["both"]),
        helper.make_node("Slice", ["both", "first", "end", "axis"], ["rows"]),
        helper.make_node("Sum", ["rows", "identity_0", "loudness"], ["sum"]),
        *end,
    ]
    constants = {
        "chw": np.array([1, 2, 3]),
        "first": np.array([ROWS[0]]),
        "end": np.array([ROWS[1]]),
        "axis": np.array([2]),
        "quarter": np.float32(0.25),
    }
    save(folder / generator.file, generator, nodes, constants)
    bundle = Bundle(
        folder=folder,
        graphs={"identity": encoder, "generator": generator},
        architecture="mean",
        width=1.0,
        resolution=SIDE,
        rows=ROWS,
        masked_from=MASKED_FROM,
        fps=25.0,
        k=5,
        mel=MelSettings(),
        placement=WindowPlacement(-0.075),
        crop=UprightGeometry(),
        weights=Weights(licence="none", training_data="none"),
    )
    return write_bundle(dataclasses.replace(bundle, **fields))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle"))


@pytest.fixture
def generator(bundle: Bundle) -> Generator:
    return Generator(bundle, threads=1, slots=3)


def crops(count: int, seed: int) -> Crops:
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8)


def chunk(count: int, seed: int) -> Chunk:
    level = np.random.default_rng(seed).uniform(0, 1, (count, 1, 1, 1))
    mel = np.broadcast_to(level, (count, 1, 80, 16)).astype(np.float32)
    return Chunk(mel=mel, pose=crops(count, seed))


def expected(part: Chunk, identity: Crops) -> NDArray[np.float64]:
    """The frames in levels 0..255; the pose counts in the rows above the mask only."""
    reference = np.broadcast_to(identity, part.pose.shape) / 255
    pose = part.pose / 255
    pose[:, MASKED_FROM:] = 0
    colour = reference.mean(axis=(1, 2), keepdims=True)
    loudness = part.mel.mean(axis=(1, 2, 3))[:, None, None, None]
    painted = (pose + reference)[:, ROWS[0] : ROWS[1]]
    frames: NDArray[np.float64] = (painted + colour + loudness) / 4 * 255
    return frames


def assert_frames(frames: Crops, wanted: NDArray[np.float64]) -> None:
    assert frames.dtype == np.uint8
    assert frames.shape == wanted.shape
    assert np.abs(frames - wanted).max() <= 0.501  # rounded to the nearest level


@pytest.mark.parametrize("count", [1, 2, 5, 16])
def test_chunk_of_any_length_is_painted(generator: Generator, count: int) -> None:
    identity = crops(1, 9)[0]
    slot = generator.open(identity)
    part = chunk(count, 1)
    assert_frames(generator.step({slot: part})[slot], expected(part, identity))


def test_slots_of_one_step_keep_their_own_chunks_and_references(generator: Generator) -> None:
    identities = crops(3, 8)
    slots = [generator.open(identity) for identity in identities]
    parts = {slot: chunk(count, slot) for slot, count in zip(slots, (5, 1, 3), strict=True)}
    frames = generator.step(dict(reversed(parts.items())))
    assert sorted(frames) == sorted(slots)
    for slot, identity in zip(slots, identities, strict=True):
        assert_frames(frames[slot], expected(parts[slot], identity))


def test_steps_do_not_write_over_earlier_frames(generator: Generator) -> None:
    slot = generator.open(crops(1, 9)[0])
    first = generator.step({slot: chunk(2, 1)})[slot]
    kept = first.copy()
    generator.step({slot: chunk(2, 2)})
    assert np.array_equal(first, kept)


def test_pose_is_masked_here_and_the_callers_stays_whole(bundle: Bundle) -> None:
    part, identity = chunk(2, 1), crops(1, 9)[0]
    before = part.pose.copy()
    generator = Generator(bundle, threads=1)
    slot = generator.open(identity)
    changed = dataclasses.replace(part, pose=part.pose.copy())
    changed.pose[:, MASKED_FROM:] = 0
    frames = generator.step({slot: part})[slot]
    assert np.array_equal(frames, generator.step({slot: changed})[slot])
    assert np.array_equal(part.pose, before)


def test_no_chunks_give_no_frames(generator: Generator) -> None:
    assert generator.step({}) == {}


def test_new_identity_counts_from_the_next_step(generator: Generator) -> None:
    old, new = crops(2, 7)
    slot = generator.open(old)
    generator.replace_identity(slot, new)
    assert_frames(generator.step({slot: chunk(2, 1)})[slot], expected(chunk(2, 1), new))


def test_full_generator_refuses_until_a_slot_is_closed(generator: Generator) -> None:
    slots = [generator.open(crops(1, 9)[0]) for _ in range(3)]
    assert generator.free_slots == 0
    with pytest.raises(EngineFullError, match="All 3 slots") as caught:
        generator.open(crops(1, 9)[0])
    assert caught.value.retryable
    generator.close(slots[1])
    assert generator.open(crops(1, 9)[0]) == slots[1]


def test_closed_slot_is_unknown(generator: Generator) -> None:
    slot = generator.open(crops(1, 9)[0])
    generator.close(slot)
    with pytest.raises(EngineError, match=f"Slot {slot} is not open; open slots: none"):
        generator.step({slot: chunk(1, 1)})
    with pytest.raises(EngineError, match="is not open"):
        generator.close(slot)
    with pytest.raises(EngineError, match="is not open"):
        generator.replace_identity(slot, crops(1, 9)[0])


def test_bgr_networks_see_bgr_and_give_rgb(tmp_path: Path) -> None:
    """Swapping colours before and after leaves this network's answer as it was."""
    generator = Generator(make_bundle(tmp_path, colour_order="bgr"), threads=1)
    identity = crops(1, 9)[0]
    slot = generator.open(identity)
    part = chunk(2, 1)
    assert_frames(generator.step({slot: part})[slot], expected(part, identity))
    planes = generator._to_network(identity[None], "identity")
    assert planes[0, 0] == pytest.approx(identity[..., 2] / 255)  # the first plane is blue


def test_ranges_come_from_the_bundle(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    signed = dataclasses.replace(PICTURE, range=(-1.0, 1.0))
    graph = made.graphs["generator"]
    inputs = {**graph.inputs, "pose": signed, "identity": signed}
    outputs = {"frames": dataclasses.replace(FRAMES, range=(-1.0, 1.0))}
    graphs = {
        "identity": dataclasses.replace(made.graphs["identity"], inputs={"identity": signed}),
        "generator": dataclasses.replace(graph, inputs=inputs, outputs=outputs),
    }
    generator = Generator(write_bundle(dataclasses.replace(made, graphs=graphs)), threads=1)
    identity = crops(1, 9)[0]
    slot = generator.open(identity)
    part = Chunk(mel=np.zeros((1, 1, 80, 16), np.float32), pose=crops(1, 1))
    reference = identity[None] / 127.5 - 1
    pose = part.pose / 127.5 - 1
    pose[:, MASKED_FROM:] = -1  # black, in this range
    colour = reference.mean(axis=(1, 2), keepdims=True)
    wanted = (((reference + pose)[:, ROWS[0] : ROWS[1]] + colour) / 4 + 1) * 127.5
    assert_frames(generator.step({slot: part})[slot], wanted)


def test_same_frame_policy_takes_each_frame_as_its_own_reference(tmp_path: Path) -> None:
    generator = Generator(make_bundle(tmp_path, identity_policy="same-frame"), threads=1)
    slot = generator.open(crops(1, 9)[0])
    part = chunk(3, 1)
    frames = generator.step({slot: part})[slot]
    for index in range(3):
        one = Chunk(mel=part.mel[index : index + 1], pose=part.pose[index : index + 1])
        assert_frames(frames[index : index + 1], expected(one, part.pose[index]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pose": np.zeros((2, 8, 8, 3), np.uint8)}, r"uint8 \(k, 16, 16, 3\), not uint8 \(2, 8"),
        ({"pose": np.zeros((2, 16, 16, 3), np.float32)}, "not float32"),
        ({"mel": np.zeros((2, 80, 16), np.float32)}, r"float32 \(2, 1, 80, 16\), not float32"),
        ({"mel": np.zeros((2, 1, 80, 16), np.float64)}, "not float64"),
        ({"mel": np.zeros((3, 1, 80, 16), np.float32)}, r"not float32 \(3,"),
        ({"pose": np.zeros((0, 16, 16, 3), np.uint8)}, "1 to 16 frames, not 0"),
        ({"pose": np.zeros((17, 16, 16, 3), np.uint8)}, "1 to 16 frames, not 17"),
    ],
)
def test_chunk_that_does_not_fit_is_refused(
    generator: Generator, change: dict[str, Any], message: str
) -> None:
    slot = generator.open(crops(1, 9)[0])
    with pytest.raises(EngineError, match=message):
        generator.step({slot: dataclasses.replace(chunk(2, 1), **change)})


def test_identity_that_does_not_fit_is_refused_and_takes_no_slot(generator: Generator) -> None:
    for wrong in (crops(1, 9), crops(1, 9)[0].astype(np.float32), crops(1, 9)[0, :8]):
        with pytest.raises(EngineError, match=r"must be uint8 \(16, 16, 3\)"):
            generator.open(wrong)
    assert generator.free_slots == 3


def test_failed_replacement_keeps_the_old_reference(generator: Generator) -> None:
    identity = crops(1, 9)[0]
    slot = generator.open(identity)
    with pytest.raises(EngineError, match="must be uint8"):
        generator.replace_identity(slot, identity[:4])
    assert_frames(generator.step({slot: chunk(1, 1)})[slot], expected(chunk(1, 1), identity))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"threads": 0}, "threads must be at least 1"),
        ({"slots": 0}, "slots must be at least 1"),
    ],
)
def test_illegal_setting_is_named(bundle: Bundle, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Generator(bundle, **settings)


def test_graph_that_openvino_can_not_load_is_an_engine_error(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    content = (tmp_path / "generator.onnx").read_bytes()
    (tmp_path / "generator.onnx").write_bytes(content[: len(content) // 2])
    cut = write_bundle(made)
    with pytest.raises(EngineError, match=r"can't load .*generator\.onnx"):
        Generator(cut, threads=1)


class BrokenRequest:
    """Fails as OpenVINO does: a report of several lines, the reason in the last."""

    def infer(self, feed: object) -> object:
        raise RuntimeError("Exception from src/core.cpp:132:\nout of memory\n\n")


def test_failure_at_run_time_is_an_engine_error_with_its_cause(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot = generator.open(crops(1, 9)[0])
    with monkeypatch.context() as patch:
        patch.setattr(generator._generator, "_request", BrokenRequest())
        with pytest.raises(
            EngineError, match="failed in the generator graph: out of mem"
        ) as caught:
            generator.step({slot: chunk(1, 1)})
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert caught.value.retryable
    assert generator.step({slot: chunk(1, 1)})[slot].shape == (1, 8, SIDE, 3)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        # The sum of a loud chunk is above 0, that of the silent one below.
        ([helper.make_node("Sqrt", ["sum"], ["frames"])], "values that are no numbers"),
        (
            [
                helper.make_node("Relu", ["sum"], ["above"]),
                helper.make_node("Div", ["sum", "above"], ["frames"]),
            ],
            "values that are no numbers",
        ),
    ],
    ids=["nan", "infinite"],
)
def test_numbers_that_are_none_are_never_painted(
    tmp_path: Path, broken: list[Any], message: str
) -> None:
    """One such chunk is refused, and the next one is painted."""
    generator = Generator(make_bundle(tmp_path, end=broken), threads=1)
    slot = generator.open(crops(1, 9)[0])
    good = Chunk(mel=np.full((3, 1, 80, 16), 4, np.float32), pose=crops(3, 1))
    bad = dataclasses.replace(good, mel=good.mel.copy())
    bad.mel[1] = -4.0
    with pytest.raises(EngineError, match=message) as caught:
        generator.step({slot: bad})
    assert caught.value.retryable
    assert str(caught.value).count(".") == 1
    assert generator.step({slot: good})[slot].shape == (3, ROWS[1] - ROWS[0], SIDE, 3)


def test_more_frames_than_asked_for_are_refused(tmp_path: Path) -> None:
    twice = [helper.make_node("Concat", ["sum", "sum"], ["frames"], axis=0)]
    generator = Generator(make_bundle(tmp_path, end=twice), threads=1)
    slot = generator.open(crops(1, 9)[0])
    with pytest.raises(EngineError, match=r"\(4, 3, 8, 16\) instead of \(2, 3, 8, 16\)") as caught:
        generator.step({slot: chunk(2, 1)})
    assert caught.value.retryable


def test_file_of_other_shapes_than_described_is_refused(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    graph = made.graphs["generator"]
    narrow = dataclasses.replace(WINDOW, shape=(None, 1, 80, 8))
    wrong = dataclasses.replace(graph, inputs={**graph.inputs, "mel": narrow})
    described = dataclasses.replace(
        made,
        graphs={**made.graphs, "generator": wrong},
        placement=WindowPlacement(-0.075, columns=8),
    )
    with pytest.raises(BundleError, match=r"does not have 'mel' of the shape \[None, 1, 80, 8\]"):
        Generator(write_bundle(described), threads=1)


def test_generator_without_its_identity_graph_is_refused(tmp_path: Path) -> None:
    made = make_bundle(tmp_path)
    alone = write_bundle(dataclasses.replace(made, graphs={"generator": made.graphs["generator"]}))
    with pytest.raises(BundleError, match="asks for 'identity_0', but the bundle holds no"):
        Generator(alone)


@pytest.mark.parametrize(
    ("role", "side", "name"),
    [
        ("identity", "inputs", "identity"),
        ("identity", "outputs", "identity_0"),
        ("generator", "inputs", "mel"),
        ("generator", "inputs", "pose"),
        ("generator", "inputs", "identity"),
        ("generator", "outputs", "frames"),
    ],
)
def test_graphs_that_do_not_fit_together_are_refused(
    tmp_path: Path, role: str, side: str, name: str
) -> None:
    made = make_bundle(tmp_path)
    graph = made.graphs[role]
    specs = {**getattr(graph, side), name: TensorSpec(shape=(None, 5))}
    inputs, outputs = (specs if side == s else getattr(graph, s) for s in ("inputs", "outputs"))
    graphs = {**made.graphs, role: Graph(file=graph.file, inputs=inputs, outputs=outputs)}
    with pytest.raises(BundleError, match=f"'{name}' must have the shape .*, not \\[None, 5\\]"):
        Generator(write_bundle(dataclasses.replace(made, graphs=graphs)))
