"""A session's logic: which pictures become chunks, what each one shows, and when it leaves.

Pure: it is told what happened and when, and answers what to do. Threads, devices and the clock
are in :mod:`stream.live.session`; tests run an hour of this in seconds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from engine.mel import WindowPlacement
from stream.core.delay import Delay
from stream.core.fader import Fader
from stream.core.gate import Gate, GateCase
from stream.core.pictures import Chunker, Reason, Trouble, Waiting

COMPOSE_S: Final = 0.03
"""A picture is put together this long before it is due."""

WORK_S: Final = 0.13
"""A chunk should be under way this long before its first picture is due."""

LOST_S: Final = 1.0
"""Without a picture for this long the still card is shown."""

MOST_WAITING: Final = 60  # pictures, two seconds at the highest rate

# A picture this late is dropped if the one after it is due as well: two at 25 a second.
_DROP_S: Final = 0.08

Event = tuple[object, ...]
"""Name, session seconds, facts: one line of a session's trace."""


@dataclass(frozen=True, slots=True)
class Composition:
    """How to put a picture together.

    Attributes:
        waiting: the picture.
        rows: what the generator painted for it, or, where that is late, for the last one it did.
        amount: share of the painted mouth, 0..1; at 0 the picture leaves as it came.
        reason: why it leaves as it came; None where its lips are changed.
        case: the gate's.
        due: when it leaves, in session seconds.
    """

    waiting: Waiting
    rows: Any
    amount: float
    reason: Reason | None
    case: GateCase
    due: float

    @property
    def kind(self) -> Literal["generated", "passthrough"]:
        """How it is counted."""
        return "generated" if self.reason is None else "passthrough"


