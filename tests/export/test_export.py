import dataclasses
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from engine.bundle import MANIFEST, load_bundle, write_bundle
from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import BundleError
from engine.generator import Chunk
from engine.generator import Generator as Runtime
from engine.mel import MelSettings, WindowPlacement
from export.__main__ import main
from export.graphs import fold_normalisations
from export.verify import HALF_LEVEL, TOLERANCE, check, compare
from tests.networks import inputs, tiny_generator
from training.checkpoint import save_checkpoint
from training.generator import Generator, Head, mask_pose

pytestmark = pytest.mark.models

HEADS: list[Head] = ["rgb", "warp"]
FACTS = {"licence": "Apache-2.0", "training_data": "noise", "metrics": {"psnr_db": 30.5}}


def network(head: Head) -> Generator:
    return tiny_generator(head=head, rows=(40, 96), masked_from=40)


def save(path: Path, model: Generator, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "config": model.config.to_dict(),
        "model": model.state_dict(),
        "mel": MelSettings().to_dict(),
        "placement": WindowPlacement(-0.075).to_dict(),
        "crop": geometry_to_dict(UprightGeometry()),
        "training": FACTS,
    }
    save_checkpoint(path, **{**fields, **changes})
    return path


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Head], Path]:
    """Give the folder of a head's bundle, exported once by the command line."""
    folders: dict[Head, Path] = {}

    def export(head: Head) -> Path:
        if head not in folders:
            folder = tmp_path_factory.mktemp(head)
            checkpoint = save(folder / "model.pt", network(head))
            with redirect_stdout(io.StringIO()) as printed:
                assert main([str(checkpoint), "-o", str(folder / "bundle")]) == 0
            (folder / "printed.txt").write_text(printed.getvalue())
            folders[head] = folder / "bundle"
        return folders[head]

    return export


@pytest.mark.parametrize("head", HEADS)
def test_bundle_paints_what_the_checkpoint_paints(
    exported: Callable[[Head], Path], head: Head
) -> None:
    bundle, model = load_bundle(exported(head)), network(head)
    runtime = Runtime(bundle, threads=1, slots=2)
    mel, pose, identity = inputs(7, seed=4)
    crops = (torch.stack([pose, identity]) * 255).round().to(torch.uint8)
    pose_crops, reference = crops[0].permute(0, 2, 3, 1).numpy(), crops[1, 0]
    slot = runtime.open(reference.permute(1, 2, 0).numpy())
    painted = runtime.step({slot: Chunk(mel=mel.numpy(), pose=pose_crops)})[slot]
    with torch.no_grad():
        repeated = (reference / 255).repeat(7, 1, 1, 1)
        expected = model(mel, mask_pose(crops[0] / 255, 40), repeated).frames
    difference = painted.transpose(0, 3, 1, 2) / 255 - expected.numpy()
    assert np.abs(difference).max() <= HALF_LEVEL + TOLERANCE
    assert expected.std() > 0.02


@pytest.mark.parametrize("head", HEADS)
def test_bundle_carries_the_facts_of_the_checkpoint(
    exported: Callable[[Head], Path], head: Head
) -> None:
    bundle = load_bundle(exported(head))
    assert (bundle.resolution, bundle.rows, bundle.fps, bundle.k) == (96, (40, 96), 25.0, 5)
    assert bundle.masked_from == 40
    assert bundle.placement == WindowPlacement(-0.075)
    assert bundle.mel == MelSettings()
    assert bundle.crop == UprightGeometry()
    assert bundle.architecture == f"two-encoder-{head}"
    assert bundle.weights.licence == "Apache-2.0"
    assert bundle.weights.metrics == {"psnr_db": 30.5}


@pytest.mark.parametrize("head", HEADS)
def test_graphs_name_no_source_and_hold_no_normalisation(
    exported: Callable[[Head], Path], head: Head
) -> None:
    for file in ("identity.onnx", "generator.onnx"):
        path = exported(head) / file
        model = onnx.load(path)
        assert "BatchNormalization" not in {node.op_type for node in model.graph.node}
        assert b".py" not in path.read_bytes()
        assert str(Path(__file__).parents[2]).encode() not in path.read_bytes()


