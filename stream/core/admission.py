"""How many sessions a device holds, who is let in, and when it has too much to do.

Pure: it holds numbers and reads no clock. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from stream.core.step_times import StepTimes

BUDGET: Final = 0.8
"""Share of the device's time that sessions may take together. The rest is for the waits between
steps, for identity references, and for steps that take longer than usual."""
CALM: Final = 0.65
"""An overload is over once the load stayed below this share for a while."""
HOT_S: Final = 2.0
CALM_S: Final = 5.0
"""How long the load must be too high, or low again."""
MISSED: Final = 0.1
MISSED_CALM: Final = 0.02
"""Shares of chunks that were too late, which are an overload whatever the load, and none."""
FULL_RETRY_S: Final = 10.0
"""When to try again where all places are taken: nobody knows when a session ends."""
MOST_RATE: Final = 60.0
"""Frames a second that a camera gives at most."""

_MEAN_S: Final = 4.0  # of the moving means of rates
_LOAD_S: Final = 2.0  # of the moving mean of the load
_ROUNDING: Final = 1e-9  # what a sum of binary fractions may be off


def capacity(
    step_s: Mapping[int, float], *, fps: float, k: int, budget: float = BUDGET, most: int = 1024
) -> int:
    """Return how many sessions a device holds, 0 where it is too slow for one.

    Args:
        step_s: frames of a batch to the seconds that its step takes.
        fps: frames a second of each session.
        k: frames of a chunk.
        budget: share of the device's time that they may take.
        most: where to stop counting.

    Raises:
        ValueError: there is no step time, or one is no time.
    """
    costs = _costs(StepTimes(step_s), most, k=k, fps=fps)
    return sum(fps * cost / k <= budget + _ROUNDING for cost in costs[1:])  # they only grow


def load(times: StepTimes, rates: Collection[float], *, fps: float, k: int) -> float:
    """Return which share of the device's time sessions take.

    Args:
        times: of a step.
        rates: frames a second of each session.
        fps: frames a second at which a chunk is as long as its deadline is away.
        k: frames of a chunk.
    """
    sessions = len(rates)
    if not sessions:
        return 0.0
    return sum(rates) / sessions * _costs(times, sessions, k=k, fps=fps)[sessions] / k


def _costs(times: StepTimes, sessions: int, *, k: int, fps: float) -> list[float]:
    """Return what one chunk of each of 0, 1, 2 … sessions costs in seconds, in the best batches.

    A chunk may come just after a step began: it waits for that one and its own. A size of which
    two steps take longer than a chunk lasts would miss deadlines, and isn't counted on.
    """
    steps = [
        (max(size // k, 1), seconds)
        for size, seconds in times.measured().items()
        if size == times.sizes[0] or 2 * seconds <= k / fps
    ]
    costs = [0.0]
    for count in range(1, sessions + 1):
        costs.append(min(step_s + costs[max(count - held, 0)] for held, step_s in steps))
    return costs


@dataclass(frozen=True, slots=True)
class Refused:
    """Why a session is not let in.

    Attributes:
        reason: ``slots``: all places that the operator allows are taken; ``load``: the device has
            no time for another; ``overload``: it has too much to do already.
        retry_after_s: when to try again, from 1 s.
    """

    reason: Literal["slots", "load", "overload"]
    retry_after_s: float


class SlotAdmission:
    """Who is let in.

    A session is counted with the frames a second of its bundle from the moment it is let in, also
    while it is silent, and with more if its camera gives more: whoever is in keeps its time. A
    device without any session takes one, however slow it seems: else a wrong measurement would
    never be put right.

    Call something at least once a second: a load counts as low from the first call that sees it.

    Args:
        times: of a step, kept up to date by their owner.
        slots: sessions at the same time, from 1.
        fps: frames a second of the bundle.
        k: frames of a chunk.
        budget: share of the device's time.
    """

    def __init__(
        self, times: StepTimes, *, slots: int, fps: float, k: int, budget: float = BUDGET
    ) -> None:
        self._times, self._fps, self._k, self._budget = times, fps, k, budget
        self.slots = slots
        self.refused = 0
        self._opening = 0
        self._rates: dict[int, _Rate] = {}
        self._demand = _Fading(_LOAD_S)  # seconds of the device's time
        self._chunks, self._missed = _Fading(_LOAD_S), _Fading(_LOAD_S)
        self._overload = _Hysteresis(HOT_S, CALM_S)

    @property
    def open_slots(self) -> int:
        """How many sessions are in, with those whose slot is being opened."""
        return len(self._rates) + self._opening

    @property
    def overloaded(self) -> bool:
        """Whether the device has had too much to do, and not had less for long enough."""
        return self._overload.on

    def admit(self, now: float) -> Refused | None:
        """Let a session in, or say why not.

        Whoever is let in holds a place until :meth:`opened` or :meth:`failed` is called.
        """
        self._judge(now)
        refused = self._refuse(now)
        if refused is None:
            self._opening += 1
        else:
            self.refused += 1
        return refused

    def opened(self, slot: int) -> None:
        """The session that was let in has this slot."""
        self._opening -= 1
        self._rates[slot] = _Rate(self._fps)

    def failed(self) -> None:
        """The session that was let in got no slot."""
        self._opening -= 1

    def is_open(self, slot: int) -> bool:
        """Whether a session has this slot."""
        return slot in self._rates

    def closed(self, slot: int) -> None:
        """A session has ended."""
        self._rates.pop(slot, None)

    def asked(self, slot: int, frames: int, now: float) -> None:
        """A session asked for so many frames."""
        if slot in self._rates:
            self._rates[slot].add(frames, now)
        active = max(sum(rate.is_active(now) for rate in self._rates.values()), 1)
        costs = _costs(self._times, active, k=self._k, fps=self._fps)
        self._demand.add(frames * costs[active] / (active * self._k), now)
        self._judge(now)

    def answered(self, chunks: int, missed: int, now: float) -> None:
        """So many chunks were answered, and so many of them too late or not at all."""
        self._chunks.add(chunks, now)
        self._missed.add(missed, now)
        self._judge(now)

    def load(self, now: float) -> float:
        """Return which share of the device's time was asked for lately; above 1: too much."""
        self._judge(now)
        return self._demand.mean(now)

    def reserved(self) -> float:
        """Return which share of the device's time those who are in may take."""
        return self._reserved([])

    def capacity(self) -> int:
        """Return how many sessions the device holds, at the measured times."""
        step_s = self._times.measured()
        return capacity(step_s, fps=self._fps, k=self._k, budget=self._budget, most=self.slots)

    def _refuse(self, now: float) -> Refused | None:
        if self.open_slots >= self.slots:
            return Refused("slots", FULL_RETRY_S)
        if not self.open_slots:
            return None
        if self.overloaded:
            return Refused("overload", max(self._overload.left_s(now), 1.0))
        if self._reserved([self._fps]) > self._budget + _ROUNDING:
            return Refused("load", FULL_RETRY_S)
        return None

    def _reserved(self, more: list[float]) -> float:
        rates = [rate.reserved for rate in self._rates.values()]
        rates += self._opening * [self._fps] + more
        return load(self._times, rates, fps=self._fps, k=self._k)

    def _judge(self, now: float) -> None:
        demand, chunks = self._demand.mean(now), self._chunks.mean(now)
        missed = self._missed.mean(now) / chunks if chunks * _LOAD_S >= 1 else 0.0
        self._overload.see(
            hot=demand > self._budget or missed > MISSED,
            calm=demand < CALM * self._budget / BUDGET and missed < MISSED_CALM,
            now=now,
        )


