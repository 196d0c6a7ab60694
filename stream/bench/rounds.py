"""Timing candidates in turn, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from engine.errors import EngineError

WARM_UP: Final = 2
"""Runs of each candidate that don't count: run times choose their kernels in the first ones."""
LEAST_ROUNDS: Final = 3
"""These are run however long they take: a median of fewer says nothing."""

Candidate = Callable[[], float]
"""Does its work once and returns the seconds that it took."""
_Key = TypeVar("_Key")


def timed(work: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> Candidate:
    """Return a candidate that times a call.

    Args:
        work: what is timed.
        clock: seconds.
    """

    def candidate() -> float:
        start = clock()
        work()
        return clock() - start

    return candidate


def round_robin(
    candidates: Mapping[_Key, Candidate],
    *,
    rounds: int,
    seconds: float,
    failed: Callable[[_Key, str], None],
    progress: Callable[[int, int], None] = lambda done, count: None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[_Key, list[float]]:
    """Run every candidate once a round, and each round with another one first.

    Args:
        candidates: by name.
        rounds: how many, from 1.
        seconds: no further round begins after so long, beyond the first three.
        failed: takes the name of a candidate that broke, and why; it is left out from there on.
        progress: takes the rounds done and all rounds.
        clock: seconds.

    Returns:
        The seconds of every run by name, of those that did not break.
    """
    broken: dict[_Key, str] = {}

    def run(name: _Key) -> float | None:
        if name in broken:
            return None
        try:
            return candidates[name]()
        except EngineError as error:
            broken[name] = str(error)
            failed(name, str(error))
            return None

    for name in candidates:
        for _ in range(WARM_UP):
            run(name)
    found: dict[_Key, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    start = clock()
    for number in range(rounds):
        if number >= LEAST_ROUNDS and clock() - start > seconds:
            break
        first = number % max(len(names), 1)
        for name in names[first:] + names[:first]:
            if (took := run(name)) is not None:
                found[name].append(took)
        progress(number + 1, rounds)
    return {name: took for name, took in found.items() if name not in broken}
