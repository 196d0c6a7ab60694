"""``python -m training evaluate`` on finished videos, as a user types it."""

import json
from pathlib import Path

import pytest

from engine.bundle import STARTER
from tests.training.test_cli import fail, run

pytestmark = pytest.mark.cli


def test_videos_are_scored_into_tables_figures_and_a_sheet(
    truth: Path, same: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = tmp_path / "system"
    one.mkdir()
    (one / "one.mp4").symlink_to((same / "one.mp4").resolve())
    words = ["evaluate", "--generated", f"mine={one}", "--truth", truth]
    words += ["--json", tmp_path / "o.json", "--markdown", tmp_path / "o.md"]
    run(*words, "--sheet", tmp_path / "o.png")
    output = capsys.readouterr().out
    assert "Against truth" in output
    assert "LSE-C, LSE-D, LSE offset: empty, since SyncNet v2 was not given" in output
    assert "lip expert, starter expert: " in output
    found = json.loads((tmp_path / "o.json").read_text())
    assert found["rows"][0]["system"] == "mine"
    assert found["rows"][0]["figures"]["psnr"]["value"] == 100
    assert "| mine | 1.000 |" in (tmp_path / "o.md").read_text()
    assert (tmp_path / "o.png").read_bytes().startswith(b"\x89PNG")


def test_study_is_written_as_csv(
    truth: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.scoring.study.AMOUNTS", {"shift": (0, 1)})
    words = ["evaluate", "--study", "shift", "--truth", truth, "--clips", "1"]
    run(*words, "--csv", tmp_path / "o.csv")
    assert "Study of shift on truth" in capsys.readouterr().out
    assert (tmp_path / "o.csv").read_text().startswith("judge,quantity,shift,clips,mean,low,high\n")


def test_ranking_is_made_and_read(
    truth: Path, same: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.html"
    run("evaluate", "--rank", page, "--generated", f"mine={same}", "--truth", truth, "--clips", "1")
    assert "1 clips by 2 systems" in capsys.readouterr().out
    key = json.loads((tmp_path / "page.key.json").read_text())
    tokens = {entry["system"]: token for token, entry in key["tokens"].items()}
    order = [tokens["true videos"], tokens["mine"]]
    votes = [{"criterion": c, "order": order} for c in ("sync", "visual", "overall")]
    ballot = tmp_path / "ann.json"
    ballot.write_text(json.dumps({"page": key["page"], "format": 1, "votes": votes}))
    out = tmp_path / "ranks.json"
    run("evaluate", "--ranks", tmp_path / "page.key.json", ballot, "--json", out)
    assert "Ranked by people" in capsys.readouterr().out
    mine, true = json.loads(out.read_text())["systems"]
    assert (mine["system"], mine["ranks"]["sync"]["value"]) == ("mine", 2)
    assert true["scores"]["overall"]["value"] == 5


def test_wrong_inputs_are_one_sentence(
    truth: Path, same: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = ["evaluate", "--truth", truth, "--generated", same]
    assert "nothing to judge" in fail(capsys, "evaluate", "--truth", truth)
    assert "--pairs does not go with finished" in fail(capsys, *score, "--pairs", "3")
    assert "--sheet does not go with SPEAKER_CLIPS" in fail(
        capsys, "evaluate", truth, "--sheet", tmp_path / "o.png"
    )
    assert "--codec-kbps does not go with --study" in fail(
        capsys, *score, "--study", "shift", "--codec-kbps", "300"
    )
    assert "does not go with --rank" in fail(
        capsys, *score, "--rank", tmp_path / "p.html", "--json", tmp_path / "o.json"
    )
    assert "does not go with --ranks" in fail(capsys, "evaluate", "--ranks", "k", "--clips", "1")
    assert "--workers does not go with --study" in fail(
        capsys, *score, "--study", "shift", "--workers", "2"
    )
    assert "Two systems have one name" in fail(capsys, *score, truth.parent / "x" / ".." / "same")
    assert "Scores come from one" in fail(capsys, *score, "--expert", STARTER, STARTER)
    study = ["evaluate", "--truth", truth, "--study", "scale", "--expert", STARTER, STARTER]
    assert "have the name 'starter expert': leave one out" in fail(capsys, *study)
    assert "no weights at" in fail(capsys, *score, "--syncnet", tmp_path / "no.safetensors")
    assert "does not exist" in fail(capsys, *score, "--sheet", tmp_path / "no" / "o.png")
    assert "ends with .png" in fail(capsys, *score, "--sheet", tmp_path / "o.jpg")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [["x", "--truth", "y"], ["--truth", "y", "--study", "luck"], ["--ranks"]]
)
def test_ways_that_do_not_go_together_are_wrong_use(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    from training.__main__ import main

    with pytest.raises(SystemExit) as caught:
        main(["evaluate", *words])
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
