"""Number formats of the starter, judged by a film that the starter made of a portrait."""

import shutil
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from PIL import Image

from engine.backends import openvino
from engine.backends.interface import Variant
from engine.backends.loading import load_network, usable
from engine.backends.noise import random_feed
from engine.bundle import GENERATOR, STARTER, Bundle, load_bundle, write_bundle
from engine.dub import dub
from engine.errors import BundleError, ConfigError
from engine.media import read_audio
from export.__main__ import main
from export.calibration import find_clips
from export.groups import groups, only
from export.precisions import Maker
from export.quantise import quantise

pytestmark = pytest.mark.models

SPEECH = Path(__file__).parents[2] / "stream" / "assets" / "demo_speech.flac"
SPOKEN = slice(int(4.6 * 16_000), int(7.0 * 16_000))  # where the starter opens the mouth most


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory, astronaut: NDArray[np.uint8]) -> Path:
    """A folder of two short films of a talking face."""
    folder = tmp_path_factory.mktemp("clips")
    picture, speech = folder / "face.png", folder / "speech.wav"
    Image.fromarray(astronaut).save(picture)
    samples = read_audio(SPEECH, 16_000)[SPOKEN]
    with av.open(str(speech), "w") as file:
        stream = file.add_stream("pcm_s16le", 16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(
            (samples[None] * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = 16_000
        file.mux([*stream.encode(frame), *stream.encode(None)])
    dub(picture, speech, folder / "one.mp4", bundle=load_bundle(), threads=1)
    shutil.copy(folder / "one.mp4", folder / "two.mp4")
    return folder


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, clips: Path) -> Bundle:
    """The starter with int8, made by the command line."""
    folder = tmp_path_factory.mktemp("extended") / "bundle"
    words = ["--precision", "int8", "--calibration", str(clips), "--threads", "1"]
    assert main([str(STARTER), "-o", str(folder), *words]) == 0
    return load_bundle(folder)


@pytest.fixture
def copied(extended: Bundle, tmp_path: Path) -> Bundle:
    """A bundle to change."""
    return load_bundle(Path(shutil.copytree(extended.folder, tmp_path / "bundle")))


def test_int8_is_in_the_bundle_with_what_it_costs(extended: Bundle) -> None:
    facts = extended.precisions["int8"]
    assert facts.psnr_db >= 35
    assert facts.lips_lost <= 0.02
    assert facts.clips == 1
    assert {Variant("openvino", "int8"), Variant("onnxruntime", "int8")} <= set(usable(extended))
    size = extended.graph_path(GENERATOR, "int8").stat().st_size
    assert size < 0.35 * extended.graph_path(GENERATOR).stat().st_size


def test_lip_expert_and_weights_survive(extended: Bundle) -> None:
    starter = load_bundle()
    assert extended.expert == starter.expert
    assert extended.sha256.items() >= starter.sha256.items()


def test_run_times_agree_on_the_graph_in_int8(extended: Bundle) -> None:
    feed = random_feed(extended, 3)
    painted = [
        load_network(extended, Variant(backend, "int8"), threads=1)(feed)["frames"]
        for backend in ("openvino", "onnxruntime")
    ]
    assert np.mean(np.abs(painted[0] - painted[1])) < 0.01


def test_run_times_agree_in_fp32(extended: Bundle) -> None:
    feed = random_feed(extended, 3)
    painted = [
        load_network(extended, Variant(backend, "fp32"), threads=1)(feed)["frames"]
        for backend in ("openvino", "onnxruntime")
    ]
    np.testing.assert_allclose(painted[0], painted[1], rtol=0, atol=1e-3)


def test_same_command_again_makes_nothing_again(
    extended: Bundle, clips: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = extended.graph_path(GENERATOR, "int8")
    before = file.stat().st_mtime_ns
    words = ["--precision", "int8", "--calibration", str(clips), "--threads", "1"]
    assert main([str(extended.folder), *words]) == 0
    assert "int8: there already" in capsys.readouterr().out
    assert file.stat().st_mtime_ns == before


def test_table_names_every_run_time(extended: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(extended.folder), "--threads", "1"]) == 0
    printed = capsys.readouterr().out
    for variant in usable(extended):
        assert str(variant) in printed


def test_format_that_strays_too_far_is_refused_and_names_its_layers(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("export.gate.LEAST_PSNR_DB", 70.0)
    bundle = load_bundle(Path(shutil.copytree(STARTER, tmp_path / "bundle")))
    maker = Maker(bundle, find_clips(clips), threads=1, kept=(), say=lambda _: None)
    with pytest.raises(BundleError, match=r"int8 strays too far.*dB alone.*--float GROUP"):
        maker.add("int8")
    assert "int8" not in load_bundle(bundle.folder).precisions
    assert not [*bundle.folder.glob("*int8*")]


@pytest.mark.parametrize("reason", [None, "this processor has no instructions for bf16"])
def test_bf16_needs_no_file_and_is_judged_without_such_a_processor(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: str | None
) -> None:
    if reason is None and (reason := openvino.missing("bf16")) is not None:
        pytest.skip(reason)
    monkeypatch.setattr(openvino, "missing", lambda precision: reason)
    starter = load_bundle(Path(shutil.copytree(STARTER, tmp_path / "bundle")))
    bundle = write_bundle(replace(starter, precisions={}), starter.sha256)
    maker = Maker(bundle, find_clips(clips), threads=1, kept=(), say=lambda _: None)
    assert maker.add("bf16").psnr_db > 45
    assert set(maker.bundle.sha256) == set(bundle.sha256)
    assert not [*bundle.folder.glob("*bf16*")]


def test_kept_groups_stay_in_float(extended: Bundle, tmp_path: Path) -> None:
    source = extended.graph_path(GENERATOR)
    target = tmp_path / "kept.onnx"
    quantise(source, target, [random_feed(extended, 1)], kept=["head", "merge"])
    makers = {node.output[0]: node.op_type for node in onnx.load(target).graph.node}
    held = {name for g in ("head", "merge") for name in groups(onnx.load(source))[g]}
    for node in onnx.load(target).graph.node:
        if node.op_type in ("Conv", "ConvTranspose"):
            quantised = makers.get(node.input[1]) == "DequantizeLinear"
            assert quantised == (node.name not in held)


def test_one_group_alone_is_nearer_to_fp32_than_all(extended: Bundle, tmp_path: Path) -> None:
    import onnxruntime

    exact = onnx.load(extended.graph_path(GENERATOR))
    quantised = onnx.load(extended.graph_path(GENERATOR, "int8"))
    alone = only("merge", quantised, exact)
    feed = random_feed(extended, 2)
    painted = [
        onnxruntime.InferenceSession(model.SerializeToString()).run(["frames"], feed)[0]
        for model in (exact, quantised, alone)
    ]
    everything, one = (float(np.abs(made - painted[0]).mean()) for made in painted[1:])
    assert 0 < one < everything


def test_unknown_group_is_one_sentence(copied: Bundle, clips: Path) -> None:
    maker = Maker(copied, find_clips(clips), threads=1, kept=("nose",), say=lambda _: None)
    with pytest.raises(ConfigError, match=r"no layers 'nose'; its groups are .*decoder\.0"):
        maker.add("int8")


def test_number_format_without_clips_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main([str(STARTER), "-o", str(tmp_path / "bundle"), "--precision", "int8"]) == 2
    assert "name a folder with videos of speaking people" in capsys.readouterr().err


@pytest.mark.parametrize(("files", "held"), [(0, "no videos"), (1, "1 videos")])
def test_too_few_clips_are_one_sentence(tmp_path: Path, files: int, held: str) -> None:
    for number in range(files):
        (tmp_path / f"{number}.mp4").touch()
    with pytest.raises(ConfigError, match=f"holds {held}"):
        find_clips(tmp_path)


def test_clips_are_spread_over_a_folder_and_none_serves_twice(tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / f"{number:02}.mp4").touch()
    chosen = find_clips(tmp_path)
    assert not {*chosen.calibration} & {*chosen.judging}
    assert chosen.calibration[0].stem == "00"
    assert chosen.judging[-1].stem == "99"
