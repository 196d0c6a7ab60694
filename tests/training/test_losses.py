import pytest
import torch
from torch import Tensor

from engine.mesh_warp import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from engine.paste import paste_mask
from training.config import LossWeights
from training.generator import GeneratorOutput
from training.losses import GeneratorLoss
from training.mouth_shape import LIPS

pytestmark = pytest.mark.models

ROWS, SIDE = (40, 96), 96
HEIGHT = ROWS[1] - ROWS[0]
LIPS_BOX = (38.0, 58.0, 58.0, 66.0)  # x0, y0, x1, y1


def loss_of(**weights: float) -> GeneratorLoss:
    return GeneratorLoss(LossWeights(**weights), ROWS, SIDE)


@pytest.fixture
def frames() -> Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def mesh() -> Tensor:
    """Lips in LIPS_BOX, all other points spread over the crop."""
    chance = torch.Generator().manual_seed(1)
    mesh = 5 + 85 * torch.rand(468, 2, generator=chance)
    x0, y0, x1, y1 = LIPS_BOX
    low, size = torch.tensor([x0, y0]), torch.tensor([x1 - x0, y1 - y0])
    mesh[list(LIPS)] = low + size * torch.rand(len(LIPS), 2, generator=chance)
    mesh[LIPS[0]], mesh[LIPS[1]] = low, low + size
    return mesh.repeat(2, 1, 1)


def warp_output(frames: Tensor, flow: Tensor | float = 0.0, mask: float = 1.0) -> GeneratorOutput:
    painted = frames[:, :, ROWS[0] : ROWS[1]]
    field = torch.zeros(2, 2, HEIGHT, SIDE) + flow
    return GeneratorOutput(painted, field, torch.full((2, 1, HEIGHT, SIDE), mask), painted)


def test_perfect_frames_cost_nothing(frames: Tensor, mesh: Tensor) -> None:
    losses = loss_of(mask=0.0)(warp_output(frames), frames, mesh, mesh)
    assert losses.total.item() == pytest.approx(0.0, abs=1e-7)
    rgb = GeneratorOutput(frames[:, :, ROWS[0] : ROWS[1]])
    assert loss_of()(rgb, frames, mesh, mesh).total.item() == 0.0


@pytest.fixture
def open_mouth() -> Tensor:
    """Lips in LIPS_BOX, a wide open ellipse between them."""
    x0, y0, x1, y1 = LIPS_BOX
    mesh = torch.full((468, 2), 80.0)
    across = torch.linspace(x0, x1, len(UPPER_INNER_LIP))
    bow = (y1 - y0) / 2 * torch.sin(torch.linspace(0, torch.pi, len(UPPER_INNER_LIP)))
    for row, sign in ((UPPER_INNER_LIP, -1), (LOWER_INNER_LIP, 1)):
        mesh[list(row)] = torch.stack((across, (y0 + y1) / 2 + sign * bow), dim=1)
    mesh[[*UPPER_OUTER_LIP]] = mesh[[*UPPER_INNER_LIP]]
    mesh[[*LOWER_OUTER_LIP]] = mesh[[*LOWER_INNER_LIP]]
    return mesh.repeat(2, 1, 1)


def test_total_is_the_weighted_sum_of_the_terms(frames: Tensor, open_mouth: Tensor) -> None:
    output = warp_output(1 - frames, flow=torch.linspace(-3, 3, SIDE), mask=0.4)
    weights = {"pixel": 2.0, "gradient": 0.3, "flow": 0.7, "rough": 0.5, "mask": 0.9, "paint": 0.4}
    weights["place"] = 0.6
    terms = loss_of(**weights)(output, frames, open_mouth, open_mouth + 1).scalars()
    assert all(terms[name] > 0 for name in weights)
    assert terms["total"] == pytest.approx(sum(weights[n] * terms[n] for n in weights), rel=1e-5)


