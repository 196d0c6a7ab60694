"""Who decides what the mouth does: the real one, one that speaks, or one that is shut.

Pure and cheap: it remembers stretches of sound, not samples. A picture's decision depends on what
was heard from its past up to a little after it; where that is not known yet, on what is known.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from stream.core.fader import FADE_S

ON_AT: Final = 0.5
OFF_AT: Final = 0.35
"""Probabilities from which on silence becomes a voice, and below which a voice becomes silence."""

LEAD_S: Final = 0.12
"""The mouth gets ready this long before a voice is heard."""
TARGET_HOLD_S: Final = 0.3
SOURCE_HOLD_S: Final = 0.5
"""How long a voice counts after its last sound: pauses inside a sentence change nothing."""

# What lips do is known later than what a voice does, and kept up longer: see LipMotion.
LIPS_LEAD_S: Final = 0.3
LIPS_HOLD_S: Final = 0.2
MEL_FADE_S: Final = 0.08
"""How long the generator's hearing takes to go from the sound to silence, or back."""

_GAP_S: Final = 0.1  # hops missing for longer: a voice is not assumed to have gone on
_KEPT_S: Final = 5.0  # of what was heard; more than the longest delay of a picture
_LONGEST_PICTURE_S: Final = 0.1  # a camera's slowest rate; beyond, pictures are missing
_SMALL: Final = 1e-9


class GateCase(StrEnum):
    """What the mouth in a picture has to do."""

    REAL = "real"
    """Both voices are silent: the real mouth."""
    SPEECH = "speech"
    """The target speech sounds: the generated mouth."""
    CLOSED = "closed"
    """The speaker talks while the target is silent: a generated mouth that is shut."""


@dataclass(frozen=True, slots=True)
class GateDecision:
    """What is done with one picture.

    Attributes:
        case: what holds at its time; while fading, what is faded to.
        amount: 0..1, how much of the generated mouth is shown.
        mel_amount: 0..1, weight of the sound's mel window against silence in what the generator
            hears; keeps its last value in the real case.
    """

    case: GateCase
    amount: float
    mel_amount: float

    @property
    def generates(self) -> bool:
        """Whether the generator is needed for this picture."""
        return self.amount > 0


class _Voice:
    """Remembers when a voice sounded, as far as it may still be asked for.

    Args:
        lead_s: it counts this long before it is heard.
        hold_s: and this long after.
    """

    __slots__ = ("_heard_to", "_hold_s", "_lead_s", "_on", "_spells")

    def __init__(self, lead_s: float, hold_s: float) -> None:
        self._lead_s, self._hold_s = lead_s, hold_s
        self._spells: deque[list[float]] = deque()  # start and end of each, rising
        self._on = False
        self._heard_to = -math.inf

    def heard(self, end_s: float, length_s: float, probability: float) -> None:
        if not end_s > self._heard_to:  # a second time, or no number
            return
        start = end_s - length_s
        was_on = self._on and start - self._heard_to < _GAP_S
        self._heard_to = end_s
        self._on = probability >= (OFF_AT if was_on else ON_AT)
        if not self._on:
            return
        spells = self._spells
        # A pause that lead and hold fill is none.
        if spells and start <= spells[-1][1] + self._hold_s + self._lead_s:
            spells[-1][1] = end_s
            return
        spells.append([start, end_s])
        while spells[0][1] < end_s - _KEPT_S:
            spells.popleft()

    def sounds(self, pts: float) -> bool:
        """Whether it counts at ``pts``, which rises from call to call."""
        spells = self._spells
        while spells and spells[0][1] + self._hold_s < pts:
            spells.popleft()
        return bool(spells) and spells[0][0] - self._lead_s <= pts


class Gate:
    """Decides for each picture, from what both voices do around its time.

    Before any sound is known the mouth is the real one, and again when sound stops coming in. The
    first picture, and one after a long gap, gets its share at once; between pictures that follow
    each other the share moves evenly, so that a whole fade takes ``fade_s`` at any rate.

    Args:
        has_source: whether there is the speaker's own voice; where not, the lips tell.
        has_target: whether there is target audio; where not, the mouth stays the real one.
        fade_s: how long a full fade between the real and the generated mouth takes.
        lead_s: how long before a voice is heard its case begins, where the sound ahead is known.
    """

    def __init__(
        self,
        *,
        has_source: bool,
        has_target: bool = True,
        fade_s: float = FADE_S,
        lead_s: float = LEAD_S,
    ) -> None:
        self._has_source, self._has_target = has_source, has_target
        self._fade_s = fade_s
        self._target = _Voice(lead_s, TARGET_HOLD_S)
        if has_source:
            self._source = _Voice(lead_s, SOURCE_HOLD_S)
        else:
            self._source = _Voice(max(lead_s, LIPS_LEAD_S), LIPS_HOLD_S)
        self._lips_pts = -math.inf
        self._pts: float | None = None
        self._amount = 0.0
        self._mel_amount = 1.0

    def heard_target(self, end_s: float, length_s: float, probability: float) -> None:
        """A hop of the target sound was heard.

        Args:
            end_s: session seconds of its end, rising; a hop that does not rise is ignored.
            length_s: its length in seconds.
            probability: of speech, 0..1; one that is no number counts as silence.
        """
        self._target.heard(end_s, length_s, probability)

    def heard_source(self, end_s: float, length_s: float, probability: float) -> None:
        """A hop of the speaker's own voice was heard; as in :meth:`heard_target`."""
        if self._has_source:
            self._source.heard(end_s, length_s, probability)

    def lips(self, pts: float, moving: bool) -> None:
        """What the real lips do in the picture of ``pts``; ignored where there is a voice."""
        if self._has_source or not pts > self._lips_pts:
            return
        length_s = min(pts - self._lips_pts, _LONGEST_PICTURE_S)
        self._lips_pts = pts
        self._source.heard(pts, length_s, float(moving))

    def decide(self, pts: float) -> GateDecision:
        """What to do with a picture.

        Args:
            pts: when it was taken, in session seconds, rising from call to call. To be asked when
                the sound up to ``lead_s`` later is known, or when there is no more time.
        """
        case = self._case(pts)
        wanted = 0.0 if case is GateCase.REAL else 1.0
        elapsed = math.inf if self._pts is None else max(pts - self._pts, 0.0)
        self._pts = pts
        if case is not GateCase.REAL:
            # What can't be seen yet need not be faded.
            step = math.inf if self._amount == 0 else elapsed / MEL_FADE_S
            hears = 1.0 if case is GateCase.SPEECH else 0.0
            self._mel_amount = _towards(self._mel_amount, hears, step)
        self._amount = _towards(self._amount, wanted, elapsed / self._fade_s)
        return GateDecision(case, self._amount, self._mel_amount)

    def _case(self, pts: float) -> GateCase:
        # Both are asked each time: that is what lets them forget.
        speech, talk = self._target.sounds(pts), self._source.sounds(pts)
        if not self._has_target:
            return GateCase.REAL
        if speech:
            return GateCase.SPEECH
        return GateCase.CLOSED if talk else GateCase.REAL


def _towards(value: float, wanted: float, step: float) -> float:
    """One step from a value to another, exact at its end."""
    if abs(wanted - value) <= step + _SMALL:
        return wanted
    return value + math.copysign(step, wanted - value)