def test_changed_byte_of_an_exported_bundle_is_refused(
    exported: Callable[[Head], Path], tmp_path: Path
) -> None:
    for file in exported("rgb").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    load_bundle(tmp_path)
    content = bytearray((tmp_path / "identity.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "identity.onnx").write_bytes(content)
    with pytest.raises(BundleError, match=r"identity\.onnx .* has changed"):
        load_bundle(tmp_path)


@pytest.mark.parametrize("part", ["head", "identity_encoder.stages.3"])
def test_bundle_of_other_weights_is_refused(exported: Callable[[Head], Path], part: str) -> None:
    bundle, model = load_bundle(exported("rgb")), network("rgb")
    with torch.no_grad():
        for parameter in model.get_submodule(part).parameters():
            parameter.mul_(1.2)
    assert compare(bundle, model).graphs > TOLERANCE
    assert compare(bundle, model).runtime > TOLERANCE
    with pytest.raises(BundleError, match="differs from its checkpoint by"):
        check(bundle, model)


def test_run_time_with_swapped_colours_is_refused(
    exported: Callable[[Head], Path], tmp_path: Path
) -> None:
    """The graphs alone are right here: only the run through the engine can show the fault."""
    for file in exported("rgb").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    bundle = dataclasses.replace(load_bundle(tmp_path), colour_order="bgr")
    differences = compare(write_bundle(bundle), network("rgb"))
    assert differences.graphs < TOLERANCE < differences.runtime


@pytest.mark.parametrize("head", HEADS)
def test_folding_changes_nothing_but_rounding(head: Head) -> None:
    model = network(head)
    folded = fold_normalisations(model)
    with torch.no_grad():
        before, after = model(*inputs(2)).frames, folded(*inputs(2)).frames
    torch.testing.assert_close(after, before, atol=5e-4, rtol=0)
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in folded.modules())
    assert any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())


def test_success_says_what_was_written_and_how_close_it_is(
    exported: Callable[[Head], Path],
) -> None:
    printed = (exported("rgb").parent / "printed.txt").read_text()
    assert "generator.onnx, identity.onnx" in printed
    assert "largest difference from the checkpoint" in printed


def fail(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    assert main(arguments) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    return streams.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "audio"}, "holds a 'audio'; only a 'generator'"),
        ({"training": {"training_data": "noise"}}, "lack 'licence'"),
        ({"config": {"width": 0.25}}, "weights do not fit"),
        ({"config": {"width": -1}}, "width must be above 0"),
        ({"mel": {}}, "lack"),
        ({"crop": {}}, "crop of kind None"),
    ],
)
def test_checkpoint_that_makes_no_bundle_is_refused_before_anything_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], message: str
) -> None:
    checkpoint = save(tmp_path / "model.pt", network("rgb"), **changes)
    assert message in fail(capsys, [str(checkpoint), "-o", str(tmp_path / "bundle")])
    assert not (tmp_path / "bundle").exists()


def test_missing_checkpoint_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no checkpoint at" in fail(capsys, [str(tmp_path / "no.pt"), "-o", str(tmp_path)])


def test_output_that_is_a_file_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint = save(tmp_path / "model.pt", network("rgb"))
    assert "can't be written" in fail(capsys, [str(checkpoint), "-o", str(checkpoint)])


def test_bundle_that_fails_its_check_is_left_without_its_description(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = save(tmp_path / "model.pt", network("rgb"))
    monkeypatch.setattr("export.verify.TOLERANCE", -1.0)
    assert "differs from its checkpoint" in fail(
        capsys, [str(checkpoint), "-o", str(tmp_path / "bundle")]
    )
    assert not (tmp_path / "bundle" / MANIFEST).exists()


@pytest.mark.parametrize("wrong", [["--backend", "coreml"], ["--precision", "int4"], ["--fast"]])
def test_unknown_choices_are_wrong_use(wrong: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["model.pt", "-o", "bundle", *wrong])
    assert caught.value.code == 2
