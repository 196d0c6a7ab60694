from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from engine.chain import Synced
from engine.crop import Matrix
from engine.enhance import Enhancer, five_points
from engine.errors import ConfigError, EngineError
from engine.face_models import FaceModels
from engine.files import sha256_of
from engine.paste import paste_mask
from engine.tracker import FaceTracker, TrackedFace
from tests.faces import HEAD, Picture, found, move, similarity
from tests.restorers import write_restorer

pytestmark = pytest.mark.models

BRIGHTER = 0.2  # of −1..1: 25.5 levels of 255
LEVELS = BRIGHTER * 127.5
MOUTH_CORNERS = ((201, 371), (313, 371))  # in 512×512 pictures of the FFHQ template


@pytest.fixture(scope="module")
def face(face_models: FaceModels, astronaut: Picture) -> TrackedFace:
    return found(FaceTracker(face_models), astronaut)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tmp_path / "model.onnx"


def mask_of(face: TrackedFace, picture: Picture) -> NDArray[np.float32]:
    """The paste's mask in the picture."""
    size = picture.shape[1], picture.shape[0]
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    mask = cv2.warpAffine(paste_mask(face.resolution), face.matrix, size, flags=flags)
    return np.asarray(mask, np.float32)


def change(new: Picture, old: Picture) -> NDArray[np.int64]:
    return new.astype(np.int64) - old


# What changes


@pytest.mark.parametrize("side", [128, 512])
def test_a_network_that_changes_nothing_leaves_every_pixel(
    model: Path, astronaut: Picture, face: TrackedFace, side: int
) -> None:
    write_restorer(model, size=(1, 3, side, side))
    enhancer = Enhancer(model, strength=1.0)
    assert enhancer.side == side
    np.testing.assert_array_equal(enhancer.on(astronaut, face), astronaut)


@pytest.mark.parametrize("strength", [0.4, 1.0])
def test_only_the_pasted_region_changes_by_the_strength(
    model: Path, astronaut: Picture, face: TrackedFace, strength: float
) -> None:
    write_restorer(model, add=BRIGHTER, size=(1, 3, 512, 512))
    grey = np.full_like(astronaut, 100)
    new, mask = Enhancer(model, strength=strength).on(grey, face), mask_of(face, grey)
    by = change(new, grey)
    assert (by[mask == 0] == 0).all()
    above_chin = np.arange(len(grey))[:, None] < face.mesh[152, 1]  # the template ends below it
    assert by[(mask > 0.99) & above_chin] == pytest.approx(strength * LEVELS, abs=1.01)
    half = (mask > 0.4) & (mask < 0.6) & above_chin
    assert by[half].mean() == pytest.approx(0.5 * strength * LEVELS, rel=0.15)


@pytest.mark.parametrize(("scale", "roll"), [(0.6, 0.0), (1.0, 25.0), (4.0, -10.0)])
def test_the_template_lies_on_the_face_at_any_size_and_roll(
    model: Path, astronaut: Picture, face_models: FaceModels, scale: float, roll: float
) -> None:
    picture = move(astronaut, similarity(scale=scale, roll=roll), (512, 512))
    face = found(FaceTracker(face_models), picture)
    y, x = np.mgrid[0:512, 0:512]
    dots = [np.exp(-((x - a) ** 2 + (y - b) ** 2) / (2 * 12.0**2)) for a, b in MOUTH_CORNERS]
    write_restorer(model, size=(1, 3, 512, 512), add=np.asarray(0.5 * sum(dots), np.float32))
    grey = np.full_like(picture, 100)
    by = change(Enhancer(model).on(grey, face), grey)[..., 0]
    # One dot on each side of the mouth's middle, at its corners.
    corners = five_points(face.mesh)[3:]
    along = corners[1] - corners[0]
    rows, columns = np.nonzero(by)
    side = (np.stack([columns, rows], axis=1) - corners.mean(axis=0)) @ along
    weight = by[rows, columns]
    for which, corner in zip((side < 0, side > 0), corners, strict=True):
        dot = [np.average(axis[which], weights=weight[which]) for axis in (columns, rows)]
        # The smile is wider than the template's mouth.
        assert np.hypot(*(dot - corner)) < 0.2 * HEAD.unit * scale


