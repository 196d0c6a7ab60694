"""``python -m training personalize``, from a film to a bundle."""

import json
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import training.pieces
from engine.bundle import Bundle, load_bundle
from engine.errors import ConfigError, MediaError
from engine.media import VideoWriter
from export.__main__ import main as export
from run_stream import main as stream
from tests.training.toys import RATE, pictures, syllables, tone
from training.__main__ import main
from training.checkpoint import load_checkpoint
from training.clips import FPS, find_clips, is_held_out
from training.personalize import Personalization
from training.pieces import Pieces, choose_held_out, cut_pieces

pytestmark = pytest.mark.cli

TURNS = 5  # toy clips of 2.4 s: 12 s
STEPS = 2


@pytest.fixture(scope="module", autouse=True)
def small() -> Iterator[None]:
    """Pieces of three seconds, two of which are held out, and a film of twelve."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training.pieces, "PIECE_S", 3)
        patch.setattr(training.pieces, "LEAST_S", 10)
        patch.setattr(training.pieces, "LEAST_HELD_OUT_S", 6)
        yield


def write_film(path: Path, faces: list[NDArray[np.uint8]], turns: int) -> None:
    """One film of a speaker."""
    side = len(faces[0])
    with VideoWriter(
        path, width=side, height=side, fps=Fraction(FPS), audio_rate=RATE, preset="ultrafast"
    ) as writer:
        for seed in range(turns):
            spans = syllables(seed)
            writer.write_audio(tone(spans))
            for picture in pictures(faces, spans, seed):
                writer.write_frame(picture)


@pytest.fixture(scope="module")
def film(toy_faces: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "ann.mp4"
    write_film(path, toy_faces, TURNS)
    return path


@pytest.fixture(scope="module")
def run(film: Path, tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two steps."""
    folder = tmp_path_factory.mktemp("personal") / "run"
    assert main(words(film, tiny_bundle, folder)) == 0
    return folder


def words(film: Path, bundle: Bundle, folder: Path, *more: str) -> list[str]:
    given = ["personalize", str(film), "--bundle", str(bundle.folder), "-o", str(folder)]
    steps = () if "--steps" in more else ("--steps", str(STEPS))
    return [*given, "--clips-a-step", "2", "--workers", "1", *steps, *more]


def test_held_out_pieces_are_judged_before_and_after(run: Path) -> None:
    table = json.loads((run / "before-after.json").read_text())
    names = [folder.name for folder in find_clips(run / "pieces" / "clips")]
    held_out = [name for name in names if is_held_out(name)]
    assert table["pieces"] == len(held_out) == 2
    assert table["facts"]["steps"] == STEPS
    assert table["facts"]["held_out_s"] == 6
    before, after = table["before"], table["after"]
    assert before["frames"] == after["frames"] > 0
    assert before["made"] != after["made"]
    assert before["copied"] == pytest.approx(after["copied"])
    assert -1 <= table["real_avs_u"] <= 1
    markdown = (run / "before-after.md").read_text()
    assert "| before |" in markdown
    assert "| after |" in markdown


def test_checkpoint_becomes_a_bundle_that_dubs(
    run: Path, film: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "bundle"
    assert export([str(run / "generator.pt"), "-o", str(out)]) == 0
    made = load_bundle(out)
    assert made.weights.licence == tiny_bundle.weights.licence
    assert "fine-tuned on 6 s of one speaker" in made.weights.training_data
    assert made.placement == tiny_bundle.placement
    speech = next((run / "pieces" / "videos").rglob("*.mp4"))
    dubbed = tmp_path / "dubbed.mp4"
    assert stream(["dub", str(film), str(speech), "-o", str(dubbed), "--bundle", str(out)]) == 0
    assert dubbed.is_file()
    capsys.readouterr()


def test_same_command_goes_on(
    run: Path, film: Path, tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    pieces = {path: path.stat().st_mtime_ns for path in run.glob("pieces/**/*.npy")}
    assert main(words(film, tiny_bundle, run, "--steps", str(STEPS + 1))) == 0
    output = capsys.readouterr().out
    assert f"at step {STEPS} of {STEPS + 1}" in output
    assert f"python -m export {run / 'generator.pt'} -o {run / 'bundle'}" in output
    assert load_checkpoint(run / "generator.pt").resume["step"] == STEPS + 1
    assert pieces == {path: path.stat().st_mtime_ns for path in run.glob("pieces/**/*.npy")}


def test_time_is_a_limit_that_the_next_call_goes_on_from(run: Path, tiny_bundle: Bundle) -> None:
    film = next((run / "pieces" / "videos").rglob("*.mp4"))
    personal = Personalization([film], tiny_bundle, run.parent / "limited")
    config = personal.config({"steps": 9, "clips": 2}, {})
    clips = run / "pieces" / "clips"
    pieces = Pieces(clips=clips, held_out=[], learnt_s=1, held_out_s=1)
    first = personal.run(pieces, config, facts={})
    first.train(limit_s=0.0)
    second = personal.run(pieces, config, facts={})
    assert first.step == second.step == 1


def test_run_of_other_videos_is_refused(run: Path, film: Path, tiny_bundle: Bundle) -> None:
    other = next((run / "pieces" / "videos").rglob("*.mp4"))
    with pytest.raises(ConfigError, match="of other videos, or of another bundle"):
        Personalization([other], tiny_bundle, run)
    Personalization([film], tiny_bundle, run)


def test_short_video_is_one_sentence(
    toy_faces: list[NDArray[np.uint8]],
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_film(tmp_path / "short.mp4", toy_faces, 2)
    assert main(words(tmp_path / "short.mp4", tiny_bundle, tmp_path / "run")) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "short.mp4: 3 s of a face with its sound can be used, but at least 10" in error
    assert not (tmp_path / "run" / "pieces").exists()


def test_wall_is_one_sentence(tmp_path: Path) -> None:
    with VideoWriter(
        tmp_path / "wall.mp4", width=64, height=64, fps=Fraction(FPS), audio_rate=RATE
    ) as writer:
        writer.write_audio(np.zeros(3 * RATE))
        for _ in range(3 * FPS):
            writer.write_frame(np.full((64, 64, 3), 90, np.uint8))
    with pytest.raises(MediaError, match=r"wall.mp4: 0 s of a face"):
        cut_pieces([tmp_path / "wall.mp4"], tmp_path / "pieces", resolution=96, workers=1)


@pytest.mark.parametrize(
    ("lengths", "chosen"),
    [
        ([5.0] * 6, [1, 4]),
        ([5.0] * 24, [6, 18]),
        ([5.0] * 60, [5, 15, 25, 35, 45, 55]),
        ([2.0] * 15, [1, 4, 7, 10, 13]),
    ],
)
def test_held_out_pieces_are_a_tenth_and_ten_seconds(
    lengths: list[float], chosen: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.pieces, "LEAST_HELD_OUT_S", 10)
    assert choose_held_out(lengths) == chosen
