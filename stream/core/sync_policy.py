"""What a session makes of its lip expert's readings: report, correct, or show the real mouth.

Pure: it is told each reading and when nothing sounds, and answers what to do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from typing import Final, Literal

from engine.filterbank import FPS
from engine.sync_monitor import MOST_OFFSET, Reading

SyncState = Literal["good", "drifting", "poor", "unsure"]
"""``good``: within a frame. ``drifting``: clearly off. ``poor``: speech sounds and painted lips are
seen, but they match nowhere. ``unsure``: there is too little of one of them to say anything."""
STATES: Final[tuple[SyncState, ...]] = ("good", "drifting", "poor", "unsure")

Doubt = Literal["starting", "silence", "no painted mouth"]

SPOKEN: Final = 0.3
"""Less speech in the window than this share is silence."""
SEEN: Final = 0.5
"""With fewer painted mouths in the window than this share nothing is said of them."""
TOLERATED: Final = 1
"""Frames: what is off by no more is good."""
MOST_CORRECTION: Final = 12
"""Frames, either way: half a second."""

AGREEING: Final = 4  # readings one after the other that make an offset constant
AGREE_S: Final = 1.0  # and they span at least so long
POOR_S: Final = 6.0
"""Lips that match nowhere for so long give way to the real mouth."""
RETRY_S: Final = (15.0, 30.0, 60.0)
"""Pauses before the painted mouth is tried again, longer each time until it is good."""


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The state as it is shown.

    Attributes:
        state: see :data:`SyncState`.
        doubt: why it is unsure, else None.
        avsu: of the last reading that says anything, −1..1; None before.
        offset: of the same reading, in frames at 25 a second, + = sound late; None where lips and
            sound match nowhere.
        confidence: of that offset.
        correction: frames by which the picture is held back (+) or the sound (−).
        why: one sentence while the real mouth is shown for it, else None.
    """

    state: SyncState = "unsure"
    doubt: Doubt | None = "starting"
    avsu: float | None = None
    offset: int | None = None
    confidence: float | None = None
    correction: int = 0
    why: str | None = None


class SyncPolicy:
    """Turns readings into a state, corrections and a pause of the painted mouth.

    Args:
        confident: confidence from which on the expert's offsets count.
        acts: whether anything is changed; where not, it only reports.

    Attributes:
        status: the state now.
    """

    def __init__(self, confident: float, *, acts: bool = True) -> None:
        self._confident = confident
        self._acts = acts
        self.status = SyncStatus()
        self._recent: deque[tuple[float, int]] = deque(maxlen=AGREEING)
        self._poor_since: float | None = None
        self._tries = 0
        self._retry_at: float | None = None

    @property
    def correction_s(self) -> float:
        """How much later than the sound the picture is to leave; negative: earlier."""
        return self.status.correction / FPS

    @property
    def passthrough(self) -> bool:
        """Whether the real mouth is to be shown."""
        return self.status.why is not None

    def read(self, reading: Reading | None, now: float) -> None:
        """Take the next reading.

        Args:
            reading: None where there is none yet.
            now: session seconds.
        """
        state, doubt = self._judge(reading)
        self.status = replace(self.status, state=state, doubt=doubt)
        if reading is not None and doubt is None:
            self.status = replace(
                self.status,
                avsu=reading.avsu,
                offset=None if state == "poor" else reading.offset.frames,
                confidence=reading.offset.confidence,
            )
        self._remember(reading, state, now)

    def tick(self, now: float, *, quiet: bool) -> bool:
        """Time passes: correct what is constant, give up what lasts, try again.

        Args:
            now: session seconds.
            quiet: whether nothing sounds around what leaves now.

        Returns:
            Whether something changed, so that what was seen before must be forgotten.
        """
        if not self._acts:
            return False
        if self._retry_at is not None:
            if now < self._retry_at:
                return False
            self._retry_at = None
            self._change(why=None)
            return True
        if self._poor_since is not None and now - self._poor_since >= POOR_S:
            self._retry_at = now + RETRY_S[min(self._tries, len(RETRY_S) - 1)]
            self._tries += 1
            self._change(
                why="The painted lips did not match the speech; the real mouth is shown, and they"
                " are tried again."
            )
            return True
        if quiet and (step := self._step()):
            self._change(correction=self.status.correction + step)
            return True
        return False

    def _judge(self, reading: Reading | None) -> tuple[SyncState, Doubt | None]:
        if reading is None:
            return "unsure", "starting"
        if reading.seen < SEEN:
            return "unsure", "no painted mouth"
        if reading.spoken < SPOKEN:
            return "unsure", "silence"
        off = abs(reading.offset.frames)
        # At the very end of what is looked at there is no peak, only a slope.
        if reading.offset.confidence < self._confident or off == MOST_OFFSET:
            return "poor", None
        return ("good" if off <= TOLERATED else "drifting"), None

    def _remember(self, reading: Reading | None, state: SyncState, now: float) -> None:
        if state == "good":
            self._tries = 0
        if state == "drifting" and reading is not None:
            self._recent.append((now, reading.offset.frames))
        else:
            self._recent.clear()
        spread = self._spread()
        if state == "poor" or (spread is not None and spread > 2 * TOLERATED):
            self._poor_since = now if self._poor_since is None else self._poor_since
        elif state != "drifting" or (spread is not None and spread <= TOLERATED):
            self._poor_since = None

    def _spread(self) -> int | None:
        """How far the last offsets lie apart, each of them clear; None while there are few."""
        found = [offset for _, offset in self._recent]
        return max(found) - min(found) if len(found) == AGREEING else None

    def _step(self) -> int:
        """Frames to correct by; 0 while the offset is not constant, or cannot be made up for."""
        spread = self._spread()
        if spread is None or spread > TOLERATED:
            return 0
        if self._recent[-1][0] - self._recent[0][0] < AGREE_S:
            return 0
        step = self._recent[-1][1]  # earlier windows may hold some of what was before
        return step if abs(self.status.correction + step) <= MOST_CORRECTION else 0

    def _change(self, *, correction: int | None = None, why: str | None = None) -> None:
        """What was measured before holds no longer."""
        kept = self.status.correction if correction is None else correction
        self.status = SyncStatus(correction=kept, why=why)
        self._recent.clear()
        self._poor_since = None
