import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face_models import FaceModels
from engine.lips import mouth_opening
from training.animate import Still, still_of
from training.blend import blend

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def still(astronaut: NDArray[np.uint8], face_models: FaceModels) -> Still:
    return still_of(astronaut, face_models, 96)


def moved(still: Still, pixels: int) -> Still:
    """The face further down."""
    crop, mesh = still
    lower = mesh.copy()
    lower[:, 1] += pixels
    return np.roll(crop, pixels, axis=0), lower


def test_blend_of_a_face_with_itself_is_that_face(still: Still) -> None:
    crop, mesh = blend(still, still)
    np.testing.assert_allclose(mesh, still[1], atol=1e-4)
    assert np.abs(crop.astype(int) - still[0]).max() <= 1


def test_features_meet_half_way_instead_of_showing_twice(still: Still) -> None:
    one, other = moved(still, 0), moved(still, 8)
    crop, mesh = blend(one, other)
    wanted = moved(still, 4)
    np.testing.assert_allclose(mesh, wanted[1], atol=1e-4)
    face = slice(25, 75), slice(25, 70)
    apart = np.abs(crop[face].astype(int) - wanted[0][face]).mean()
    laid_over = (one[0].astype(int) + other[0]) // 2
    assert apart < 0.4 * np.abs(laid_over[face] - wanted[0][face]).mean()
    assert abs(mouth_opening(mesh) - mouth_opening(still[1])) < 0.005


def test_share_leads_from_one_face_to_the_other(still: Still) -> None:
    other = moved(still, 6)
    for share, wanted in ((0.0, still), (1.0, other)):
        crop, mesh = blend(still, other, share)
        np.testing.assert_allclose(mesh, wanted[1], atol=1e-4)
        assert np.abs(crop.astype(int) - wanted[0]).mean() < 2
