"""Landmarks of FAN: by a stand-in for its library, and by the library where it is to be had."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.crop import mesh_box
from engine.errors import ConfigError
from engine.mouth_region import LIPS, points_68
from training.__main__ import main
from training.scoring.fan import Fan
from training.scoring.film import watch
from training.scoring.judges import JudgeFiles, Judges, open_judges
from training.scoring.pair import compare, look

pytestmark = pytest.mark.models


class Network:
    """Finds a mouth a tenth of the box from its left upper corner, and keeps what it was asked."""

    points = 68

    def __init__(self, landmarks: str, *, device: str) -> None:
        assert (landmarks, device) == ("2D", "cpu")
        self.boxes: list[NDArray[np.float64]] = []

    def get_landmarks_from_image(
        self, picture: NDArray[np.uint8], *, detected_faces: list[NDArray[np.float64]]
    ) -> list[NDArray[np.float32]] | None:
        (box,) = detected_faces
        self.boxes.append(box)
        if not picture.any():
            return None
        corner = box[:2] + (box[2:4] - box[:2]) / 10
        return [np.tile(corner, (self.points, 1)).astype(np.float32)]


def use(monkeypatch: pytest.MonkeyPatch, network: Any) -> None:
    library = SimpleNamespace(FaceAlignment=network, LandmarksType=SimpleNamespace(TWO_D="2D"))
    monkeypatch.setitem(sys.modules, "face_alignment", library)
    monkeypatch.setattr("training.scoring.fan.version", lambda name: "1.4.1")


def test_mouth_is_the_last_twenty_points_of_the_face_in_its_box(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(monkeypatch, Network)
    fan = Fan()
    picture = np.ones((80, 80, 3), np.uint8)
    mouth = fan.mouth(picture, np.array([10, 20, 50, 70]))
    assert mouth is not None
    assert mouth.shape == (20, 2)
    np.testing.assert_allclose(mouth, [[14, 25]] * 20)
    assert fan.name == "face-alignment 1.4.1, 2DFAN-4"
    assert fan.mouth(np.zeros_like(picture), np.array([10, 20, 50, 70])) is None


def test_landmark_distance_is_measured_by_fan_where_it_is_there(
    truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, Network)
    judges = open_judges(JudgeFiles(fan=True))
    assert judges.names == {"landmarks": "face-alignment 1.4.1, 2DFAN-4"}
    paths = truth / "one.mp4", truth / "two.mp4"
    found = compare(*(look(path, judges) for path in paths)).figures["lmd"]
    made, true = map(watch, paths)
    distances = []
    for a, b, place in zip(made.meshes, true.meshes, true.matrices, strict=True):
        assert a is not None
        assert b is not None
        assert place is not None
        corners = [0.9 * box[:2] + 0.1 * box[2:] for box in (mesh_box(a), mesh_box(b))]
        distances.append(np.linalg.norm(place[:, :2] @ (corners[0] - corners[1])))
    assert found == pytest.approx(np.mean(distances), rel=1e-4)
    assert found != compare(*(look(path, Judges(names={})) for path in paths)).figures["lmd"]


def fetch_in_vain(landmarks: str, *, device: str) -> None:
    raise OSError("<urlopen error no route to host>")


def test_what_is_missing_is_one_sentence(
    truth: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["evaluate", "--truth", str(truth), "--generated", str(truth), "--fan"]
    monkeypatch.setitem(sys.modules, "face_alignment", None)
    assert main(words) == 2
    assert 'pip install "lipstream[fan]"' in capsys.readouterr().err.replace("\n", " ")
    use(monkeypatch, fetch_in_vain)
    with pytest.raises(ConfigError, match=r"can't load its weights \(<urlopen.*leave --fan out"):
        Fan()
    assert main([*words, "--study", "shift"]) == 2
    assert "--fan does not go with --study" in capsys.readouterr().err


def test_other_schemes_of_landmarks_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, type("Coarse", (Network,), {"points": 29}))
    with pytest.raises(ConfigError, match="gave 29 landmarks instead of 68"):
        Fan().mouth(np.ones((80, 80, 3), np.uint8), np.array([10, 20, 50, 70]))


def test_real_network_finds_the_mouth_where_the_mesh_does(truth: Path) -> None:
    pytest.importorskip("face_alignment", exc_type=ImportError)
    try:
        fan = Fan()
    except ConfigError as error:
        pytest.skip(str(error))
    film = watch(truth / "one.mp4")
    mesh, picture = film.meshes[0], next(film.pictures())
    assert mesh is not None
    mouth = fan.mouth(picture, mesh_box(mesh))
    assert mouth is not None
    apart = np.linalg.norm(mouth - points_68(mesh)[LIPS], axis=1).mean()
    assert apart < 0.05 * np.ptp(mesh_box(mesh)[[0, 2]])
