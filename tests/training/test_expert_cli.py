"""The lip expert's commands as a user types them."""

from functools import partial
from pathlib import Path

import pytest

import training.expert
from tests.training.sync_toys import write_toy
from tests.training.test_cli import fail, run
from tests.training.test_expert import CONFIG
from training.checkpoint import load_checkpoint
from training.regions import find_regions

pytestmark = pytest.mark.cli


@pytest.fixture
def regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve clips of one speaker and one of another; what learns from them is tiny."""
    tiny = partial(
        training.expert.ExpertConfig,
        network=CONFIG.network,
        windows=CONFIG.windows,
        augment=CONFIG.augment,
    )
    monkeypatch.setattr(training.expert, "ExpertConfig", tiny)
    for seed in range(12):
        write_toy(tmp_path / "regions", "ann", f"clip{seed}", seed)
    write_toy(tmp_path / "regions", "eve", "stranger", 30)
    return tmp_path / "regions"


def test_videos_become_mouth_regions(
    toy_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("regions", toy_videos / "eve", "-o", tmp_path, "--workers", "1")
    assert "skipped 0" in capsys.readouterr().out
    assert [file.speaker for file in find_regions(tmp_path)] == ["eve"] * 2


def test_expert_is_taught_goes_on_and_is_judged(
    regions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ["expert", regions, "-o", out, "--judge", "stranger"]
    run(*words, "--steps", "1", "--licence", "CC0")
    assert "starting; 1 steps" in capsys.readouterr().out
    run(*words, "--steps", "2", "--training-data", "toys")
    output = capsys.readouterr().out
    assert "going on from step 1 of 2" in output
    assert output.endswith(f"{out / 'expert.pt'}\n")
    run(*words, "--steps", "2")
    assert "the run stands at step 2 already" in capsys.readouterr().out
    facts = load_checkpoint(out / "expert.pt").training
    assert (facts["step"], facts["licence"], facts["training_data"]) == (2, "CC0", "toys")
    assert "eve/stranger" in facts["kept"]

    figures, tables = tmp_path / "figures.json", tmp_path / "tables.md"
    judged = ["expert-report", out / "expert.pt", regions]
    run(*judged, "--json", figures, "--markdown", tables)
    output = capsys.readouterr().out
    assert "ann, causal form" in output
    assert "eve/stranger, unseen" in output
    assert figures.is_file()
    assert tables.read_text().startswith("## Unseen clips")


def test_what_is_missing_is_said_in_one_sentence(
    regions: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    error = fail(capsys, "expert", regions, "-o", out, "--judge", "nobody")
    assert "No clip is named nobody" in error
    error = fail(capsys, "expert", tmp_path / "none", "-o", out)
    assert "run `python -m training regions`" in error
    error = fail(capsys, "expert-report", out / "expert.pt", regions)
    assert "There is no checkpoint at" in error
    json = tmp_path / "none" / "figures.json"
    error = fail(capsys, "expert-report", out / "expert.pt", regions, "--json", json)
    assert "create it first" in error
