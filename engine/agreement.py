"""Whether a face can be painted on: turned heads and covered mouths keep the real pixels."""

from __future__ import annotations

import math
from collections import deque
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.crop import eye_centres
from engine.tracker import TrackedFace

TURNED_AT: Final = 0.65
TURNED_UNTIL: Final = 0.52
"""Turn of the head in radians (37° and 30°) from which on, and down to which, it is turned away."""

NODDED_AT: Final = 0.60
NODDED_UNTIL: Final = 0.50
"""The same for a head that looks up or down, against :data:`LEVEL_PITCH`."""
LEVEL_PITCH: Final = -0.2
"""Pitch of the mesh of a head held level: the median of 15 people, from whom each differs by up
to 0.16."""

COVERED_AT: Final = 0.11
COVERED_UNTIL: Final = 0.07
"""Share of stray pixels from which on, and down to which, a mouth is covered. In talk it stays
below 0.04, below 0.08 as light changes; a broad smile comes to 0.09, a mouth torn open to 0.2."""

BEGIN_S: Final = 0.08
"""How long a limit is passed before pictures are left alone: two pictures at 25 a second."""
END_S: Final = 0.3
"""How long it is kept again before they are not."""
UNKNOWN_S: Final = 1.0
"""After this long without painting, what covered the mouth may be gone, or new."""

FOREHEAD, CHIN = 10, 152
_KEPT: Final = 8  # times of trouble that are remembered; pictures wait for less than two


def head_turn(mesh: NDArray[np.float32]) -> tuple[float, float]:
    """Which way the head looks.

    Args:
        mesh: float32 (468, 3), any unit, x to the right, y down, smaller depth is nearer.

    Returns:
        Yaw and pitch in radians, whatever the roll: yaw is positive for a head turned to the
        right of the picture, pitch for one that looks up; see :data:`LEVEL_PITCH`.
    """
    left, right = eye_centres(mesh)
    across = right - left
    up = mesh[FOREHEAD].astype(np.float64) - mesh[CHIN]
    yaw = np.arctan2(across[2], np.hypot(across[0], across[1]))
    return float(yaw), float(np.arctan2(up[2], np.hypot(up[0], up[1])))


class _Switch:
    """On when a value stays high for a moment, off when it stays low for longer.

    It is on from the moment on at which the value rose, not from the one at which that was sure:
    pictures wait to be shown, so those in between can still be left alone.
    """

    def __init__(self, on_at: float, off_at: float) -> None:
        self._on_at, self._off_at = on_at, off_at
        self._asks_since: float | None = None
        self._spans: deque[tuple[float, float]] = deque(maxlen=_KEPT)
        self.on = False

    def update(self, value: float, now: float, *, sure: bool = False) -> None:
        """Take the next value; ``sure``: without waiting."""
        if not (value < self._off_at if self.on else value > self._on_at):
            self._asks_since = None
            return
        since = self._asks_since = now if self._asks_since is None else self._asks_since
        # Half a millisecond: times are sums of picture durations.
        if sure or now - since >= (END_S if self.on else BEGIN_S) - 5e-4:
            self._turn(since, now)

    def _turn(self, since: float, now: float) -> None:
        if self.on:
            start, _ = self._spans.pop()
            self._spans.append((start, now))
        else:
            self._spans.append((since, math.inf))
        self.on, self._asks_since = not self.on, None

    def was_on(self, pts: float) -> bool:
        """Whether it was on at a time, by all that is known now."""
        return any(start <= pts < end for start, end in self._spans)


class Visibility:
    """Follows one speaker's face from picture to picture.

    A turn is known when a picture was tracked, a covered mouth only when it was painted, some
    0.3 s later; each is told by itself, in the order of the pictures.
    """

    def __init__(self) -> None:
        self._turned = _Switch(TURNED_AT, TURNED_UNTIL)
        self._nodded = _Switch(NODDED_AT, NODDED_UNTIL)
        self._covered = _Switch(COVERED_AT, COVERED_UNTIL)
        self._seen_at = -math.inf
        self._painted_at = -math.inf

    def saw(self, face: TrackedFace | None, pts: float) -> None:
        """A picture was tracked.

        Args:
            face: where the face is, if there is one; what it did last holds while there is none.
            pts: the picture's, in seconds, rising.
        """
        self._seen_at = pts
        if face is not None:
            yaw, pitch = head_turn(face.mesh)
            self._turned.update(abs(yaw), pts)
            self._nodded.update(abs(pitch - LEVEL_PITCH), pts)

    def painted(self, disagreement: float, pts: float) -> None:
        """A picture was painted.

        Args:
            disagreement: of :func:`engine.paste.disagreement`.
            pts: the picture's, in seconds, rising.
        """
        is_news = pts - self._painted_at > UNKNOWN_S
        self._painted_at = pts
        self._covered.update(disagreement, pts, sure=is_news)

    def trouble(self, pts: float | None = None) -> Literal["turned", "occluded"] | None:
        """Why a picture's face can't be painted on, if so, by all that is known now.

        Args:
            pts: the picture's; the last one that was tracked by default. Asked again after later
                pictures were painted, the answer is better.
        """
        at = self._seen_at if pts is None else pts
        if self._turned.was_on(at) or self._nodded.was_on(at):
            return "turned"
        return "occluded" if self._covered.was_on(at) else None
