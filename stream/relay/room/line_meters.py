"""A line's meters whose stages count as the relay's too."""

from __future__ import annotations

from typing import Final, Literal

from stream.core.meters import Meters
from stream.relay.metrics import RoomMetrics

_CHUNK_STAGES: Final[dict[str, Literal["queue", "infer", "post"]]] = {
    "wait": "queue",
    "generate": "infer",
    "compose": "post",
}


class LineMeters(Meters):
    """A line's meters whose stages count as the relay's too."""

    def __init__(self, metrics: RoomMetrics) -> None:
        super().__init__()
        self._metrics = metrics

    def stage(self, name: str, seconds: float) -> None:
        """As in :class:`stream.core.meters.Meters`."""
        super().stage(name, seconds)
        if name in _CHUNK_STAGES:
            self._metrics.chunk(_CHUNK_STAGES[name], seconds)
