"""Collection rules and fixtures shared by all tests."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import skimage.data
from numpy.typing import NDArray

if TYPE_CHECKING:
    from engine.bundle import Bundle
    from engine.face_models import FaceModels

CATEGORIES = {"unit", "media", "models", "cli", "devices"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not CATEGORIES & {mark.name for mark in item.iter_markers()}:
            raise pytest.UsageError(
                f"{item.nodeid} has no category: set `pytestmark = pytest.mark.<category>`,"
                f" one of {', '.join(sorted(CATEGORIES))}"
            )


@pytest.fixture(scope="session", autouse=True)
def same_backend_everywhere() -> Iterator[None]:
    """Commands take one run time; which is the fastest is measured, and so different each time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIPSTREAM_BACKEND", "openvino-fp32")
        yield


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The development clips; a test that asks for them skips where they are missing."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("LIPSTREAM_DATA", default))
    if not (folder / "grid").is_dir():
        pytest.skip(f"the development clips are not at {folder} (set LIPSTREAM_DATA)")
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> "Bundle":
    """A bundle of an untrained generator, eight channels wide: what it paints is noise."""
    # Not at the top: only tests of networks wait for torch.
    from engine.crop import UprightGeometry, geometry_to_dict
    from engine.mel import MelSettings, WindowPlacement
    from export.build import build
    from tests.networks import tiny_generator
    from training.checkpoint import load_checkpoint, save_checkpoint

    folder = tmp_path_factory.mktemp("tiny")
    model = tiny_generator(head="warp", rows=(40, 96), masked_from=40)
    save_checkpoint(
        folder / "model.pt",
        config=model.config.to_dict(),
        model=model.state_dict(),
        mel=MelSettings().to_dict(),
        placement=WindowPlacement(-0.075).to_dict(),
        crop=geometry_to_dict(UprightGeometry()),
        training={"licence": "Apache-2.0", "training_data": "none"},
    )
    bundle, _ = build(load_checkpoint(folder / "model.pt"), folder / "bundle")
    return bundle


@pytest.fixture(scope="session")
def face_models() -> "FaceModels":
    """The face networks, one thread; trackers of all tests share them."""
    from engine.face_models import FaceModels

    return FaceModels(threads=1)


@pytest.fixture(scope="session")
def astronaut() -> NDArray[np.uint8]:
    """A real portrait, uint8 RGB (512, 512, 3), smiling with bare teeth; read-only."""
    picture = np.asarray(skimage.data.astronaut())  # type: ignore[no-untyped-call]
    picture.flags.writeable = False
    return picture
