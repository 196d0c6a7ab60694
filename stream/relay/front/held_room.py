"""What the front process holds of a room."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from stream.relay.child import Child
from stream.relay.front.heartbeat import Heartbeat


@dataclass(eq=False, slots=True)
class HeldRoom:
    """A room that has a process, or is about to have one.

    Attributes:
        name: of the room.
        number: counts the rooms since the start; it stands for the name in logs.
        heartbeat: judges whether it lives.
        child: its process; None until there is one.
        starting: done when it can be asked.
        ending: done when nothing of it is left; None while it runs.
        asking: asks it for its state, when it has not been heard for a while.
        state: as it last told.
        metrics: as it last told.
        memory_mb: of its process alone, in 10^6 bytes.
        resources: its sessions, and those that begin.
        asks: requests that go on.
    """

    name: str
    number: int
    heartbeat: Heartbeat
    child: Child | None = None
    starting: asyncio.Task[None] | None = None
    ending: asyncio.Task[None] | None = None
    asking: asyncio.Task[None] | None = None
    state: dict[str, Any] | None = None
    metrics: object = None
    memory_mb: float | None = None
    resources: set[str] = field(default_factory=set)
    asks: int = 0

    def keep(self, told: dict[str, Any]) -> None:
        """Take its state, with or without its measurements."""
        self.metrics = told.pop("metrics", self.metrics)
        self.state = told

    @property
    def listeners(self) -> int:
        """How many listen, as far as its state is as it should be."""
        count = 0
        for speaker in _objects((self.state or {}).get("speakers")):
            for line in (speaker.get("original"), *_objects(speaker.get("languages"))):
                listeners = line.get("listeners") if isinstance(line, dict) else None
                count += listeners if isinstance(listeners, int) else 0
        return count


def _objects(values: object) -> list[dict[str, Any]]:
    return [one for one in values if isinstance(one, dict)] if isinstance(values, list) else []
