"""A public Wav2Lip checkpoint, imported and exported, runs as any bundle does."""

import io
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from engine.bundle import Bundle, load_bundle, write_bundle
from engine.chain import LipSync
from engine.crop import BoxGeometry
from engine.generator import Chunk
from engine.generator import Generator as Runtime
from engine.mel import MelSettings, WindowPlacement
from export.__main__ import main
from export.verify import HALF_LEVEL, TOLERANCE, Original, compare
from export.wav2lip import Wav2LipGraph
from tests.faces import Picture, move, similarity
from tests.networks import fill
from tests.training.public_files import write
from training.__main__ import main as training
from training.wav2lip import Wav2Lip
from training.weights import load_weights, save_weights

pytestmark = pytest.mark.models

FPS = Fraction(25)
COUNT = 7


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model() -> Wav2Lip:
    network = Wav2Lip()
    fill(network, 0)
    return network.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def imported(model: Wav2Lip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wav2lip")
    write(folder / "wav2lip.pth", {"state_dict": model.state_dict(), "global_step": 1}, old=True)
    out = folder / "wav2lip.safetensors"
    with redirect_stdout(io.StringIO()):
        assert training(["import", str(folder / "wav2lip.pth"), "-o", str(out)]) == 0
    (folder / "wav2lip.pth").unlink()
    return out


@pytest.fixture(scope="module")
def bundle(imported: Path) -> Bundle:
    folder = imported.parent / "bundle"
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as printed:
        patch.setattr("export.verify.BATCHES", (1, 2))  # each frame costs 4 GMAC
        assert main([str(imported), "-o", str(folder)]) == 0
    assert "largest difference from the checkpoint" in printed.getvalue()
    return load_bundle(folder)


def test_bundle_states_what_wav2lip_needs(bundle: Bundle) -> None:
    assert (bundle.architecture, bundle.resolution, bundle.rows) == ("wav2lip", 96, (0, 96))
    assert (bundle.masked_from, bundle.fps, bundle.k) == (48, 25.0, 5)
    assert (bundle.identity_policy, bundle.colour_order) == ("same-frame", "bgr")
    assert isinstance(bundle.crop, BoxGeometry)
    assert bundle.mel == MelSettings()
    assert "non-commercial" in bundle.weights.licence
    assert "LRS2" in bundle.weights.training_data


@pytest.mark.parametrize("fps", [25, 30])
def test_mel_windows_start_where_wav2lips_inference_starts_them(bundle: Bundle, fps: int) -> None:
    assert bundle.placement == WindowPlacement(0.0, rounding="floor")
    starts = [bundle.placement.first_column(float(Fraction(i, fps))) for i in range(500)]
    assert starts == [80 * i // fps for i in range(500)]


def test_graph_holds_no_normalisation(bundle: Bundle) -> None:
    graph = onnx.load(bundle.graph_path("generator")).graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}


def test_bundle_paints_what_the_checkpoint_paints(bundle: Bundle, model: Wav2Lip) -> None:
    """RGB crops in and out; the network itself sees blue first, and each frame twice."""
    chance = np.random.default_rng(0)
    crops = chance.integers(0, 256, (3, 96, 96, 3), dtype=np.uint8)
    mel = chance.uniform(-4, 4, (3, 1, 80, 16)).astype(np.float32)
    runtime = Runtime(bundle, threads=1, slots=1)
    slot = runtime.open(crops[0])
    painted = runtime.step({slot: Chunk(mel=mel, pose=crops)})[slot]
    blue_first = torch.from_numpy(np.ascontiguousarray(crops[..., ::-1])).permute(0, 3, 1, 2) / 255
    masked = blue_first.clone()
    masked[:, :, 48:] = 0
    expected = model(torch.from_numpy(mel), torch.cat([masked, blue_first], dim=1))
    found = painted[..., ::-1].transpose(0, 3, 1, 2) / 255
    assert np.abs(found - expected.numpy()).max() <= HALF_LEVEL + TOLERANCE
    assert expected.std() > 0.02


@pytest.mark.parametrize("change", [{"colour_order": "rgb"}, {"identity_policy": "live"}])
def test_wrong_description_shows_when_the_bundle_is_checked(
    bundle: Bundle,
    model: Wav2Lip,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: dict[str, str],
) -> None:
    monkeypatch.setattr("export.verify.BATCHES", ())
    (tmp_path / "generator.onnx").hardlink_to(bundle.graph_path("generator"))
    changed = write_bundle(replace(bundle, folder=tmp_path, **change))  # type: ignore[arg-type]
    original = Original(
        paint=Wav2LipGraph(model),
        rows=(0, 96),
        masked_from=48,
        colour_order="bgr",
        identity_policy="same-frame",
    )
    assert compare(changed, original).runtime > TOLERANCE


def test_dubbing_with_it_changes_the_face_and_nothing_else(
    bundle: Bundle, astronaut: Picture
) -> None:
    shown = [
        move(astronaut, similarity(scale=0.7, to=(128.0 + i, 90.0)), (256, 256))
        for i in range(COUNT)
    ]
    samples = np.random.default_rng(0).normal(0, 0.1, 16_000 * COUNT // 25).astype(np.float32)
    lips = LipSync(bundle, threads=1)
    identity = lips.choose_identity(shown[:1], FPS)
    synced = list(lips.run(shown, samples, FPS, identity))
    assert [result.modified for result in synced] == [True] * COUNT
    for picture, result in zip(shown, synced, strict=True):
        changed = np.nonzero((result.picture != picture).any(axis=-1))
        assert len(changed[0]) > 500
        assert changed[0].max() < 200
        assert 60 < changed[1].min() < changed[1].max() < 200


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    assert main([str(word) for word in words]) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert streams.err.count("\n") == 1
    return streams.err


def test_weights_that_make_no_bundle_are_one_sentence(
    imported: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    weights = load_weights(imported)
    others = tmp_path / "expert.safetensors"
    save_weights(others, replace(weights, kind="syncnet-v2", tensors={"a": torch.zeros(1)}))
    assert "only those of a Wav2Lip generator" in fail(capsys, others, "-o", out)
    save_weights(others, replace(weights, tensors={"a": torch.zeros(1)}))
    assert "do not fit" in fail(capsys, others, "-o", out)
    assert "no weights at" in fail(capsys, tmp_path / "no.safetensors", "-o", out)
    assert "no --emphasis" in fail(capsys, imported, "-o", out, "--emphasis", "1.2")
    assert not out.exists()
    assert "can't be written" in fail(capsys, imported, "-o", others)
