"""A session's logic in virtual time: a camera, voices, a generator and a screen that are numbers.

Everything that happens comes from one seed; nothing sleeps and nothing reads a clock.
"""

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from engine.mel import COLUMNS_PER_S, WindowPlacement
from stream.core.delay import Delay
from stream.core.gate import Gate
from stream.core.pictures import Trouble, Waiting
from stream.core.session import Event, SessionCore
from stream.core.sound import TICK_S

HOP_S = 0.032
TRACK_S, COMPOSE_TAKES_S, SOUND_LAG_S = 0.012, 0.006, 0.045
STALL_S, RESTART_S = 2.0, 0.9  # of the painter's watch


@dataclass(frozen=True)
class Left:
    """A picture that left."""

    number: int
    pts: float
    at: float
    due: float
    amount: float
    reason: str | None
    case: str


@dataclass(kw_only=True)
class Scenario:
    """What happens; each function takes session seconds.

    Attributes:
        fps: of the camera.
        jitter_s: standard deviation of the camera's times of delivery.
        speech: whether the target voice speaks.
        talks: whether the speaker does.
        trouble: of the picture taken then.
        paint_s: how long a chunk that starts then takes; infinite: never done; negative: it fails
            after that time.
        camera: whether the camera gives pictures.
    """

    fps: float = 25.0
    jitter_s: float = 0.003
    speech: Callable[[float], bool] = lambda now: True
    talks: Callable[[float], bool] = lambda now: False
    trouble: Callable[[float], Trouble | None] = lambda now: None
    paint_s: Callable[[float], float] | None = None
    camera: Callable[[float], bool] = lambda now: True


@dataclass
class Simulation:
    """Runs a scenario.

    Attributes:
        left: every picture that left, in order.
        trace: every decision of the core.
        cards: when the still card would have been shown, at ticks of 20 ms.
        dropped: numbers and reasons.
    """

    scenario: Scenario
    seed: int = 0
    left: list[Left] = field(default_factory=list)
    trace: list[Event] = field(default_factory=list)
    cards: list[float] = field(default_factory=list)
    dropped: list[tuple[int, str]] = field(default_factory=list)
    delay: Delay = field(default_factory=Delay)
    keep_trace: bool = True

    def run(self, seconds: float) -> "Simulation":
        self._random = random.Random(self.seed)
        self._queue: list[tuple[float, int, Callable[[float], None]]] = []
        self._order = count()
        self._gate = Gate(has_source=True)
        self.core = SessionCore(
            k=5,
            placement=WindowPlacement(-0.1),
            gate=self._gate,
            delay=self.delay,
            dropped=lambda picture, reason: self.dropped.append((picture.number, reason)),
            trace=self.trace.append if self.keep_trace else None,
        )
        self._hops = 0
        self._showing = False
        self._job = 0
        self._at(0.0, self._camera)
        self._at(TICK_S, self._tick)
        while self._queue and self._queue[0][0] < seconds:
            now, _, happen = heapq.heappop(self._queue)
            happen(now)
        return self

    def _at(self, time: float, happen: Callable[[float], None]) -> None:
        heapq.heappush(self._queue, (time, next(self._order), happen))

    def _camera(self, now: float) -> None:
        scenario = self.scenario
        if scenario.camera(now):
            late = TRACK_S + abs(self._random.gauss(0, scenario.jitter_s))
            self._at(now + late, lambda then: self._seen(now, then))
        self._at(now + 1 / scenario.fps, self._camera)

    def _seen(self, pts: float, now: float) -> None:
        self.core.seen(pts, None, self.scenario.trouble(pts), now)
        self._look(now)

    def _tick(self, now: float) -> None:
        while (end := (self._hops + 1) * HOP_S) <= now - SOUND_LAG_S:
            self._hops += 1
            middle = end - HOP_S / 2
            self._gate.heard_target(end, HOP_S, 0.95 if self.scenario.speech(middle) else 0.02)
            self._gate.heard_source(end, HOP_S, 0.95 if self.scenario.talks(middle) else 0.02)
        self.core.columns = int((now - SOUND_LAG_S) * COLUMNS_PER_S)
        if self.core.lost(now):
            self.cards.append(now)
        self._look(now)
        self._at(now + TICK_S, self._tick)

    def _look(self, now: float) -> None:
        """The loops of painting and showing wake up."""
        if self._job == 0 and (chunk := self.core.chunk(now)):
            self._paint(chunk, now)
        if not self._showing and (composition := self.core.compose(now)) is not None:
            self._showing = True
            done = max(now + COMPOSE_TAKES_S, composition.due)

            def leave(then: float) -> None:
                self._showing = False
                self.left.append(
                    Left(
                        number=composition.waiting.number,
                        pts=composition.waiting.pts,
                        at=then,
                        due=composition.due,
                        amount=composition.amount,
                        reason=composition.reason,
                        case=composition.case.value,
                    )
                )
                self._look(then)

            self._at(done, leave)
            return
        wake = self.core.wake_at()
        if not self._showing and wake is not None and wake < now + TICK_S:
            self._at(max(wake, now + 0.001), self._look)

    def _paint(self, chunk: list[Waiting], now: float) -> None:
        takes = self.scenario.paint_s
        takes_s = takes(now) if takes is not None else self._random.uniform(0.03, 0.07)
        job = self._job = next(self._order) + 1
        if takes_s < 0:
            self._at(now - takes_s, lambda then: self._painted(job, None, then))
        elif takes_s <= STALL_S:
            rows = [picture.number for picture in chunk]
            self._at(now + takes_s, lambda then: self._painted(job, rows, then))
        else:  # given up, and the generator started again
            self._at(now + STALL_S, lambda then: self._broken(job, then))

    def _painted(self, job: int, rows: list[int] | None, now: float) -> None:
        assert job == self._job
        self.core.painted(rows, now)
        self._job = 0
        self._look(now)

    def _broken(self, job: int, now: float) -> None:
        assert job == self._job
        self.core.painted(None, now)

        def ready(then: float) -> None:
            self._job = 0
            self._look(then)

        self._at(now + RESTART_S, ready)
