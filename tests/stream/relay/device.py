"""A device in virtual time: scheduler and admission around a generator of known step times."""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field

from stream.core.admission import Refused, SlotAdmission
from stream.core.scheduler import Scheduler
from stream.core.step_times import StepTimes

K, FPS = 5, 25.0
CHUNK_S = K / FPS
SIZES = (5, 10, 20, 40)


def gpu(frames: int) -> float:
    """A step hardly depends on its batch."""
    return 0.01 + 0.0001 * frames


def cpu(frames: int) -> float:
    """A step is as long as its batch: 34 ms for a chunk."""
    return 0.0005 + 0.0067 * frames


@dataclass
class Session:
    """One that asks for a chunk, and for the next when its camera has the frames for it.

    Attributes:
        first_s: when it asks first.
        every_s: how far chunks are apart.
        until_s: when it stops asking.
        deadline_s: in how many seconds it needs a chunk.
        greedy: whether it asks again as soon as it is answered.
    """

    first_s: float = 0.0
    every_s: float = CHUNK_S
    until_s: float = float("inf")
    deadline_s: float = CHUNK_S
    greedy: bool = False
    slot: int = -1
    painted: int = 0
    late: int = 0
    shed: int = 0
    painted_s: list[float] = field(default_factory=list)
    waited_s: float = 0.0
    under_way: tuple[float, float] | None = None


class Device:
    """Runs sessions; what a step takes may be changed meanwhile.

    Args:
        step_s: seconds of a step, by the frames that it is filled up to.
        slots: that the operator allows.
    """

    def __init__(self, step_s: Callable[[int], float], *, slots: int = 64) -> None:
        self.step_s = step_s
        self.times = StepTimes({size: step_s(size) for size in SIZES})
        self.scheduler = Scheduler(self.times, fps=FPS)
        self.admission = SlotAdmission(self.times, slots=slots, fps=FPS, k=K)
        self.sessions: dict[int, Session] = {}
        self.batches: list[int] = []
        self.now = 0.0
        self._free_s = 0.0
        self._painting: list[int] = []
        self._events: list[tuple[float, int]] = []
        self._next_slot = 0

    def open(self, session: Session, *, by_force: bool = False) -> Refused | None:
        """Let a session in, also one that is refused if need be."""
        refused = self.admission.admit(self.now)
        if refused is not None and not by_force:
            return refused
        session.slot = self._next_slot
        self._next_slot += 1
        if refused is None:
            self.admission.opened(session.slot)
        self.sessions[session.slot] = session
        heapq.heappush(self._events, (max(session.first_s, self.now), session.slot))
        return None

    def close(self, session: Session) -> list[int]:
        """A session ends, whatever it waits for."""
        lost = self.scheduler.forget(session.slot)
        self.admission.closed(session.slot)
        del self.sessions[session.slot]
        return lost

    def run(self, until_s: float) -> None:
        """Let time pass."""
        while True:
            event_s = self._events[0][0] if self._events else float("inf")
            wait_s = self.scheduler.wait_s(max(self.now, self._free_s))
            start_s = float("inf") if wait_s is None else max(self.now, self._free_s) + wait_s
            if self._painting:
                start_s = self._free_s
            if min(event_s, start_s) > until_s:
                self.now = until_s
                return
            if event_s < start_s:
                self.now, slot = heapq.heappop(self._events)
                self._ask(slot)
            else:
                self.now = start_s
                self._finish() if self._painting else self._start()

    def _ask(self, slot: int) -> None:
        session = self.sessions.get(slot)
        if session is None or self.now > session.until_s:
            return
        if not session.greedy:
            heapq.heappush(self._events, (self.now + session.every_s, slot))
        if session.under_way is not None:
            return  # these frames are shown as they are
        due_s = self.now + session.deadline_s
        session.under_way = self.now, due_s
        self.scheduler.ask(slot, [slot], frames=K, deadline_s=due_s, now=self.now)
        self.admission.asked(slot, K, self.now)

    def _start(self) -> None:
        batch = self.scheduler.take(self.now, overloaded=self.admission.overloaded)
        for slot in batch.shed:
            self.sessions[slot].shed += 1
            self._answer(slot)
        if batch.shed:
            self.admission.answered(len(batch.shed), len(batch.shed), self.now)
        if not batch.painted:
            return
        self._painting = batch.painted
        self.batches.append(K * len(batch.painted))
        size = next(size for size in SIZES if size >= self.batches[-1])
        self._free_s = self.now + self.step_s(size)
        for slot in batch.painted:
            since_s, _ = self.sessions[slot].under_way or (self.now, 0.0)
            self.sessions[slot].waited_s = max(self.sessions[slot].waited_s, self.now - since_s)
        self._took_s = self._free_s - self.now

    def _finish(self) -> None:
        slots, self._painting = self._painting, []
        late = 0
        for slot in slots:
            session = self.sessions.get(slot)
            if session is None or session.under_way is None:
                continue
            is_late = session.under_way[1] < self.now
            late += is_late
            session.painted += 1
            session.late += is_late
            session.painted_s.append(self.now)
            self._answer(slot)
        self.times.learn(K * len(slots), self._took_s, self.now)
        self.admission.answered(len(slots), late, self.now)

    def _answer(self, slot: int) -> None:
        session = self.sessions[slot]
        session.under_way = None
        if session.greedy:
            heapq.heappush(self._events, (self.now + 0.0005, slot))
