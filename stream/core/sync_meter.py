"""What the sync monitor found in a session: for the live page, the metrics and the report."""

from __future__ import annotations

from typing import Any, Final

from stream.core.histogram import Quantiles
from stream.core.sync_policy import STATES, SyncStatus

_AVSU: Final = (-1.0, 1.0, 0.005)


class SyncMeter:
    """Counts and measures.

    Args:
        expert: the name of the lip expert that gives the figures.

    Attributes:
        status: the last one.
        readings: how many there were in each state.
        corrections: how often picture and sound were moved against each other.
        withdrawals: how often the real mouth was shown since the painted one did not match.
        dropped: pictures that the monitor was too slow for.
        load: share of one processor core that it took lately.
    """

    def __init__(self, expert: str) -> None:
        self.expert = expert
        self.status = SyncStatus()
        self.corrections = self.withdrawals = self.dropped = 0
        self.load = 0.0
        self._avsu = Quantiles(*_AVSU)
        self.readings = dict.fromkeys(STATES, 0)
        self._offsets: dict[int, int] = {}

    def read(self, status: SyncStatus) -> None:
        """A reading was judged."""
        self.status = status
        self.readings[status.state] += 1
        if status.state == "unsure" or status.avsu is None:
            return
        self._avsu.add(status.avsu)
        if status.offset is not None:
            self._offsets[status.offset] = self._offsets.get(status.offset, 0) + 1

    def changed(self, before: SyncStatus, after: SyncStatus) -> None:
        """The policy acted."""
        self.status = after
        self.corrections += int(before.correction != after.correction)
        self.withdrawals += int(before.why is None and after.why is not None)

    def snapshot(self) -> dict[str, Any]:
        """The state now, as JSON values."""
        status = self.status
        return {
            "expert": self.expert,
            "state": status.state,
            "doubt": status.doubt,
            "avsu": _rounded(status.avsu),
            "offset_frames": status.offset,
            "confidence": _rounded(status.confidence),
            "correction_frames": status.correction,
            "why": status.why,
        }

    def report(self) -> dict[str, Any]:
        """The whole session, as JSON values; see docs/report.md."""
        known = sum(self.readings.values()) - self.readings["unsure"]
        return {
            "expert": self.expert,
            "readings": dict(self.readings),
            "good_share": _rounded(self.readings["good"] / known) if known else None,
            "avsu": {
                f"p{percent}": _rounded(self._avsu.quantile(percent / 100))
                for percent in (5, 50, 95)
            },
            "offset_frames": {
                str(offset): count for offset, count in sorted(self._offsets.items())
            },
            "corrections": self.corrections,
            "correction_frames": self.status.correction,
            "withdrawals": self.withdrawals,
            "dropped_pictures": self.dropped,
            "load": _rounded(self.load),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