def test_a_face_at_the_picture_s_border_is_enhanced_as_far_as_it_shows(
    model: Path, astronaut: Picture, face_models: FaceModels
) -> None:
    write_restorer(model, add=BRIGHTER)
    cut = np.ascontiguousarray(astronaut[:165])  # through the chin
    face = found(FaceTracker(face_models), cut)
    by = change(Enhancer(model).on(cut, face), cut)
    assert by[150:165].max() > 10
    assert (by[:100] == 0).all()


def test_a_mouth_outside_the_picture_changes_nothing(
    model: Path, astronaut: Picture, face: TrackedFace
) -> None:
    write_restorer(model, add=BRIGHTER)
    away: Matrix = face.matrix.copy()
    away[:, 2] += 9999
    new = Enhancer(model).on(astronaut, replace(face, matrix=away))
    np.testing.assert_array_equal(new, astronaut)


# Films


def shifted(face: TrackedFace, by: float) -> TrackedFace:
    mesh = face.mesh.copy()
    mesh[:, 0] += by
    return replace(face, mesh=mesh)


def pattern(model: Path) -> Path:
    """A network whose change shows where its template lies."""
    stripes = 0.5 * np.sin(np.arange(128) / 3).astype(np.float32)
    return write_restorer(model, add=np.broadcast_to(stripes, (128, 128)).copy())


def test_the_template_does_not_tremble_with_the_mesh(
    model: Path, astronaut: Picture, face: TrackedFace
) -> None:
    pattern(model)
    grey, trembled = np.full_like(astronaut, 100), shifted(face, 3.0)
    steady = Enhancer(model)
    for _ in range(11):
        calm = steady.on(grey, face)
    after = np.abs(change(steady.on(grey, trembled), calm)).mean()
    alone = np.abs(change(Enhancer(model).on(grey, trembled), calm)).mean()
    assert after < 0.2 * alone


@pytest.mark.parametrize("another", ["person", "gap"])
def test_another_person_or_a_gap_starts_afresh(
    model: Path, astronaut: Picture, face: TrackedFace, another: str
) -> None:
    pattern(model)
    grey = np.full_like(astronaut, 100)
    moved = replace(shifted(face, 5.0), person=face.person + (another == "person"))
    film = [Synced(grey, grey, face)] * 3 + [Synced(grey, grey, None)] * (another == "gap")
    last = list(Enhancer(model).run([*film, Synced(grey, grey, moved)]))[-1]
    np.testing.assert_array_equal(last.picture, Enhancer(model).on(grey, moved))


def test_pictures_that_passed_through_stay_untouched(
    model: Path, astronaut: Picture, face: TrackedFace
) -> None:
    write_restorer(model, add=BRIGHTER)
    passed, synced = Synced(astronaut, astronaut, None), Synced(astronaut, astronaut, face)
    enhancer = Enhancer(model)
    out = list(enhancer.run([passed, synced, passed]))
    assert out[0] is passed
    assert out[2] is passed
    assert change(out[1].picture, astronaut).max() > 10
    assert out[1].original is astronaut


def test_the_report_says_which_file_how_much_and_how_fast(
    model: Path, astronaut: Picture, face: TrackedFace
) -> None:
    write_restorer(model)
    enhancer = Enhancer(model, strength=0.3)
    assert enhancer.report().ms_per_frame is None
    enhancer.on(astronaut, face)
    report = enhancer.report()
    assert (report.model, report.strength) == ("model.onnx", 0.3)
    assert report.sha256 == sha256_of(model)
    assert report.ms_per_frame is not None
    assert 0 < report.ms_per_frame < 10_000
    assert 0 < enhancer.trial_ms() < 10_000


