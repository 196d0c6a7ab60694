"""Toy videos, prepared clips and the starter's checkpoint, made once."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import load_bundle
from engine.crop import geometry_to_dict
from engine.face_models import FaceModels
from tests.training.toys import held_out_names, speaking_faces, write_video
from training.bundled import read_generator
from training.checkpoint import save_checkpoint
from training.prepare import prepare_clip

LEARNT, HELD_OUT = 3, 2


@pytest.fixture(scope="session")
def toy_faces(astronaut: NDArray[np.uint8], face_models: FaceModels) -> list[NDArray[np.uint8]]:
    """The portrait with its mouth from shut to wide open."""
    return speaking_faces(astronaut, face_models)


@pytest.fixture(scope="session")
def toy_videos(
    toy_faces: list[NDArray[np.uint8]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Videos of two speakers: ``ann`` (three to learn from, two held out) and ``eve`` (two)."""
    root = tmp_path_factory.mktemp("videos")
    names = held_out_names(LEARNT, held_out=False) + held_out_names(HELD_OUT)
    for seed, name in enumerate(names):
        write_video(root / "ann" / f"{name}.mp4", toy_faces, seed)
    mirrored = [np.ascontiguousarray(face[:, ::-1]) for face in toy_faces]
    for seed, name in enumerate(held_out_names(2, held_out=False)):
        write_video(root / "eve" / f"{name}.mp4", mirrored, 10 + seed)
    return root


@pytest.fixture(scope="session")
def toy_clips(toy_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same, prepared."""
    root = tmp_path_factory.mktemp("prepared")
    for path in sorted(toy_videos.rglob("*.mp4")):
        prepare_clip(path, root / path.parent.name / path.stem, path.parent.name, 96)
    return root


@pytest.fixture(scope="session")
def starter_generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The starter's generator as a checkpoint of a run that could go on."""
    bundle, path = load_bundle(), tmp_path_factory.mktemp("starter") / "generator.pt"
    model = read_generator(bundle)
    save_checkpoint(
        path,
        config=model.config.to_dict(),
        model=model.state_dict(),
        mel=bundle.mel.to_dict(),
        placement=bundle.placement.to_dict(),
        crop=geometry_to_dict(bundle.crop),
        training={"licence": "CC0"},
        resume={"step": 7},
    )
    return path
