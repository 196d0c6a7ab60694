import numpy as np
import pytest
from numpy.typing import NDArray

from engine.mesh_warp import CHIN, NOSE_BASE
from training.mouth_shape import JAW, LIPS, SHAPE_POINTS, ShapeBasis, speech_motion

pytestmark = pytest.mark.unit


@pytest.fixture
def mesh() -> NDArray[np.float32]:
    """Sixty frames of a mouth that opens (12 px) and, less, widens (3 px)."""
    chance = np.random.default_rng(0)
    still = chance.uniform(20, 76, (468, 3)).astype(np.float32)
    mesh = np.repeat(still[None], 60, axis=0)
    opens = np.sin(np.arange(60) * 0.7).astype(np.float32)
    widens = np.cos(np.arange(60) * 1.9).astype(np.float32)
    mesh[:, list(JAW), 1] += 12 * opens[:, None]
    mesh[:, list(LIPS), 0] += 3 * widens[:, None]
    return mesh


def test_points_are_lips_and_jaw_each_once() -> None:
    assert len(set(SHAPE_POINTS)) == len(SHAPE_POINTS) == len(LIPS) + len(JAW)
    assert {13, 14, 61, 291, CHIN} <= set(SHAPE_POINTS)
    assert NOSE_BASE not in SHAPE_POINTS


def test_motion_is_free_of_where_the_head_is(mesh: NDArray[np.float32]) -> None:
    nod = mesh + np.linspace(-5, 5, 60, dtype=np.float32)[:, None, None]
    np.testing.assert_allclose(speech_motion(nod), speech_motion(mesh), atol=1e-4)
    assert speech_motion(mesh).shape == (60, len(SHAPE_POINTS), 2)


def test_basis_keeps_the_motion_in_order_of_its_size(mesh: NDArray[np.float32]) -> None:
    motion = speech_motion(mesh)
    basis = ShapeBasis.fit(motion, 2)
    np.testing.assert_allclose(basis.components @ basis.components.T, np.eye(2), atol=1e-5)
    numbers = basis.encode(motion)
    assert numbers.shape == (60, 2)
    assert numbers.dtype == np.float32
    assert numbers[:, 0].std() == pytest.approx(1.0, rel=1e-3)
    assert 0.1 < numbers[:, 1].std() < 0.9
    rebuilt = basis.mean + basis.scale * numbers @ basis.components
    np.testing.assert_allclose(rebuilt, motion.reshape(60, -1), atol=1e-3)


def test_mean_shape_is_zero(mesh: NDArray[np.float32]) -> None:
    motion = speech_motion(mesh)
    middle = motion.mean(axis=0, keepdims=True)
    np.testing.assert_allclose(ShapeBasis.fit(motion, 3).encode(middle), 0.0, atol=1e-4)
