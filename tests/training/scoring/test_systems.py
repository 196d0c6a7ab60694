import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from rich.console import Console

from engine.errors import ConfigError, MediaError
from engine.media import read_image
from training.scoring.codec import through_vp8
from training.scoring.film import watch
from training.scoring.frechet import frechet_distance
from training.scoring.inception import Inception
from training.scoring.judges import Judges
from training.scoring.pair import METRICS, PAPER
from training.scoring.sheet import CELL, FRAMES, picture_sheet, write_sheet
from training.scoring.systems import CEILING, FLOOR, Row, Scores, score
from training.scoring.tables import missing, show, to_json, to_markdown, write_json, write_markdown

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def scores(truth: Path, same: Path, swapped: Path, judges: Judges) -> Scores:
    return score({"same": same, "swapped": swapped}, truth, judges)


def values(row: Row) -> dict[str, float]:
    return {name: e.value for name, e in row.figures.items() if e.value is not None}


def by_title(scores: Scores) -> dict[str, dict[str, float]]:
    return {row.title: values(row) for row in scores.rows}


def test_rows_are_the_systems_then_ceiling_and_floor(scores: Scores) -> None:
    assert [row.title for row in scores.rows] == ["same", "swapped", CEILING, FLOOR]
    assert [clip.name for clip in scores.rows[0].clips] == ["one", "two"]
    assert scores.left_out == {}


def test_identical_videos_reach_the_ceiling(scores: Scores) -> None:
    found = by_title(scores)
    assert found["same"] == pytest.approx(found[CEILING], abs=1e-6)
    assert found["same"]["ssim"] == pytest.approx(1)
    assert found["same"]["psnr"] == 100
    assert found["same"]["lmd"] == 0
    assert found["same"]["avs_m"] == pytest.approx(1, abs=1e-5)
    assert found["same"]["avs_v"] == pytest.approx(1, abs=1e-5)


def test_shuffled_videos_fall_to_the_floor(scores: Scores) -> None:
    found = by_title(scores)
    for name in ("avs_u", "avs_m", "avs_v"):
        # The swapped videos were encoded once more.
        assert found["swapped"][name] == pytest.approx(found[FLOOR][name], abs=0.03), name
        assert found[FLOOR][name] < found[CEILING][name] - 0.03, name
    # The floor's heads are laid on one another, those of shuffled videos are not.
    assert found["swapped"]["ssim"] < found[FLOOR]["ssim"] < found[CEILING]["ssim"] - 0.03
    assert found["swapped"]["psnr"] < found[FLOOR]["psnr"] < 40
    assert found["swapped"]["lmd"] > found[FLOOR]["lmd"] > 0.3


def test_processes_give_the_same_figures(
    scores: Scores, truth: Path, same: Path, judges: Judges
) -> None:
    done: list[tuple[int, int]] = []
    again = score(
        {"same": same}, truth, judges, workers=2, progress=lambda n, every: done.append((n, every))
    )
    assert again.rows == [row for row in scores.rows if row.system != "swapped"]
    assert done == [(1, 2), (2, 2)]


def test_tables_have_the_papers_layout(scores: Scores, tmp_path: Path) -> None:
    text = to_markdown(scores)
    head = "SSIM ↑ | PSNR ↑ | FID ↓ | LMD ↓ | LSE-C ↑ | LSE-D ↓ | AVSu ↑ | AVSm ↑ | AVSv ↑"
    assert f"| Method | {head} |" in text.splitlines()
    row = next(line for line in text.splitlines() if line.startswith("| same |"))
    assert row.startswith("| same | 1.000 | 100.00 | - | 0.000 | - | - | ")
    assert "lip expert, starter expert: of the bundle with SHA-256" in text
    assert len(missing(scores)) == 2
    write_markdown(scores, tmp_path / "t.md")
    assert (tmp_path / "t.md").read_text() == text
    console = Console(width=200, color_system=None)
    with console.capture() as capture:
        show(scores, console)
    assert "95 % intervals" in capture.get()


def test_json_holds_every_figure_of_set_and_clip(scores: Scores, tmp_path: Path) -> None:
    write_json(scores, tmp_path / "t.json")
    found = json.loads((tmp_path / "t.json").read_text())
    assert found == json.loads(json.dumps(to_json(scores)))
    row = found["rows"][1]
    assert (row["system"], row["vp8_kbps"]) == ("swapped", None)
    each = [clip["figures"]["avs_u"] for clip in row["clips"]]
    assert row["figures"]["avs_u"]["value"] == pytest.approx(np.mean(each))
    assert row["figures"]["avs_u"]["low"] <= min(each) + 1e-9
    assert row["figures"]["fid"]["value"] is None
    assert set(row["clips"][0]["figures"]) == set(METRICS)
    assert set(PAPER) < set(METRICS)


