"""``python -m training ablate`` on toy videos, with networks too small to learn anything."""

import json
import shutil
from collections import defaultdict
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from engine.errors import ConfigError
from tests.networks import fill
from tests.training import toys
from tests.training.conftest import HELD_OUT
from tests.training.drawn_clips import CONFIG, TINY_EXPERT, tiny_expert, write_drawn
from tests.training.toys import held_out_names
from training import ablate
from training.__main__ import main
from training.ablate import Ablation, Taught, judge, teach
from training.ablate_plan import TITLES, Settings, judged_videos
from training.ablate_tables import show, write
from training.audio_encoder import AudioEncoder
from training.avhubert import AvHubert
from training.checkpoint import EXPERT, load_checkpoint, save_checkpoint
from training.clips import is_held_out
from training.colour_expert import ColourConfig
from training.config import RUNS
from training.hardware import CPU
from training.pairs import Batch, PairSampler
from training.scoring.film import LEAST_FRAMES
from training.scoring.judges import JudgeFiles
from training.scoring.systems import CEILING, FLOOR
from training.train import Run

pytestmark = [pytest.mark.models, pytest.mark.timeout(300)]

STEPS = 2
FORMS = tuple(TITLES)
TINY = replace(CONFIG, k=5, steps=STEPS)
LESSON = ColourConfig(clips=1, windows=2, steps=1)


def write_networks(root: Path) -> None:
    """An untrained audio encoder and two unlike lip experts."""
    audio, other = AudioEncoder(TINY.generator.audio_width), AvHubert(TINY_EXPERT)
    fill(audio, 1)
    fill(other, 3)
    save_checkpoint(
        root / "audio.pt",
        kind="audio",
        config={"width": TINY.generator.audio_width},
        model=audio.state_dict(),
        placement=TINY.placement.to_dict(),
    )
    for name, model in (("teacher", tiny_expert()), ("other", other)):
        save_checkpoint(
            root / f"{name}.pt",
            kind=EXPERT,
            config=TINY_EXPERT.to_dict(),
            model=model.state_dict(),
        )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ablate")
    write_networks(root)
    return root


@pytest.fixture(scope="module")
def truth(toy_faces: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two held-out videos as short as scores allow, and one to learn from."""
    root = tmp_path_factory.mktemp("truth")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(toys, "FRAMES", LEAST_FRAMES)
        names = held_out_names(HELD_OUT) + held_out_names(1, held_out=False)
        for seed, name in enumerate(names):
            toys.write_video(root / "ann" / f"{name}.mp4", toy_faces, seed)
    return root


def ablation_in(folder: Path, root: Path, clips: Path, truth: Path) -> Settings:
    return Settings(
        clips=clips,
        truth=truth,
        audio=root / "audio.pt",
        expert=root / "teacher.pt",
        folder=folder,
        config=TINY,
        forms=FORMS,
        lesson=LESSON,
        judges=JudgeFiles(experts=(root / "other.pt",)),
    )


@pytest.fixture
def settings(root: Path, toy_clips: Path, truth: Path, tmp_path: Path) -> Settings:
    return ablation_in(tmp_path / "ablation", root, toy_clips, truth)


Seen = dict[int, list[Batch]]


@pytest.fixture(scope="module")
def whole(
    root: Path, toy_clips: Path, truth: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Ablation, Seen, Path]:
    """An ablation of every form, the samples of each run by step, and the ablation's folder."""
    folder = tmp_path_factory.mktemp("whole")
    settings = ablation_in(folder, root, toy_clips, truth)
    seen: Seen = defaultdict(list)
    draw = PairSampler.draw

    def recording(self: PairSampler, step: int, part: slice = slice(None)) -> Batch:
        batch = draw(self, step, part)
        seen[step].append(batch)
        return batch

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PairSampler, "draw", recording)
        taught = teach(settings, CPU, lambda _: None)
    ablation = judge(settings, taught, CPU)
    write(ablation, folder, truth)
    return ablation, seen, folder


def test_every_form_sees_the_same_samples(whole: tuple[Ablation, Seen, Path]) -> None:
    _, seen, _ = whole
    assert sorted(seen) == list(range(1, STEPS + 1))
    for batches in seen.values():
        assert len(batches) == len(FORMS)
        first, *others = batches
        for other in others:
            for name in ("frames", "identity", "mel", "mesh"):
                assert torch.equal(getattr(first, name), getattr(other, name))
    assert not torch.equal(seen[1][0].frames, seen[2][0].frames)


