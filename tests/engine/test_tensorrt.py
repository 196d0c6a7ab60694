"""The logic around a TensorRT engine, on a fake GPU."""

import dataclasses
import gc
import itertools
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.backends import tensorrt
from engine.backends.interface import BATCHES
from engine.backends.tensorrt import Piece, TensorRtNetwork, cut
from engine.bundle import GENERATOR, Bundle, Graph, TensorSpec, write_bundle
from engine.bundle_variants import EngineFile
from engine.bundle_weights import Weights
from engine.crop import UprightGeometry
from engine.errors import BundleError, ConfigError, EngineError
from engine.mel import MelSettings, WindowPlacement
from tests.engine.fake_tensorrt import FakeGpu, install, plan

pytestmark = pytest.mark.unit

SIDE = 4
INPUTS = {"mel": (None, 1, 80, 16), "pose": (None, 3, SIDE, SIDE), "identity_0": (None, 3, 1, 1)}
OUTPUTS = {"frames": (None, 3, SIDE, SIDE)}
COLOUR_BYTES = 3 * 4
FILE = "generator.fp16.sm_89.tensorrt-10.13.0.35.engine"
TENSORRT, SM_89 = "10.13.0.35", "sm_89"

Floats = NDArray[np.float32]


def make_bundle(folder: Path, content: bytes, **changed: str) -> Bundle:
    """A bundle with a graph in fp16 and an engine of it; ``changed`` fields of the engine."""
    names = ("generator.onnx", "generator.fp16.onnx")
    for name in names:
        (folder / name).write_bytes(name.encode())
    (folder / FILE).write_bytes(content)
    graph = Graph(
        file=names[0],
        inputs={n: TensorSpec(shape=s) for n, s in INPUTS.items()},
        outputs={n: TensorSpec(shape=s) for n, s in OUTPUTS.items()},
        variants={"fp16": names[1]},
    )
    bare = Bundle(
        folder=folder,
        graphs={GENERATOR: graph},
        architecture="sum",
        width=1.0,
        resolution=SIDE,
        rows=(0, SIDE),
        masked_from=2,
        fps=25.0,
        k=5,
        mel=MelSettings(),
        placement=WindowPlacement(-0.075),
        crop=UprightGeometry(),
        weights=Weights(licence="none", training_data="none"),
    )
    written = write_bundle(bare)
    engine = EngineFile(
        file=FILE,
        role=GENERATOR,
        precision="fp16",
        runtime="tensorrt",
        version=TENSORRT,
        architecture=SM_89,
        model_sha256=written.sha256[names[1]],
        batches=BATCHES,
    )
    engine = dataclasses.replace(engine, **changed)  # type: ignore[arg-type]
    return write_bundle(dataclasses.replace(written, engines=(engine,)))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    found = install(monkeypatch, version=TENSORRT)
    yield found
    gc.collect()  # what is freed, is freed while the fake stands


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_bundle(tmp_path, plan({**INPUTS, **OUTPUTS}, BATCHES))


def load(bundle: Bundle, *, replay: bool = True) -> TensorRtNetwork:
    return TensorRtNetwork(bundle, GENERATOR, 1, "fp16", replay=replay)


def moving(frames: int, seed: int = 0) -> dict[str, Floats]:
    """The inputs that differ from frame to frame."""
    random = np.random.default_rng(seed)
    return {n: random.random((frames, *INPUTS[n][1:]), np.float32) for n in ("mel", "pose")}


def colour(seed: int) -> Floats:
    return np.random.default_rng(seed).random((1, 3, 1, 1), np.float32)


def expected(feed: dict[str, Floats], colours: list[Floats]) -> Floats:
    mean = feed["mel"].mean((1, 2, 3), keepdims=True)
    return cast("Floats", feed["pose"] + np.concatenate(colours) + mean)


@pytest.mark.parametrize(
    ("frames", "pieces"),
    [
        (1, [Piece(0, 1, 0)]),
        (5, [Piece(0, 5, 0)]),
        (6, [Piece(0, 6, 1)]),
        (20, [Piece(0, 20, 2)]),
        (21, [Piece(0, 21, 3)]),
        (40, [Piece(0, 40, 3)]),
        (41, [Piece(0, 40, 3), Piece(40, 1, 0)]),
        (95, [Piece(0, 40, 3), Piece(40, 40, 3), Piece(80, 15, 2)]),
    ],
)
def test_frames_take_the_smallest_batch_that_holds_them(frames: int, pieces: list[Piece]) -> None:
    assert list(cut(frames, BATCHES)) == pieces


