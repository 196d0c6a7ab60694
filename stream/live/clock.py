"""The one clock of a session."""

import time


class SessionClock:
    """Seconds since the session's start, on the system's monotonic clock.

    Changes of the wall clock do nothing. Where the whole machine slept, :meth:`hold_back` lets the
    session go on where it was.
    """

    def __init__(self) -> None:
        self._epoch = time.monotonic()

    def __call__(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._epoch

    def restart(self) -> None:
        """Count from now on."""
        self._epoch = time.monotonic()

    def hold_back(self, seconds: float) -> None:
        """Take time out of the session in which nothing could run."""
        self._epoch += seconds