def test_the_forms_differ_in_the_lip_sync_loss_alone(whole: tuple[Ablation, Seen, Path]) -> None:
    _, _, folder = whole
    checkpoints = {form: load_checkpoint(folder / form / "generator.pt") for form in FORMS}
    configs = [dict(checkpoints[form].training["config"]) for form in FORMS]
    assert [config["objective"].pop("sync") for config in configs] == list(FORMS)
    assert all(config == configs[0] for config in configs)
    # Adam's first steps are as long whatever the loss, so the gradients' averages are compared.
    moments = [checkpoints[form].resume["optimiser"]["state"][0]["exp_avg"] for form in FORMS]
    for place, own in enumerate(moments):
        assert not any(torch.equal(own, other) for other in moments[:place])


def test_the_table_has_the_papers_rows_between_floor_and_ceiling(
    whole: tuple[Ablation, Seen, Path],
) -> None:
    ablation, _, _ = whole
    rows = [*TITLES.values(), CEILING, FLOOR]
    assert [(j.expert, j.teacher) for j in ablation.judged] == [("teacher", True), ("other", False)]
    for judged in ablation.judged:
        assert [row.system for row in judged.scores.rows] == rows
        for row in judged.scores.rows:
            assert len(row.clips) == 2
            assert row.figures["avs_u"].value is not None
            assert row.figures["lse_c"].value is None
    assert not ablation.left_out
    by_teacher, by_other = (judged.scores.rows[0].figures for judged in ablation.judged)
    assert by_teacher["avs_u"] != by_other["avs_u"]
    assert by_teacher["ssim"] == by_other["ssim"]


def test_only_held_out_clips_are_judged_and_none_is_learnt_from(
    whole: tuple[Ablation, Seen, Path],
) -> None:
    ablation, _, folder = whole
    judged = {Path(name).name for name in ablation.budget["clips_judged"]}
    assert len(judged) == 2
    assert all(map(is_held_out, judged))
    videos = {path.stem for path in (folder / "visual" / "videos").rglob("*.mp4")}
    assert videos == judged
    assert ablation.budget["clips"]["learnt"] == 5  # three of ann, two of eve


def test_the_budget_is_printed_and_written(whole: tuple[Ablation, Seen, Path]) -> None:
    ablation, _, folder = whole
    text = StringIO()
    show(ablation, Console(file=text, width=400))
    markdown = (folder / "ablation.md").read_text()
    for where in (text.getvalue(), markdown):
        assert "Table 4 by teacher (the teacher of the AV-HuBERT forms" in where
        assert "Table 4 by other (independent" in where
        assert "2 steps of 2 samples of 5 frames, fp32, seed 0, 1 processor threads, cpu" in where
        assert "learnt from: 5 clips of ann, eve" in where
        assert "judged by: 2 held-out clips" in where
        assert "start: new weights" in where
        assert "1 steps of 1 clips with 2 windows each" in where
        assert where.count("s a step; generator.pt, SHA-256") == len(FORMS)
    stored = json.loads((folder / "ablation.json").read_text())
    assert stored["budget"]["expert"]["name"] == "teacher.pt"
    assert stored["budget"]["syncnet-colour"]["steps"] == 1
    assert all(spent["wall_s"] > 0 for spent in stored["budget"]["forms"].values())
    assert [judged["expert"] for judged in stored["judged"]] == ["teacher", "other"]
    assert (folder / "ablation.png").is_file()