@pytest.mark.parametrize("replay", [True, False])
def test_every_number_of_frames_is_painted_right(
    gpu: FakeGpu, bundle: Bundle, replay: bool
) -> None:
    network = load(bundle, replay=replay)
    ours, theirs = colour(1), colour(2)
    kept = [network.keep({"identity_0": c}) for c in (ours, theirs)]
    for frames in (*range(2, 46), 95):
        feed, first = moving(frames, frames), frames // 2
        painted = network(feed, [(kept[0], first), (kept[1], frames - first)])["frames"]
        wanted = expected(feed, [ours] * first + [theirs] * (frames - first))
        np.testing.assert_allclose(painted, wanted, rtol=1e-6)


def test_what_is_handed_out_is_not_painted_over(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    kept = network.keep({"identity_0": colour(1)})
    first = network(moving(5), [(kept, 5)])["frames"]
    before = first.copy()
    network(moving(5, seed=9), [(kept, 5)])
    assert np.array_equal(first, before)


def test_sessions_that_change_places_keep_their_own_features(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    colours = [colour(seed) for seed in range(3)]
    kept = [network.keep({"identity_0": c}) for c in colours]
    for order in itertools.permutations(range(3)):
        feed = moving(9)
        painted = network(feed, [(kept[slot], slot + 2) for slot in order])["frames"]
        wanted = [colours[slot] for slot in order for _ in range(slot + 2)]
        np.testing.assert_allclose(painted, expected(feed, wanted), rtol=1e-6)


def test_features_that_are_fed_do_not_stay_for_a_session(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    ours, other = colour(1), colour(2)
    kept = network.keep({"identity_0": ours})
    feed = moving(5)
    network(feed, [(kept, 5)])
    painted = network({**feed, "identity_0": np.repeat(other, 5, axis=0)})["frames"]
    np.testing.assert_allclose(painted, expected(feed, [other] * 5), rtol=1e-6)
    painted = network(feed, [(kept, 5)])["frames"]
    np.testing.assert_allclose(painted, expected(feed, [ours] * 5), rtol=1e-6)


def test_kept_features_reach_the_device_once(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    kept = network.keep({"identity_0": colour(1)})
    assert gpu.cuda.copies == [("HostToDevice", COLOUR_BYTES)]
    gpu.cuda.copies.clear()
    network(moving(5), [(kept, 5)])
    within = [size for kind, size in gpu.cuda.copies if kind == "DeviceToDevice"]
    assert within == [COLOUR_BYTES] * 5
    sent = sum(size for kind, size in gpu.cuda.copies if kind == "HostToDevice")
    assert sent == sum(array.nbytes for array in moving(5).values())


def test_features_that_lie_where_they_are_needed_are_not_copied(
    gpu: FakeGpu, bundle: Bundle
) -> None:
    network = load(bundle)
    kept = network.keep({"identity_0": colour(1)})
    network(moving(5), [(kept, 5)])
    gpu.cuda.copies.clear()
    network(moving(8), [(kept, 8)])
    assert [kind for kind, _ in gpu.cuda.copies].count("DeviceToDevice") == 3


def test_a_closed_session_frees_its_memory_and_the_network_the_rest(
    gpu: FakeGpu, bundle: Bundle
) -> None:
    network = load(bundle)
    before = len(gpu.cuda.memory)
    kept = network.keep({"identity_0": colour(1)})
    assert len(gpu.cuda.memory) == before + 1
    del kept
    assert len(gpu.cuda.memory) == before
    network(moving(5), [(network.keep({"identity_0": colour(1)}), 5)])
    del network
    gc.collect()
    assert not gpu.cuda.memory


def test_replaying_enqueues_nothing_anew(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    recorded = gpu.engines[0].executions
    assert recorded == 2 * len(BATCHES)  # once to warm up, once to record
    network(moving(45), [(network.keep({"identity_0": colour(1)}), 45)])
    assert gpu.engines[0].executions == recorded


def test_work_that_can_not_be_recorded_is_enqueued_and_said_once(
    gpu: FakeGpu, bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.cuda.captures = False
    with caplog.at_level(logging.WARNING):
        network = load(bundle)
    assert [record.getMessage() for record in caplog.records] == [
        "TensorRT's work is queued anew each time, not replayed: The GPU failed: invalid."
    ]
    ours, feed = colour(1), moving(7)
    painted = network(feed, [(network.keep({"identity_0": ours}), 7)])["frames"]
    np.testing.assert_allclose(painted, expected(feed, [ours] * 7), rtol=1e-6)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"architecture": "sm_86"}, "it is for sm_86, this GPU is sm_89"),
        (
            {"version": "10.9.0"},
            "it was built by tensorrt 10.9.0, tensorrt 10.13.0.35 is installed",
        ),
        (
            {"runtime": "tensorrt_rtx"},
            "it was built by tensorrt_rtx 10.13.0.35, tensorrt 10.13.0.35 is installed",
        ),
        ({"model_sha256": "0" * 64}, "the model has changed since"),
        (
            {"architecture": "sm_86", "model_sha256": "0" * 64},
            "it is for sm_86, this GPU is sm_89 and the model has changed since",
        ),
    ],
)
def test_an_engine_that_does_not_fit_says_in_what_and_what_to_run(
    gpu: FakeGpu, tmp_path: Path, changed: dict[str, str], sentence: str
) -> None:
    bundle = make_bundle(tmp_path, plan({**INPUTS, **OUTPUTS}, BATCHES), **changed)
    with pytest.raises(BundleError) as caught:
        load(bundle)
    assert str(caught.value) == (
        f"{FILE} in {tmp_path} can't be used: {sentence}; run lipstream-export {tmp_path}"
        " --backend tensorrt --precision fp16."
    )


def test_a_bundle_without_an_engine_says_what_to_run(gpu: FakeGpu, bundle: Bundle) -> None:
    command = f"lipstream-export {bundle.folder} --backend tensorrt --precision fp32"
    with pytest.raises(BundleError, match="holds no TensorRT engine in fp32") as caught:
        TensorRtNetwork(bundle, GENERATOR, 1)
    assert command in str(caught.value)


def test_an_engine_that_changed_after_the_bundle_was_read_is_not_run(
    gpu: FakeGpu, bundle: Bundle
) -> None:
    (bundle.folder / FILE).write_bytes(plan({**INPUTS, **OUTPUTS}, (5,)))
    with pytest.raises(BundleError, match="has changed since the bundle was read"):
        load(bundle)
    assert gpu.engines == []


def test_an_engine_that_can_not_be_loaded_names_the_reason(gpu: FakeGpu, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"can't load .*: the plan is broken$"):
        load(make_bundle(tmp_path, b"no plan"))


@pytest.mark.parametrize(
    "content",
    [
        plan({**INPUTS, "frames": (None, 3, SIDE, SIDE + 1)}, BATCHES),
        plan({**INPUTS, **OUTPUTS, "more": (None, 1)}, BATCHES),
        plan({**INPUTS, **OUTPUTS}, (5, 10)),
    ],
)
def test_an_engine_of_other_tensors_is_refused(
    gpu: FakeGpu, tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(BundleError, match="does not have the inputs and outputs"):
        load(make_bundle(tmp_path, content))


def test_inputs_that_do_not_fit_are_refused(gpu: FakeGpu, bundle: Bundle) -> None:
    network = load(bundle)
    kept = network.keep({"identity_0": colour(1)})
    feed = moving(5)
    with pytest.raises(EngineError, match=r"takes identity_0, mel, pose, not mel, pose\."):
        network(feed)
    with pytest.raises(EngineError, match="not identity_0, identity_0, mel, pose"):
        network({**feed, "identity_0": np.repeat(colour(1), 5, axis=0)}, [(kept, 5)])
    with pytest.raises(EngineError, match=r"takes no 'mel' of the shape \(5, 1, 80, 16\) for 6"):
        network(feed, [(kept, 6)])
    with pytest.raises(EngineError, match="takes no 'frames'"):
        network.keep({"frames": np.zeros((1, 3, SIDE, SIDE), np.float32)})
    with pytest.raises(EngineError, match="without a frame"):
        network(feed, [(kept, 0)])


def test_a_gpu_is_asked_for_before_anything_is_loaded(gpu: FakeGpu, bundle: Bundle) -> None:
    gpu.cuda.architecture = None
    with pytest.raises(ConfigError, match="no NVIDIA GPU"):
        load(bundle)


def test_what_is_missing_is_named(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tensorrt.missing("fp16") is None
    assert tensorrt.missing("bf16") == "TensorRT engines are built in fp32, fp16, int8"
    assert tensorrt.version() == "tensorrt 10.13.0.35 (sm_89)"
    gpu.cuda.architecture = None
    assert "no NVIDIA GPU" in (tensorrt.missing("fp16") or "")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert tensorrt.missing("fp16") == "TensorRT can't be imported"
    with pytest.raises(ConfigError, match=r"lipstream\[tensorrt\]"):
        tensorrt.version()


def test_the_other_package_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, package="tensorrt_rtx", version="1.7.1.116")
    assert tensorrt.version() == "tensorrt_rtx 1.7.1.116 (sm_89)"
