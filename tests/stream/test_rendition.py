"""Which picture a viewer's link gets, and how many bits, against links of every kind."""

import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from engine.errors import ConfigError
from stream.core.rendition import Link, Rates, Rendition

pytestmark = pytest.mark.unit

RATES = Rates(full=1_200_000, small=300_000, least_share=0.5)
STEP_S = 0.25
PLENTY = 30e6


@dataclass
class Viewer:
    """A viewer whose belief works like a browser's: 0.85 of what comes where packets queue, else
    8 % more a second, never more than 1.5 times of what comes.

    Attributes:
        capacity: of its link at a time, in bits/s.
        loses: share of the packets at a time, beside those above the capacity.
        buffers: whether packets above the capacity wait instead.
    """

    capacity: Callable[[float], float] = lambda now: PLENTY
    loses: Callable[[float], float] = lambda now: 0.0
    buffers: bool = False
    link: Link = field(default_factory=lambda: Link(RATES))
    belief: float = 250_000.0
    sent_bytes: int = 0
    got: list[tuple[float, Rendition]] = field(default_factory=list)

    def step(self, now: float, rate: float) -> None:
        """Send at a rate for a quarter of a second; a report of loss comes once a second."""
        self.sent_bytes += round(rate * STEP_S / 8)
        capacity = self.capacity(now)
        received = min(rate, capacity)
        if rate > capacity:
            self.belief = 0.85 * received
        else:
            grown = self.belief * 1.08**STEP_S
            self.belief = min(grown, max(self.belief, 1.5 * received + 10_000))
        lost = None
        if round(now / STEP_S) % 4 == 0:
            above = 0.0 if self.buffers else 1 - received / max(rate, 1)
            lost = min(1.0, above + self.loses(now))
        self.link.report(now, self.sent_bytes, estimate=self.belief, lost=lost)
        if not self.got or self.got[-1][1] != self.link.rendition:
            self.got.append((now, self.link.rendition))


def play(
    *viewers: Viewer,
    seconds: float,
    start: float = 0.0,
    motion: Callable[[float], float] = lambda now: 1.0,
) -> list[float]:
    """Send to viewers, each its rendition at its rate; the share of it that the content takes
    depends on its motion. Returns the full rendition's rates.
    """
    rates: list[float] = []
    for step in range(round(seconds / STEP_S)):
        now = start + step * STEP_S
        links: dict[Rendition, list[Link]] = {"full": [], "small": []}
        for viewer in viewers:
            links[viewer.link.rendition].append(viewer.link)
        rate = {rendition: RATES.rate(rendition, links[rendition]) for rendition in links}
        for viewer in viewers:
            viewer.step(now, motion(now) * rate[viewer.link.rendition])
        rates.append(rate["full"])
    return rates


def share_of(viewer: Viewer, rendition: Rendition, end: float) -> float:
    times = [*viewer.got, (end, rendition)]
    spent = sum(b[0] - a[0] for a, b in itertools.pairwise(times) if a[1] == rendition)
    return spent / end


# One link


def test_a_good_link_keeps_the_full_picture_at_its_full_rate() -> None:
    viewer = Viewer()
    assert set(play(viewer, seconds=600)) == {RATES.full}
    assert viewer.got == [(0.0, "full")]


@pytest.mark.parametrize("believed", [50_000.0, 200_000.0])
def test_a_still_picture_says_nothing_of_the_link(believed: float) -> None:
    viewer = Viewer(belief=believed)
    # A still card takes next to no bits, so that the viewer's belief does not grow.
    assert set(play(viewer, seconds=120, motion=lambda now: 0.02)) == {RATES.full}
    rates = play(viewer, seconds=120, start=120, motion=lambda now: 0.5 + 0.1 * (now % 2))
    assert viewer.got == [(0.0, "full")]
    assert min(rates) >= RATES.least("full")
    assert rates[-1] == RATES.full


def test_a_link_that_holds_less_than_half_gets_the_small_picture_within_four_seconds() -> None:
    viewer = Viewer(capacity=lambda now: PLENTY if now < 20 else 400_000)
    play(viewer, seconds=29)
    (_, (at, rendition)) = viewer.got
    assert rendition == "small"
    assert 20 < at < 24


def test_a_link_that_buffers_without_end_gets_it_as_well() -> None:
    viewer = Viewer(capacity=lambda now: PLENTY if now < 20 else 400_000, buffers=True)
    play(viewer, seconds=29)
    (_, (at, rendition)) = viewer.got
    assert rendition == "small"
    assert 20 < at < 25


