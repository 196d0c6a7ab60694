"""What a room measures, how it tells the front process, and how all of it becomes ``/metrics``.

The JSON form, ``metrics`` in a room's state::

    {"counters": {NAME: {LABELS: number}}, "gauges": {NAME: {LABELS: number}},
     "histograms": {NAME: {LABELS: {"counts": [number …], "sum": number}}}}

with names of ``stream.relay.instruments``, label values joined by a comma (nothing where there are
none), and a histogram's count of each bucket by itself, that beyond the last bound at the end.
"""

from __future__ import annotations

import math
import re
import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from stream.relay.instruments import COUNTERS, GAUGES, HISTOGRAMS, SPLIT, Instrument

MOST_SERIES: Final = 64
"""Of one name."""

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_.-]{0,31}")

Direction = Literal["in", "out"]
Media = Literal["audio", "video"]
Rendition = Literal["full", "small", "sound"]
Codec = Literal["vp8", "h264", "opus"]


class RoomMetrics:
    """Takes a room's measurements; each call is a matter of a microsecond, from any thread."""

    def __init__(self) -> None:
        self._sums = MetricsSum()
        self._lock = threading.Lock()

    def sessions(
        self, kind: Literal["speaker", "interpreter", "process", "listener"], n: int
    ) -> None:
        """How many there are now."""
        self._set("sessions", kind, n)

    def viewers(self, rendition: Rendition, n: int) -> None:
        """How many are sent this now."""
        self._set("viewers", rendition, n)

    def queue_depth(self, queue: str, n: int) -> None:
        """How many things wait in a queue now; its name is a plain word of the code."""
        self._set("queue_depth", queue, n)

    def dropped(self, queue: str, reason: str, n: int = 1) -> None:
        """A queue dropped something; both names are plain words of the code."""
        self._count("queue_dropped", f"{queue}{SPLIT}{reason}", n)

    def chunk(
        self, stage: Literal["queue", "batch", "infer", "post", "total"], seconds: float
    ) -> None:
        """How long a chunk took."""
        self._observe("chunk_seconds", stage, seconds)

    def deadline_missed(self, n: int = 1) -> None:
        """A chunk came too late."""
        self._count("chunk_deadline_missed", "", n)

    def frames(
        self,
        kind: Literal["shown", "generated", "dropped_late", "repeated", "passthrough"],
        n: int = 1,
    ) -> None:
        """What became of pictures: ``generated`` and ``passthrough`` are ``shown`` too."""
        self._count("frames", kind, n)

    def skew(self, seconds: float) -> None:
        """How far picture and sound were apart where they left; positive: sound late."""
        self._observe("av_skew_seconds", "", seconds)

    def sync(self, state: str, n: int) -> None:
        """What a sync monitor said, so often since the last call."""
        self._count("sync_readings", state, n)

    def sync_acts(self, corrections: int, withdrawals: int) -> None:
        """How often a sync monitor acted since the last call."""
        self._count("sync_corrections", "", corrections)
        self._count("sync_withdrawals", "", withdrawals)

    def sync_figures(self, avsu: float, offset_s: float | None) -> None:
        """What a sync monitor measured; positive: the sound is late."""
        self._observe("sync_avsu", "", avsu)
        if offset_s is not None:
            self._observe("sync_offset_seconds", "", offset_s)

    def rtp(self, direction: Direction, kind: Media, packets: int, lost: int = 0) -> None:
        """Packets since the last call, not since the start."""
        self._count("rtp_packets", f"{direction}{SPLIT}{kind}", packets)
        self._count("rtp_lost", f"{direction}{SPLIT}{kind}", lost)

    def nack(self, direction: Direction, n: int = 1) -> None:
        """Retransmissions asked for: ``in`` by a client, ``out`` by us."""
        self._count("nack", direction, n)

    def pli(self, direction: Direction, n: int = 1) -> None:
        """Key frames asked for: ``in`` by a client, ``out`` by us."""
        self._count("pli", direction, n)

    def rtt(self, seconds: float) -> None:
        """A round trip, of each receiver report."""
        self._observe("rtt_seconds", "", seconds)

    def jitter(self, seconds: float) -> None:
        """The jitter of what a client sends, now and then."""
        self._observe("jitter_seconds", "", seconds)

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop was."""
        self._observe("room_loop_lag_seconds", "", seconds)

    def ice(self, state: str) -> None:
        """A connection changed to this ICE state."""
        self._count("ice_state", state, 1)

    def encoded(
        self, codec: Codec, rendition: Rendition, frames: int = 1, key_frames: int = 0
    ) -> None:
        """Frames were encoded."""
        self._count("encoded_frames", f"{codec}{SPLIT}{rendition}", frames)
        self._count("key_frames", f"{codec}{SPLIT}{rendition}", key_frames)

    def as_json(self) -> dict[str, Any]:
        """All of it; see the module."""
        with self._lock:
            return self._sums.as_json()

    def _count(self, name: str, labels: str, n: int) -> None:
        with self._lock:
            self._sums.count(name, labels, n)

    def _set(self, name: str, labels: str, n: int) -> None:
        with self._lock:
            self._sums.set(name, labels, n)

    def _observe(self, name: str, labels: str, value: float) -> None:
        with self._lock:
            self._sums.observe(name, labels, value)


class MetricsSum:
    """Counters, gauges and histograms, and the sum of several rooms'.

    What is not among the instruments, or no number, is left out: a room that goes wrong can't
    spoil the sum.
    """

    def __init__(self) -> None:
        self.counters: dict[str, dict[str, float]] = {name: {} for name in COUNTERS}
        self.gauges: dict[str, dict[str, float]] = {name: {} for name in GAUGES}
        self.histograms: dict[str, dict[str, _Histogram]] = {name: {} for name in HISTOGRAMS}

    def count(self, name: str, labels: str, n: float) -> None:
        """Add to a counter; what is less than nothing is not added."""
        if n > 0:
            series = self.counters[name]
            if labels in series or _fits(COUNTERS[name], labels, series):
                series[labels] = series.get(labels, 0) + n

    def set(self, name: str, labels: str, value: float) -> None:
        """Set a gauge."""
        series = self.gauges[name]
        if labels in series or _fits(GAUGES[name], labels, series):
            series[labels] = value

    def observe(self, name: str, labels: str, value: float) -> None:
        """Count a value in a histogram; what is not finite is left out."""
        histogram = self._histogram(name, labels)
        if histogram is not None and math.isfinite(value):
            histogram.counts[bisect_left(HISTOGRAMS[name].buckets, value)] += 1
            histogram.sum += value

    def as_json(self) -> dict[str, Any]:
        """See the module."""
        return {
            "counters": {name: dict(series) for name, series in self.counters.items() if series},
            "gauges": {name: dict(series) for name, series in self.gauges.items() if series},
            "histograms": {
                name: {
                    labels: {"counts": list(one.counts), "sum": one.sum}
                    for labels, one in series.items()
                }
                for name, series in self.histograms.items()
                if series
            },
        }

    def add(self, told: object, *, gauges: bool = True) -> None:
        """Add what a room told.

        Args:
            told: its JSON form.
            gauges: whether the gauges count: not those of a room that has ended.
        """
        for name, labels, value in _series(told, "counters"):
            if name in COUNTERS and _is_count(value):
                self.count(name, labels, value)
        for name, labels, value in _series(told, "gauges") if gauges else ():
            if name in GAUGES and _is_number(value):
                self.set(name, labels, self.gauges[name].get(labels, 0) + value)
        for name, labels, value in _series(told, "histograms"):
            if name in HISTOGRAMS:
                self._add_histogram(name, labels, value)

    def _add_histogram(self, name: str, labels: str, told: Any) -> None:
        match told:
            case {"counts": [*counts], "sum": total}:
                right = len(counts) == len(HISTOGRAMS[name].buckets) + 1
                if not (right and all(map(_is_count, counts)) and _is_number(total)):
                    return
                histogram = self._histogram(name, labels)
                if histogram is not None:
                    for place, count in enumerate(counts):
                        histogram.counts[place] += count
                    histogram.sum += total

    def _histogram(self, name: str, labels: str) -> _Histogram | None:
        series = self.histograms[name]
        if labels not in series:
            if not _fits(HISTOGRAMS[name], labels, series):
                return None
            series[labels] = _Histogram(len(HISTOGRAMS[name].buckets) + 1)
        return series[labels]


class _Histogram:
    """Counts of values by bucket, each for itself."""

    __slots__ = ("counts", "sum")

    def __init__(self, buckets: int) -> None:
        self.counts = [0] * buckets
        self.sum = 0.0


def summed(rooms: Iterable[object], past: MetricsSum) -> MetricsSum:
    """What all rooms told, with what those counted that have ended.

    Args:
        rooms: the JSON form of each that runs.
        past: of the others.
    """
    total = MetricsSum()
    total.add(past.as_json())
    for told in rooms:
        total.add(told)
    return total


def _fits(instrument: Instrument, labels: str, series: Mapping[str, object]) -> bool:
    """Whether there may be another series."""
    if len(series) >= MOST_SERIES:
        return False
    values = labels.split(SPLIT) if instrument.labels else []
    if not instrument.labels and labels:
        return False
    return len(values) == len(instrument.labels) and all(
        _WORD.fullmatch(value) if words is None else value in words
        for value, words in zip(values, instrument.labels.values(), strict=True)
    )


def _series(told: object, kind: str) -> Iterable[tuple[str, str, Any]]:
    names = told.get(kind) if isinstance(told, dict) else None
    for name, series in names.items() if isinstance(names, dict) else ():
        for labels, value in series.items() if isinstance(series, dict) else ():
            yield name, labels, value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e18


def _is_count(value: object) -> bool:
    return _is_number(value) and value >= 0  # type: ignore[operator]