def test_a_stopped_ablation_goes_on(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(settings, forms=("none", "visual"))
    straight = teach(replace(settings, folder=settings.folder.with_name("b")), CPU, lambda _: None)

    def stopped_at(form: str, step: int) -> None:
        learn = Run.train_step

        def train_step(self: Run, at: int) -> dict[str, torch.Tensor]:
            if (self.config.objective.sync, at) == (form, step):
                raise KeyboardInterrupt
            return learn(self, at)

        monkeypatch.setattr(Run, "train_step", train_step)

    monkeypatch.setattr(ablate, "_SAVE_EVERY", 1)
    with monkeypatch.context():
        stopped_at("visual", 2)
        with pytest.raises(KeyboardInterrupt):
            teach(settings, CPU, lambda _: None)
    monkeypatch.undo()
    first = (settings.folder / "none" / "generator.pt").stat().st_mtime_ns
    said: list[str] = []
    finished = teach(settings, CPU, said.append)
    assert said == ["none: step 2 of 2", "visual: step 1 of 2"]
    assert (settings.folder / "none" / "generator.pt").stat().st_mtime_ns == first
    for form in ("none", "visual"):
        assert_same_weights(straight, finished, form)
    assert finished.budget["forms"]["none"]["wall_s"] is not None


def test_clips_that_come_in_meanwhile_stop_it(
    settings: Settings, tmp_path: Path, toy_clips: Path
) -> None:
    clips = tmp_path / "clips"
    shutil.copytree(toy_clips, clips)
    settings = replace(settings, clips=clips, forms=("none", "visual"))

    def add_clip(_: str) -> None:
        write_drawn(clips, held_out_names(9, held_out=False)[-1], 1)

    with pytest.raises(ConfigError, match=r"different: clips\): put back what has changed"):
        teach(settings, CPU, add_clip)
    assert (settings.folder / "none" / "generator.pt").is_file()
    assert not (settings.folder / "visual").exists()


def assert_same_weights(one: Taught, other: Taught, form: str) -> None:
    paths = [taught.checkpoints[form] for taught in (one, other)]  # type: ignore[index]
    first, second = (load_checkpoint(path).resume["weights"] for path in paths)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_videos_that_are_there_are_kept(settings: Settings) -> None:
    settings = replace(settings, forms=("none",), judges=JudgeFiles(), count=1)
    taught = teach(settings, CPU, lambda _: None)
    figures = judge(settings, taught, CPU).judged[0].scores.rows[0].figures
    videos = sorted((settings.folder / "none" / "videos").rglob("*.mp4"))
    written = [path.stat().st_mtime_ns for path in videos]
    again = judge(settings, taught, CPU).judged[0].scores.rows[0].figures
    assert [path.stat().st_mtime_ns for path in videos] == written
    assert again == figures


def test_as_many_held_out_clips_are_drawn_as_asked_for(
    settings: Settings, toy_videos: Path
) -> None:
    assert len(judged_videos(replace(settings, count=1))) == 1
    assert len(judged_videos(settings)) == HELD_OUT
    with pytest.raises(ConfigError, match="holds 0 held-out clips"):
        judged_videos(replace(settings, truth=toy_videos / "eve"))


@pytest.mark.cli
def test_the_command_prints_the_table(
    root: Path,
    toy_clips: Path,
    truth: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("training.config.RUNS", {**RUNS, "tiny": lambda: TINY})
    words = ["ablate", str(toy_clips), "--truth", str(truth), "--run", "tiny", "--steps", "1"]
    words += ["--audio", str(root / "audio.pt"), "--expert", str(root / "teacher.pt")]
    words += ["--forms", "visual", "-o", str(tmp_path / "out")]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "visual: step 0 of 1" in output
    assert "Visual-visual" in output
    assert str(tmp_path / "out" / "ablation.md") in output
    for more, message in (
        (["--seed", "1"], "holds another ablation (different: config)"),
        (["--judge-expert", str(root / "teacher.pt")], "is the one that teaches"),
        (["--expert", str(root / "audio.pt")], "not a lip expert"),
        (["--syncnet-colour", str(root / "other.pt")], "is not Wav2Lip's lip expert"),
        (["--truth", str(root)], "holds no videos"),
        (["--truth", str(tmp_path / "none")], "is not a folder"),
        (["--start", str(root / "gone.pt")], "There is nothing at"),
        (["--precision", "fp16"], "fp16 needs a GPU"),
        (["--run", "huge"], "There is no run 'huge'"),
        (["--perceptual", "vgg19", "-o", str(tmp_path / "b")], "name the file with --vgg"),
    ):
        assert main(words + more) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(words) == 2
    assert "An ablation runs in one process" in capsys.readouterr().err
    assert np.isfinite(json.loads((tmp_path / "out" / "times.json").read_text())["visual"]["steps"])
