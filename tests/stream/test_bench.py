"""``bench``: candidates in turn, shares and ratios, the cost of a graph, and the whole command."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from engine.errors import BundleError, ConfigError, EngineError
from stream.bench.children import TorchPeer
from stream.bench.figures import TORCH, Figures, ModelFigures
from stream.bench.graph_cost import graph_flops, graph_parameters
from stream.bench.history import append, check_history
from stream.bench.paper import check_size, make_paper
from stream.bench.rounds import WARM_UP, round_robin, timed
from stream.bench.stages import FRAME_STAGES, STAGES

if TYPE_CHECKING:
    from engine.bundle import Bundle

pytestmark = pytest.mark.unit


class Clock:
    """A clock that only its candidates move."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def work(self, name: str, seconds: Sequence[float]) -> Callable[[], None]:
        """Work that takes these seconds in turn, the last of them for ever."""
        left = list(seconds)

        def run() -> None:
            self.order.append(name)
            self.now += left.pop(0) if len(left) > 1 else left[0]

        return run


def no_failure(name: str, why: str) -> None:
    raise AssertionError(f"{name}: {why}")


def test_candidates_run_in_turn_with_another_one_first_each_round() -> None:
    clock = Clock()
    candidates = {
        n: timed(clock.work(n, [9.0, 9.0, s]), clock) for n, s in (("a", 1.0), ("b", 2.0))
    }

    took = round_robin(candidates, rounds=3, seconds=60, failed=no_failure, clock=clock)

    assert took == {"a": [1.0] * 3, "b": [2.0] * 3}  # the first runs, 9 s, warm up
    assert clock.order[: 2 * WARM_UP] == ["a", "a", "b", "b"]
    assert clock.order[2 * WARM_UP :] == ["a", "b", "b", "a", "a", "b"]


def test_no_round_begins_after_the_time_is_up_beyond_the_first_three() -> None:
    clock = Clock()
    took = round_robin(
        {"a": timed(clock.work("a", [10.0]), clock)},
        rounds=20,
        seconds=35,
        failed=no_failure,
        clock=clock,
    )
    assert len(took["a"]) == 4
    took = round_robin(
        {"a": timed(clock.work("a", [10.0]), clock)},
        rounds=20,
        seconds=1,
        failed=no_failure,
        clock=clock,
    )
    assert len(took["a"]) == 3


def test_a_candidate_that_breaks_is_left_out_and_named() -> None:
    runs = 0

    def breaks() -> float:
        nonlocal runs
        runs += 1
        if runs > WARM_UP + 1:
            raise EngineError("it broke")
        return 1.0

    said: list[tuple[str, str]] = []
    took = round_robin(
        {"good": lambda: 2.0, "bad": breaks},
        rounds=5,
        seconds=60,
        failed=lambda name, why: said.append((name, why)),
    )
    assert took == {"good": [2.0] * 5}
    assert said == [("bad", "it broke")]


def a_model() -> ModelFigures:
    return ModelFigures(
        bundle="x",
        fps=25.0,
        k=5,
        chunk_ms={"openvino-fp32": 100.0, "openvino-int8": 20.0, TORCH: 300.0},
        chunk_gflop={"openvino-fp32": 10.0, "openvino-int8": 10.0},
        batch_ms={5: 20.0, 10: 30.0},
        passes={"fold": {"without_ms": 3.0, "with_ms": 2.0}},
    )


def some_figures() -> Figures:
    return Figures(
        machine={"date": "2026-01-01T00:00:00+00:00", "processor": "P", "threads": 2},
        rounds=3,
        models={"starter": a_model()},
        peak_gflops={"fp32": 200.0, "int8": 1000.0},
        stages_ms=dict.fromkeys(STAGES, 1.0),
        notes=[],
    )


def test_ratios_and_shares_are_those_of_the_fastest_run_time() -> None:
    found = some_figures().to_dict()
    assert found["best"] == {"starter": "openvino-int8"}
    assert found["torch_ratio"] == {"starter": 15.0}
    assert found["budget_share"] == {"starter": 0.1}  # 20 ms of 5 frames' 200 ms
    assert found["peak_share"] == {"starter": 0.5}  # 10 GFLOP in 20 ms, of 1000 GFLOP/s
    assert found["frame_ms"] == len(FRAME_STAGES)  # without the search for a face
    assert found["passes"] == {"starter": {"fold": {"without_ms": 3.0, "with_ms": 2.0}}}


def test_the_scheduler_says_how_many_sessions_fit() -> None:
    # Two sessions cost 30 ms together: ten cost 150 ms of 200, twelve more than its budget of 160.
    assert a_model().sessions() == 10


def test_a_graphics_processor_has_no_share_of_the_processor_s_peak() -> None:
    model = a_model()
    assert model.peak_share("openvino-fp32", {"int8": 1.0}) is None
    assert model.peak_share(TORCH, {"fp32": 1.0}) is None


def test_what_was_not_measured_is_left_out_of_the_json() -> None:
    figures = some_figures()
    model = figures.models["starter"]
    del model.chunk_ms[TORCH]
    model.batch_ms = {}
    found = figures.to_dict()
    assert found["torch_ratio"] == found["sessions"] == found["torch_kept_ms"] == {}
    json.dumps(found, allow_nan=False)


