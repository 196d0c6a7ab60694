"""Where the sound that is pushed into an intake comes to lie in the room."""

from __future__ import annotations

from typing import Final

from stream.core.intake import LiveIntake
from stream.core.remote_clock import RemoteClock
from stream.core.sound import SOUND_RATE, TICK_S

DRY_S: Final = 0.03
"""An intake that holds less has nothing to play after the next tick."""

_STARVED_S: Final = 0.001  # and no more than the filter's own


class IntakeWatch:
    """Tells a peer's clock what an intake holds, whenever it is looked at.

    Args:
        intake: whose sound this is.
        remote: the peer's clock.
    """

    def __init__(self, intake: LiveIntake, remote: RemoteClock) -> None:
        self._intake, self._remote = intake, remote
        self._filter_s = intake._converter.delay_s
        self._plays = False

    def look(self, now: float) -> bool:
        """See what it holds; to be called every hundredth of a second, and before each push.

        Args:
            now: room seconds.

        Returns:
            Whether it plays, and soon has nothing to play.
        """
        waiting_s = self._waiting_s()
        self._remote.held(now, waiting_s + self._filter_s)
        if self._plays and waiting_s < _STARVED_S:
            self._plays = False
            self._remote.starved()
        return self._plays and waiting_s + self._filter_s < DRY_S

    def pushed(self, end_s: float, now: float) -> None:
        """Sound was pushed into it.

        Args:
            end_s: the media time at the end of it.
            now: room seconds.
        """
        held_s = self._waiting_s() + self._filter_s
        self._plays = self._plays or held_s >= self._intake.target_s - TICK_S / 2
        if self._plays:  # before, only the intake knows how long it will fill up
            self._remote.pushed(end_s, now, held_s)

    def _waiting_s(self) -> float:
        """What waits at this moment; the intake's own levels are means."""
        return len(self._intake._queue) / SOUND_RATE
