"""Whether a face can be painted on: turned heads and covered mouths keep the real pixels."""

from __future__ import annotations

from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from engine.crop import eye_centres
from engine.tracker import TrackedFace

TURNED_AT: Final = 0.65
TURNED_UNTIL: Final = 0.55
"""Turn of the head in radians (37° and 32°) from which on, and down to which, it is turned away."""

COVERED_AT: Final = 0.30
COVERED_UNTIL: Final = 0.20
"""Share of the paste's rim that disagrees, from which on and down to which a mouth is covered."""

_BEGIN_S: Final = 0.08  # how long a limit is passed before the picture follows
_END_S: Final = 0.3
_UNKNOWN_S: Final = 1.0  # after this long without painting, what covered the mouth may be gone


def head_turn(mesh: NDArray[np.float32]) -> float:
    """How far the head is turned to a side, ≥ 0, in radians, from a float32 (468, 3) mesh."""
    left, right = eye_centres(mesh)
    across = right - left
    return abs(float(np.arctan2(across[2], np.hypot(across[0], across[1]))))


class _Switch:
    """On when a value stays high for a moment, off when it stays low for longer."""

    def __init__(self, on_at: float, off_at: float) -> None:
        self._on_at, self._off_at = on_at, off_at
        self._since: float | None = None  # when the value last began to ask for a change
        self.on = False

    def update(self, value: float, now: float) -> None:
        asks = value < self._off_at if self.on else value > self._on_at
        if not asks:
            self._since = None
            return
        self._since = now if self._since is None else self._since
        if now - self._since >= (_END_S if self.on else _BEGIN_S):
            self.on, self._since = not self.on, None


class Visibility:
    """Follows one speaker's face from picture to picture."""

    def __init__(self) -> None:
        self._turned = _Switch(TURNED_AT, TURNED_UNTIL)
        self._covered = _Switch(COVERED_AT, COVERED_UNTIL)
        self._painted_at: float | None = None

    def saw(self, face: TrackedFace | None, pts: float) -> None:
        """A picture was tracked.

        Args:
            face: where the face is, if there is one.
            pts: the picture's, in seconds, rising.
        """
        if face is not None:
            self._turned.update(head_turn(face.mesh), pts)

    def painted(self, disagreement: float, pts: float) -> None:
        """A picture was painted.

        Args:
            disagreement: of :func:`engine.paste.disagreement`.
            pts: the picture's, in seconds, rising.
        """
        if self._painted_at is not None and pts - self._painted_at > _UNKNOWN_S:
            self._covered = _Switch(COVERED_AT, COVERED_UNTIL)
        self._painted_at = pts
        self._covered.update(disagreement, pts)

    def trouble(self) -> Literal["turned", "occluded"] | None:
        """Why the face can't be painted on now, if so."""
        if self._turned.on:
            return "turned"
        return "occluded" if self._covered.on else None