def small_graph(path: Path) -> None:
    """A convolution, one in two groups, a transposed one and a matrix product."""
    random = np.random.default_rng(0)
    weights = {
        "conv": (6, 4, 3, 3),
        "grouped": (6, 3, 1, 1),
        "up": (6, 2, 3, 3),
        "dense": (16, 7),
    }
    nodes = [
        helper.make_node("Conv", ["x", "conv"], ["a"], pads=[1, 1, 1, 1]),  # (N, 6, 8, 8)
        helper.make_node("Conv", ["a", "grouped"], ["b"], group=2),  # (N, 6, 8, 8)
        helper.make_node(
            "ConvTranspose",
            ["b", "up"],
            ["c"],
            strides=[2, 2],
            pads=[1, 1, 1, 1],
            output_padding=[1, 1],
        ),  # (N, 2, 16, 16)
        helper.make_node("MatMul", ["c", "dense"], ["y"]),  # (N, 2, 16, 7)
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2, 16, 7])],
        [
            numpy_helper.from_array(random.random(shape, np.float32), name)
            for name, shape in weights.items()
        ],
    )
    opset = helper.make_opsetid("", 18)
    save(helper.make_model(graph, opset_imports=[opset], ir_version=10), path)


@pytest.mark.parametrize("frames", [1, 5])
def test_the_operations_of_a_graph_are_those_counted_by_hand(tmp_path: Path, frames: int) -> None:
    small_graph(tmp_path / "small.onnx")
    convolution = 6 * 8 * 8 * 4 * 9
    grouped = 6 * 8 * 8 * 3
    transposed = 6 * 8 * 8 * 2 * 9  # every input value meets nine weights for each of two outputs
    product = 2 * 16 * 7 * 16
    by_hand = 2 * frames * (convolution + grouped + transposed + product)
    assert graph_flops(tmp_path / "small.onnx", frames) == by_hand
    assert graph_parameters(tmp_path / "small.onnx") == 6 * 4 * 9 + 6 * 3 + 6 * 2 * 9 + 16 * 7


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"nothing")
    with pytest.raises(BundleError, match="export it again"):
        graph_flops(tmp_path / "x.onnx", 5)


def test_a_paper_size_generator_is_no_smaller_than_wav2lip_s() -> None:
    check_size(36e6, 8.0)
    check_size(56e6, None)
    with pytest.raises(EngineError, match=r"35\.0 M parameters"):
        check_size(35e6, 9.0)
    with pytest.raises(EngineError, match=r"7\.90 GFLOP"):
        check_size(56e6, 7.9)


def test_each_run_adds_one_line_to_the_history(tmp_path: Path) -> None:
    path = tmp_path / "benchmarks" / "history.jsonl"
    check_history(path)
    for number in range(2):
        append(path, {"run": number})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"run": 0}, {"run": 1}]


def test_a_history_that_can_t_be_written_is_refused_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "history.jsonl"):
        with pytest.raises(ConfigError, match="history"):
            check_history(path)


PEER = """
import json, sys
print(json.dumps({"torch": "9.9", "networks": {"a": {"parameters": 1, "gflop_frame": 2}},
                  "refused": {"b": "it is odd"}}), flush=True)
for number, line in enumerate(sys.stdin):
    request = json.loads(line)
    if number == 2:
        sys.exit("the disk is full")
    seconds = {"a": 0.5}[request["network"]] * (1 if request["keeps_identity"] else 2)
    print(json.dumps({"seconds": seconds}), flush=True)
"""


def test_pytorch_s_process_times_itself_and_its_end_is_told() -> None:
    with TorchPeer({"a": Path("x")}, 1, command=(sys.executable, "-c", PEER)) as peer:
        assert (peer.version, peer.refused) == ("9.9", {"b": "it is odd"})
        assert peer.chunk("a", keeps_identity=False)() == 1.0
        assert peer.chunk("a", keeps_identity=True)() == 0.5
        with pytest.raises(EngineError, match="the disk is full"):
            peer.chunk("a", keeps_identity=True)()


def test_a_process_that_never_speaks_is_told() -> None:
    with pytest.raises(EngineError, match="no such thing"):
        TorchPeer({}, 1, command=(sys.executable, "-c", "raise SystemExit('no such thing')"))


@pytest.mark.models
def test_the_paper_s_bundle_is_made_once_and_kept(tmp_path: Path, tiny_bundle: "Bundle") -> None:
    calls: list[str] = []

    def run(module: str, *words: str) -> None:
        calls.append(module)
        if module == "training.eager":
            Path(words[-1]).touch()
            return
        target = Path(words[words.index("-o") + 1])
        target.mkdir()
        for file in tiny_bundle.folder.iterdir():
            (target / file.name).write_bytes(file.read_bytes())

    old = tmp_path / "paper-000000000000"
    old.mkdir()
    said: list[str] = []
    first = make_paper(tmp_path, said.append, run)
    assert calls == ["training.eager", "export"]
    assert len(said) == 1
    assert not old.exists()
    assert make_paper(tmp_path, said.append, run) == first
    assert len(calls) == 2
    (first.bundle / "generator.onnx").write_bytes(b"broken")  # it is made again
    assert make_paper(tmp_path, said.append, run) == first
    assert len(calls) == 4
    assert [folder.name for folder in tmp_path.iterdir()] == [first.bundle.parent.name]


def test_a_bundle_that_can_t_be_made_leaves_nothing(tmp_path: Path) -> None:
    def run(module: str, *words: str) -> None:
        Path(words[-1]).touch()
        raise EngineError("no space")

    with pytest.raises(EngineError, match="no space"):
        make_paper(tmp_path, lambda line: None, run)
    assert not list(tmp_path.iterdir())