def colours(_: Inception, pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Stand in for the Inception, which takes half a second a picture."""
    means = pictures.reshape(len(pictures), -1, 3).astype(np.float32).mean(axis=1)
    return np.asarray(means, np.float32)


def test_codec_makes_rows_of_its_own_for_systems_and_ceiling(
    truth: Path, same: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.scoring.pair.picture_features", colours)
    with torch.device("meta"):
        inception = Inception()
    (tmp_path / "one.mp4").symlink_to((same / "one.mp4").resolve())
    scores = score(
        {"same": tmp_path}, truth, Judges(names={}, inception=inception), codec_kbps=[150]
    )
    found = by_title(scores)
    coded = "same, VP8 150 kbit/s"
    assert list(found) == ["same", coded, CEILING, f"{CEILING}, VP8 150 kbit/s", FLOOR]
    assert 20 < found[coded]["psnr"] < 60
    assert found[coded] == pytest.approx(found[f"{CEILING}, VP8 150 kbit/s"])
    # One clip has no other to be paired with, and no interval.
    assert found[FLOOR] == {}
    assert scores.rows[0].figures["ssim"].low is None
    # FID is of all crops of the set.
    assert found["same"]["fid"] == pytest.approx(0, abs=1e-3)
    with TemporaryDirectory() as folder:
        through_vp8(truth / "one.mp4", Path(folder) / "coded.webm", 150)
        true, seen = watch(truth / "one.mp4"), watch(Path(folder) / "coded.webm")
        crops = [[c for c in film.crops(true.matrices) if c is not None] for film in (seen, true)]
    expected = frechet_distance(*(colours(inception, np.stack(c)) for c in crops))
    assert found[coded]["fid"] == pytest.approx(expected, rel=1e-4)
    assert expected > 0


def test_videos_that_have_no_partner_or_no_face_are_named(
    truth: Path, same: Path, tmp_path: Path
) -> None:
    for name, source in (("one", "one"), ("three", "two")):
        (tmp_path / f"{name}.mp4").symlink_to((same / f"{source}.mp4").resolve())
    (tmp_path / "two.mp4").write_bytes(b"no film")
    scores = score({"mine": tmp_path}, truth, Judges(names={}))
    assert scores.left_out.keys() == {"mine: three", "mine: two"}
    assert [clip.name for clip in scores.rows[0].clips] == ["one"]
    with pytest.raises(MediaError, match="is not a folder"):
        score({"mine": tmp_path / "no"}, truth, Judges(names={}))
    (tmp_path / "one.mp4").unlink()
    (tmp_path / "two.mp4").unlink()
    with pytest.raises(ConfigError, match="name them alike"):
        score({"mine": tmp_path}, truth, Judges(names={}))


def test_sheet_shows_the_true_face_above_the_generated_one(
    truth: Path, same: Path, swapped: Path, tmp_path: Path
) -> None:
    sheet = picture_sheet({"same": same, "swapped": swapped}, truth)
    rows = [sheet[top : top + CELL] for top in range(0, 3 * (CELL + 4), CELL + 4)]
    pictures = slice(sheet.shape[1] - FRAMES * (CELL + 4), None)
    true, equal, other = (row[:, pictures].astype(int) for row in rows)
    assert (true == equal).all()
    assert np.abs(true - other).mean() > 1
    write_sheet(sheet, tmp_path / "sheet.png")
    assert (read_image(tmp_path / "sheet.png") == sheet).all()
    with pytest.raises(ConfigError, match=r"ends with \.png"):
        write_sheet(sheet, tmp_path / "sheet.jpg")


@pytest.mark.data
def test_real_speech_fits_its_lips_better_than_another_clips(
    data_dir: Path, judges: Judges, tmp_path: Path
) -> None:
    clips = sorted((data_dir / "grid" / "s1").glob("*.mp4"))[:2]
    for clip in clips:
        (tmp_path / clip.name).symlink_to(clip)
    found = by_title(score({"true": tmp_path}, tmp_path, judges))
    assert found[CEILING]["avs_u"] > found[FLOOR]["avs_u"] + 0.1
    assert found[CEILING]["avs_v"] > found[FLOOR]["avs_v"] + 0.2
