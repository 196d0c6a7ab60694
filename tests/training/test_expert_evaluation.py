import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

import training.expert_evaluation
from engine.errors import ConfigError
from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import Alone
from tests.training.sync_toys import write_toy
from training.avhubert import AvHubert, AvHubertConfig
from training.checkpoint import save_checkpoint
from training.expert_evaluation import (
    ClipFigures,
    ExpertReport,
    judge_expert,
    judge_quickly,
    late,
    thresholds,
)
from training.expert_tables import show, to_markdown, write_json, write_markdown
from training.regions import find_regions

pytestmark = pytest.mark.unit

Features = NDArray[np.float32]
Ears = Callable[[AvHubert, Features, int], Features]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten clips of one speaker and two of another, and a checkpoint that knows which were kept."""
    root = tmp_path_factory.mktemp("judged")
    for seed in range(10):
        write_toy(root / "regions", "ann", f"clip{seed}", seed)
    for seed, name in enumerate(("seen", "new")):
        write_toy(root / "regions", "eve", name, 20 + seed)
    model = AvHubert(AvHubertConfig(layers=1, dim=16, ffn=16, heads=1, trunk=(1, 1, 1, 1)))
    save_checkpoint(
        root / "expert.pt",
        kind="expert",
        config=model.config.to_dict(),
        model=model.state_dict(),
        training={
            "step": 7,
            "kept": [*(f"ann/clip{n}" for n in range(2, 10)), "eve/new"],
        },
    )
    return root


@pytest.fixture
def ears(monkeypatch: pytest.MonkeyPatch) -> Ears:
    """An expert that needs no lesson: it counts how often the tone swings, and sees the spot."""

    def code(opening: NDArray[np.float64]) -> Features:
        # Neighbours on a half circle have a cosine near 1, opposite ends one of −1.
        return np.stack([np.cos(np.pi * opening), np.sin(np.pi * opening)], 1).astype(np.float32)

    def hear(_: AvHubert, samples: Features, frames: int) -> Features:
        rows = samples[: frames * ROW_SAMPLES].reshape(frames, ROW_SAMPLES)
        spectrum = np.abs(np.fft.rfft(rows, axis=1))
        height = np.maximum(spectrum.argmax(axis=1) * 25, 200)
        features = code(np.log(height / 200) / np.log(16))
        features[spectrum.max(axis=1) < 10] = 0  # silence is like nothing
        return features

    def watch(_: AvHubert, regions: NDArray[np.uint8]) -> Features:
        return code((regions[:, 48, 48] - 20.0) / 200)

    def both(model: AvHubert, regions: NDArray[np.uint8], samples: Features) -> Alone:
        return Alone(hear(model, samples, len(regions)), watch(model, regions))

    monkeypatch.setattr(training.expert_evaluation, "hear_alone", hear)
    monkeypatch.setattr(training.expert_evaluation, "watch_alone", watch)
    monkeypatch.setattr(training.expert_evaluation, "clip_alone", both)
    return hear


@pytest.fixture
def report(folder: Path, ears: Ears) -> ExpertReport:
    return judge_expert(folder / "expert.pt", folder / "regions")


@pytest.mark.usefixtures("ears")
def test_imposed_offsets_are_found_and_own_sound_is_told_from_others(folder: Path) -> None:
    calls: list[tuple[int, int]] = []
    report = judge_expert(
        folder / "expert.pt", folder / "regions", progress=lambda *done: calls.append(done)
    )
    assert calls == [(n, 20) for n in range(1, 21)]
    assert list(report.speakers) == ["ann"]
    for form, clips in report.speakers["ann"].items():
        assert [clip.clip for clip in clips] == [f"ann/clip{n}" for n in range(2, 10)], form
        for clip in clips:
            assert clip.found == (0,) * 15
            assert clip.share_within(0) == clip.share_within(1) == 1
            assert clip.matching > 0.95
            assert len(clip.others) == 7  # those of its own folder, itself left out
            assert max(clip.others) < 0.7
            assert abs(clip.muted) < 1e-6
            assert clip.frozen < 0.9
    assert [(c.clip, c.learnt) for c in report.single["causal"]] == [
        ("eve/new", False),
        ("eve/seen", True),
    ]
    assert report.step == 7


def test_expert_that_hears_everything_late_is_found_out(
    folder: Path, ears: Ears, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        training.expert_evaluation,
        "hear_alone",
        lambda model, samples, frames: np.roll(ears(model, samples, frames), 2, axis=0),
    )
    report = judge_expert(folder / "expert.pt", folder / "regions")
    for clip in report.speakers["ann"]["reference"]:
        assert clip.found == (2,) * 15
        assert clip.share_within(1) == 0


@pytest.mark.usefixtures("ears")
def test_quick_figures_tell_own_sound_from_anothers(folder: Path) -> None:
    model = AvHubert(AvHubertConfig(layers=1, dim=16, ffn=16, heads=1, trunk=(1, 1, 1, 1)))
    figures = judge_quickly(model, find_regions(folder / "regions"), 6)
    assert figures["within_1"] == 1
    assert figures["matching"] > 0.95 > 0.7 > figures["shuffled"]


def test_regions_without_an_unseen_clip_are_refused(folder: Path, tmp_path: Path) -> None:
    write_toy(tmp_path, "ann", "clip0", 0)
    with pytest.raises(ConfigError, match=r"holds no clip that .* did not learn from"):
        judge_expert(folder / "expert.pt", tmp_path)


def test_sound_is_moved_with_silence_after_it() -> None:
    sound = np.arange(1, 6, dtype=np.float32)
    np.testing.assert_array_equal(late(sound, 2), [0, 0, 1, 2, 3])
    np.testing.assert_array_equal(late(sound, -2), [3, 4, 5, 0, 0])
    np.testing.assert_array_equal(late(sound, 0), sound)


def test_thresholds_lie_between_own_and_foreign_sound() -> None:
    def clip(matching: float, others: tuple[float, ...] = (0.1, 0.3)) -> ClipFigures:
        return ClipFigures(
            clip="ann/a",
            learnt=False,
            found=(0,) * 15,
            confidence=0.6,
            matching=matching,
            others=others,
            others_confidence=(0.2,) * len(others),
            frozen=0,
            muted=0,
        )

    found = thresholds([clip(0.8)] * 50)
    assert found is not None
    assert found.matching == pytest.approx((0.8 + 0.3) / 2)
    assert found.confident == pytest.approx((0.6 + 0.2) / 2)
    assert thresholds([clip(0.8, ())]) is None


def test_report_is_printed_and_written(report: ExpertReport, tmp_path: Path) -> None:
    console = Console(width=200, record=True, quiet=True)
    show(report, console)
    text = to_markdown(report)
    assert "| ann, reference form | 8 | 100.0 % | 100.0 % |" in text
    assert "| eve/seen, learnt | 100.0 % |" in text
    assert text.count("| --- |") == 3
    write_markdown(report, tmp_path / "report.md")
    assert (tmp_path / "report.md").read_text() == text
    write_json(report, tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert len(found["speakers"]["ann"]["causal"]) == 8
    assert 0 < found["thresholds"]["ann"]["matching"] < 1
    assert found["expert"] == "expert.pt"
    with pytest.raises(ConfigError, match="can't be written"):
        write_json(report, tmp_path / "none" / "report.json")


def test_settings_are_printed_beside_the_tables(
    report: ExpertReport, capsys: pytest.CaptureFixture[str]
) -> None:
    show(report, Console(width=200))
    output = capsys.readouterr().out
    for words in ("Unseen clips", "Speakers with few clips", "Thresholds", "frozen: ", "step 7"):
        assert words in output
