"""How large a picture each viewer's link gets, and how many bits.

Two things are known of a link: what the viewer believes it holds (REMB,
draft-alvestrand-rmcat-remb) and the share of packets that it lost (RTCP, RFC 3550 section 6.4.1).
Neither is taken at its word. A viewer believes hardly more than what it gets, so its belief is a
limit only where it lies below what was sent and does not grow; and one report of lost packets may
be chance.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from engine.errors import ConfigError

Rendition = Literal["full", "small"]
"""The picture as it is, or with half its sides."""

_MEASURE_S: Final = 1.0  # over which what was sent is measured: a key frame must not rule it
_BELOW: Final = 0.95  # of what was sent: viewers name 0.85 of it where packets queue
_RISING: Final = 1.03  # in a second; a free link's belief grows by 5 to 8 %
_RISING_S: Final = 1.0
_LOSSY: Final = 0.15  # of the packets, smoothed: more than a bad radio link loses by itself
_CLEAN: Final = 0.03
_HEAVY: Final = 0.4
_HEAVY_S: Final = 0.9  # two reports
_SMOOTHING: Final = 0.5  # weight of a new report of loss; there is about one a second
_GROWTH: Final = 1.08  # a second: as viewers raise what they believe
_STEP_S: Final = 0.9  # reports of loss that come faster change nothing

_SLOW_S: Final = 2.0  # of trouble, before the smaller picture
_SETTLED_S: Final = 60.0
_FIRST_PATIENCE_S: Final = 10.0
_MOST_PATIENCE_S: Final = 160.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """How many bits pictures get.

    Attributes:
        full: of the full rendition on good links, in bits/s.
        small: of the small one; None: there is none, every viewer gets the full one.
        least_share: of either that a slow link can bring it down to, above 0 to 1.
    """

    full: int
    small: int | None = None
    least_share: float = 1.0

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ConfigError: the rates make no sense.
        """
        small = self.full if self.small is None else self.small
        if self.full <= 0 or not 0 < small <= self.full:
            raise ConfigError(
                f"The small picture's bit rate ({self.small}) must be above 0 and no higher than"
                f" the full one's ({self.full})."
            )
        if not 0 < self.least_share <= 1:
            raise ConfigError(f"least_share must be above 0 to 1, not {self.least_share}.")

    def most(self, rendition: Rendition) -> int:
        """The highest rate of a rendition, in bits/s."""
        return self.full if rendition == "full" or self.small is None else self.small

    def least(self, rendition: Rendition) -> int:
        """The lowest rate of a rendition, in bits/s."""
        return round(self.least_share * self.most(rendition))

    def rate(self, rendition: Rendition, links: Iterable[Link]) -> int:
        """What a rendition gets, in bits/s: what the slowest of its viewers' links holds."""
        slowest = min((link.holds for link in links), default=float(self.full))
        return round(min(max(slowest, self.least(rendition)), self.most(rendition)))


class Link:
    """One viewer's link, by its reports.

    A link that does not hold the least rate of the full rendition for two seconds gets the small
    one. After ten seconds without trouble there the full one is tried again. Where that does not
    last a minute, the next trial comes after twice as long.

    Args:
        rates: of the pictures.

    Attributes:
        rendition: what the viewer is to get.
        estimate: what it said last that its link holds, in bits/s; None: it said nothing.
        lost: the smoothed share of packets that were lost, 0 to 1; None: it said nothing.
    """

    def __init__(self, rates: Rates) -> None:
        self._rates = rates
        self.rendition: Rendition = "full"
        self.estimate: float | None = None
        self.lost: float | None = None
        self._sent = 0.0  # bits/s
        self._measured: tuple[float, int] | None = None
        self._by_estimate = self._by_loss = float(rates.full)
        self._loss_step: float | None = None
        self._short = False  # the estimate lies below what is sent, and does not grow
        self._rising = True
        self._reference: tuple[float, float] | None = None  # an estimate, about a second ago
        self._trouble: float | None = None  # since when
        self._calm: float | None = None
        self._tried: float | None = None  # when it last went back to the full rendition
        self._patience_s = _FIRST_PATIENCE_S

    @property
    def holds(self) -> float:
        """What the link is taken to hold, in bits/s, at most the full rate."""
        return min(self._by_estimate, self._by_loss)

    def report(
        self,
        now: float,
        sent_bytes: int,
        *,
        estimate: float | None = None,
        lost: float | None = None,
    ) -> Rendition:
        """Take a viewer's report.

        Args:
            now: monotonic seconds.
            sent_bytes: of pictures to this viewer, since it came.
            estimate: what it believes its link holds, in bits/s.
            lost: the share of packets lost since its last report, 0 to 1.

        Returns:
            What it is to get from now on.
        """
        self._measure(now, sent_bytes)
        if estimate is not None:
            self._believe(now, estimate)
        if lost is not None:
            self._lose(now, lost)
        if self._short or (self.lost or 0.0) > _LOSSY:
            self._calm = None
            self._trouble = now if self._trouble is None else self._trouble
        else:
            self._trouble = None
            self._calm = now if self._calm is None else self._calm
        if self._rates.small is not None:
            self._judge(now)
        return self.rendition

    def _measure(self, now: float, sent_bytes: int) -> None:
        if self._measured is None:
            self._measured = (now, sent_bytes)
            return
        elapsed_s = now - self._measured[0]
        if elapsed_s >= _MEASURE_S:
            self._sent = 8 * (sent_bytes - self._measured[1]) / elapsed_s
            self._measured = (now, sent_bytes)

    def _believe(self, now: float, estimate: float) -> None:
        self.estimate = estimate
        self._see_whether_rising(now, estimate)
        self._short = estimate < _BELOW * self._sent and not self._rising
        held = estimate if self._short else max(estimate, self._by_estimate)
        self._by_estimate = min(held, float(self._rates.full))

    def _see_whether_rising(self, now: float, estimate: float) -> None:
        if self._reference is None:
            self._reference = (now, estimate)
            return
        at, before = self._reference
        if now - at >= _RISING_S:
            self._rising = estimate > _RISING * before
            self._reference = (now, estimate)
        elif estimate < before / _RISING:
            self._rising = False

    def _lose(self, now: float, lost: float) -> None:
        before = lost if self.lost is None else self.lost
        self.lost = before + _SMOOTHING * (lost - before)
        if self._loss_step is not None and now - self._loss_step < _STEP_S:
            return
        self._loss_step = now
        if self.lost > _LOSSY:
            held = self._by_loss * (1 - self.lost / 2)
            self._by_loss = max(held, float(self._rates.least("small")))
        elif self.lost < _CLEAN:
            self._by_loss = min(self._by_loss * _GROWTH, float(self._rates.full))

    def _judge(self, now: float) -> None:
        if self.rendition == "full":
            if self._trouble is None or self.holds >= self._rates.least("full"):
                return
            heavy = (self.lost or 0.0) > _HEAVY
            if now - self._trouble < (_HEAVY_S if heavy else _SLOW_S):
                return
            brief = self._tried is not None and now - self._tried < _SETTLED_S
            longer = min(2 * self._patience_s, _MOST_PATIENCE_S)
            self._patience_s = longer if brief else _FIRST_PATIENCE_S
            self.rendition = "small"
        elif self._calm is not None and now - self._calm >= self._patience_s:
            self.rendition = "full"
            self._tried = now
            # Unknown until tried; a low value would take bits from all the others meanwhile.
            self._by_estimate = self._by_loss = float(self._rates.full)
        else:
            return
        self._calm = self._trouble = self._reference = None
        self._short, self._rising = False, True
