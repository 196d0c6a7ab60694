"""Whose words an interpreter of the whole floor speaks. Pure.

Somebody who interprets a whole meeting into one language speaks for whoever has the floor, one to
five seconds later. Which speaker's lips have to follow is decided here, by these rules:

1. A *turn* of a speaker is speech with pauses below 0.8 s. It counts once 0.6 s of it were speech:
   a "mhm" never does.
2. An *utterance* of the interpreter is speech with pauses below 0.8 s. It belongs to one speaker
   from its beginning to its end.
3. It belongs to the speaker who has been speaking alone for the last ``hold_s``; else to the one
   who spoke longest from 6 s to 1 s before it began, so that somebody who began half a second ago
   is not yet interpreted; of those who spoke equally long, to who had the floor ``lag_s`` before.
4. Where nobody spoke in that window, it belongs to who had the floor ``lag_s`` before it began:
   who spoke then, or else was the last to speak. Where nobody had, to who has it now.
5. While the interpreter pauses, the answer is who an utterance would belong to that began now. So
   the route changes in a pause alone, and its first syllable, which takes a voice detector a
   moment to hear, goes to the right speaker already.
6. What belongs to somebody who has left belongs to nobody: the words of one are never put into the
   mouth of another. 6 s later nothing of theirs is still to be interpreted; then they are
   forgotten, and an utterance that still goes on is given to whoever rule 3 or 4 finds. Who is
   heard again before is back, with what they said.
7. Of those who speak at a time, the floor is with the one whose turn began first: cutting in takes
   it from nobody.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Final

PAUSE_S: Final = 0.8
"""A longer one ends a turn or an utterance."""
TURN_S: Final = 0.6
"""Speech in a turn that counts; less is a noise of listening."""
WINDOW_S: Final = (6.0, 1.0)
"""How long before an utterance what it interprets begins and ends."""

_TICK_S: Final = 0.1  # calls further apart: nothing is known of the time between
_KEPT_S: Final = 2 * WINDOW_S[0]  # of turns; more than any rule looks back
_LONGEST_S: Final = 10.0  # of lag_s and hold_s
_EQUAL_S: Final = 0.1
_SMALL: Final = 1e-6


@dataclass(slots=True)
class _Turn:
    start: float
    end: float  # of the last speech in it
    spoken_s: float = 0.0

    @property
    def counts(self) -> bool:
        return self.spoken_s > TURN_S - _SMALL

    def within(self, start: float, end: float) -> float:
        """How much of it lies in a span, in seconds."""
        return max(0.0, min(self.end, end) - max(self.start, start))


@dataclass(slots=True)
class _Speaker:
    turns: deque[_Turn] = field(default_factory=deque)
    heard_at: float = -math.inf
    left_at: float | None = None

    def hear(self, speaking: bool, now: float) -> None:
        if now <= self.heard_at:
            return
        start = now if math.isinf(self.heard_at) else max(self.heard_at, now - _TICK_S)
        self.heard_at = now
        if not speaking:
            return
        last = self.turns[-1] if self.turns else None
        if last is None or start - last.end > PAUSE_S - _SMALL:
            if last is not None and not last.counts:
                self.turns.pop()
            self.turns.append(_Turn(start, now, now - start))
            # The last turn that counts stays: it says who spoke last.
            while len(self.turns) > 2 and self.turns[1].end < now - _KEPT_S:
                self.turns.popleft()
        else:
            last.spoken_s += now - start
            last.end = now

    def spoke_s(self, start: float, end: float) -> float:
        """How long, in a span, in turns that count."""
        return sum(turn.within(start, end) for turn in self.turns if turn.counts)

    def turn_at(self, time: float) -> _Turn | None:
        """The last turn that counts and had begun."""
        begun = (turn for turn in self.turns if turn.counts and turn.start <= time)
        return max(begun, key=lambda turn: turn.start, default=None)


@dataclass(slots=True)
class _Interpreter:
    spoke_at: float = -math.inf
    owner: str | None = None


class FloorRouter:
    """Says which speaker the interpreters of the whole floor speak for; the rules stand above.

    Voice activity is given without any hold: a flag that stays up after the speech makes a turn
    out of a "mhm". Names and languages are few: the room admits them.

    Args:
        lag_s: how far interpreters usually lag behind, in seconds.
        hold_s: who speaks alone for so long is the one who is interpreted next, in seconds.

    Raises:
        ValueError: a time below 0 or above 10 s.
    """

    def __init__(self, *, lag_s: float = 2.0, hold_s: float = 4.0) -> None:
        if not (0 <= lag_s <= _LONGEST_S and 0 <= hold_s <= _LONGEST_S):
            raise ValueError(f"lag_s and hold_s are from 0 to {_LONGEST_S:.0f} s")
        self._lag_s, self._hold_s = lag_s, hold_s
        self._speakers: dict[str, _Speaker] = {}
        self._interpreters: dict[str, _Interpreter] = {}

    def heard(self, speaker: str, speaking: bool, now: float) -> None:
        """What a speaker does now; to be called every tick for each who is there.

        Args:
            speaker: a name; one that is new, or had left, is there from now on.
            speaking: whether there is speech since the last call.
            now: session seconds, rising from call to call.
        """
        found = self._speakers.setdefault(speaker, _Speaker())
        found.left_at = None
        found.hear(speaking, now)

    def left(self, speaker: str, now: float) -> None:
        """A speaker is not there any more."""
        found = self._speakers.get(speaker)
        if found is not None and found.left_at is None:
            found.left_at = now

    def route(self, language: str, speaking: bool, now: float) -> str | None:
        """Whose words an interpreter speaks; to be asked every tick.

        Args:
            language: that the interpreter speaks.
            speaking: whether the interpreter speaks now.
            now: session seconds, rising from call to call.

        Returns:
            The speaker's name; None where it is nobody's who is there.
        """
        self._forget(now)
        known = self._interpreters.setdefault(language, _Interpreter())
        within = now - known.spoke_at < PAUSE_S - _SMALL
        if not within or known.owner not in self._speakers:
            known.owner = self._owner(now)
        if speaking:
            known.spoke_at = now
        owner = None if known.owner is None else self._speakers[known.owner]
        return known.owner if owner is not None and owner.left_at is None else None

    def end(self, language: str) -> None:
        """An interpreter is not there any more."""
        self._interpreters.pop(language, None)

    def floor_speaker(self, now: float) -> str | None:
        """Who has the floor now, pauses within a turn included; None where nobody speaks."""
        turns = self._turns(now, there=True)
        return self._first(turns, now - PAUSE_S)

    def _forget(self, now: float) -> None:
        gone_s = WINDOW_S[0]
        for name, speaker in list(self._speakers.items()):
            if speaker.left_at is not None and now - speaker.left_at > gone_s - _SMALL:
                del self._speakers[name]

    def _owner(self, now: float) -> str | None:
        """Who an utterance belongs to that begins now; perhaps somebody who has left."""
        alone = self._alone(now)
        if alone is not None:
            return alone
        start, end = now - WINDOW_S[0], now - WINDOW_S[1]
        spoke = {name: one.spoke_s(start, end) for name, one in self._speakers.items()}
        longest = max(spoke.values(), default=0.0)
        before = self._had_floor(now - self._lag_s)
        if longest < _SMALL:
            return before or self._had_floor(now)
        equal = sorted(name for name, s in spoke.items() if s > longest - _EQUAL_S)
        return before if before in equal else equal[0]

    def _alone(self, now: float) -> str | None:
        """Who has been speaking, and nobody else, for ``hold_s``."""
        since = now - self._hold_s
        heard = [name for name, one in self._speakers.items() if one.spoke_s(since, now) > 0]
        if len(heard) != 1:
            return None
        turn = self._speakers[heard[0]].turn_at(now)
        if turn is None or turn.start > since + _SMALL or turn.end <= now - PAUSE_S:
            return None
        return heard[0]

    def _had_floor(self, time: float) -> str | None:
        """Who had the floor at a time, or spoke last before it."""
        turns = self._turns(time)
        speaking = self._first(turns, time)
        if speaking is not None:
            return speaking
        return max(turns, key=lambda name: (turns[name].end, name), default=None)

    def _turns(self, time: float, *, there: bool = False) -> dict[str, _Turn]:
        """Each speaker's last turn that had begun; of those who are there alone, if asked so."""
        found = {
            name: one.turn_at(time)
            for name, one in self._speakers.items()
            if not (there and one.left_at is not None)
        }
        return {name: turn for name, turn in found.items() if turn is not None}

    @staticmethod
    def _first(turns: dict[str, _Turn], time: float) -> str | None:
        """Of those whose turn was not over at a time, who began first."""
        speaking = [name for name, turn in turns.items() if turn.end > time]
        return min(speaking, key=lambda name: (turns[name].start, name), default=None)
