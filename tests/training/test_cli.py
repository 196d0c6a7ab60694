"""``python -m training`` as a user types it."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import Bundle
from training.__main__ import main
from training.checkpoint import load_checkpoint
from training.clips import find_clips, read_clip
from training.config import RUNS, TrainConfig
from training.generator import GeneratorConfig

pytestmark = pytest.mark.cli

Runs = dict[str, Callable[[], TrainConfig]]


def fail(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Run what must fail; returns its one sentence."""
    assert main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lipstream-train: ")
    assert error.count("\n") == 1
    return error


def run(*words: object) -> None:
    assert main([str(word) for word in words]) == 0


def test_videos_become_clips(
    toy_videos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("prepare", toy_videos / "eve", "-o", tmp_path, "--workers", "1", "--resolution", "64")
    assert "skipped 0" in capsys.readouterr().out
    clips = [read_clip(folder) for folder in find_clips(tmp_path)]
    assert [(c.info.speaker, c.info.resolution) for c in clips] == [("eve", 64)] * 2


def test_pictures_of_a_folder_and_the_portrait_are_animated(
    astronaut: NDArray[np.uint8],
    toy_clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pictures, out = tmp_path / "pictures", tmp_path / "stills"
    pictures.mkdir()
    cv2.imwrite(str(pictures / "zoe.png"), np.ascontiguousarray(astronaut[:, ::-1, ::-1]))
    cv2.imwrite(str(pictures / "wall.jpg"), np.full((64, 64, 3), 128, np.uint8))
    words = ["animate", pictures, toy_clips / "ann", "-o", out, "--portrait", "--clips-each", "1"]
    run(*words)
    output = capsys.readouterr().out
    assert "skipped wall.jpg: The picture shows no face." in output
    assert "animated 2 of 3 pictures" in output
    speakers = {read_clip(folder).info.speaker for folder in find_clips(out)}
    assert speakers == {"zoe", "astronaut"}


def test_pretrain_and_train_make_a_checkpoint_and_go_on_with_it(
    toy_clips: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = TrainConfig(
        generator=GeneratorConfig(width=0.02, audio_width=0.05, head="warp", rows=(40, 96)),
        clips=2,
        warmup_steps=1,
        save_every=2,
    )
    monkeypatch.setattr("training.config.RUNS", {**RUNS, "tiny": lambda: tiny})
    audio = ["pretrain", toy_clips, "-o", tmp_path, "--run", "tiny", "--synthetic", "0"]
    run(*audio, "--steps", "2", "--speakers", "ann", "--threads", "1")
    assert load_checkpoint(tmp_path / "audio.pt").config == {"width": 0.05, "columns": 16}

    words = ["train", toy_clips, "--audio", tmp_path / "audio.pt", "-o", tmp_path, "--run", "tiny"]
    run(*words, "--steps", "2", "--licence", "CC0", "--training-data", "toys")
    assert "starting; 2 steps" in capsys.readouterr().out
    run(*words, "--steps", "4")
    output = capsys.readouterr().out
    assert "going on from step 2 of 4" in output
    assert output.splitlines()[-1] == str(tmp_path / "generator.pt")
    run(*words, "--steps", "4", "--licence", "MIT")
    assert "stands at step 4 already" in capsys.readouterr().out
    checkpoint = load_checkpoint(tmp_path / "generator.pt")
    assert checkpoint.resume["step"] == 4
    facts = checkpoint.training
    assert (facts["licence"], facts["training_data"]) == ("MIT", "toys")
    assert "of another run" in fail(capsys, *words, "--seed", "3")


def test_evaluate_prints_the_tables_and_writes_the_figures(
    toy_videos: Path,
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["evaluate", toy_videos / "ann", "--others", toy_videos / "eve"]
    words += ["--bundle", tiny_bundle.folder, "--pairs", "1", "--json", tmp_path / "out.json"]
    run(*words)
    output = capsys.readouterr().out
    assert "Lips that follow" in output
    assert "Self-reconstruction" in output
    found = json.loads((tmp_path / "out.json").read_text())
    assert [row["pairs"] for row in found["lip_sync"].values()] == [1, 1, 1, 1]


def test_wrong_inputs_are_one_sentence(
    toy_videos: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ann = toy_videos / "ann"
    assert "is not a folder" in fail(capsys, "prepare", tmp_path / "no", "-o", tmp_path)
    assert "no picture to animate" in fail(capsys, "animate", tmp_path, "-o", tmp_path)
    assert "holds no pictures" in fail(capsys, "animate", tmp_path, tmp_path, "-o", tmp_path)
    assert "no prepared clips" in fail(capsys, "pretrain", tmp_path, "-o", tmp_path)
    assert "no run 'huge'" in fail(capsys, "pretrain", ".", "-o", tmp_path, "--run", "huge")
    train = ["train", tmp_path, "--audio", tmp_path / "audio.pt", "-o", tmp_path]
    assert "no checkpoint at" in fail(capsys, *train)
    assert "no bundle at" in fail(capsys, "evaluate", ann, "--bundle", tmp_path / "no")
    words = ["evaluate", ann, "--bundle", tiny_bundle.folder]
    assert "does not exist" in fail(capsys, *words, "--json", tmp_path / "no" / "out.json")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "words", [[], ["fly"], ["evaluate"], ["train", "x"], ["evaluate", "x", "--pairs", "0"]]
)
def test_wrong_words_are_wrong_use(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err
