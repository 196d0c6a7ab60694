"""Pictures between the camera and the sinks, and how they become chunks for the generator."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from stream.core.gate import GateDecision

Reason = Literal[
    "quiet", "off", "mismatch", "no-face", "turned", "occluded", "no-identity", "late", "engine"
]
"""Why a picture left as the camera took it; ``quiet``: both voices were silent; ``mismatch``: the
lips that were painted before did not match the speech."""

Trouble = Literal["no-face", "turned", "occluded", "no-identity"]
"""Why a picture's lips can't be changed; an occluded mouth shows once it was painted."""

LEAST_WORK_S: Final = 0.05
"""A picture that is due sooner than this is not worth painting: it could not leave in time."""


@dataclass(slots=True, eq=False)
class Waiting:
    """A camera's picture on its way to the sinks.

    Attributes:
        number: counted from 0.
        pts: when the camera took it, in session seconds.
        payload: what the thin skin needs with it (pixels, face); the core does not look inside.
        trouble: why it can't be changed; None where it can.
        decision: the gate's, once the sound around the picture is known.
        rows: what the generator painted, once it did.
        failed: why it will never be painted, if so.
    """

    number: int
    pts: float
    payload: Any
    trouble: Trouble | None
    decision: GateDecision | None = None
    rows: Any = None
    failed: Literal["late", "engine"] | None = None


class Chunker:
    """Groups pictures into chunks: k of them, or fewer where waiting would make them late.

    Args:
        k: pictures in a chunk.
        ready: whether the sound that a picture of this pts needs is there; once true for a pts,
            true for all before it.
    """

    def __init__(self, k: int, ready: Callable[[float], bool]) -> None:
        self._k = k
        self._ready = ready
        self._pending: deque[Waiting] = deque()

    def add(self, picture: Waiting) -> None:
        """Take the next picture."""
        self._pending.append(picture)

    def forget(self, picture: Waiting) -> None:
        """A picture leaves for the sinks: what came before it and is still here came too late."""
        pending = self._pending
        while pending and pending[0].number <= picture.number:
            self._too_late(pending.popleft())

    def cut(self, now: float, *, delay_s: float, work_s: float) -> list[Waiting]:
        """The next chunk, for a generator that is free.

        Args:
            now: session seconds.
            delay_s: a picture leaves at its pts plus this.
            work_s: how long before that its chunk should be under way.

        Returns:
            1 to k pictures in order, or none if it is better to wait.
        """
        pending, k = self._pending, self._k
        while pending and pending[0].pts + delay_s - now < LEAST_WORK_S:
            self._too_late(pending.popleft())
        if len(pending) >= k and self._ready(pending[k - 1].pts):
            return [pending.popleft() for _ in range(k)]
        chunk: list[Waiting] = []
        if pending and pending[0].pts + delay_s - now < work_s:
            while pending and len(chunk) < k and self._ready(pending[0].pts):
                chunk.append(pending.popleft())
        return chunk

    @staticmethod
    def _too_late(picture: Waiting) -> None:
        if picture.failed is None:
            picture.failed = "late"
