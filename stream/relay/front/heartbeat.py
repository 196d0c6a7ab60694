"""Whether a room still lives, judged by when it was last heard. Pure: no clock."""

from __future__ import annotations

from enum import Enum
from typing import Final

QUIET_S: Final = 2.0
"""After this long without a word a room is asked for its state."""

HUNG_S: Final = 10.0
"""After this long it hangs."""

_LATE_S: Final = 1.0  # a judgement that comes so late says more of the judge than of the room


class Health(Enum):
    """How a room is."""

    FINE = "fine"
    QUIET = "quiet"
    HUNG = "hung"


class Heartbeat:
    """Judges one room; to be asked every ``every_s``.

    Time in which nobody judged does not count: the front process itself may have been stopped,
    and what the room said meanwhile not been read yet.

    Args:
        every_s: how often it is asked.
        quiet_s: see ``QUIET_S``.
        hung_s: see ``HUNG_S``.
    """

    def __init__(self, every_s: float, *, quiet_s: float = QUIET_S, hung_s: float = HUNG_S) -> None:
        self._every_s, self._quiet_s, self._hung_s = every_s, quiet_s, hung_s
        self._judged_at: float | None = None
        self._forgiven_to = 0.0

    def judge(self, heard_at: float, now: float) -> Health:
        """How the room is.

        Args:
            heard_at: when its last message came; both in seconds of one clock.
            now: the time.
        """
        before, self._judged_at = self._judged_at, now
        if before is None or now - before > self._every_s + _LATE_S:
            self._forgiven_to = now
        silent_s = now - max(heard_at, self._forgiven_to)
        if silent_s >= self._hung_s:
            return Health.HUNG
        return Health.QUIET if now - heard_at >= self._quiet_s else Health.FINE
