"""What a session was like, second by second, in memory that does not grow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

MOST_MOMENTS: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class Moment:
    """A second of a session, or several of a long one; None where nothing was measured.

    Attributes:
        at: its end, in session seconds.
        fps: new pictures shown a second.
        added_delay_ms: 95 % of the sound was held no longer.
        skew_ms: 95 % of the pictures were no further from their sound.
        case: the gate's, where it was longest.
        rss_mb: memory of the process, in 10^6 bytes.
    """

    at: float
    fps: float | None = None
    added_delay_ms: float | None = None
    skew_ms: float | None = None
    case: str | None = None
    rss_mb: float | None = None


class Series:
    """Moments in order; each stands for twice as long whenever there would be too many.

    Args:
        most: moments that are kept; even, so that all stand for the same time.
    """

    def __init__(self, most: int = MOST_MOMENTS) -> None:
        self._most = most
        self._each = 1  # given moments to one that is kept
        self._kept: list[Moment] = []
        self._open: list[Moment] = []

    def add(self, moment: Moment) -> None:
        """Take the next moment."""
        self._open.append(moment)
        if len(self._open) < self._each:
            return
        self._kept.append(_merged(self._open))
        self._open = []
        if len(self._kept) >= self._most:
            kept = self._kept
            self._kept = [_merged(kept[start : start + 2]) for start in range(0, len(kept), 2)]
            self._each *= 2

    def moments(self) -> list[Moment]:
        """All of the session so far."""
        return [*self._kept, _merged(self._open)] if self._open else list(self._kept)


def _merged(moments: Sequence[Moment]) -> Moment:
    cases = [m.case for m in moments if m.case is not None]
    return Moment(
        at=moments[-1].at,
        fps=_mean([m.fps for m in moments]),
        added_delay_ms=_worst([m.added_delay_ms for m in moments]),
        skew_ms=_worst([m.skew_ms for m in moments]),
        case=Counter(cases).most_common(1)[0][0] if cases else None,
        rss_mb=_mean([m.rss_mb for m in moments]),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _worst(values: Sequence[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)
