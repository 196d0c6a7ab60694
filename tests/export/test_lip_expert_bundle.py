"""A lip expert in a bundle: what it says is what the network says, frame by frame or whole."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.bundle import EXPERT_LIPS, EXPERT_PARTS, MANIFEST, Bundle, load_bundle, write_bundle
from engine.bundle_weights import ExpertFacts
from engine.errors import BundleError
from engine.filterbank import audio_features
from engine.lip_expert import AROUND, LipExpert
from engine.mouth_region import SIDE, network_input
from export.__main__ import main
from tests.networks import fill
from training.avhubert import AvHubert, AvHubertConfig, public_name
from training.checkpoint import EXPERT, save_checkpoint
from training.public_networks import AVHUBERT
from training.weights import Weights, save_weights

pytestmark = pytest.mark.models

SIZES = AvHubertConfig(layers=2, dim=32, ffn=48, heads=2, trunk=(8, 8, 16, 16))
FACTS = {"licence": "Apache-2.0", "training_data": "noise"}
FRAMES = 30


def network(seed: int = 0) -> AvHubert:
    model = AvHubert(SIZES)
    fill(model, seed)
    return model.eval()


def saved(path: Path, model: AvHubert, training: dict[str, Any] = FACTS) -> Path:
    config = model.config.to_dict()
    save_checkpoint(path, kind=EXPERT, config=config, model=model.state_dict(), training=training)
    return path


@pytest.fixture(scope="module")
def exported(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("expert")
    shutil.copytree(tiny_bundle.folder, folder / "bundle")
    checkpoint = saved(folder / "expert.pt", network())
    assert main([str(checkpoint), "-o", str(folder / "bundle"), "--name", "a tiny one"]) == 0
    return folder / "bundle"


@pytest.fixture(scope="module")
def clip() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    random = np.random.default_rng(0)
    regions = random.integers(0, 256, (FRAMES, SIDE, SIDE), dtype=np.uint8)
    return regions, (0.1 * random.standard_normal(640 * FRAMES)).astype(np.float32)


def test_the_bundle_says_whose_figures_it_gives(exported: Path) -> None:
    bundle = load_bundle(exported)
    assert bundle.expert is not None
    assert bundle.expert.name == "a tiny one"
    assert (bundle.expert.weights.licence, bundle.expert.weights.training_data) == (
        "Apache-2.0",
        "noise",
    )
    assert {"identity", "generator", *EXPERT_PARTS} == set(bundle.graphs)


def test_it_says_what_the_network_says(
    exported: Path, clip: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    regions, samples = clip
    expert, model = LipExpert(load_bundle(exported)), network()
    video = torch.from_numpy(network_input(regions))[None, None]
    audio = torch.from_numpy(audio_features(samples, FRAMES)).T[None]
    with torch.no_grad():
        sound, lips = model(audio=audio)[0].numpy(), model(video=video)[0].numpy()
        both = model(audio=audio, video=video)[0].numpy()
    heard, watched = expert.embed_sound(samples, FRAMES), expert.embed_regions(regions)
    alone = expert.alone(heard, watched)
    np.testing.assert_allclose(alone.sound, sound, atol=1e-4)
    np.testing.assert_allclose(alone.lips, lips, atol=1e-4)
    together = expert.fuse(heard[None], watched[None])[0]
    np.testing.assert_allclose(together, both, atol=1e-4)


def test_frames_embedded_one_by_one_are_those_of_the_whole_clip(
    exported: Path, clip: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    regions, _ = clip
    expert = LipExpert(load_bundle(exported))
    whole = expert.embed_regions(regions)
    frames = network_input(regions)
    for i in range(AROUND, FRAMES - AROUND):
        own = expert.watch(frames[i - AROUND : i + AROUND + 1])
        np.testing.assert_allclose(own[0], whole[i], atol=1e-5)


def test_another_expert_takes_the_place_of_the_first(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "bundle")
    imported = Weights(
        kind=AVHUBERT,
        config=SIZES.to_dict(),
        source="public.pt",
        source_sha256="0",
        licence="non-commercial",
        training_data="LRS3",
        tensors={public_name(n): t for n, t in network(seed=1).state_dict().items()},
    )
    save_weights(tmp_path / "public.safetensors", imported)
    words = [str(tmp_path / "public.safetensors"), "-o", str(tmp_path / "bundle")]
    assert main([*words, "--confident", "0.4"]) == 0
    bundle = load_bundle(tmp_path / "bundle")
    assert bundle.expert is not None
    assert (bundle.expert.name, bundle.expert.confident) == ("public", 0.4)
    assert bundle.expert.weights.licence == "non-commercial"
    rows = np.ones((1, 104), np.float32)
    heard, other = LipExpert(bundle).hear(rows), LipExpert(load_bundle(exported)).hear(rows)
    assert np.abs(heard - other).max() > 0.01


def test_a_bundle_whose_expert_differs_loses_it_again(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from export import lip_expert

    shutil.copytree(tiny_bundle.folder, tmp_path / "bundle")
    monkeypatch.setattr(lip_expert, "TOLERANCE", 1e-12)
    with pytest.raises(BundleError, match="differs from its checkpoint"):
        lip_expert.add_lip_expert(
            load_bundle(tmp_path / "bundle"),
            network(),
            ExpertFacts(name="x", weights=tiny_bundle.weights, confident=0.2),
        )
    left = load_bundle(tmp_path / "bundle")
    assert left.expert is None
    assert set(left.graphs) == set(tiny_bundle.graphs)
    names = {path.name for path in left.folder.iterdir()}
    assert names == {path.name for path in tiny_bundle.folder.iterdir()}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--emphasis", "1.2"], "takes no --emphasis"),
        (["--confident", "0"], "must be above 0"),
        (["--confident", "nan"], "must be above 0"),
        ([], "does not state its licence"),
    ],
)
def test_what_can_not_be_added_is_said(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    sentence: str,
) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "bundle")
    checkpoint = saved(tmp_path / "e.pt", network(), FACTS if words else {})
    assert main([str(checkpoint), "-o", str(tmp_path / "bundle"), *words]) == 2
    assert sentence in capsys.readouterr().err


def test_an_expert_needs_a_bundle_to_go_into(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(saved(tmp_path / "e.pt", network())), "-o", str(tmp_path / "none")]) == 2
    assert "There is no bundle" in capsys.readouterr().err


def test_a_bundle_without_an_expert_says_how_to_add_one(tiny_bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="python -m export EXPERT"):
        LipExpert(tiny_bundle)


def test_parts_that_do_not_fit_are_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "bundle")
    manifest = tmp_path / "bundle" / MANIFEST
    content = json.loads(manifest.read_text())
    del content["graphs"][EXPERT_LIPS]
    manifest.write_text(json.dumps(content))
    with pytest.raises(BundleError, match="lacks its 'expert-lips' graph"):
        load_bundle(tmp_path / "bundle")
    bundle = load_bundle(exported)
    lips = bundle.graphs[EXPERT_LIPS]
    (frames,) = lips.inputs.values()
    wrong = dataclasses.replace(frames, shape=(None, 3, 88, 88))
    graphs = {**bundle.graphs, EXPERT_LIPS: dataclasses.replace(lips, inputs={"frames": wrong})}
    with pytest.raises(BundleError, match="'frames' must have the shape"):
        LipExpert(dataclasses.replace(bundle, graphs=graphs))


def test_what_is_written_of_an_expert_is_read_again(exported: Path, tmp_path: Path) -> None:
    bundle = load_bundle(exported)
    shutil.copytree(exported, tmp_path / "again")
    again = write_bundle(dataclasses.replace(bundle, folder=tmp_path / "again"))
    assert again.expert == bundle.expert
