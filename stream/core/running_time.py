"""Time as a loop sees it that may stand still."""

from __future__ import annotations

from typing import Final

MOST_STEP_S: Final = 0.05
"""Between two looks at the time; more is standing still."""


class RunningTime:
    """The time during which a loop ran.

    While it stands still, packets lie unread: what is missing then is not late. To be called often.
    """

    def __init__(self) -> None:
        self._seconds = 0.0
        self._last: float | None = None

    def __call__(self, now: float) -> float:
        """Seconds that the loop has run.

        Args:
            now: seconds, rising.
        """
        if self._last is not None:
            self._seconds += min(max(now - self._last, 0.0), MOST_STEP_S)
        self._last = now
        return self._seconds
