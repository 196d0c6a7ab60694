"""Which of the camera's pictures serves as identity reference: soon a usable one, then a better."""

from __future__ import annotations

import math
from typing import Final

# Costs of engine.chain.reference_cost, measured: 0.04 to 0.06 for a shut mouth before a webcam,
# 0.06 to 0.12 in the course of talk, 0.2 for a smile with bare teeth, 0.3 for a wide open vowel.
GOOD_COST: Final = 0.06
"""A reference that costs no more is kept."""
USABLE_COST: Final = 0.25
"""A first picture that costs no more is taken at once."""
PATIENCE_S: Final = 1.0
"""After a face was seen for so long, any first picture is taken."""
REST_S: Final = 2.0
"""Between two changes."""

SHARE: Final = 0.75
"""A better picture costs at most this share of what the reference costs, at first."""
SHARE_HALVES_S: Final = 60.0
LEAST_SHARE: Final = 0.4
"""The share halves in each of these spans after the first choice, down to the least one."""


class IdentityChooser:
    """Decides when a picture becomes the identity reference.

    The first usable picture is taken at once, so that lips follow from the start. Then one is
    taken that costs at most a share of the reference's cost: three quarters at first, half as much
    after each minute, never less than 0.4, so that a reference chosen in bad conditions can still
    be replaced. Two changes lie at least 2 s apart, and a good reference stays. Since each change
    takes off a quarter of the cost, there are few.

    Attributes:
        cost: of the reference; None while there is none.
        pinned: whether the user wants to keep it.
    """

    def __init__(self) -> None:
        self.pinned = False
        self.reset()

    def reset(self) -> None:
        """Another face was chosen: start anew, and let go of a pinned reference."""
        self.cost: float | None = None
        self.pinned = False
        self._seen_at: float | None = None
        self._first_at = self._last_at = -math.inf

    def keep(self, pinned: bool = True) -> None:
        """Keep the reference whatever is offered, or stop keeping it.

        While there is none, the first one is still taken.
        """
        self.pinned = pinned

    def offer(self, cost: float, now: float) -> bool:
        """A picture of the face could serve as reference.

        Args:
            cost: its :func:`engine.chain.reference_cost`; one that is not finite is refused.
            now: session seconds.

        Returns:
            Whether it is the reference from now on.
        """
        if not math.isfinite(cost):
            return False
        if self._seen_at is None:
            self._seen_at = now
        if self.cost is None:
            taken = cost <= USABLE_COST or now - self._seen_at >= PATIENCE_S
            if taken:
                self._first_at = now
        else:
            taken = self._is_better(cost, now)
        if taken:
            self.cost, self._last_at = cost, now
        return taken

    def _is_better(self, cost: float, now: float) -> bool:
        if self.pinned or self.cost is None or self.cost <= GOOD_COST:
            return False
        if now - self._last_at < REST_S:
            return False
        halvings = (now - self._first_at) / SHARE_HALVES_S
        return cost <= self.cost * max(LEAST_SHARE, SHARE * math.exp2(-halvings))
