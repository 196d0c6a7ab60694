import pytest
import torch

from tests.networks import inputs, tiny_generator
from training.generator import Head
from training.row_plan import Rows, pruned_plan, trained_plan

pytestmark = pytest.mark.models


@pytest.mark.parametrize(
    ("head", "trained", "wanted"),
    [
        ("rgb", (0, 96), (40, 96)),
        ("rgb", (0, 96), (13, 51)),
        ("rgb", (24, 88), (41, 77)),
        ("warp", (40, 96), (48, 90)),
        ("warp", (40, 96), (40, 96)),
    ],
)
def test_fewer_rows_hold_the_pixels_that_all_rows_would(
    head: Head, trained: Rows, wanted: Rows
) -> None:
    model = tiny_generator(head=head, rows=trained)
    mel, pose, identity = inputs(2)
    with torch.no_grad():
        whole = model(mel, pose, identity).frames
        model.paint_only(wanted)
        part = model(mel, pose, identity).frames
    first, end = (row - trained[0] for row in wanted)
    torch.testing.assert_close(part, whole[:, :, first:end], rtol=0, atol=1e-6)
    assert part.std() > 0.01


def test_going_back_paints_what_was_trained() -> None:
    model = tiny_generator(head="rgb")
    model.paint_only((40, 96))
    model.paint_only(None)
    with torch.no_grad():
        assert model(*inputs(1)).frames.shape == (1, 3, 96, 96)


def test_plan_of_the_lower_part_leaves_out_a_third_of_the_finest_maps() -> None:
    plan = pruned_plan(trained_plan(96, 12, (0, 96)), (40, 96))
    # By hand: one row for the head's convolution, then two and half of them for each stage.
    assert plan == {96: (39, 96), 48: (18, 48), 24: (8, 24), 12: (3, 12), 6: (0, 6), 3: (0, 3)}


def test_a_row_less_than_the_plan_changes_the_picture() -> None:
    model = tiny_generator(head="rgb")
    mel, pose, identity = inputs(1)
    with torch.no_grad():
        whole = model(mel, pose, identity).frames[:, :, 40:]
        model.paint_only((40, 96))
        model._plan = {**model._plan, 96: (40, 96)}
        part = model(mel, pose, identity).frames
    assert (part - whole).abs().max() > 1e-4