# Networks of other makes


@pytest.mark.parametrize("weighted", [(), (1,), ("n",)])
def test_a_second_number_asks_to_keep_closest_to_the_person(
    model: Path, astronaut: Picture, face: TrackedFace, weighted: tuple[int | str, ...]
) -> None:
    write_restorer(model, add=BRIGHTER, weighted=weighted)
    grey = np.full_like(astronaut, 100)
    by = change(Enhancer(model, strength=1.0).on(grey, face), grey)
    assert by.max() == pytest.approx(LEVELS, abs=1)


@pytest.mark.parametrize(
    ("size", "kind"),
    [
        (("batch", 3, 128, 128), TensorProto.FLOAT),
        ((1, 3, 128, 128), TensorProto.FLOAT16),
        ((1, 3, 128, 128), TensorProto.DOUBLE),
    ],
)
def test_an_open_count_and_other_number_formats_run(
    model: Path, astronaut: Picture, face: TrackedFace, size: tuple[int | str, ...], kind: int
) -> None:
    write_restorer(model, add=BRIGHTER, size=size, kind=kind)
    grey = np.full_like(astronaut, 100)
    by = change(Enhancer(model, strength=1.0).on(grey, face), grey)
    assert by.max() == pytest.approx(LEVELS, abs=1)


def test_values_beyond_the_range_are_cut_off(
    model: Path, astronaut: Picture, face: TrackedFace
) -> None:
    write_restorer(model, add=9.0)
    new = Enhancer(model, strength=1.0).on(np.full_like(astronaut, 100), face)
    assert new.max() == 255
    assert new.min() == 100


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"size": (4, 3, 128, 128)}, "it takes 4 pictures at once"),
        ({"size": (1, 1, 128, 128)}, r"pictures of the shape \[1, 1, 128, 128\]"),
        ({"size": ("n", 128, 128, 3)}, r"pictures of the shape \[any, 128, 128, 3\]"),
        ({"size": (1, 3, "height", "width")}, "leaves the side of its pictures open"),
        ({"size": (1, 3, 128, 64)}, "pictures of 64 by 128 pixels"),
        ({"size": (1, 3, 16, 16)}, "pictures of 16 by 16 pixels"),
        ({"size": (3, 128, 128)}, "it takes no pictures, not one"),
        ({"second": (1, 3, 128, 128)}, "it takes 2 pictures, not one"),
        ({"second": (1, 512)}, "it takes more than a picture and a number"),
        ({"kind": TensorProto.INT32}, "it works on i32"),
        (
            {"halved": True, "gives": (1, 3, 64, 64)},
            r"for a picture of \[1, 3, 128, 128\] it gives \[1, 3, 64, 64\]",
        ),
        ({"add": np.nan}, "no finite numbers"),
    ],
)
def test_a_network_of_another_kind_is_one_sentence(
    model: Path, options: dict[str, object], why: str
) -> None:
    write_restorer(model, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=why) as caught:
        Enhancer(model)
    assert str(caught.value).endswith("one RGB picture of the shape [1, 3, 512, 512].")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("missing.onnx", None, "can't be read"),
        ("GFPGANv1.4.pth", b"PK\3\4", r"is no \.onnx file"),
        ("text.onnx", b"This is no network.", "OpenVINO can't run it"),
        ("empty.onnx", b"", "OpenVINO can't run it"),
    ],
)
def test_a_file_that_is_no_network_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None, why: str
) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=why) as caught:
        Enhancer(path)
    assert "\n" not in str(caught.value)


def test_a_network_that_breaks_on_the_way_says_so(
    model: Path, astronaut: Picture, face: TrackedFace, monkeypatch: pytest.MonkeyPatch
) -> None:
    enhancer = Enhancer(write_restorer(model))

    def broken(*_: object) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr("engine.enhance._Network._infer", broken)
    with pytest.raises(EngineError, match="leave the enhancement out"):
        enhancer.on(astronaut, face)
