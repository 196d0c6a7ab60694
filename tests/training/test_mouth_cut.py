import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.mouth_region import mouth_regions, network_input
from tests.training.drawn_clips import face, face_mesh
from training.mouth_cut import CUT_POINTS, box_matrices, cut_mouths, mouth_matrices, read

pytestmark = pytest.mark.models

OPENINGS = np.random.default_rng(3).uniform(0, 1, 15)


@pytest.fixture(scope="module")
def crops() -> NDArray[np.uint8]:
    return np.stack([face(o, 4, o) for o in OPENINGS])


@pytest.fixture(scope="module")
def meshes() -> NDArray[np.float32]:
    return np.stack([face_mesh(o, o) for o in OPENINGS])


def pictures_of(crops: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).double() / 255


def points_of(meshes: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(meshes[:, CUT_POINTS, :2])[None]


def test_regions_are_those_that_the_lip_expert_has_learnt_from(
    crops: NDArray[np.uint8], meshes: NDArray[np.float32]
) -> None:
    found = cut_mouths(pictures_of(crops), mouth_matrices(points_of(meshes))[0])
    wanted = network_input(mouth_regions(list(crops), list(meshes)))
    assert found.shape == (len(crops), 88, 88)
    # Whole gray levels there, none here: two at most of 255, which the network's input magnifies.
    assert np.abs(found.numpy() - wanted).max() < 2.5 / 255 / 0.165


def test_mirrored_faces_have_mirrored_regions(
    crops: NDArray[np.uint8], meshes: NDArray[np.float32]
) -> None:
    points = points_of(meshes)
    mirrored = points * torch.tensor([-1.0, 1.0]) + torch.tensor([95.0, 0.0])
    plain = cut_mouths(pictures_of(crops), mouth_matrices(points)[0])
    swapped = cut_mouths(pictures_of(crops).flip(-1), mouth_matrices(mirrored)[0])
    # The mean face is a little crooked, so the two differ by a pixel here and there.
    assert (plain.flip(-1) - swapped).abs().mean() < 0.1
    assert (plain.flip(-2) - swapped).abs().mean() > 0.3


def test_frames_after_a_clips_end_do_not_count(meshes: NDArray[np.float32]) -> None:
    points = points_of(meshes)
    longer = torch.cat([points, torch.zeros_like(points)], dim=1)
    matrices = mouth_matrices(longer, torch.tensor([points.shape[1]]))
    assert torch.equal(matrices[:, : points.shape[1]], mouth_matrices(points))


def test_reading_is_exact_where_nothing_moves(crops: NDArray[np.uint8]) -> None:
    pictures = pictures_of(crops)
    still = torch.eye(2, 3, dtype=torch.float64).repeat(len(crops), 1, 1)
    assert torch.allclose(read(pictures, still, 96, 96), pictures, atol=1e-12)
    still[:, :, 2] = torch.tensor([7.0, 30.0])
    assert torch.allclose(read(pictures, still, 20, 40), pictures[..., 30:50, 7:47], atol=1e-12)


def test_boxes_span_the_mesh_from_its_middle_down(meshes: NDArray[np.float32]) -> None:
    mesh = torch.from_numpy(meshes[..., :2])
    matrices = box_matrices(mesh).float()
    low, high = mesh.amin(dim=1), mesh.amax(dim=1)
    corners = matrices @ torch.tensor([[0.0, 0.0, 1.0], [96.0, 48.0, 1.0]]).T
    assert torch.allclose(corners[..., 0, 0].squeeze(), matrices[:, 0, 2], atol=1e-4)
    assert torch.allclose(corners[:, 0], torch.stack([low[:, 0], high[:, 0]], -1), atol=1e-3)
    height = (high - low)[:, 1] * 1.05
    below = torch.stack([low[:, 1] + height / 2, low[:, 1] + height], -1)
    assert torch.allclose(corners[:, 1], below, atol=1e-3)


def test_gradients_reach_the_pixels_of_the_mouth_and_no_others(
    crops: NDArray[np.uint8], meshes: NDArray[np.float32]
) -> None:
    pictures = pictures_of(crops).requires_grad_()
    cut_mouths(pictures, mouth_matrices(points_of(meshes))[0]).sum().backward()  # type: ignore[no-untyped-call]
    assert pictures.grad is not None
    felt = pictures.grad.abs().sum(dim=1).gt(0).float().mean(dim=0)
    assert felt[45:70, 30:66].min() == 1
    assert felt[:18].max() == 0
