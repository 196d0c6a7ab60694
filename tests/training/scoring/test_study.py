import csv
from copy import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from engine.errors import ConfigError
from engine.lip_sync import frame_cosines
from engine.mel import cut_windows, log_mel
from training.evaluate_command import STUDIES
from training.scoring.film import Film, sound_of, watch
from training.scoring.judges import Judges
from training.scoring.pair import look
from training.scoring.study import AMOUNTS, KINDS, UNITS, Study, run_study
from training.scoring.study_output import plot, show, summary_rows, write_csv
from training.syncnet import SyncNet, measure
from training.wav2lip import SyncNetColour

pytestmark = pytest.mark.models

EXPERT = "starter expert"


@pytest.fixture(scope="module")
def one(truth: Path) -> Film:
    return watch(truth / "one.mp4")


@pytest.fixture(scope="module")
def stability(truth: Path, judges: Judges) -> Study:
    torch.manual_seed(0)
    return run_study("stability", truth, replace(judges, colour=SyncNetColour().eval()))


def test_every_study_has_amounts_around_rest_and_a_unit() -> None:
    assert KINDS == STUDIES
    assert AMOUNTS.keys() == UNITS.keys() == set(KINDS)
    for kind, amounts in AMOUNTS.items():
        assert (1.0 if kind == "scale" else 0.0) in amounts
        assert list(amounts) == sorted(set(amounts))


def test_stability_is_avsu_frame_by_frame(
    stability: Study, truth: Path, judges: Judges, one: Film
) -> None:
    side = look(truth / "one.mp4", judges)
    assert side.lips is not None
    assert side.sound is not None
    alone = side.lips.alone(side.sound)
    curve = next(c for c in stability.curves if (c.judge, c.quantity) == (EXPERT, "cosine"))
    assert curve.clip == "one"
    np.testing.assert_allclose(curve.values, frame_cosines(alone.lips, alone.sound), atol=1e-5)
    point = next(p for p in stability.points if (p.judge, p.quantity) == (EXPERT, "cosine"))
    assert point.estimate.clips == 2


def test_wav2lips_expert_sees_five_lower_halves_and_hears_their_mel_window(
    stability: Study, one: Film
) -> None:
    torch.manual_seed(0)
    network = SyncNetColour().eval()
    curve = next(
        c for c in stability.curves if (c.judge, c.quantity) == ("SyncNet on colours", "cosine")
    )
    assert len(curve.values) == len(one) - 4
    at = 10
    boxes = one.boxes_bgr()[at : at + 5, 48:].astype(np.float32) / 255
    faces = torch.from_numpy(boxes).permute(0, 3, 1, 2).reshape(1, 15, 48, 96)
    sound = sound_of(one.path)
    assert sound is not None
    mel = torch.from_numpy(cut_windows(log_mel(sound), [at * 16 // 5]))
    with torch.no_grad():
        assert curve.values[at] == pytest.approx(float(network(mel, faces)), abs=1e-5)


def test_delayed_sound_fits_less_and_displaced_faces_nearly_as_well(
    truth: Path, same: Path, judges: Judges, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "training.scoring.study.AMOUNTS", {"delay": (-8, 0, 8), "shift": (0, 2), "scale": (1, 1.02)}
    )
    delay = run_study("delay", truth, judges)
    at = {p.amount: p.estimate.value for p in delay.points if p.quantity == "cosine"}
    assert at[0] is not None
    assert all(value is not None and value < at[0] - 0.05 for by, value in at.items() if by)
    shift = run_study("shift", truth, judges, generated=same, clips=1)
    found = {(p.quantity, p.amount): p.estimate.value for p in shift.points}
    assert found["AVSm", 0] == pytest.approx(1, abs=1e-5)
    assert found["AVSv", 0] == pytest.approx(1, abs=1e-5)
    assert found["cosine", 0] == pytest.approx(found["cosine", 2], abs=0.1)
    assert found["AVSv", 2] != found["AVSv", 0]
    rows = summary_rows(run_study("scale", truth, judges, clips=1))
    assert [row[0] for row in rows] == [f"{EXPERT}: cosine", f"{EXPERT}: loss"]


def test_every_lip_expert_is_asked(truth: Path, judges: Judges) -> None:
    assert judges.expert is not None
    other = copy(judges.expert)
    other.name = "another"
    study = run_study("stability", truth, replace(judges, more_experts=(other,)), clips=1)
    found = {p.judge: p.estimate.value for p in study.points if p.quantity == "cosine"}
    assert list(found) == [EXPERT, "another"]
    assert found[EXPERT] == found["another"]


def test_syncnet_gives_its_figures_of_the_clip(
    truth: Path, one: Film, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = SyncNet().eval()
    # The network takes seconds a clip; what it is shown is what counts.
    short = Film(one.path, one.shape, one.meshes[:12], one.matrices[:12])
    frames, sound = one.syncnet_frames()[:12], sound_of(one.path)
    assert sound is not None
    monkeypatch.setattr(Film, "syncnet_frames", lambda *_: frames)
    monkeypatch.setattr("training.scoring.study.watch", lambda _: short)
    study = run_study("stability", truth, Judges(names={}, syncnet=network), clips=1)
    found = {p.quantity: p.estimate.value for p in study.points}
    expected = measure(network, frames, sound)
    assert found == {"LSE-C": pytest.approx(expected.lse_c), "LSE-D": pytest.approx(expected.lse_d)}
    assert study.curves == []


def test_csv_holds_every_frame_or_every_amount(stability: Study, tmp_path: Path) -> None:
    write_csv(stability, tmp_path / "frames.csv")
    rows = list(csv.DictReader((tmp_path / "frames.csv").read_text().splitlines()))
    assert len(rows) == sum(len(curve.values) for curve in stability.curves)
    assert float(rows[0]["value"]) == pytest.approx(stability.curves[0].values[0], abs=1e-6)
    write_csv(replace(stability, kind="shift", curves=[]), tmp_path / "points.csv")
    points = list(csv.DictReader((tmp_path / "points.csv").read_text().splitlines()))
    assert [(p["judge"], p["quantity"], p["shift"]) for p in points] == [
        (p.judge, p.quantity, "0") for p in stability.points
    ]


@pytest.mark.parametrize("with_curves", [True, False])
def test_plot_is_a_picture(stability: Study, tmp_path: Path, with_curves: bool) -> None:
    pytest.importorskip("matplotlib")
    study = stability if with_curves else replace(stability, kind="shift", curves=[])
    plot(study, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"ends with \.png"):
        plot(study, tmp_path / "study.pdf")


def test_summary_gives_rest_range_and_spread(stability: Study) -> None:
    console = Console(width=160, color_system=None)
    with console.capture() as capture:
        show(stability, console)
    assert "Study of stability on truth" in capture.get()
    row = summary_rows(stability)[0]
    own = [c for c in stability.curves if (c.judge, c.quantity) == (EXPERT, "cosine")]
    spreads = [np.std(c.values) for c in own]
    assert row[0] == f"{EXPERT}: cosine"
    assert float(row[-1]) == pytest.approx(np.mean(spreads), abs=6e-4)


def test_study_without_a_judge_or_a_fitting_video_is_refused(
    truth: Path, judges: Judges, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="needs a judge"):
        run_study("shift", truth, Judges(names={}))
    (tmp_path / "no.mp4").write_bytes(b"no film")
    with pytest.raises(ConfigError, match="has sound and a face"):
        run_study("shift", tmp_path, judges)
