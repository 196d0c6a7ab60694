import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.mel import WindowPlacement
from training.audio_encoder import AudioEncoder
from training.checkpoint import load_checkpoint, save_checkpoint
from training.config import RUNS, TrainConfig, run_named
from training.generator import GeneratorConfig
from training.painter import build_model
from training.pairs import Batch
from training.train import Run, generate, learning_rate

pytestmark = pytest.mark.models

STEPS = 20
CONFIG = TrainConfig(
    generator=GeneratorConfig(
        width=0.125, audio_width=0.05, head="warp", rows=(40, 96), masked_from=40
    ),
    speakers={"ann": 0.7, "*": 0.3},
    clips=2,
    steps=STEPS,
    learning_rate=3e-3,
    warmup_steps=3,
    save_every=STEPS,
)


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of an untrained audio encoder."""
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("audio") / "audio.pt"
    save_checkpoint(
        path,
        kind="audio",
        config={"width": 0.05},
        model=AudioEncoder(0.05).state_dict(),
        placement=CONFIG.placement.to_dict(),
    )
    return path


@pytest.fixture(scope="module")
def straight(toy_clips: Path, audio: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of 20 steps."""
    run = Run(toy_clips, audio, tmp_path_factory.mktemp("straight"), CONFIG)
    go(run, STEPS)
    run.save()
    return run


def go(run: Run, steps: int) -> None:
    """Let a run learn for some steps without writing anything."""
    run.model.train()
    for _ in range(steps):
        run.step += 1
        run.train_step(run.step)


def pixels_off(run: Run, batch: Batch) -> float:
    """How far off the pixels of a batch are, by its own statistics; the run stays as it is.

    The whole loss may rise at first: what is painted between the lips counts once they are open.
    """
    with torch.no_grad():
        output = generate(copy.deepcopy(run.model).train(), batch, batch.mel)
        reference = batch.identity_mesh.repeat_interleave(CONFIG.k, dim=0)
        return float(run._loss(output, batch.frames, batch.mesh, reference).pixel)


def test_pictures_that_are_seen_again_and_again_come_ever_nearer(
    toy_clips: Path, audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(toy_clips, audio, tmp_path, CONFIG)
    draw = run._sampler.draw
    monkeypatch.setattr(run._sampler, "draw", lambda step, *part: draw(1, *part))
    far = [pixels_off(run, draw(1))]
    for _ in range(3):
        go(run, 4)
        far.append(pixels_off(run, draw(1)))
    assert far == sorted(far, reverse=True)
    assert far[-1] < 0.9 * far[0]


def test_stopped_run_goes_on_as_if_it_had_not_been(
    straight: Run,
    toy_clips: Path,
    audio: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = Run(toy_clips, audio, tmp_path, CONFIG)
    go(first, STEPS // 2)
    first.save()
    del first
    torch.manual_seed(99)  # whatever else the process has drawn meanwhile

    second = Run(toy_clips, audio, tmp_path, CONFIG)
    assert second.step == STEPS // 2
    path = second.train()
    capsys.readouterr()
    found, expected = load_checkpoint(path), straight
    assert found.resume["step"] == STEPS
    for name, value in expected.model.state_dict().items():
        assert torch.equal(found.resume["weights"][name], value), name
    for name, value in expected.average.items():
        assert torch.equal(found.model[name], value), name


def test_frozen_audio_encoder_stays_as_it_was(straight: Run, audio: Path) -> None:
    before = load_checkpoint(audio).model
    after = straight.model.audio_encoder.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert not torch.equal(
        straight.model.head.weight, straight.average["head.weight"]
    )  # the average lags behind


def test_checkpoint_makes_the_generator_that_export_wants(straight: Run) -> None:
    checkpoint = load_checkpoint(straight._path)
    model = build_model(checkpoint)
    assert model.config == CONFIG.generator
    assert checkpoint.training["k"] == CONFIG.k
    assert checkpoint.crop["kind"] == "upright-landmarks"
    assert checkpoint.placement == CONFIG.placement.to_dict()


def test_facts_of_the_weights_are_kept_through_a_stop(
    toy_clips: Path, audio: Path, tmp_path: Path
) -> None:
    facts = {"licence": "CC0", "training_data": "toys"}
    Run(toy_clips, audio, tmp_path, CONFIG, facts=facts).save()
    Run(toy_clips, audio, tmp_path, CONFIG).save()
    assert load_checkpoint(tmp_path / "generator.pt").training["licence"] == "CC0"
    Run(toy_clips, audio, tmp_path, CONFIG, facts={"licence": "MIT"}).save()
    training = load_checkpoint(tmp_path / "generator.pt").training
    assert (training["licence"], training["training_data"]) == ("MIT", "toys")


def test_checkpoint_of_another_run_is_refused(toy_clips: Path, audio: Path, tmp_path: Path) -> None:
    Run(toy_clips, audio, tmp_path, CONFIG).save()
    Run(toy_clips, audio, tmp_path, replace(CONFIG, steps=40, threads=1, save_every=7))  # fits
    with pytest.raises(ConfigError, match=r"of another run \(different: clips, seed\)"):
        Run(toy_clips, audio, tmp_path, replace(CONFIG, clips=3, seed=1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "generator"}, "holds a generator, not an audio encoder"),
        ({"config": {"width": 0.1}}, "has width 0.1, the run wants 0.05"),
        ({"placement": {"start_s": 0.0}}, "learnt with mel windows at"),
    ],
)
def test_audio_encoder_that_does_not_fit_is_refused(
    toy_clips: Path, audio: Path, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    known = load_checkpoint(audio)
    fields = {
        "kind": known.kind,
        "config": known.config,
        "model": known.model,
        "placement": known.placement,
    }
    save_checkpoint(tmp_path / "audio.pt", **{**fields, **change})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=message):
        Run(toy_clips, tmp_path / "audio.pt", tmp_path / "run", CONFIG)


def test_learning_rate_warms_up_and_falls_to_nothing() -> None:
    config = replace(CONFIG, steps=100, warmup_steps=10, learning_rate=1.0)
    rates = [learning_rate(config, step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert int(np.argmax(rates)) == 9
    assert rates[49] == pytest.approx(0.5)
    assert rates[-1] == pytest.approx(0.0, abs=1e-9)
    assert all(a > b for a, b in pairwise(rates[9:]))


def test_named_runs_can_be_made_and_others_are_refused() -> None:
    assert {name: run_named(name).to_dict()["steps"] > 0 for name in RUNS} == {
        "narrow": True,
        "starter": True,
        "paper": True,
    }
    with pytest.raises(ConfigError, match="no run 'huge'; the runs are narrow, starter, paper"):
        run_named("huge")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 0}, "k must be at least 1"),
        ({"clips": 1}, "clips must be at least 2"),
        ({"speakers": {"a": 0.5}}, "must sum to 1"),
        ({"placement": WindowPlacement(-0.1, 34)}, "can't learn with mel windows of 34"),
    ],
)
def test_senseless_settings_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(CONFIG, **change)  # type: ignore[arg-type]
