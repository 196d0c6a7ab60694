"""``python -m training train`` with the paper's objective, as a user types it."""

from pathlib import Path

import pytest

from tests.training.drawn_clips import CONFIG, write_all
from training.__main__ import main
from training.checkpoint import load_checkpoint
from training.config import RUNS, Objective

pytestmark = pytest.mark.cli


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The command for a run without any objective, in a folder of what it needs."""
    write_all(tmp_path)
    plain = {"tiny": lambda: CONFIG.__class__(generator=CONFIG.generator, clips=2, k=2)}
    monkeypatch.setattr("training.config.RUNS", {**RUNS, **plain})
    places = [tmp_path / "clips", "--audio", tmp_path / "audio.pt", "-o", tmp_path / "run"]
    return ["train", *map(str, places), "--run", "tiny", "--steps", "1"]


def test_flags_choose_the_objective_and_how_it_is_computed(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words += ["--expert", str(tmp_path / "expert.pt"), "--sync", "visual"]
    words += ["--perceptual", "expert", "--adversarial", "0.5"]
    words += ["--precision", "bf16", "--clips-a-step", "4", "--accumulate", "2"]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert all(f"  {term} " in output for term in ("perceptual", "sync", "adversarial"))
    config = load_checkpoint(tmp_path / "run" / "generator.pt").training["config"]
    chosen = Objective(adversarial=0.5, perceptual="expert", sync="visual")
    assert Objective(**config["objective"] | {"discriminator_betas": (0.5, 0.999)}) == chosen
    assert [config[n] for n in ("precision", "clips", "accumulate")] == ["bf16", 4, 2]


def test_what_is_missing_is_one_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    for more, message in (
        (["--sync", "visual"], "name one with --expert"),
        (["--perceptual", "vgg19"], "name the file with --vgg"),
        (["--sync", "loud"], "sync must be one of none, unsupervised"),
        (["--run", "paper"], "name one with --expert"),
        (["--accumulate", "2"], "clips must make 2 equal parts"),
    ):
        assert main(words + more) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
