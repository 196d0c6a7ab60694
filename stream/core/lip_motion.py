"""Whether a speaker's real lips move as in talking, where there is no voice to tell."""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

WINDOW_S: Final = 0.6
"""What is looked at; two syllables, even slow ones, end in it."""

# A swing is a rise or a fall of the opening by at least this, and by this share of how far the
# mouth is open. Landmarks at rest jitter by 0.006 at most, those of an open mouth move by 0.035 as
# its owner blinks; syllables swing by 0.05 and more.
SWING: Final = 0.025
SWING_SHARE: Final = 0.1
# Jitter may swing so far once in a while; one of talk's swings at least is larger by this.
_RANGE_TO_BEGIN: Final = 1.6

# Talking begins with a swing to and fro: a smile and a yawn go one way and stay.
_SWINGS_TO_BEGIN: Final = 2
_SWINGS_TO_GO_ON: Final = 1

_SMOOTH_S: Final = 0.06  # pictures closer than this are averaged by two: 17 a second and more
_LOST_S: Final = 0.3  # a face lost for longer may come back as another one


class LipMotion:
    """Follows the mouth opening from picture to picture.

    It is late by what the first syllable takes, some 0.2 s, and goes on for up to
    :data:`WINDOW_S` after the last one.
    """

    def __init__(self) -> None:
        self._openings: deque[tuple[float, float]] = deque()  # pts and opening
        self._pts = -float("inf")
        self._moving = False

    def reset(self) -> None:
        """Forget the face: another one is followed from now on."""
        self._openings.clear()
        self._pts = -float("inf")
        self._moving = False

    def update(self, opening: float | None, pts: float) -> bool:
        """Take the next picture.

        Args:
            opening: as :func:`engine.lips.mouth_opening` gives it; None where no face is.
            pts: the picture's time in seconds; one that does not rise is ignored.

        Returns:
            Whether the lips move as in talking.
        """
        if not pts > self._pts:
            return self._moving
        self._pts = pts
        openings = self._openings
        if opening is not None:
            if openings and pts - openings[-1][0] > _LOST_S:
                openings.clear()
            openings.append((pts, opening))
        while openings and openings[0][0] < pts - WINDOW_S:
            openings.popleft()
        self._moving = self._talks()
        return self._moving

    def _talks(self) -> bool:
        smooth = self._smooth()
        if not smooth:
            return False
        least = SWING + SWING_SHARE * median(smooth)
        swings = count_swings(smooth, least)
        if self._moving:
            return swings >= _SWINGS_TO_GO_ON
        large = max(smooth) - min(smooth) >= _RANGE_TO_BEGIN * least
        return large and swings >= _SWINGS_TO_BEGIN

    def _smooth(self) -> list[float]:
        values = []
        before: tuple[float, float] | None = None
        for pts, opening in self._openings:
            near = before is not None and pts - before[0] < _SMOOTH_S
            values.append((opening + before[1]) / 2 if near and before else opening)
            before = pts, opening
        return values


def count_swings(values: list[float], least: float) -> int:
    """How often a curve rises or falls by ``least`` or more, between turns as large."""
    swings = 0
    rising: bool | None = None
    low = high = values[0]
    for value in values:
        low, high = min(low, value), max(high, value)
        if rising is not True and value >= low + least:
            rising, high = True, value
            swings += 1
        elif rising is not False and value <= high - least:
            rising, low = False, value
            swings += 1
    return swings
