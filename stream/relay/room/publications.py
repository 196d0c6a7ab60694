"""Who publishes what in a room, and since when nobody does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

FLOOR: Final = "floor"
"""Stands for the speaker where an interpreter speaks for whoever has the floor."""

LINGER_S: Final = 15.0
"""A publisher who is gone may come back within this time; listeners stay meanwhile."""

REMOVED_S: Final = 600.0
"""How long somebody who was removed is not let in again."""


@dataclass(frozen=True, slots=True)
class Place:
    """What can be published.

    Attributes:
        speaker: a name, or :data:`FLOOR`.
        language: None for the speaker's own camera and voice.
    """

    speaker: str
    language: str | None


@dataclass(slots=True)
class _State:
    resource: str | None
    left_at: float = 0.0


@dataclass(slots=True)
class Publications:
    """Pure bookkeeping of a room's publishers; takes ``now`` in any seconds that rise."""

    _places: dict[Place, _State] = field(default_factory=dict)
    _removed: dict[Place, float] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many publish now."""
        return sum(state.resource is not None for state in self._places.values())

    def barred_s(self, place: Place, now: float) -> float:
        """For how long somebody who was removed from here is still not let in; 0 for nobody."""
        return max(0.0, self._removed.get(place, 0.0) - now)

    def taken(self, place: Place, resource: str) -> str | None:
        """Somebody publishes here from now on.

        Returns:
            The resource of the one who did so before, if still there: it has to go.
        """
        before = self._places.get(place)
        self._places[place] = _State(resource)
        return None if before is None else before.resource

    def left(self, resource: str, now: float) -> Place | None:
        """A publisher is gone; None where it was no publisher any more."""
        for place, state in self._places.items():
            if state.resource == resource:
                state.resource, state.left_at = None, now
                return place
        return None

    def resource(self, place: Place) -> str | None:
        """The resource that publishes here now."""
        state = self._places.get(place)
        return None if state is None else state.resource

    def remove(self, place: Place, now: float) -> str | None:
        """Nobody publishes here any more, nor for a while.

        Returns:
            The resource that did so.
        """
        state = self._places.get(place)
        if state is None or state.resource is None:
            return None
        resource, state.resource, state.left_at = state.resource, None, now - LINGER_S
        self._removed[place] = now + REMOVED_S
        return resource

    def over(self, now: float) -> list[Place]:
        """Places whose publisher has not come back in time; they are forgotten."""
        over = [
            place
            for place, state in self._places.items()
            if state.resource is None and now - state.left_at >= LINGER_S
        ]
        for place in over:
            del self._places[place]
        self._removed = {place: end for place, end in self._removed.items() if end > now}
        return over
