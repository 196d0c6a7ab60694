"""The sync monitor beside a line: sees and hears what leaves, in a thread of its own.

The event loop hands pictures and sound over and reads the last judgement; it never waits. A monitor
that is too slow loses pictures, not the line.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.errors import LipstreamError
from engine.filterbank import FPS
from engine.lip_expert import LipExpert
from engine.mel import SAMPLE_RATE
from engine.mouth_region import MouthStream
from engine.resample import Resampler
from engine.sync_monitor import Expert, Reading, SyncMonitor
from stream.core.sinks import Shown
from stream.core.sound import CHANNELS, SOUND_RATE, Sound
from stream.core.sync_meter import SyncMeter
from stream.core.sync_policy import SyncPolicy
from stream.core.voice import VoiceActivity

log = logging.getLogger(__name__)

HOP: Final = 15
"""Frames between two readings: 0.6 s."""
BUDGET: Final = 0.6
"""Share of one processor core that readings may take: a slow expert reads less often."""

GAP_S: Final = 0.3
"""Longer than a chunk: by then the generator has nothing to do."""

_MOST_WAITING: Final = 512  # mouth regions and blocks of sound together: six seconds
_HALF_S: Final = 0.5 / FPS
_LONGEST_GAP_S: Final = 0.5  # a picture that stands longer is none
_OLD_S: Final = 4.0
_HEARD_AT_ONCE: Final = 3200  # samples: 0.2 s, since short pieces cost more
_SPEECH: Final = 0.5  # probability
_END_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Lips:
    """A picture's mouth region, uint8 (96, 96), and whether it is to be judged."""

    at: float
    region: NDArray[np.uint8] | None
    counts: bool


@dataclass(frozen=True, slots=True)
class _Block:
    at: float
    sound: Sound


@dataclass(frozen=True, slots=True)
class _Stamped:
    """What is handed over, or a reading: of one timeline, which ends where something is missing."""

    timeline: int
    what: _Lips | _Block | Reading | None


class SyncWatch:
    """Watches one line.

    Args:
        load: loads the expert; called in the monitor's thread.
        policy: judges what it says.
        meter: keeps what it says.
        hop: frames between two readings at least.
        budget: share of one core that readings may take.
        gap_s: how long a reading waits for the generator to have done a chunk (:meth:`gap`), so
            that both do not want the processor at once.

    Attributes:
        ready: set while the expert is loaded; what leaves before goes by unseen.
    """

    def __init__(
        self,
        load: Callable[[], Expert],
        policy: SyncPolicy,
        meter: SyncMeter,
        *,
        hop: int = HOP,
        budget: float = BUDGET,
        gap_s: float = GAP_S,
    ) -> None:
        self._load = load
        self.policy, self.meter = policy, meter
        self._hop, self._budget, self._gap_s = hop, budget, gap_s
        self._gap = threading.Event()
        self._waiting: queue.Queue[_Stamped | None] = queue.Queue(_MOST_WAITING)
        self._readings: queue.SimpleQueue[_Stamped] = queue.SimpleQueue()
        self._timeline = 0
        self._mouth = MouthStream()
        self._intended_s = self._heard_at = 0.0
        self._ended = self._told = False
        self.ready = threading.Event()
        self._failure: str | None = None
        self._thread: threading.Thread | None = None

    # On the event loop

    @property
    def passthrough(self) -> bool:
        """Whether the real mouth is to be shown."""
        return self.policy.passthrough

    @property
    def trouble(self) -> str | None:
        """One sentence where the expert does not work or the real mouth is shown, else None."""
        return self._failure or self.policy.status.why

    @property
    def correction_s(self) -> float:
        """How much later than the sound the picture is to leave; negative: earlier."""
        return self.policy.correction_s

    def start(self) -> None:
        """Load the expert in the monitor's thread; the first sound does so by itself."""
        if self._thread is None and not self._ended:
            self._thread = threading.Thread(target=self._work, name="sync monitor", daemon=True)
            self._thread.start()

    def gap(self) -> None:
        """The generator has done a chunk, and the next is some time off."""
        self._gap.set()

    def show(self, shown: Shown) -> None:
        """A picture leaves; cutting out its mouth takes 0.2 ms, so that little waits."""
        if not self.ready.is_set():
            return
        region = None
        if shown.mesh is None:
            self._mouth.forget()
        else:
            region = self._mouth.push(shown.picture, shown.mesh)
        counts = shown.modified and region is not None
        if not self._give(_Lips(shown.at - self._intended_s, region, counts)):
            self.meter.dropped += 1

    def hear(self, block: Sound, at: float) -> None:
        """The target sound's next 20 ms leave, float32 (960, 2); returns at once.

        Args:
            block: the next one; after a pause the window begins anew.
            at: when its first sample leaves, in session seconds.
        """
        self.start()
        if at - self._heard_at > _LONGEST_GAP_S:
            self._begin_anew(at)
        self._heard_at = at
        self._give(_Block(at, block))

    def tick(self, now: float, *, intended_s: float, quiet: bool) -> None:
        """Take what the monitor found, and act on it.

        Args:
            now: session seconds.
            intended_s: how much later than the sound the user wants the picture.
            quiet: whether nothing sounds around what leaves now.
        """
        if intended_s != self._intended_s:
            self._intended_s = intended_s
            self._begin_anew(now)
        if self._failure is not None and not self._told:
            self._told = True
            self._begin_anew(now)
        while not self._readings.empty():
            reading = self._readings.get()
            if reading.timeline == self._timeline:
                assert not isinstance(reading.what, _Lips | _Block)
                self._judge(reading.what, now)
        before = self.policy.status
        if self.policy.tick(now, quiet=quiet):
            after = self.policy.status
            self.meter.changed(before, after)
            self._next_timeline()
            if after.why is not None:
                log.warning("%s", after.why)
            elif after.correction != before.correction:
                log.info("picture against sound corrected to %+d frames", after.correction)

    def end(self) -> None:
        """Let the thread end, and wait a moment for it."""
        self._ended = True
        if self._thread is not None:
            with suppress(queue.Full):  # a full one makes it look by itself
                self._waiting.put_nowait(None)
            self._thread.join(_END_S)

    def _judge(self, reading: Reading | None, now: float) -> None:
        self.policy.read(reading, now)
        self.meter.read(self.policy.status)

    def _begin_anew(self, now: float) -> None:
        """What was seen and heard so far is of another time, or has a hole."""
        self._next_timeline()
        self._judge(None, now)

    def _next_timeline(self) -> None:
        self._timeline += 1
        self._mouth.forget()

    def _give(self, what: _Lips | _Block) -> bool:
        if not self.ready.is_set():
            return True
        try:
            self._waiting.put_nowait(_Stamped(self._timeline, what))
        except queue.Full:
            self._begin_anew(what.at)
            return False
        return True

    # In the thread

    def _work(self) -> None:
        try:
            expert = self._load()
            self.ready.set()
            self._watch(expert)
        except LipstreamError as error:
            self._failure = str(error)
            log.warning("the sync monitor stops: %s", error)
        except Exception:
            self._failure = "The sync monitor failed and is switched off for this session."
            log.exception("the sync monitor failed")
        self.ready.clear()
        with suppress(queue.Empty):
            while True:
                self._waiting.get_nowait()

    def _watch(self, expert: Expert) -> None:
        window, timeline = _Window(expert), -1
        due, busy_until = self._hop, 0.0
        spent_s, since = time.thread_time(), time.monotonic()
        while not self._ended and (one := self._waiting.get()) is not None:
            if one.timeline != timeline or window.lost(one.what):
                window, due, timeline = _Window(expert), self._hop, one.timeline
                self._readings.put(_Stamped(timeline, None))
            if isinstance(one.what, _Block):
                window.hear(one.what)
            if not isinstance(one.what, _Lips):
                continue
            window.see(one.what)
            if window.frames < due or time.monotonic() < busy_until:
                continue
            due = window.frames + self._hop
            self._gap.clear()
            self._gap.wait(self._gap_s)
            began = time.monotonic()
            self._readings.put(_Stamped(timeline, window.read()))
            # Processor time of the run time's own threads is not known: the wall clock is.
            busy_until = began + (time.monotonic() - began) / self._budget
            if (now := time.monotonic()) - since > 1.0:
                spent = time.thread_time()
                self.meter.load = (spent - spent_s) / (now - since)
                since, spent_s = now, spent


