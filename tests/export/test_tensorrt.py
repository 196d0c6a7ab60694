"""Engines for a GPU that is not here, built by the real TensorRT for RTX, and run where one is."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from engine.backends.interface import BATCHES, Network
from engine.backends.noise import random_feed
from engine.backends.openvino import OpenVinoNetwork
from engine.backends.tensorrt_buffers import gpu_architecture
from engine.bundle import GENERATOR, STARTER, Bundle, load_bundle, write_bundle
from engine.bundle_variants import Precision
from engine.errors import BundleError, ConfigError
from export.__main__ import main
from export.half import half
from export.quantise import quantise
from export.tensorrt import build_engine
from tests.networks import tiny_generator
from training.generator import Generator

pytestmark = pytest.mark.models

ARCHITECTURE = "sm_86"
PRECISIONS: list[Precision] = ["fp32", "fp16", "int8"]


def with_all_formats(bundle: Bundle) -> Bundle:
    """Add graphs in fp16 and int8; the scales come from noise, no picture is judged here."""
    source, graph = bundle.graph_path(GENERATOR), bundle.graphs[GENERATOR]
    names = {"fp16": "generator.fp16.onnx", "int8": "generator.int8.onnx"}
    onnx.save(half(onnx.load(source)), bundle.folder / names["fp16"])
    quantise(source, bundle.folder / names["int8"], [random_feed(bundle, 2)])
    graphs = {**bundle.graphs, GENERATOR: replace(graph, variants=names)}
    return write_bundle(replace(bundle, graphs=graphs), bundle.sha256)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("starter") / "bundle"
    return with_all_formats(load_bundle(Path(shutil.copytree(STARTER, folder))))


@pytest.fixture(scope="module")
def built(bundle: Bundle) -> Bundle:
    """The starter with an engine in each number format, for a GPU that is named."""
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    for precision in PRECISIONS:
        bundle = build_engine(bundle, precision, [ARCHITECTURE], lambda _: None)
    return bundle


def test_engines_are_built_without_a_gpu(built: Bundle) -> None:
    assert [(engine.precision, engine.architecture) for engine in built.engines] == [
        (precision, ARCHITECTURE) for precision in PRECISIONS
    ]
    sizes = [(built.folder / engine.file).stat().st_size for engine in built.engines]
    assert sizes[0] > sizes[1]
    assert min(sizes) > 4e6  # the weights in int8 alone
    for engine in built.engines:
        assert engine.batches == BATCHES
        assert engine.runtime == "tensorrt_rtx"
        assert engine.file in built.sha256
        assert engine.model_sha256 in built.sha256.values()


def test_a_second_call_builds_nothing(built: Bundle) -> None:
    said: list[str] = []
    again = build_engine(built, "int8", [ARCHITECTURE], said.append)
    assert again == built
    assert said == [f"int8: an engine for {ARCHITECTURE} is there already"]


def test_the_bundle_still_holds_all_that_it_held(built: Bundle) -> None:
    starter = load_bundle()
    assert load_bundle(built.folder).expert == starter.expert
    assert built.sha256.items() >= starter.sha256.items()


def test_another_gpu_gets_an_engine_of_its_own(built: Bundle, tmp_path: Path) -> None:
    copy = load_bundle(Path(shutil.copytree(built.folder, tmp_path / "bundle")))
    more = build_engine(copy, "int8", ["sm_89"], lambda _: None)
    assert [engine.architecture for engine in more.engines].count("sm_89") == 1
    assert len(more.engines) == len(built.engines) + 1


def test_a_changed_model_gets_a_new_engine_in_place_of_the_old(
    built: Bundle, tmp_path: Path
) -> None:
    copy = load_bundle(Path(shutil.copytree(built.folder, tmp_path / "bundle")))
    quantise(
        copy.graph_path(GENERATOR),
        copy.graph_path(GENERATOR, "int8"),
        [random_feed(copy, 2, seed=9)],
    )
    changed = write_bundle(copy, copy.sha256)
    rebuilt = build_engine(changed, "int8", [ARCHITECTURE], lambda _: None)
    models = {engine.precision: engine.model_sha256 for engine in rebuilt.engines}
    assert models["int8"] == rebuilt.sha256["generator.int8.onnx"] != built.engines[2].model_sha256
    assert len(rebuilt.engines) == len(built.engines)


def test_an_unknown_gpu_is_one_sentence(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    with pytest.raises(ConfigError, match="can't build for sm_90; it knows sm_75"):
        build_engine(bundle, "fp32", ["sm_90"], lambda _: None)


def test_no_gpu_and_none_named_is_one_sentence(bundle: Bundle) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    if gpu_architecture() is not None:
        pytest.skip("there is a GPU")
    with pytest.raises(ConfigError, match=r"finds no NVIDIA GPU here.*--architecture"):
        build_engine(bundle, "fp32", [], lambda _: None)


def test_a_number_format_without_a_graph_is_one_sentence(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    plain = load_bundle(Path(shutil.copytree(STARTER, tmp_path / "bundle")))
    with pytest.raises(BundleError, match=r"no 'generator' graph in int8.*--precision int8"):
        build_engine(plain, "int8", [ARCHITECTURE], lambda _: None)


def test_the_command_line_builds_for_a_named_gpu(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    words = ["-o", str(tmp_path / "bundle"), "--backend", "tensorrt", "--threads", "1"]
    assert main([str(STARTER), *words, "--architecture", "sm_89"]) == 0
    assert load_bundle(tmp_path / "bundle").engines[0].architecture == "sm_89"
    assert "openvino-fp32" in capsys.readouterr().out


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A generator of the paper's size, untrained, described as the starter is."""
    from engine.mel import MelSettings, WindowPlacement
    from export.graphs import write_graphs
    from training.generator import GeneratorConfig

    folder = tmp_path_factory.mktemp("paper")
    model = Generator(GeneratorConfig()).eval()
    graphs = write_graphs(model, MelSettings(), WindowPlacement(-0.1), folder, (40, 96))
    described = replace(load_bundle(), folder=folder, graphs=graphs, expert=None, sha256={})
    return with_all_formats(write_bundle(described))


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_papers_size_is_built_ahead_of_time(paper: Bundle, precision: Precision) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    built = build_engine(paper, precision, [ARCHITECTURE], lambda _: None)
    (engine,) = [e for e in built.engines if e.precision == precision]
    assert (built.folder / engine.file).stat().st_size > {"fp16": 70e6, "int8": 35e6}[precision]


