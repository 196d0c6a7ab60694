import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.lip_sync import estimate_offset
from tests.training.sync_toys import write_toy
from training.avhubert import AvHubert, AvHubertConfig
from training.checkpoint import load_checkpoint, save_checkpoint
from training.expert import ExpertConfig, ExpertRun, learning_rate
from training.expert_features import clip_alone, features_alone, load_expert
from training.regions import RegionFile
from training.sync_augment import PLAIN, SyncAugment
from training.sync_loss import sync_loss
from training.sync_samples import Windows

pytestmark = pytest.mark.models

STEPS = 30
TINY = AvHubertConfig(layers=1, dim=32, ffn=32, heads=2, trunk=(4, 4, 4, 4))
CONFIG = ExpertConfig(
    network=TINY,
    windows=Windows(clips=3, frames=16, long_clips=2, long_frames=24, long_share=0.2, shift=4),
    augment=replace(PLAIN, frozen_share=0.1, muted_share=0.1),
    judge=("kept",),
    steps=STEPS,
    learning_rate=5e-3,
    warmup_steps=3,
    average=0.9,
    save_every=1000,
)


@pytest.fixture(scope="module")
def regions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six clips of one speaker, of which one is kept for judging."""
    root = tmp_path_factory.mktemp("regions")
    for seed, name in enumerate(("a", "b", "c", "d", "e", "kept")):
        write_toy(root, "ann", name, seed)
    return root


@pytest.fixture(scope="module")
def straight(
    regions: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[ExpertRun, tuple[float, float]]:
    """A run of 30 steps, and its loss on the same samples before and after it."""
    run = ExpertRun(regions, tmp_path_factory.mktemp("straight"), CONFIG)
    before = probe(run)
    go(run, STEPS)
    run.save()
    return run, (before, probe(run))


def go(run: ExpertRun, steps: int) -> None:
    """Let a run learn for some steps without writing anything."""
    for _ in range(steps):
        run.step += 1
        run.train_step(run.step)


def probe(run: ExpertRun) -> float:
    """The mean loss on samples that the run does not learn from, which it leaves as it is."""
    model = copy.deepcopy(run.model).train()  # by the statistics of each batch
    losses = []
    for step in range(1000, 1004):
        batch = run._sampler.draw(step)
        with torch.no_grad():
            lips, sound = features_alone(model, batch.video, batch.audio)
            facts = batch.shift, batch.moving, batch.audible
            losses.append(sync_loss(lips, sound, *facts).frames.item())
    return float(np.mean(losses))


def test_lips_find_their_sound_within_thirty_steps(
    straight: tuple[ExpertRun, tuple[float, float]], regions: Path
) -> None:
    run, (before, after) = straight
    assert after < 0.8 * before
    kept = RegionFile(regions / "ann" / "kept.npz")
    alone = clip_alone(run.averaged(), kept.lips("causal"), kept.sound())
    assert estimate_offset(alone.sound, alone.lips, 5).frames == 0
    assert estimate_offset(np.roll(alone.sound, 3, axis=0), alone.lips, 5).frames == 3


def test_stopped_run_goes_on_as_if_it_had_not_been(
    straight: tuple[ExpertRun, tuple[float, float]],
    regions: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = ExpertRun(regions, tmp_path, CONFIG)
    go(first, STEPS // 2)
    first.save()
    del first
    torch.manual_seed(99)  # whatever else the process has drawn meanwhile

    second = ExpertRun(regions, tmp_path, replace(CONFIG, save_every=7))
    assert second.step == STEPS // 2
    found, expected = load_checkpoint(second.train()), straight[0]
    output = capsys.readouterr().out
    assert f"step {STEPS}  frames " in output
    assert "unseen clips: within_1 " in output
    assert found.resume["step"] == STEPS
    for name, value in expected.model.state_dict().items():
        assert torch.equal(found.resume["weights"][name], value), name
    for name, value in expected.average.items():
        assert torch.equal(found.model[name], value), name
    assert list(tmp_path.glob("events.*"))


def test_checkpoint_holds_the_averaged_expert_and_what_it_did_not_learn_from(
    straight: tuple[ExpertRun, tuple[float, float]],
) -> None:
    run = straight[0]
    checkpoint = load_checkpoint(run._path)
    assert checkpoint.kind == "expert"
    assert checkpoint.training["kept"] == ["ann/kept"]
    model = load_expert(run._path)
    assert model.config == TINY
    assert not model.training
    name = "post_extract_proj.weight"
    assert torch.equal(model.state_dict()[name], run.average[name])
    assert not torch.equal(run.model.state_dict()[name], run.average[name])  # it lags behind


def test_other_checkpoints_are_no_experts(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "audio.pt", kind="audio", config={}, model={})
    with pytest.raises(ConfigError, match="holds a checkpoint of kind audio, not"):
        load_expert(tmp_path / "audio.pt")


def test_facts_of_the_weights_are_kept_through_a_stop(regions: Path, tmp_path: Path) -> None:
    facts = {"licence": "CC0", "training_data": "toys"}
    ExpertRun(regions, tmp_path, CONFIG, facts=facts).save()
    ExpertRun(regions, tmp_path, CONFIG, facts={"licence": "MIT"}).save()
    training = load_checkpoint(tmp_path / "expert.pt").training
    assert (training["licence"], training["training_data"]) == ("MIT", "toys")


def test_checkpoint_of_another_run_is_refused(regions: Path, tmp_path: Path) -> None:
    ExpertRun(regions, tmp_path, CONFIG).save()
    ExpertRun(regions, tmp_path, replace(CONFIG, steps=80, save_every=7))  # fits
    with pytest.raises(ConfigError, match=r"of another run \(different: augment, seed\)"):
        ExpertRun(regions, tmp_path, replace(CONFIG, augment=SyncAugment(), seed=1))


def test_windows_without_a_border_of_their_own_are_like_the_whole_clip() -> None:
    torch.manual_seed(0)
    model = AvHubert(TINY).eval()
    video = torch.randn(1, 1, 20, 88, 88)
    with torch.inference_mode():
        whole = model.watch(video)
        inner = model.watch(video[:, :, 4:16])[:, 2:-2]
    torch.testing.assert_close(inner, whole[:, 6:14], rtol=1e-4, atol=1e-5)


def test_bfloat16_learns_nearly_the_same(regions: Path, tmp_path: Path) -> None:
    totals = []
    for bf16 in (False, True):
        run = ExpertRun(regions, tmp_path, replace(CONFIG, bf16=bf16))
        totals.append(run.train_step(1).total.item())
    assert totals[0] != totals[1]
    assert totals[0] == pytest.approx(totals[1], rel=0.02)


def test_learning_rate_warms_up_and_falls() -> None:
    config = replace(CONFIG, steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert int(np.argmax(rates)) == 9
    assert rates[-1] == pytest.approx(0.03)
    assert all(a > b for a, b in pairwise(rates[9:]))


def test_senseless_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps must be at least 1, not 0"):
        replace(CONFIG, steps=0)
