import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError
from tests.training.drawn_clips import CONFIG, tiny_expert, without, write_all
from tests.training.shared_run import learn
from training.avhubert import AvHubert
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import Objective, TrainConfig, paper
from training.generator import GeneratorOutput
from training.hardware import CPU, Hardware, hardware
from training.objective import NetworkFiles, composed
from training.public_networks import (
    AVHUBERT,
    SYNCNET,
    SYNCNET_COLOUR,
    public_state,
)
from training.syncnet import SyncNet
from training.train import Run
from training.wav2lip import SyncNetColour
from training.weights import Weights, save_weights

pytestmark = pytest.mark.models

STEPS, STOP = 20, 10
GOLDEN = [
    *(3.873, 3.539, 3.350, 3.921, 4.472, 4.303, 3.278, 3.294, 3.553, 3.625),
    *(3.130, 2.910, 3.476, 3.788, 3.943, 3.487, 3.557, 3.573, 3.233, 3.453),
]
"""The total of each step; processors of other kinds come within 1 %."""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("drawn")
    write_all(root)
    return root


def start(root: Path, folder: Path, config: TrainConfig = CONFIG, **more: object) -> Run:
    files = NetworkFiles(expert=root / "expert.pt")
    arguments: dict[str, object] = {"files": files, **more}
    return Run(root / "clips", root / "audio.pt", folder, config, **arguments)  # type: ignore[arg-type]


def go(run: Run, steps: int) -> list[dict[str, float]]:
    run.model.train()
    found = []
    for _ in range(steps):
        run.step += 1
        found.append({name: v.item() for name, v in run.train_step(run.step).items()})
    return found


@pytest.fixture(scope="module")
def straight(
    root: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Run, list[dict[str, float]]]:
    """A run of the whole objective, saved on its way, and the terms of each step."""
    run = start(root, tmp_path_factory.mktemp("straight"))
    terms = go(run, STOP)
    run.save()
    return run, terms + go(run, STEPS - STOP)


def test_losses_follow_the_golden_curve(
    straight: tuple[Run, list[dict[str, float]]],
) -> None:
    assert [terms["total"] for terms in straight[1]] == pytest.approx(GOLDEN, rel=0.03)


def test_total_is_the_papers_sum(straight: tuple[Run, list[dict[str, float]]]) -> None:
    for terms in straight[1]:
        expected = terms["adversarial"] + 10 * terms["pixel"]
        expected += CONFIG.objective.perceptual_weight * terms["perceptual"]
        assert terms["total"] == pytest.approx(expected + 0.5 * terms["sync"], rel=1e-5)


def test_stopped_run_goes_on_as_if_it_had_not_been(
    straight: tuple[Run, list[dict[str, float]]], root: Path
) -> None:
    torch.manual_seed(99)  # whatever else the process has drawn meanwhile
    second = start(root, straight[0]._folder)
    assert second.step == STOP
    assert go(second, STEPS - STOP) == straight[1][STOP:]
    for ours, theirs in zip(_states(second), _states(straight[0]), strict=True):
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def _states(run: Run) -> list[Mapping[str, Tensor]]:
    assert run.adversary is not None
    return [run.model.state_dict(), run.adversary.network.state_dict(), run.average]