@pytest.fixture(scope="module")
def on_gpu(bundle: Bundle) -> Callable[..., Network]:
    """Load an engine that was built for the GPU that is here."""
    if gpu_architecture() is None:
        pytest.skip("there is no NVIDIA GPU")
    from engine.backends.tensorrt import TensorRtNetwork

    def load(precision: Precision, *, replay: bool = True) -> Network:
        there = build_engine(load_bundle(bundle.folder), precision, [], lambda _: None)
        return TensorRtNetwork(there, GENERATOR, 1, precision, replay=replay)

    return load


@pytest.mark.gpu
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-3), ("fp16", 2e-2), ("int8", 6e-2)])
def test_an_engine_paints_what_the_graph_paints(
    on_gpu: Callable[..., Network], bundle: Bundle, precision: Precision, bound: float
) -> None:
    exact, network = OpenVinoNetwork(bundle, GENERATOR, 1), on_gpu(precision)
    for frames in (1, 5, 7, 10, 40, 45):
        feed = random_feed(bundle, frames, seed=frames)
        error = np.abs(network(feed)["frames"] - exact(feed)["frames"])
        assert error.mean() < bound


@pytest.mark.gpu
def test_replayed_work_paints_what_enqueued_work_paints(
    on_gpu: Callable[..., Network], bundle: Bundle
) -> None:
    replayed, enqueued = on_gpu("fp32"), on_gpu("fp32", replay=False)
    for seed in range(3):
        feed = random_feed(bundle, 5, seed)
        np.testing.assert_array_equal(replayed(feed)["frames"], enqueued(feed)["frames"])


@pytest.mark.gpu
def test_sessions_on_a_gpu_keep_their_own_features(
    on_gpu: Callable[..., Network], bundle: Bundle
) -> None:
    network, exact = on_gpu("fp32"), OpenVinoNetwork(bundle, GENERATOR, 1)
    moving = {name: a for name, a in random_feed(bundle, 7).items() if name in ("mel", "pose")}
    people = [
        {name: a for name, a in random_feed(bundle, 1, seed).items() if name not in moving}
        for seed in (1, 2)
    ]
    painted = network(moving, [(network.keep(p), n) for p, n in zip(people, (5, 2), strict=True)])
    wanted = exact(moving, [(exact.keep(p), n) for p, n in zip(people, (5, 2), strict=True)])
    np.testing.assert_allclose(painted["frames"], wanted["frames"], rtol=0, atol=1e-3)


def test_tiny_engines_are_built_of_any_head(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="the package tensorrt_rtx is not installed")
    from engine.mel import MelSettings, WindowPlacement
    from export.graphs import write_graphs

    model = tiny_generator(head="rgb")
    graphs = write_graphs(model, MelSettings(), WindowPlacement(-0.1), tmp_path, (40, 96))
    described = replace(load_bundle(), folder=tmp_path, graphs=graphs, expert=None, sha256={})
    built = build_engine(write_bundle(described), "fp32", [ARCHITECTURE], lambda _: None)
    assert (tmp_path / built.engines[0].file).stat().st_size > 0