def masked(frames: Tensor, inside: float, outside: float) -> GeneratorOutput:
    """A warp head's output whose mask differs in the middle of the mouth."""
    mask = torch.full((2, 1, HEIGHT, SIDE), outside)
    mask[..., 20:24, 44:53] = inside  # well between the lips of an open mouth
    return warp_output(frames)._replace(mask=mask)


def test_between_open_lips_paint_is_wanted_and_elsewhere_the_persons_own_pixels(
    frames: Tensor, open_mouth: Tensor
) -> None:
    def cost(inside: float, outside: float, mesh: Tensor) -> float:
        return loss_of()(masked(frames, inside, outside), frames, mesh, mesh).mask.item()

    assert cost(0.02, 0.98, open_mouth) < cost(0.98, 0.98, open_mouth)
    assert cost(0.02, 0.98, open_mouth) < cost(0.02, 0.5, open_mouth)
    shut = open_mouth.clone()
    shut[..., 1] = sum(LIPS_BOX[1::2]) / 2
    assert cost(0.98, 0.98, shut) < cost(0.02, 0.98, shut)


def test_paint_is_judged_between_open_lips_alone(frames: Tensor, open_mouth: Tensor) -> None:
    output = warp_output(frames)
    assert output.paint is not None
    beside, between = output.paint.clone(), output.paint.clone()
    beside[..., :10, :] += 0.5
    between[..., 10:, :] += 0.1
    costs = [
        loss_of()(output._replace(paint=p), frames, open_mouth, open_mouth).paint.item()
        for p in (beside, between)
    ]
    assert costs[0] == pytest.approx(0.0, abs=1e-5)
    assert costs[1] == pytest.approx(0.1, rel=0.3)


def test_teeth_too_dark_and_a_gap_too_bright_cost_most(frames: Tensor, open_mouth: Tensor) -> None:
    output = warp_output(frames)
    assert output.paint is not None
    middle = int(sum(LIPS_BOX[1::2]) / 2) - ROWS[0]

    def cost(rows: slice, off: float) -> float:
        paint = output.paint.clone() if output.paint is not None else frames
        paint[..., rows, :] += off
        losses = loss_of()(output._replace(paint=paint), frames, open_mouth, open_mouth)
        return losses.paint.item()

    upper, lower = slice(0, middle - 1), slice(middle + 2, None)
    assert cost(upper, -0.1) > 1.5 * cost(upper, 0.1)
    assert cost(lower, 0.1) > cost(lower, -0.1)


def test_line_between_lips_that_hardly_part_is_rather_too_dark_than_too_bright(
    frames: Tensor, open_mouth: Tensor
) -> None:
    output = warp_output(frames)
    assert output.paint is not None
    middle = sum(LIPS_BOX[1::2]) / 2
    narrow = open_mouth.clone()
    narrow[..., 1] = middle + (open_mouth[..., 1] - middle) / 4  # a gap of 2 px

    def cost(off: float) -> float:
        assert output.paint is not None
        painted = output._replace(paint=output.paint + off)
        return loss_of()(painted, frames, narrow, narrow).paint.item()

    assert cost(0.1) > 2 * cost(-0.1) > 0


@pytest.mark.parametrize(("down_px", "cost"), [(0.0, 0.0), (2.0, 1.0), (-2.0, 1.0), (10.0, 21.0)])
def test_lips_beside_their_place_cost_the_square_and_outliers_less(
    frames: Tensor, open_mouth: Tensor, down_px: float, cost: float
) -> None:
    flow = torch.tensor([0.0, -down_px])[:, None, None]
    shut = open_mouth.clone()
    shut[..., 1] = sum(LIPS_BOX[1::2]) / 2
    losses = loss_of()(warp_output(frames, flow), frames, shut, shut)
    assert losses.place.item() == pytest.approx(cost, abs=1e-4)