class _Fading:
    """A sum a second, in which the past counts for less and less."""

    def __init__(self, mean_s: float) -> None:
        self._mean_s = mean_s
        self._sum = 0.0
        self._at_s = -math.inf

    def add(self, amount: float, now: float) -> None:
        self._sum = self._left(now) + amount
        self._at_s = now

    def mean(self, now: float) -> float:
        return self._left(now) / self._mean_s

    def _left(self, now: float) -> float:
        return self._sum * math.exp(min(self._at_s - now, 0.0) / self._mean_s)


class _Rate:
    """Frames a second of a session: as the bundle has it, or what its camera gives if more."""

    def __init__(self, fps: float) -> None:
        self._fps = self.reserved = fps
        self._frames = _Fading(_MEAN_S)
        self._asked_s = -math.inf

    def add(self, frames: int, now: float) -> None:
        self._frames.add(frames, now)
        self._asked_s = now
        # Half of the chunk: the mean is highest just now.
        mean = self._frames.mean(now) - frames / 2 / _MEAN_S
        self.reserved = min(max(self._fps, mean), max(self._fps, MOST_RATE))

    def is_active(self, now: float) -> bool:
        return now - self._asked_s <= 1.0


class _Hysteresis:
    """On when it was hot for a while, off when it was calm for a while."""

    def __init__(self, hot_s: float, calm_s: float) -> None:
        self._hot_s, self._calm_s = hot_s, calm_s
        self.on = False
        self._since_s: float | None = None  # when what would change it began

    def see(self, *, hot: bool, calm: bool, now: float) -> None:
        if not (calm if self.on else hot):
            self._since_s = None
            return
        self._since_s = now if self._since_s is None else self._since_s
        if now - self._since_s >= (self._calm_s if self.on else self._hot_s):
            self.on = not self.on
            self._since_s = None

    def left_s(self, now: float) -> float:
        """Return after how many seconds it can be off at the earliest."""
        return self._calm_s - (0.0 if self._since_s is None else now - self._since_s)
