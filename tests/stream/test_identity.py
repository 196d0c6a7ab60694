import math
from itertools import pairwise

import numpy as np
import pytest

from stream.core.identity import GOOD_COST, IdentityChooser

pytestmark = pytest.mark.unit


def taken(chooser: IdentityChooser, costs: list[float], step_s: float = 0.2) -> list[int]:
    """Which of the costs, offered in turn, become references."""
    return [n for n, cost in enumerate(costs) if chooser.offer(cost, n * step_s)]


@pytest.mark.parametrize("cost", [0.03, 0.12, 0.2])
def test_a_usable_picture_is_taken_at_once(cost: float) -> None:
    """A shut mouth, talk, and a smile with bare teeth."""
    chooser = IdentityChooser()
    assert chooser.offer(cost, 12.0)
    assert chooser.cost == cost


def test_any_picture_is_taken_after_a_second_of_bad_ones() -> None:
    chooser = IdentityChooser()
    assert not chooser.offer(0.4, 30.0)
    assert not chooser.offer(0.35, 30.9)
    assert chooser.cost is None
    assert chooser.offer(0.5, 31.0)


def test_only_a_clearly_better_picture_replaces_it() -> None:
    chooser = IdentityChooser()
    assert chooser.offer(0.2, 0.0)
    assert not chooser.offer(0.16, 3.0)
    assert chooser.offer(0.14, 3.0)
    assert not chooser.offer(0.14, 6.0)


def test_changes_lie_two_seconds_apart() -> None:
    chooser = IdentityChooser()
    assert chooser.offer(0.24, 0.0)
    assert not chooser.offer(0.1, 1.9)
    assert chooser.offer(0.1, 2.0)
    assert not chooser.offer(0.01, 3.9)


def test_a_good_one_stays() -> None:
    chooser = IdentityChooser()
    assert chooser.offer(GOOD_COST, 0.0)
    assert taken(chooser, [0.001] * 100, step_s=5) == []


def test_it_changes_ever_less_readily_but_still_if_it_is_bad() -> None:
    def replaces(cost: float, after_s: float) -> bool:
        chooser = IdentityChooser()
        assert chooser.offer(0.2, 0.0)
        return chooser.offer(cost, after_s)

    assert replaces(0.14, 3.0)
    assert not replaces(0.14, 20.0)
    assert replaces(0.11, 20.0)
    assert not replaces(0.09, 120.0)
    assert replaces(0.08, 3600.0)


def test_hours_of_pictures_bring_few_changes() -> None:
    chance = np.random.default_rng(0)
    for _ in range(20):
        costs = chance.lognormal(math.log(0.2), 0.6, 18_000).tolist()
        chooser = IdentityChooser()
        changes = taken(chooser, costs)
        assert 1 <= len(changes) <= 5
        assert changes[0] < 6
        kept = [costs[n] for n in changes]
        assert all(better <= 0.75 * cost for cost, better in pairwise(kept))
        assert kept[-1] < 0.1


def test_a_broken_cost_is_refused() -> None:
    chooser = IdentityChooser()
    assert taken(chooser, [math.nan, math.inf] * 10) == []
    assert chooser.offer(0.1, 4.0)


def test_a_pinned_reference_stays_until_it_is_let_go() -> None:
    chooser = IdentityChooser()
    chooser.keep()
    assert chooser.offer(0.2, 0.0), "there must be one to keep"
    assert not chooser.offer(0.05, 5.0)
    chooser.keep(False)
    assert chooser.offer(0.05, 6.0)


def test_another_face_starts_anew() -> None:
    chooser = IdentityChooser()
    assert chooser.offer(0.05, 0.0)
    chooser.keep()
    chooser.reset()
    assert chooser.cost is None
    assert not chooser.pinned
    assert not chooser.offer(0.3, 0.1)
    assert chooser.offer(0.2, 0.2)
    assert chooser.offer(0.1, 2.3)
