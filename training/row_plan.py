"""Which rows of each map the decoder holds: fewer than all where only some rows are painted.

A convolution of kernel 3 spoils one row at every cut that is not the map's own border, and a
transposed one of stride 2 needs one more row below. Rows that no painted pixel depends on can
therefore be left out, and what is painted stays the same.
"""

from collections.abc import Mapping
from itertools import pairwise

Rows = tuple[int, int]
RowPlan = Mapping[int, Rows]
"""The size of a map to its rows: the first and the one after the last, of the whole map."""

_BLOCKS = 2  # convolutions of kernel 3 after the transposed one of a decoder's stage


def trained_plan(resolution: int, cut_at: int, rows: Rows) -> dict[int, Rows]:
    """Return the rows that a generator was trained with.

    Args:
        resolution: side of the crop in px.
        cut_at: size of the map at which the decoder drops the rows that are not painted; what it
            cuts there is a border with zeros beyond it from then on.
        rows: painted rows of the crop.
    """
    plan = {}
    size = resolution
    while size >= 3:
        first, end = (row * size // resolution for row in rows)
        plan[size] = (first, end) if size >= cut_at else (0, size)
        size //= 2
    return plan


def pruned_plan(trained: RowPlan, rows: Rows) -> dict[int, Rows]:
    """Return the fewest rows from which some of the painted rows come out as they were.

    Args:
        trained: of :func:`trained_plan`.
        rows: the rows of the crop that are wanted, within those that were trained.
    """
    sizes = sorted(trained, reverse=True)
    plan: dict[int, Rows] = {}
    needed = _widened(rows, 1, trained[sizes[0]])  # the head's one convolution
    for size, half in pairwise(sizes):
        plan[size] = needed
        border = (2 * trained[half][0], 2 * trained[half][1])
        first, end = _widened(needed, _BLOCKS, border)
        needed = (first // 2, min(end // 2 + 1, trained[half][1]))
    plan[sizes[-1]] = trained[sizes[-1]]  # the smallest map is made at once
    return plan


def _widened(rows: Rows, by: int, border: Rows) -> Rows:
    return max(rows[0] - by, border[0]), min(rows[1] + by, border[1])
