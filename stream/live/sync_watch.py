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
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle, load_bundle
from engine.errors import BundleError, LipstreamError
from engine.filterbank import FPS, SAMPLE_RATE
from engine.lip_expert import LipExpert
from engine.mouth_region import MouthStream
from engine.resample import Resampler
from engine.sync_monitor import LEAST, Expert, Reading, SyncMonitor
from stream.core.sinks import Shown
from stream.core.sound import CHANNELS, SOUND_RATE, Sound
from stream.core.sync_meter import SyncMeter
from stream.core.sync_policy import SyncPolicy
from stream.core.voice import VoiceActivity

log = logging.getLogger(__name__)

HOP: Final = 10
"""Frames between two readings: 0.4 s."""
BUDGET: Final = 0.6
"""Share of one processor core that readings may take: a slow expert reads less often."""

_MOST_WAITING: Final = 64  # pictures and blocks of sound together: less than a second
_HALF_S: Final = 0.5 / FPS
_LONGEST_GAP_S: Final = 0.5  # a picture that stands longer is none
_OLD_S: Final = 4.0
_SPEECH: Final = 0.5  # probability
_END_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Picture:
    at: float
    picture: NDArray[np.uint8]
    mesh: NDArray[np.float32] | None
    counts: bool


@dataclass(frozen=True, slots=True)
class _Block:
    at: float
    sound: Sound


class SyncWatch:
    """Watches one line.

    Args:
        load: loads the expert; called in the monitor's thread.
        policy: judges what it says.
        meter: keeps what it says.
        hop: frames between two readings at least.
        budget: share of one core that readings may take.

    Attributes:
        ready: set once the expert is loaded; what leaves before goes by unseen.
        trouble: one sentence where the expert does not work, else None.
    """

    def __init__(
        self,
        load: Callable[[], Expert],
        policy: SyncPolicy,
        meter: SyncMeter,
        *,
        hop: int = HOP,
        budget: float = BUDGET,
    ) -> None:
        self._load = load
        self.policy, self.meter = policy, meter
        self._hop, self._budget = hop, budget
        self._waiting: queue.Queue[_Picture | _Block | None] = queue.Queue(_MOST_WAITING)
        self._readings: queue.SimpleQueue[Reading | None] = queue.SimpleQueue()
        self._forget = threading.Event()
        self.ready = threading.Event()
        self._ended = False
        self._intended_s = self._heard_at = 0.0
        self.trouble: str | None = None
        self._thread = threading.Thread(target=self._work, name="sync monitor", daemon=True)
        self._thread.start()

    # On the event loop

    @property
    def passthrough(self) -> bool:
        """Whether the real mouth is to be shown."""
        return self.policy.passthrough

    @property
    def correction_s(self) -> float:
        """How much later than the sound the picture is to leave; negative: earlier."""
        return self.policy.correction_s

    def show(self, shown: Shown) -> None:
        """A picture leaves; returns at once."""
        counts = shown.modified and shown.mesh is not None
        self._give(
            _Picture(shown.at - self._intended_s, shown.picture, shown.mesh, counts), picture=True
        )

    def hear(self, block: Sound, at: float) -> None:
        """The target sound's next 20 ms leave, float32 (960, 2); returns at once.

        Args:
            block: the next one; after a pause the window begins anew.
            at: when its first sample leaves, in session seconds.
        """
        if at - self._heard_at > _LONGEST_GAP_S:
            self._forget.set()
        self._heard_at = at
        self._give(_Block(at, block), picture=False)

    def tick(self, now: float, *, intended_s: float, quiet: bool) -> None:
        """Take what the monitor found, and act on it.

        Args:
            now: session seconds.
            intended_s: how much later than the sound the user wants the picture.
            quiet: whether nothing sounds around what leaves now.
        """
        if intended_s != self._intended_s:
            self._intended_s = intended_s
            self._forget.set()
        while not self._readings.empty():
            self.policy.read(self._readings.get(), now)
            self.meter.read(self.policy.status)
        before = self.policy.status
        if self.policy.tick(now, quiet=quiet):
            self._forget.set()
            after = self.policy.status
            self.meter.changed(before, after)
            if after.why is not None:
                log.warning("%s", after.why)
            elif after.correction != before.correction:
                log.info("picture against sound corrected to %+d frames", after.correction)

    def end(self) -> None:
        """Let the thread end, and wait a moment for it."""
        self._ended = True
        with suppress(queue.Full):  # a full one makes it look by itself
            self._waiting.put_nowait(None)
        self._thread.join(_END_S)

    def _give(self, one: _Picture | _Block, *, picture: bool) -> None:
        if not self.ready.is_set():
            return
        try:
            self._waiting.put_nowait(one)
        except queue.Full:
            self.meter.dropped += int(picture)
            self._forget.set()  # the timeline has a hole

    # In the thread

    def _work(self) -> None:
        try:
            expert = self._load()
            self.ready.set()
            self._watch(expert)
        except LipstreamError as error:
            self.trouble = str(error)
            log.warning("the sync monitor stops: %s", error)
        except Exception:
            self.trouble = "The sync monitor failed and is switched off for this session."
            log.exception("the sync monitor failed")
        self.ready.clear()  # nobody listens any more

    def _watch(self, expert: Expert) -> None:
        window = _Window(expert)
        due, busy_until = self._hop, 0.0
        spent_s, since = time.thread_time(), time.monotonic()
        while not self._ended and (one := self._waiting.get()) is not None:
            if self._forget.is_set() or window.lost(one):
                self._forget.clear()
                window, due = _Window(expert), self._hop
                self._readings.put(None)
            if isinstance(one, _Block):
                window.hear(one)
                continue
            window.see(one)
            if window.frames < due or time.monotonic() < busy_until:
                continue
            due = window.frames + self._hop
            began = time.monotonic()
            self._readings.put(window.read())
            # Processor time of the run time's own threads is not known: the wall clock is.
            busy_until = began + (time.monotonic() - began) / self._budget
            if busy_until - since > 1.0:
                now, spent = time.monotonic(), time.thread_time()
                self.meter.load = (spent - spent_s) / (now - since)
                since, spent_s = now, spent