class SessionCore:
    """The decisions of one session, in one direction.

    Args:
        k: pictures in a chunk.
        placement: where a picture's mel window lies.
        gate: the session's.
        delay: the session's.
        dropped: told of each picture that will not be shown, and why.
        trace: takes every decision, for logs and tests.

    Attributes:
        lip_sync: whether lips are changed at all.
        mismatch: whether they are not to be changed since they did not match the speech.
        trim_s: how much later than the sound the picture leaves, ≥ 0.
        columns: mel columns that there are so far.
    """

    def __init__(
        self,
        *,
        k: int,
        placement: WindowPlacement,
        gate: Gate,
        delay: Delay,
        dropped: Callable[[Waiting, str], None] = lambda picture, reason: None,
        trace: Callable[[Event], None] | None = None,
    ) -> None:
        self.lip_sync = True
        self.mismatch = False
        self.trim_s = 0.0
        self.columns = 0
        self._placement = placement
        self._gate = gate
        self._delay = delay
        self._dropped = dropped
        self._trace = trace or (lambda event: None)
        self._chunker = Chunker(k, self._heard)
        self._fader = Fader()
        self._queue: deque[Waiting] = deque()
        self._painting: Sequence[Waiting] = ()
        self._last_rows: Any = None
        self._last_pts: float | None = None
        self._count = 0

    @property
    def picture_delay_s(self) -> float:
        """From a picture's pts to its leaving."""
        return self._delay.seconds + self.trim_s

    def seen(self, pts: float, payload: Any, trouble: Trouble | None, now: float) -> bool:
        """The camera gave a picture.

        Args:
            pts: when it was taken; one that is not later than the last is refused.
            payload: handed back in the composition.
            trouble: why its lips can't be changed, if so.
            now: session seconds.

        Returns:
            Whether it was taken; where not, it counts as dropped.
        """
        if self._last_pts is not None and pts <= self._last_pts:
            return False
        self._last_pts = pts
        if len(self._queue) >= MOST_WAITING:
            self._drop(self._queue.popleft(), now, "full")
        waiting = Waiting(self._count, pts, payload, trouble)
        self._count += 1
        self._queue.append(waiting)
        self._chunker.add(waiting)
        self._trace(("seen", now, waiting.number, trouble))
        return True

    def chunk(self, now: float) -> list[Waiting]:
        """The pictures that the generator shall paint now; none while it is busy or need not."""
        while not self._painting:
            cut = self._chunker.cut(now, delay_s=self.picture_delay_s, work_s=WORK_S)
            if not cut:
                break
            wanted = [picture for picture in cut if self._wants_paint(picture)]
            if wanted:
                self._painting = wanted
                self._trace(("chunk", now, *(picture.number for picture in wanted)))
                return wanted
        return []

    def painted(self, rows: Sequence[Any] | None, now: float) -> None:
        """The chunk under way is done.

        Args:
            rows: of its pictures, in order; None where the generator failed.
            now: session seconds.
        """
        chunk, self._painting = self._painting, ()
        if not chunk:
            return
        self._trace(("painted", now, chunk[0].number, rows is not None))
        if rows is None:
            for picture in chunk:
                picture.failed = "engine"
            return
        self._delay.painted(now - chunk[0].pts + COMPOSE_S)
        for picture, own in zip(chunk, rows, strict=True):
            picture.rows = own

    def wake_at(self) -> float | None:
        """When the next picture has to be put together; None while there is none."""
        if not self._queue:
            return None
        return self._queue[0].pts + self.picture_delay_s - COMPOSE_S

    def compose(self, now: float) -> Composition | None:
        """The next picture that is due soon, if any; to be asked until there is none."""
        queue, delay_s = self._queue, self.picture_delay_s
        while len(queue) > 1 and queue[0].pts + delay_s + _DROP_S < now:
            if queue[1].pts + delay_s > now:
                break
            self._drop(queue.popleft(), now, "late")
        if not queue or queue[0].pts + delay_s - COMPOSE_S > now:
            return None
        picture = queue.popleft()
        self._chunker.forget(picture)
        return self._composed(picture, now)

    def lost(self, now: float) -> bool:
        """Whether the still card is due: no picture has left for a second, and none is waiting."""
        last = self._last_pts
        since = 0.0 if last is None else last + self.picture_delay_s
        return not self._queue and now - since > LOST_S

    @property
    def _changes_lips(self) -> bool:
        return self.lip_sync and not self.mismatch

    def _heard(self, pts: float) -> bool:
        placement = self._placement
        return placement.first_column(pts) + placement.columns <= self.columns

    def _decide(self, picture: Waiting) -> None:
        if picture.decision is None:
            picture.decision = self._gate.decide(picture.pts)

    def _wants_paint(self, picture: Waiting) -> bool:
        self._decide(picture)
        assert picture.decision is not None
        # Whether the mouth is still covered shows only in what is painted over it.
        possible = picture.trouble in (None, "occluded")
        return self._changes_lips and possible and picture.decision.amount > 0

    def _composed(self, picture: Waiting, now: float) -> Composition:
        self._decide(picture)
        decision = picture.decision
        assert decision is not None
        fresh = picture.rows is not None
        if picture.trouble in ("no-face", "no-identity"):
            self._fader.cut(picture.pts)
            amount = 0.0
        else:
            can = fresh and picture.trouble is None and self._changes_lips
            amount = self._fader.move(
                picture.pts, decision.amount if can else 0.0, lost_at=self._lost_at()
            )
        if fresh:
            self._last_rows = picture.rows
        rows = self._last_rows if amount else None
        amount = amount if rows is not None else 0.0
        reason = self._reason(picture) if not amount else None
        due = picture.pts + self.picture_delay_s
        self._trace(("compose", now, picture.number, decision.case, round(amount, 3), reason))
        return Composition(picture, rows, amount, reason, decision.case, due)

    def _lost_at(self) -> float | None:
        for picture in self._queue:
            if picture.trouble in ("no-face", "no-identity"):
                return picture.pts
        return None

    def _reason(self, picture: Waiting) -> Reason:
        assert picture.decision is not None
        if not self.lip_sync:
            return "off"
        if picture.decision.amount == 0:
            return "quiet"
        if self.mismatch:
            return "mismatch"
        return picture.trouble or picture.failed or "late"

    def _drop(self, picture: Waiting, now: float, reason: str) -> None:
        self._chunker.forget(picture)
        self._decide(picture)  # the gate must see every picture, in order
        self._trace(("drop", now, picture.number, reason))
        self._dropped(picture, reason)