def test_a_link_that_holds_three_quarters_lowers_the_rate_alone() -> None:
    viewer = Viewer(capacity=lambda now: 900_000, buffers=True)
    rates = play(viewer, seconds=300)
    assert viewer.got == [(0.0, "full")]
    late = rates[len(rates) // 2 :]
    assert min(late) >= 600_000
    assert sum(late) / len(late) < 950_000


def test_a_link_that_is_good_again_gets_the_full_picture_back() -> None:
    viewer = Viewer(capacity=lambda now: 400_000 if 20 <= now < 40 else PLENTY)
    rates = play(viewer, seconds=120)
    assert [rendition for _, rendition in viewer.got[-2:]] == ["small", "full"]
    assert viewer.got[-1][0] < 65
    assert rates[-1] == RATES.full


def test_a_short_dip_changes_nothing() -> None:
    viewer = Viewer(capacity=lambda now: 500_000 if 20 <= now < 20.5 else PLENTY)
    play(viewer, seconds=60)
    assert viewer.got == [(0.0, "full")]


def test_trials_on_a_slow_link_become_rare() -> None:
    viewer = Viewer(capacity=lambda now: 400_000)
    play(viewer, seconds=1800)
    back = [at for at, rendition in viewer.got if rendition == "full"][1:]
    gaps = [b - a for a, b in itertools.pairwise(back)]
    assert gaps[:3] == sorted(gaps[:3])
    assert min(gaps[4:]) > 120
    assert share_of(viewer, "small", 1800) > 0.95


# Loss


@pytest.mark.parametrize("share", [0.01, 0.05, 0.10])
def test_loss_that_no_rate_cures_changes_nothing(share: float) -> None:
    random_ = random.Random(3)
    # About 120 packets a second: their loss scatters from report to report.
    viewer = Viewer(loses=lambda now: sum(random_.random() < share for _ in range(120)) / 120)
    rates = play(viewer, seconds=120)
    assert viewer.got == [(0.0, "full")]
    assert sum(rates) / len(rates) > 0.9 * RATES.full


def test_heavy_loss_brings_the_small_picture_at_once() -> None:
    viewer = Viewer(loses=lambda now: 0.6 if now >= 20 else 0.0)
    play(viewer, seconds=25)
    assert viewer.got[-1][1] == "small"
    assert viewer.got[-1][0] < 23


def test_lasting_loss_lowers_the_rate_and_then_brings_the_small_picture() -> None:
    viewer = Viewer(loses=lambda now: 0.2 if now >= 20 else 0.0)
    rates = play(viewer, seconds=40)
    assert viewer.got[-1][1] == "small"
    assert min(rates) < 0.8 * RATES.full


def test_the_rate_comes_back_after_loss() -> None:
    viewer = Viewer(loses=lambda now: 0.2 if 20 <= now < 23 else 0.0)
    rates = play(viewer, seconds=60)
    assert min(rates) < RATES.full
    assert rates[-1] == RATES.full


# Several links


def test_a_slow_viewer_does_not_take_the_others_bits() -> None:
    slow, fast = Viewer(capacity=lambda now: 250_000), Viewer()
    rates = play(slow, fast, seconds=600)
    assert share_of(slow, "small", 600) > 0.85
    assert fast.got == [(0.0, "full")]
    assert sum(rates[40:]) / len(rates[40:]) > 0.95 * RATES.full


def test_the_small_picture_follows_the_slowest_of_its_own() -> None:
    slow = Viewer(capacity=lambda now: 200_000, buffers=True)
    play(slow, seconds=60)
    assert slow.link.rendition == "small"
    assert RATES.rate("small", [slow.link]) in range(150_000, 260_000)
    assert RATES.rate("small", []) == 300_000


# Rates


def test_without_a_second_rendition_everybody_keeps_the_full_one() -> None:
    fixed = Rates(full=2_500_000)
    link = Link(fixed)
    for second in range(100):
        sent = second * 250_000
        assert link.report(float(second), sent, estimate=80_000.0, lost=0.5) == "full"
    assert fixed.rate("full", [link]) == 2_500_000  # and at its rate


def test_without_reports_nothing_is_assumed() -> None:
    link = Link(RATES)
    assert (link.rendition, link.holds, link.estimate, link.lost) == (
        "full",
        RATES.full,
        None,
        None,
    )
    assert RATES.rate("full", []) == RATES.full


@pytest.mark.parametrize(
    ("full", "small", "least_share"),
    [(0, None, 1.0), (100, 0, 1.0), (100, 200, 1.0), (100, 50, 0.0), (100, 50, 1.5)],
)
def test_rates_that_make_no_sense_are_refused(
    full: int, small: int | None, least_share: float
) -> None:
    with pytest.raises(ConfigError):
        Rates(full=full, small=small, least_share=least_share)
