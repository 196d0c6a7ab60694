import pytest
import torch
from torch import Tensor

from engine.mesh_warp import (
    LOWER_INNER_LIP,
    LOWER_OUTER_LIP,
    UPPER_INNER_LIP,
    UPPER_OUTER_LIP,
)
from training.config import LossWeights
from training.generator import GeneratorOutput
from training.lip_places import (
    RIM,
    carried_inside,
    inside_lips,
    opened,
    painted_mesh,
    painted_rim,
    parted_rim,
)
from training.losses import GeneratorLoss

pytestmark = pytest.mark.models

ROWS, SIDE = (40, 96), 96
LEFT, RIGHT, THICK = 36.0, 60.0, 4.0  # px
UPPER_Y = 60.0
CORNERS = 0, 10, 11, 21  # of the rim, which both lips share


def mouth(gap: float, upper: float = UPPER_Y) -> Tensor:
    """A mesh (1, 468, 2): inner lips ``gap`` px apart, the upper one at a height."""
    mesh = torch.full((468, 2), 20.0)
    across = torch.linspace(LEFT, RIGHT, len(UPPER_INNER_LIP))
    rows = (
        (UPPER_INNER_LIP, upper),
        (UPPER_OUTER_LIP, upper - THICK),
        (LOWER_INNER_LIP, upper + gap),
        (LOWER_OUTER_LIP, upper + gap + THICK),
    )
    for points, y in rows:
        mesh[list(points)] = torch.stack((across, torch.full_like(across, y)), dim=1)
    return mesh[None]


def jaw_drop(gap: float) -> Tensor:
    """The flow (1, 2, R, S) that opens a shut mouth by so much: all below the middle comes down."""
    y = torch.arange(*ROWS, dtype=torch.float32)
    down = (y - UPPER_Y).clamp(0, gap)
    flow = torch.zeros(1, 2, len(y), SIDE)
    flow[:, 1] = -down[:, None]
    return flow


@pytest.mark.parametrize("painted_gap", [0.0, 4.0, 8.0, 11.0])
def test_lips_are_found_where_the_flow_has_put_them(painted_gap: float) -> None:
    true, shut = mouth(8.0), mouth(0.0)
    painted = painted_mesh(painted_rim(jaw_drop(painted_gap), true, shut, ROWS, SIDE), true)
    wanted = mouth(painted_gap)
    lips = [*UPPER_INNER_LIP, *LOWER_INNER_LIP]
    torch.testing.assert_close(painted[:, lips], wanted[:, lips], atol=0.05, rtol=0)


def test_flow_learns_to_put_the_lips_in_their_place() -> None:
    true, shut = mouth(8.0), mouth(0.0)
    flow = jaw_drop(3.0).requires_grad_()

    def off() -> torch.Tensor:
        rim = painted_rim(flow, true, shut, ROWS, SIDE)
        return (rim - parted_rim(true, SIDE)).square().sum()

    before = off()
    before.backward()  # type: ignore[no-untyped-call]
    assert flow.grad is not None
    with torch.no_grad():
        flow -= 0.2 * flow.grad
    assert off() < 0.8 * before


def test_open_lips_are_put_a_little_further_apart_and_shut_ones_are_not() -> None:
    for gap, more in ((0.5, 0.0), (2.0, 0.8), (8.0, 0.2)):  # half of it at either lip
        true = mouth(gap)
        moved = parted_rim(true, SIDE) - true[:, list(RIM)]
        upper, lower = moved[0, :, 1].chunk(2)
        assert not moved[..., 0].any()
        assert not moved[0, list(CORNERS)].any()
        assert upper[1:-1].tolist() == pytest.approx([-more] * 9, abs=1e-5)
        assert lower[1:-1].tolist() == pytest.approx([more] * 9, abs=1e-5)


def test_lips_that_touch_have_no_inside() -> None:
    assert opened(mouth(1.0), SIDE).item() == 0
    assert opened(mouth(6.0), SIDE).item() == 1
    assert inside_lips(mouth(1.0), ROWS, SIDE).max() == 0
    inside = inside_lips(mouth(8.0), ROWS, SIDE)
    assert inside.sum().item() == pytest.approx(8 * (RIGHT - LEFT), rel=0.15)


def teeth(gap: float, upper: float = UPPER_Y) -> Tensor:
    """A frame (1, 3, S, S): white teeth in the upper half of the gap, a dark cavity below."""
    frame = torch.full((1, 3, SIDE, SIDE), 0.5)
    top, middle, end = (round(upper + share * gap) for share in (0, 0.5, 1))
    frame[..., top:middle, int(LEFT) : int(RIGHT)] = 1.0
    frame[..., middle:end, int(LEFT) : int(RIGHT)] = 0.0
    return frame


def test_teeth_are_carried_under_the_painted_lip() -> None:
    carried = carried_inside(teeth(8.0), mouth(8.0), mouth(4.0, UPPER_Y + 6), ROWS, SIDE)
    column = carried[0, 0, :, 48]
    first = round(UPPER_Y) + 6 - ROWS[0]
    assert column[first + 1] > 0.9
    assert column[first + 3] < 0.2


def test_sharp_teeth_in_their_own_place_are_right_and_the_average_is_not() -> None:
    true, shut = mouth(8.0), mouth(0.0)
    loss = GeneratorLoss(LossWeights(), ROWS, SIDE)
    frames = teeth(8.0)

    def cost(paint: Tensor) -> float:
        rows = paint[:, :, ROWS[0] : ROWS[1]]
        mask = torch.zeros(1, 1, ROWS[1] - ROWS[0], SIDE)
        output = GeneratorOutput(rows, jaw_drop(4.0), mask, rows)
        return loss(output, frames, true, shut).paint.item()

    sharp, average = cost(teeth(4.0)), cost(torch.full_like(frames, 0.5))
    assert sharp < 0.6 * average


def test_mouth_that_is_open_by_mistake_shows_nothing_to_learn_from() -> None:
    shut = mouth(0.0)
    loss = GeneratorLoss(LossWeights(), ROWS, SIDE)
    frames = teeth(8.0)
    rows = frames[:, :, ROWS[0] : ROWS[1]]
    mask = torch.zeros(1, 1, ROWS[1] - ROWS[0], SIDE)
    losses = loss(GeneratorOutput(rows, jaw_drop(6.0), mask, rows), frames, shut, shut)
    assert losses.paint.item() == 0
    assert losses.pixel.item() == pytest.approx(0, abs=1e-6)
    assert losses.flow.item() > 0  # only that it is open is wrong
