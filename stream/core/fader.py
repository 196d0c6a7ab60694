"""How much of the painted mouth each picture shows: faded over a few pictures, never switched."""

from typing import Final

FADE_S: Final = 0.16
"""How long a full fade takes: four pictures at 25 a second."""

_SMALL: Final = 1e-6  # below this nothing can be seen


class Fader:
    """Follows what is wanted, no faster than a full fade in :data:`FADE_S`.

    It also looks ahead: where a face is about to be lost, the fade ends just before.
    """

    def __init__(self) -> None:
        self._level = 0.0
        self._pts: float | None = None

    def move(self, pts: float, wanted: float, *, lost_at: float | None = None) -> float:
        """The share of the painted mouth in the next picture.

        Args:
            pts: of the picture, rising from call to call, in seconds.
            wanted: 0..1, what the gate asks for; 0 where nothing was painted.
            lost_at: pts of the next picture that can't be changed, as far as it is known.

        Returns:
            0..1; exactly 0 for the picture as it is.
        """
        elapsed = FADE_S if self._pts is None else max(pts - self._pts, 0.0)
        self._pts = pts
        step = elapsed / FADE_S
        if lost_at is not None:
            # The picture at lost_at shows nothing, so this one may show one step per picture left.
            wanted = min(wanted, max(0.0, (lost_at - pts) / FADE_S))
        self._level = min(max(wanted, self._level - step), self._level + step, 1.0)
        if self._level < _SMALL:
            self._level = 0.0
        return self._level

    def cut(self, pts: float) -> None:
        """There is no face to fade on: nothing is shown until it rises again."""
        self._level, self._pts = 0.0, pts
