"""When the generator starts, and for whom: chunks that come together are painted together.

The lines of one speaker ask within about a millisecond of each other, so a chunk waits a moment
where company is likely. Pure: it holds numbers, not pictures.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

WAIT_S: Final = 0.004
"""No chunk waits longer than this for company."""
REST_S: Final = 0.05
ACTIVE_S: Final = 0.5
"""A slot is expected to ask again between these times after it asked: chunks of 5 frames come
every 83 ms at 60 fps and every 330 ms at 15 fps, and not at all while a line is silent."""


@dataclass(frozen=True, slots=True)
class _Ask:
    slots: frozenset[int]
    frames: int
    deadline_s: float
    since_s: float


class Gather:
    """The requests that wait for the generator.

    All times are seconds of one monotonic clock.

    Args:
        most_frames: frames of one batch, from 1. A request that is larger is painted alone.

    Raises:
        ValueError: ``most_frames`` is below 1.
    """

    def __init__(self, *, most_frames: int) -> None:
        if most_frames < 1:
            raise ValueError(f"most_frames must be at least 1, not {most_frames}")
        self._most_frames = most_frames
        self._waiting: dict[int, _Ask] = {}
        self._asked_s: dict[int, float] = {}  # slot to its last request

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
        """
        ask = _Ask(frozenset(slots), frames, deadline_s, now)
        self._waiting[key] = ask
        for slot in ask.slots:
            self._asked_s[slot] = now

    def forget(self, slot: int) -> None:
        """Stop expecting a slot that was closed."""
        self._asked_s.pop(slot, None)

    def wait_s(self, now: float) -> float | None:
        """Return in how many seconds a batch starts, 0 for at once; None where nothing waits."""
        if not self._waiting:
            return None
        asks = self._waiting.values()
        if sum(ask.frames for ask in asks) >= self._most_frames or not self._expects(now):
            return 0.0
        return max(min(ask.since_s for ask in asks) + WAIT_S - now, 0.0)

    def take(self) -> list[int]:
        """Take the requests of one batch out, at least one where any waits.

        Returns:
            Their keys, the earliest deadline first; of equal ones, the one that waits longest.
        """
        batch: list[int] = []
        frames = 0
        # Sorting keeps the order of arrival among equals.
        for key, ask in sorted(self._waiting.items(), key=lambda item: item[1].deadline_s):
            frames += ask.frames
            # A smaller request further behind doesn't overtake: one that is large would starve.
            if batch and frames > self._most_frames:
                break
            batch.append(key)
        for key in batch:
            del self._waiting[key]
        return batch

    def _expects(self, now: float) -> bool:
        """Whether a slot that does not wait is likely to ask now."""
        waiting = {slot for ask in self._waiting.values() for slot in ask.slots}
        return any(
            REST_S <= now - asked_s <= ACTIVE_S
            for slot, asked_s in self._asked_s.items()
            if slot not in waiting
        )
