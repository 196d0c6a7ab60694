import io
import re
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.mel import COLUMNS_PER_S, WindowPlacement
from training.audio_encoder import AudioEncoder
from training.checkpoint import load_checkpoint
from training.clips import find_clips, is_held_out, read_clip
from training.pretrain import PretrainConfig, pretrain
from training.voices import Voice

pytestmark = pytest.mark.models

CONFIG = PretrainConfig(
    audio_width=0.05, components=4, synthetic=0, steps=40, batch=32, speakers=("ann",)
)


def last_line(printed: str) -> tuple[float, float]:
    """Loss and held-out correlation of the last line printed."""
    line = printed.splitlines()[-1]
    found = re.search(r"loss (\S+)  held-out r (\S+)", line)
    assert found, line
    return float(found[1]), float(found[2])


@pytest.fixture(scope="module")
def lesson(toy_clips: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """An encoder's checkpoint, and what was printed while it learnt."""
    with redirect_stdout(io.StringIO()) as printed:
        path = pretrain(toy_clips, tmp_path_factory.mktemp("lesson"), CONFIG)
    return path, printed.getvalue()


def test_encoder_learns_to_hear_the_opening(
    toy_clips: Path,
    lesson: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pretrain(toy_clips, tmp_path, replace(CONFIG, steps=2))
    loss_before, heard_before = last_line(capsys.readouterr().out)
    loss, heard = last_line(lesson[1])
    assert loss < 0.6 * loss_before
    assert heard_before < 0.6
    assert heard > 0.7  # in clips that it did not learn from


def test_checkpoint_holds_what_the_generators_run_asks_for(lesson: tuple[Path, str]) -> None:
    checkpoint = load_checkpoint(lesson[0])
    assert checkpoint.kind == "audio"
    assert checkpoint.config == {"width": 0.05, "columns": 16}
    assert checkpoint.placement == CONFIG.placement.to_dict()
    encoder = AudioEncoder(0.05)
    encoder.load_state_dict(checkpoint.model)
    with torch.no_grad():
        assert encoder.eval()(torch.zeros(1, 1, 80, 16)).shape == (1, 512)


def test_bfloat16_learns_as_float32_does(
    toy_clips: Path,
    lesson: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = pretrain(toy_clips, tmp_path, replace(CONFIG, bf16=True))
    loss, heard = last_line(capsys.readouterr().out)
    expected_loss, expected_heard = last_line(lesson[1])
    assert loss < 1.2 * expected_loss
    assert heard > expected_heard - 0.05
    weights, others = load_checkpoint(path).model, load_checkpoint(lesson[0]).model
    assert all(value.dtype == others[name].dtype for name, value in weights.items())
    assert any((value != others[name]).any() for name, value in weights.items())


def test_second_lesson_starts_from_the_first(
    toy_clips: Path,
    lesson: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = replace(CONFIG, steps=2, learning_rate=1e-5, start=lesson[0])
    pretrain(toy_clips, tmp_path, again)
    _, heard = last_line(capsys.readouterr().out)
    assert heard == pytest.approx(last_line(lesson[1])[1], abs=0.1)


def test_lesson_with_wider_windows_starts_from_one_with_narrow_ones(
    toy_clips: Path,
    lesson: tuple[Path, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    more = 12  # columns of the past
    start_s = CONFIG.placement.start_s - more / COLUMNS_PER_S
    wide = WindowPlacement(start_s, CONFIG.placement.columns + more)
    again = replace(CONFIG, placement=wide, steps=2, learning_rate=1e-5, start=lesson[0])
    checkpoint = load_checkpoint(pretrain(toy_clips, tmp_path, again))
    _, heard = last_line(capsys.readouterr().out)
    assert heard == pytest.approx(last_line(lesson[1])[1], abs=0.1)
    assert checkpoint.config == {"width": 0.05, "columns": 28}
    assert checkpoint.placement == wide.to_dict()


@pytest.mark.parametrize(
    "form", [{"audio_width": 0.1}, {"components": 5}], ids=["width", "components"]
)
def test_lesson_of_another_form_is_refused(
    toy_clips: Path, lesson: tuple[Path, str], tmp_path: Path, form: dict[str, object]
) -> None:
    again = replace(CONFIG, steps=2, start=lesson[0], **form)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="no lesson that this one can go on from"):
        pretrain(toy_clips, tmp_path, again)


def test_clips_are_spoken_by_other_voices_but_for_those_that_judge(
    toy_clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    voices: list[Voice] = []

    def noted(samples: NDArray[np.float32], voice: Voice) -> NDArray[np.float32]:
        voices.append(voice)
        return np.zeros_like(samples)

    monkeypatch.setattr("training.pretrain.change_voice", noted)
    muted = replace(CONFIG, steps=2, voices=2, voices_share=1.0)
    muted_path = pretrain(toy_clips, tmp_path / "muted", muted)
    clips = [read_clip(folder) for folder in find_clips(toy_clips)]
    learnt = [c for c in clips if c.info.speaker == "ann" and not is_held_out(c.info.name)]
    assert len(voices) == 2 * len(learnt) == len(set(voices))
    plain_path = pretrain(toy_clips, tmp_path / "plain", replace(muted, voices_share=0.0))
    muted_model, plain_model = (load_checkpoint(p).model for p in (muted_path, plain_path))
    assert any((muted_model[name] != value).any() for name, value in plain_model.items())


@pytest.mark.parametrize(
    "wrong", [{"batch": 500}, {"speakers": ("bob",)}], ids=["batch", "speaker"]
)
def test_too_little_to_learn_from_is_refused(
    toy_clips: Path, tmp_path: Path, wrong: dict[str, object]
) -> None:
    with pytest.raises(ConfigError, match=r"holds (180|0) frames to learn from"):
        pretrain(toy_clips, tmp_path, replace(CONFIG, **wrong))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