def pixel_cost(frames: Tensor, mesh: Tensor, x: int, y: int) -> float:
    """What one pixel wrong by 0.5 costs."""
    wrong = frames.clone()
    wrong[:, :, y, x] += 0.5
    output = GeneratorOutput(wrong[:, :, ROWS[0] : ROWS[1]])
    return loss_of()(output, frames, mesh, mesh).pixel.item()


def test_pixels_count_most_at_the_lips_and_least_where_the_paste_hides_them(
    frames: Tensor, mesh: Tensor
) -> None:
    mask = paste_mask(SIDE)
    assert mask[80, 48] > 0.99
    assert mask[94, 2] == 0
    lips, chin, corner = (pixel_cost(frames, mesh, *p) for p in ((48, 62), (48, 80), (2, 94)))
    assert lips == pytest.approx(6 * chin, rel=0.02)
    assert corner == pytest.approx(0.15 * chin, rel=0.02)
    beside = pixel_cost(frames, mesh, 48, 71)  # 5 px below the lips' lowest point
    assert beside == pytest.approx(chin, rel=0.02)


def test_edges_cost_beyond_their_pixels(frames: Tensor, mesh: Tensor) -> None:
    """A flat error has no edge inside; a chequered one of the same size is all edges."""
    flat = frames[:, :, ROWS[0] : ROWS[1]] + 0.1
    signs = (torch.arange(HEIGHT)[:, None] + torch.arange(SIDE)) % 2 * 2 - 1
    chequered = frames[:, :, ROWS[0] : ROWS[1]] + 0.1 * signs
    loss = loss_of()
    smooth = loss(GeneratorOutput(flat), frames, mesh, mesh)
    rough = loss(GeneratorOutput(chequered), frames, mesh, mesh)
    assert smooth.pixel.item() == pytest.approx(rough.pixel.item(), rel=1e-4)
    assert smooth.gradient.item() == pytest.approx(0.0, abs=1e-6)
    assert rough.gradient.item() > 0.3


def test_flow_that_shows_the_meshs_motion_costs_nothing(frames: Tensor, mesh: Tensor) -> None:
    motion = torch.tensor([2.0, -3.0])
    output = warp_output(frames, flow=motion[:, None, None])
    right = loss_of()(output, frames, mesh, mesh + motion)
    wrong = loss_of()(output, frames, mesh, mesh - motion)
    assert right.flow.item() == pytest.approx(0.0, abs=1e-6)
    assert wrong.flow.item() > 0.5
    assert right.rough.item() == pytest.approx(0.0, abs=1e-6)


def test_points_outside_the_painted_rows_have_no_flow(frames: Tensor, mesh: Tensor) -> None:
    elsewhere = mesh.clone()
    inside = (mesh[..., 1] > ROWS[0] - 0.5) & (mesh[..., 1] < ROWS[1] - 0.5)
    elsewhere[~inside] += 9.0
    losses = loss_of()(warp_output(frames), frames, mesh, elsewhere)
    assert losses.flow.item() == pytest.approx(0.0, abs=1e-6)
    elsewhere[inside] += 9.0
    assert loss_of()(warp_output(frames), frames, mesh, elsewhere).flow.item() > 1


def test_flow_gets_a_gradient_towards_the_meshs_motion(frames: Tensor, mesh: Tensor) -> None:
    flow = torch.zeros(2, 2, HEIGHT, SIDE, requires_grad=True)
    painted = frames[:, :, ROWS[0] : ROWS[1]]
    output = GeneratorOutput(painted, flow, torch.ones(2, 1, HEIGHT, SIDE), painted)
    loss_of()(output, frames, mesh, mesh + torch.tensor([1.0, 0.0])).total.backward()  # type: ignore[no-untyped-call]
    assert flow.grad is not None
    assert flow.grad[:, 0].sum() < 0  # a longer way to the right would cost less
    assert abs(float(flow.grad[:, 1].sum())) < 1e-6