def watch_with(bundle: Bundle | None, wanted: str) -> SyncWatch | None:
    """A monitor for one line.

    Args:
        bundle: whose lip expert watches (:func:`stream.lip_experts.expert_bundle`), if one does.
        wanted: ``report`` or ``act``.
    """
    if bundle is None or bundle.expert is None:
        return None
    policy = SyncPolicy(bundle.expert.confident, acts=wanted == "act")
    return SyncWatch(lambda: LipExpert(bundle), policy, SyncMeter(bundle.expert.name))


class _Window:
    """Pictures and sound as they leave, on the monitor's timeline of 25 frames a second."""

    def __init__(self, expert: Expert) -> None:
        self._monitor = SyncMonitor(expert)
        self._copy = Resampler(SOUND_RATE, SAMPLE_RATE, CHANNELS)
        self._voice = VoiceActivity()
        self._heard: list[NDArray[np.float32]] = []
        self._start: float | None = None
        self._shown: _Lips | None = None

    @property
    def frames(self) -> int:
        return self._monitor.frames

    def lost(self, one: object) -> bool:
        """Whether no picture came for so long that all that is known is old."""
        if self._start is None or not isinstance(one, _Lips | _Block):
            return False
        return one.at - self._start - self._monitor.frames / FPS > _OLD_S

    def hear(self, block: _Block) -> None:
        if self._start is None:
            self._start = block.at
        self._heard.append(self._copy.push(block.sound))
        if sum(map(len, self._heard)) < _HEARD_AT_ONCE:
            return
        mono = np.concatenate(self._heard)
        self._heard.clear()
        self._monitor.hear(mono)
        for end_s, length_s, probability in self._voice.push(mono):
            self._monitor.voice(end_s, length_s, probability > _SPEECH)

    def see(self, lips: _Lips) -> None:
        if self._start is None:
            return
        self._fill(lips.at - self._start)
        self._shown = lips

    def read(self) -> Reading | None:
        return self._monitor.read()

    def _fill(self, until_s: float) -> None:
        """The frames up to the next picture show the last one: each the nearest to its time."""
        while self._monitor.frames / FPS < until_s - _HALF_S:
            if self._shown is None or self._start is None:
                self._monitor.see(None)
                continue
            stands_s = self._monitor.frames / FPS - (self._shown.at - self._start)
            fresh = stands_s < _LONGEST_GAP_S
            self._monitor.see(self._shown.region if fresh else None, counts=self._shown.counts)
