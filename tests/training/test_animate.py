from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError, NoFaceError
from engine.face_models import FaceModels
from engine.lips import correlation, mouth_opening
from training.animate import (
    INNER_LIPS,
    animate,
    animate_frame,
    between_lips,
    closed_frame,
    still_of,
)
from training.bench import openings
from training.clips import find_clips, is_held_out, read_clip

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def ann(toy_clips: Path) -> list[Path]:
    """Ann's clips."""
    return list(find_clips(toy_clips / "ann"))


def test_still_has_a_shut_mouth(astronaut: NDArray[np.uint8], face_models: FaceModels) -> None:
    crop, mesh = still_of(astronaut, face_models, 96)
    assert crop.shape == (96, 96, 3)
    assert mouth_opening(mesh) < 0.02


def test_picture_without_a_face_is_refused(face_models: FaceModels) -> None:
    with pytest.raises(NoFaceError):
        still_of(np.full((96, 96, 3), 128, np.uint8), face_models, 96)


def test_still_opens_its_mouth_as_the_clip_does(
    astronaut: NDArray[np.uint8], face_models: FaceModels, ann: list[Path]
) -> None:
    still, mesh = still_of(astronaut, face_models, 96)
    clip = read_clip(ann[0])
    wanted = np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])
    shut = clip.mesh[closed_frame(clip)].astype(np.float32)
    made, meshes = zip(
        *(
            animate_frame(still, mesh, clip.crops[i], clip.mesh[i].astype(np.float32), shut)
            for i in range(clip.info.frames)
        ),
        strict=True,
    )
    assert correlation(np.array([mouth_opening(m) for m in meshes]), wanted) > 0.98
    # And so it looks to the face models, on the pictures themselves.
    wide = [np.pad(p, ((40, 40), (40, 40), (0, 0)), mode="edge") for p in made]
    large = [cv2.resize(p, (352, 352), interpolation=cv2.INTER_CUBIC) for p in wide]
    seen, lost = openings((np.asarray(p, np.uint8) for p in large), face_models)
    assert lost == 0
    assert correlation(seen, wanted) > 0.9
    brow = slice(0, 25)
    assert all((p[brow] == still[brow]).all() for p in made)


def test_clips_are_made_of_what_may_be_learnt_from(
    astronaut: NDArray[np.uint8], ann: list[Path], tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "zoe.png"), astronaut[..., ::-1].copy())
    cv2.imwrite(str(tmp_path / "wall.png"), np.full((64, 64, 3), 128, np.uint8))
    pictures = [tmp_path / "zoe.png", tmp_path / "wall.png"]
    out = tmp_path / "stills"
    problems = animate(pictures, ann[0].parent, out, clips_each=2)
    assert problems == ["wall.png: The picture shows no face."]
    made = list(find_clips(out))
    assert len(made) == 2
    assert {folder.parent.name for folder in made} == {"zoe"}
    for folder in made:
        clip, source = read_clip(folder), read_clip(ann[0].parent / folder.name)
        assert clip.info.speaker == "zoe"
        assert not is_held_out(clip.info.name)
        np.testing.assert_array_equal(clip.audio, source.audio)
        assert (clip.crops != source.crops).any()


def test_pictures_make_further_people_by_twos(
    astronaut: NDArray[np.uint8], ann: list[Path], tmp_path: Path
) -> None:
    for name, picture in (("ida", astronaut), ("zoe", astronaut[:, ::-1])):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture[..., ::-1].copy())
    pictures = [tmp_path / "ida.png", tmp_path / "zoe.png"]
    out = tmp_path / "stills"
    assert animate(pictures, ann[0].parent, out, clips_each=1, blends=5) == []
    faces = {
        read_clip(folder).info.speaker: read_clip(folder).crops[0] for folder in find_clips(out)
    }
    assert set(faces) == {"ida", "zoe", "ida-zoe"}  # no pair twice
    assert (faces["ida-zoe"] != faces["ida"]).any()


def test_teeth_are_lit_like_the_face_around_them(
    astronaut: NDArray[np.uint8], face_models: FaceModels, ann: list[Path]
) -> None:
    still, mesh = still_of(astronaut, face_models, 96)
    clip = read_clip(ann[0])
    meshes = clip.mesh.astype(np.float32)
    widest = int(np.argmax([mouth_opening(m) for m in meshes]))
    shut = meshes[closed_frame(clip)]

    def inside(light: NDArray[np.float64]) -> NDArray[np.float64]:
        lit = np.clip(still * light, 0, 255).astype(np.uint8)
        made, moved = animate_frame(lit, mesh, clip.crops[widest], meshes[widest], shut)
        share = between_lips(moved[list(INNER_LIPS), :2], 96)
        return np.asarray((share * made).sum(axis=(0, 1)) / share.sum())

    plain, blue = inside(np.ones(3)), inside(np.array([0.6, 0.7, 1.0]))
    np.testing.assert_allclose(blue / plain, [0.6, 0.7, 1.0], atol=0.05)


def test_more_clips_than_there_are_is_refused(ann: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds 3 clips that may be learnt from"):
        animate([], ann[0].parent, tmp_path, clips_each=4)


def test_stills_beneath_the_clips_are_not_animated_with(ann: list[Path], tmp_path: Path) -> None:
    root = tmp_path / "prepared"
    for folder in ann:
        for place in (root / "ann", root / "stills" / "zoe"):
            (place / folder.name).mkdir(parents=True)
            for file in folder.iterdir():
                (place / folder.name / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ConfigError, match="holds 3 clips"):
        animate([], root, root / "stills", clips_each=4)