def test_two_processes_learn_what_one_does(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.training.shared_run", str(root)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stderr
    losses, gradients = torch.load(root / "shared.pt", weights_only=True)
    alone_losses, alone_gradients = learn(root, tmp_path, CPU)
    for shared, alone in zip(losses, alone_losses, strict=True):
        assert shared == pytest.approx(alone, rel=1e-5)
    assert len(gradients) == len(alone_gradients) > 100
    for theirs, ours in zip(gradients, alone_gradients, strict=True):
        assert (theirs - ours).abs().max() < 1e-5


def test_samples_in_parts_are_those_of_the_whole(root: Path, tmp_path: Path) -> None:
    run = start(root, tmp_path, replace(CONFIG, clips=4, silent_share=0.5))
    k = CONFIG.k
    whole, mel = run._samples(7, slice(0, 4))
    part, part_mel = run._samples(7, slice(2, 4))
    assert torch.equal(part_mel, mel[2 * k :])
    assert torch.allclose(part.frames, whole.frames[2 * k :], atol=1e-6)
    assert torch.allclose(part.identity_mesh, whole.identity_mesh[2:], atol=1e-4)
    assert part.spoken is not None
    assert whole.spoken is not None
    assert torch.equal(part.spoken, whole.spoken[2:])
    # The clip around the frames changes as these do.
    assert whole.context is not None
    own = int(whole.context.starts[0])
    seen = whole.context.frames[0, own : own + k]
    assert torch.allclose(seen, whole.frames[:k], atol=1e-6)


def test_parts_and_bfloat16_learn_nearly_the_same(
    straight: tuple[Run, list[dict[str, float]]], root: Path, tmp_path: Path
) -> None:
    rounded = go(start(root, tmp_path, replace(CONFIG, precision="bf16")), 2)
    for terms, exact in zip(rounded, straight[1], strict=False):
        assert terms == pytest.approx(exact, rel=0.05, abs=0.01)
    four = replace(CONFIG, clips=4)
    whole, halves = (start(root, tmp_path, replace(four, accumulate=n)) for n in (1, 2))
    whole.model.eval()
    halves.model.eval()
    together, apart = whole.train_step(1), halves.train_step(1)
    for name in ("pixel", "sync", "perceptual"):
        assert apart[name].item() == pytest.approx(together[name].item(), rel=1e-5)


def test_run_leaves_pictures_and_terms_for_tensorboard(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = start(root, tmp_path, replace(CONFIG, steps=1))
    with pytest.raises(ValueError, match="before the first step"):
        run.pictures()
    run.train()
    assert "adversary" in capsys.readouterr().out
    assert run.pictures().shape == (3, 2 * 96, 4 * 96)
    events = b"".join(path.read_bytes() for path in tmp_path.glob("events.*"))
    assert all(name in events for name in (b"train/pictures", b"train/sync", b"\x89PNG"))
    assert len(load_checkpoint(tmp_path / "generator.pt").training["judges"]["expert"]) == 64


def test_painted_rows_are_judged_as_they_are_pasted() -> None:
    frames, painted = torch.zeros(1, 3, 96, 96), torch.ones(1, 3, 56, 96)
    whole = composed(GeneratorOutput(painted), frames, (40, 96))
    assert whole[0, :, 60, 48].min() == 1
    assert whole[0, :, :40].max() == whole[0, :, 95].max() == whole[0, :, :, 0].max() == 0
    full = torch.ones(1, 3, 96, 96)
    assert composed(GeneratorOutput(full), frames, (0, 96)) is full


def test_other_expert_or_objective_is_another_run(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    start(root, folder).save()
    content = load_checkpoint(root / "expert.pt")
    other = tmp_path / "other.pt"
    save_checkpoint(
        other, kind=content.kind, config=content.config, model=content.model, mel={"a": 1}
    )
    with pytest.raises(ConfigError, match=r"of another run \(different: --expert\)"):
        start(root, folder, files=NetworkFiles(expert=other))
    with pytest.raises(ConfigError, match=r"\(different: objective\)"):
        start(root, folder, without(sync="visual"))


def test_run_from_before_the_objective_goes_on(root: Path, tmp_path: Path) -> None:
    plain = replace(CONFIG, objective=Objective())
    start(root, tmp_path, plain).save()
    path = tmp_path / "generator.pt"
    stored = load_checkpoint(path)
    for name in ("objective", "accumulate", "precision"):
        del stored.training["config"][name]
    save_checkpoint(
        path,
        config=stored.config,
        model=stored.model,
        training=stored.training,
        resume=stored.resume,
    )
    assert start(root, tmp_path, plain).adversary is None
    with pytest.raises(ConfigError, match=r"\(different: objective, --expert\)"):
        start(root, tmp_path)


def weights_at(path: Path, kind: str, network: torch.nn.Module) -> Path:
    """Weights as ``import`` leaves them."""
    config = network.config.to_dict() if isinstance(network, AvHubert) else {}
    facts = dict.fromkeys(("source", "source_sha256", "licence", "training_data"), "a test")
    save_weights(path, Weights(kind=kind, config=config, tensors=public_state(network), **facts))
    return path


def test_networks_that_do_not_fit_are_one_sentence(root: Path, tmp_path: Path) -> None:
    def refused(config: TrainConfig, expert: Path | None, message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            start(root, tmp_path, config, files=NetworkFiles(expert=expert))

    own = root / "expert.pt"
    refused(CONFIG, None, "needs a lip expert: name one with --expert")
    refused(CONFIG, root / "none.pt", "no checkpoint at")
    refused(CONFIG, root / "audio.pt", "not a lip expert")
    refused(without(perceptual="vgg19"), own, "needs VGG-19's weights")
    refused(without(sync="syncnet"), own, "needs Wav2Lip's lip expert")
    syncnet = weights_at(tmp_path / "syncnet.safetensors", SYNCNET, SyncNet())
    refused(CONFIG, syncnet, "holds 'syncnet-v2', which is no lip expert")
    colour = weights_at(tmp_path / "colour.safetensors", SYNCNET_COLOUR, SyncNetColour())
    refused(CONFIG, colour, "--sync unsupervised needs an AV-HuBERT")
    refused(replace(without(sync="syncnet"), k=5), colour, "perceptual loss needs an AV-HuBERT")
    short = replace(without(sync="syncnet", perceptual="none"), k=4)
    refused(short, colour, "sees 5 frames at once, the run has k = 4")


def test_imported_experts_judge_too(root: Path, tmp_path: Path) -> None:
    imported = weights_at(tmp_path / "avhubert.safetensors", AVHUBERT, tiny_expert())
    own, other = (
        start(root, tmp_path, files=NetworkFiles(expert=path))
        for path in (root / "expert.pt", imported)
    )
    terms, theirs = go(own, 1)[0], go(other, 1)[0]
    assert terms == theirs
    torch.manual_seed(0)
    colour = weights_at(tmp_path / "colour.safetensors", SYNCNET_COLOUR, SyncNetColour())
    config = replace(without(sync="syncnet", perceptual="none", adversarial=0.0), k=5)
    found = go(start(root, tmp_path, config, files=NetworkFiles(expert=colour)), 1)[0]
    assert found["sync"] > 0
    assert not {"perceptual", "adversarial", "adversary"} & set(found)


def test_paper_asks_for_what_it_needs(root: Path, tmp_path: Path) -> None:
    config = paper()
    chosen = config.objective
    assert (chosen.adversarial, chosen.perceptual, chosen.sync) == (1.0, "vgg19", "unsupervised")
    assert (config.weights.pixel, chosen.perceptual_weight, chosen.sync_weight) == (10.0, 1.0, 0.5)
    with pytest.raises(ConfigError, match="needs a lip expert"):
        start(root, tmp_path, config, files=NetworkFiles())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clips": 4, "accumulate": 3}, "must make 3 equal parts"),
        ({"clips": 2, "accumulate": 2}, "must make 2 equal parts of at least 2"),
        ({"precision": "fp8"}, "precision must be one of fp32, bf16, fp16"),
        ({"k": 13}, "sync_frames must be at least the run's 13 frames"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sync": "loud"}, "sync must be one of none, unsupervised, visual"),
        ({"perceptual": "vgg"}, "perceptual must be one of none, vgg19, expert"),
        ({"adversarial_form": "l2"}, "adversarial_form must be one of bce, hinge"),
        ({"adversarial": -1.0}, "adversarial must be at least 0"),
        ({"discriminator_rate": 0.0}, "discriminator_rate must be above 0"),
    ],
)
def test_senseless_objectives_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Objective(**change)  # type: ignore[arg-type]


def test_hardware_that_can_not_do_it_is_refused(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="fp16 needs a GPU"):
        start(root, tmp_path, replace(CONFIG, precision="fp16"))
    two = Hardware(torch.device("cpu"), rank=1, processes=2)
    with pytest.raises(ConfigError, match="do not make 2 equal parts"):
        start(root, tmp_path, hardware=two)
    assert two.own(8, 2) == [slice(4, 6), slice(6, 8)]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no GPU"), hardware("cuda"):
        pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gpu_learns_what_the_processor_does(
    straight: tuple[Run, list[dict[str, float]]], root: Path, tmp_path: Path, precision: str
) -> None:
    config = replace(CONFIG, precision=precision)  # type: ignore[arg-type]
    with hardware("cuda") as place:
        run = start(root, tmp_path, config, hardware=place)
        found = go(run, 2)
        run.save()
        start(root, tmp_path, config, hardware=place)
    for terms, exact in zip(found, straight[1], strict=False):
        assert terms == pytest.approx(exact, rel=0.05, abs=0.01)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there are no two GPUs")
def test_batch_normalisation_counts_all_samples_on_gpus() -> None:
    layers = torch.nn.Sequential(torch.nn.BatchNorm2d(3))
    place = Hardware(torch.device("cuda", 0), 0, 2)
    assert isinstance(place.normalised(layers)[0], torch.nn.SyncBatchNorm)
