"""What all speakers of a room share: the clock, the bundle, and how a line is made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.bundle import Bundle
from engine.face_models import FaceModels
from engine.tracker import FaceTracker
from stream.live.clock import SessionClock
from stream.live.painter import PaintEngine
from stream.relay.metrics import RoomMetrics


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """What all speakers of a room share.

    Attributes:
        clock: the room's.
        bundle: the generator's.
        make_engine: connects to the process that runs the generator; called in a thread, again
            after that process was lost.
        metrics: takes the room's measurements.
        delay_s: added delay of a lip-synced line to begin with.
        badge: whether modified pictures are marked.
        sync_monitor: ``off``, ``report`` or ``act``.
        expert: the bundle whose lip expert watches each language, if one does.
    """

    clock: SessionClock
    bundle: Bundle
    make_engine: Callable[[], PaintEngine]
    metrics: RoomMetrics
    delay_s: float
    badge: bool
    sync_monitor: str = "off"
    expert: Bundle | None = None

    def make_tracker(self) -> FaceTracker:
        """A face tracker with networks of its own: they belong to one thread."""
        return FaceTracker(
            FaceModels(threads=1),
            geometry=self.bundle.crop,
            resolution=self.bundle.resolution,
            live=True,
        )
