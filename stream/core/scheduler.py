"""When the generator starts, and for whom: the slots of a device share it, the most urgent first.

A batch takes requests in the order of their deadlines, as many as its size makes up for: on a
graphics processor 40 frames take hardly longer than 5, on two cores nearly eight times as long.
Pure: it holds numbers, not pictures. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from stream.core.admission import MOST_RATE
from stream.core.step_times import StepTimes

WAIT_S: Final = 0.02
"""No request waits longer than this for company."""
JITTER_S: Final = 0.005
"""How much later than expected company may come; beyond, it is no longer waited for."""
ACTIVE_S: Final = 0.5
"""A slot that did not ask for so long is silent: chunks of 5 frames come every 83 ms at 60 fps and
every 330 ms at 15 fps, and not at all while a line is silent."""
GAIN: Final = 1.05
"""A larger batch must give so many times the frames a second: it makes its first wait longer."""
MOST_WAIT_S: Final = 1.0
"""A request that waited longer is shed: its client takes an engine for dead that does not answer
in 1.8 s."""
TURNS: Final = 2
"""In an overload a slot gives way to another that was shed so many times more in a row."""

_WEIGHT: Final = 0.3  # of a new interval in a slot's moving mean


@dataclass(frozen=True, slots=True)
class Batch:
    """What happens now.

    Attributes:
        painted: keys of the requests that are painted together; none where all were shed.
        shed: keys of those that are not painted at all; each is to be answered at once.
    """

    painted: list[int] = field(default_factory=list)
    shed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Ask:
    slots: frozenset[int]
    frames: int
    deadline_s: float
    turn_s: float  # the deadline that its place in the order comes from
    since_s: float


@dataclass(slots=True)
class _Slot:
    asked_s: float
    frames: int
    interval_s: float
    turn_s: float = -math.inf  # of its last request
    missed: int = 0  # requests shed in a row


class Scheduler:
    """The requests that wait for the generator.

    A slot has one request at a time, so that none can fill the queue. One that asks more often
    than a camera gives frames gains nothing: its requests take their place in the order as if they
    came at a camera's pace.

    Args:
        times: of a step, kept up to date by their owner.
        fps: frames a second of the bundle, for when a slot that asked once is expected again.
    """

    def __init__(self, times: StepTimes, *, fps: float) -> None:
        self._times = times
        self._fps = fps
        self._waiting: dict[int, _Ask] = {}
        self._slots: dict[int, _Slot] = {}

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._waiting)

    def ask(
        self, key: int, slots: Iterable[int], *, frames: int, deadline_s: float, now: float
    ) -> None:
        """Take a request.

        Args:
            key: names the request; no other that waits has it.
            slots: the open slots that it asks for.
            frames: all its frames, from 1.
            deadline_s: when its rows are needed.
            now: the time.

        Raises:
            ValueError: the key waits already, or one of the slots does.
        """
        asked = frozenset(slots)
        if key in self._waiting or any(asked & ask.slots for ask in self._waiting.values()):
            raise ValueError("a slot has one request at a time; wait for its answer")
        each = math.ceil(frames / len(asked))
        turn_s = deadline_s
        for number in asked:
            slot = self._slots.get(number)
            if slot is None:
                slot = self._slots[number] = _Slot(now, each, each / self._fps)
            elif now - slot.asked_s <= ACTIVE_S:
                slot.interval_s += _WEIGHT * (now - slot.asked_s - slot.interval_s)
            slot.asked_s, slot.frames = now, each
            turn_s = max(turn_s, min(slot.turn_s + each / MOST_RATE, deadline_s + MOST_WAIT_S))
        for number in asked:
            self._slots[number].turn_s = turn_s
        self._waiting[key] = _Ask(asked, frames, deadline_s, turn_s, now)

    def withdraw(self, key: int) -> None:
        """Forget a request that nobody waits for any more, if it is still there."""
        self._waiting.pop(key, None)

    def forget(self, slot: int) -> list[int]:
        """Forget a slot that was closed.

        Returns:
            The keys of its requests, which won't be painted.
        """
        self._slots.pop(slot, None)
        lost = [key for key, ask in self._waiting.items() if slot in ask.slots]
        for key in lost:
            del self._waiting[key]
        return lost

    def wait_s(self, now: float) -> float | None:
        """Return in how many seconds a batch starts, 0 for at once; None where nothing waits."""
        if not self._waiting:
            return None
        asks = [*self._waiting.values()]
        frames = sum(ask.frames for ask in asks)
        since_s = min(ask.since_s for ask in asks)
        company = self._expected(now, since_s + WAIT_S)
        if frames >= self._times.largest or not company:
            return 0.0
        together = min(frames + sum(slot.frames for slot in company), self._times.largest)
        if self._pace(together) < GAIN * self._pace(frames):
            return 0.0
        come_s = max(slot.asked_s + slot.interval_s + JITTER_S for slot in company)
        room_s = min(ask.deadline_s for ask in asks) - self._times.seconds(together)
        return max(min(since_s + WAIT_S, come_s, room_s) - now, 0.0)

    def take(self, now: float, *, overloaded: bool = False) -> Batch:
        """Take the requests of one batch out.

        Below capacity all are painted, those first whose deadline is next; one that can't be met
        any more lets those go first that can. In an overload such a request is shed where others
        wait, and a slot that was shed lets no other that fared better go first.

        Args:
            now: the time.
            overloaded: whether there is more to do than time for it.
        """
        shed = [key for key, ask in self._waiting.items() if now - ask.since_s > MOST_WAIT_S]
        keys = [key for key in self._waiting if key not in shed]
        if overloaded:
            mine = self._worth_it(keys, now)
            shed += [key for key in keys if key not in mine]
            keys = mine
        keys.sort(key=lambda key: self._place(self._waiting[key], now, overloaded))
        painted = keys[: self._best(keys, now)]
        for key in shed:
            for slot in self._waiting.pop(key).slots:
                self._slots[slot].missed += 1
        for key in painted:
            for slot in self._waiting.pop(key).slots:
                self._slots[slot].missed = 0
        return Batch(painted, shed)

    def _worth_it(self, keys: list[int], now: float) -> list[int]:
        """Return the requests that an overloaded device is to paint sooner or later."""
        possible = [key for key in keys if self._is_possible(self._waiting[key], now)]
        if not possible:
            # One is painted all the same: what a step takes is learnt in no other way.
            return sorted(keys, key=lambda key: self._place(self._waiting[key], now, True))[:1]
        waiting = {slot for ask in self._waiting.values() for slot in ask.slots}
        longest = max(
            (
                slot.missed
                for number, slot in self._slots.items()
                if number not in waiting and now - slot.asked_s <= ACTIVE_S
            ),
            default=0,
        )
        return [key for key in possible if longest - self._missed(self._waiting[key]) < TURNS]

    def _place(self, ask: _Ask, now: float, overloaded: bool) -> tuple[bool, int, float]:
        """Return what requests are sorted by; those that are equal keep the order of arrival."""
        owed = self._missed(ask) if overloaded else 0
        return not self._is_possible(ask, now), -owed, ask.turn_s

    def _best(self, keys: list[int], now: float) -> int:
        """Return how many of the first requests make the best batch, at least one of any.

        A smaller request further behind doesn't overtake: one that is large would starve.
        """
        best, best_pace, frames, due_s = min(len(keys), 1), 0.0, 0, math.inf
        for count, key in enumerate(keys, 1):
            ask = self._waiting[key]
            frames += ask.frames
            if count > 1 and frames > self._times.largest:
                break
            if self._is_possible(ask, now):
                due_s = min(due_s, ask.deadline_s)
            if count > 1 and now + self._times.seconds(frames) > due_s:
                break
            if self._pace(frames) >= GAIN * best_pace:
                best, best_pace = count, self._pace(frames)
        return best

    def _is_possible(self, ask: _Ask, now: float) -> bool:
        """Whether a request would be in time if it were painted now and alone."""
        return now + self._times.seconds(ask.frames) <= ask.deadline_s

    def _missed(self, ask: _Ask) -> int:
        return max(self._slots[slot].missed for slot in ask.slots)

    def _pace(self, frames: int) -> float:
        """Return the frames a second of a batch."""
        return frames / self._times.seconds(frames)

    def _expected(self, now: float, until_s: float) -> list[_Slot]:
        """Return the slots that are likely to ask until then."""
        waiting = {slot for ask in self._waiting.values() for slot in ask.slots}
        return [
            slot
            for number, slot in self._slots.items()
            if number not in waiting
            and now < slot.asked_s + slot.interval_s + JITTER_S
            and slot.asked_s + slot.interval_s <= until_s
            and now - slot.asked_s <= ACTIVE_S
        ]