def expert_bundle(bundle: Bundle, wanted: str, expert_folder: Path | None) -> Bundle | None:
    """The bundle whose lip expert watches, if the settings ask for one.

    Args:
        bundle: the one that runs.
        wanted: ``off``, ``report`` or ``act``.
        expert_folder: a bundle whose lip expert watches; by default the running one's, or the
            starter's where that has none.

    Raises:
        BundleError: the expert's bundle does not fit, or has none.
    """
    if wanted == "off":
        return None
    if expert_folder is not None:
        bundle = load_bundle(expert_folder)
    elif bundle.expert is None:
        bundle = load_bundle()
    if bundle.expert is None:
        raise BundleError(
            f"The bundle {bundle.folder} carries no lip expert; name another --lip-expert, or"
            " switch it off with --sync-monitor off."
        )
    return bundle


def watch_with(bundle: Bundle | None, wanted: str) -> SyncWatch | None:
    """A monitor for one line, by what :func:`expert_bundle` gave for the same wish."""
    if bundle is None or bundle.expert is None:
        return None
    policy = SyncPolicy(bundle.expert.confident, acts=wanted == "act")
    return SyncWatch(lambda: LipExpert(bundle), policy, SyncMeter(bundle.expert.name))


class _Window:
    """Pictures and sound as they leave, on the monitor's timeline of 25 frames a second."""

    def __init__(self, expert: Expert) -> None:
        self._monitor = SyncMonitor(expert)
        self._mouth = MouthStream()
        self._copy = Resampler(SOUND_RATE, SAMPLE_RATE, CHANNELS)
        self._voice = VoiceActivity()
        self._start: float | None = None
        self._shown: tuple[_Picture, NDArray[np.uint8] | None] | None = None

    @property
    def frames(self) -> int:
        return self._monitor.frames

    def lost(self, one: _Picture | _Block) -> bool:
        """Whether no picture came for so long that all that is known is old."""
        if self._start is None or self._monitor.frames < LEAST:
            return False
        return one.at - self._start - self._monitor.frames / FPS > _OLD_S

    def hear(self, block: _Block) -> None:
        if self._start is None:
            self._start = block.at
        mono = self._copy.push(block.sound)
        self._monitor.hear(mono)
        for end_s, length_s, probability in self._voice.push(mono):
            self._monitor.voice(end_s, length_s, probability > _SPEECH)

    def see(self, picture: _Picture) -> None:
        if self._start is None:
            return
        self._fill(picture.at - self._start)
        region = None
        if picture.mesh is None:
            self._mouth.forget()
        else:
            region = self._mouth.push(picture.picture, picture.mesh)
        self._shown = picture, region

    def read(self) -> Reading | None:
        return self._monitor.read()

    def _fill(self, until_s: float) -> None:
        """The frames up to the next picture show the last one: each the nearest to its time."""
        while self._monitor.frames / FPS < until_s - _HALF_S:
            if self._shown is None or self._start is None:
                self._monitor.see(None)
                continue
            picture, region = self._shown
            stands_s = self._monitor.frames / FPS - (picture.at - self._start)
            fresh = stands_s < _LONGEST_GAP_S
            self._monitor.see(region if fresh else None, counts=picture.counts)
