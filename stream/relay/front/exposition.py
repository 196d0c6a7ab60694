"""``/metrics`` as Prometheus reads it: the rooms' measurements and those of the front process."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, Final, Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from stream.relay.instruments import COUNTERS, GAUGES, HISTOGRAMS, LAG_BUCKETS, PREFIX, SPLIT
from stream.relay.metrics import MetricsSum, summed

ENDINGS: Final = ("idle", "closed", "died", "hung", "memory", "failed")
"""Why rooms end; the last is a room that could not be started."""

_ENGINE_GAUGES: Final = (
    ("sessions", "open_slots", "Languages that have a place in the engine."),
    ("capacity_sessions", "capacity", "Languages that the engine's device holds."),
    ("load_ratio", "load", "Share of the device's time that was asked for lately."),
    ("reserved_ratio", "reserved", "Share of the device's time that all places may ask for."),
    ("overloaded", "overloaded", "1 while the device has too much to do."),
)
_ENGINE_COUNTERS: Final = (
    ("refused", "refused", "Languages that got no place."),
    ("chunks", "chunks", "Chunks that were painted."),
    ("chunks_late", "late", "Of these, chunks that were too late."),
    ("chunks_shed", "shed", "Chunks that were not painted, for want of time."),
    ("steps", "steps", "Batches that were painted."),
    ("frames", "frames", "Frames that were painted; by steps, the mean batch."),
    ("step_seconds", "step_seconds", "Time that batches took."),
)
"""Each with the name of its figure; counted by the engine that works, since it began."""

_RESULTS: Final = {
    201: "ok",
    307: "elsewhere",
    400: "bad_sdp",
    401: "auth",
    403: "auth",
    404: "not_found",
    409: "not_live",
    413: "bad_sdp",
    415: "bad_sdp",
    422: "bad_sdp",
    429: "rate",
    503: "full",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """The relay as a whole, now.

    Attributes:
        rooms: that run.
        most_rooms: that may run.
        draining: whether no new sessions are taken.
        memory_bytes: of all rooms; None where the system does not tell.
        endings: how many rooms ended, by why; see ``ENDINGS``.
        engine_alive: whether there is an engine.
        engine_restarts: how often another one took over.
        engine: its own figures, see :meth:`stream.relay.engine.bench.Workbench.facts`; what is
            not there is left out.
    """

    rooms: int
    most_rooms: int
    draining: bool
    memory_bytes: float | None
    endings: Counter[str]
    engine_alive: bool
    engine_restarts: int
    engine: Mapping[str, Any] = field(default_factory=dict)


class Measured(Protocol):
    """Who has the rooms' measurements."""

    @property
    def past(self) -> MetricsSum:
        """What the rooms counted that have ended."""
        ...

    def metrics(self) -> list[object]:
        """What each room told last."""
        ...


@dataclass
class FrontMetrics:
    """What the front process itself measures.

    Attributes:
        admissions: answers to offers, by result.
        lag_counts: how late its event loop was, by bucket.
        lag_sum: seconds.
    """

    admissions: Counter[str] = field(default_factory=Counter)
    lag_counts: list[int] = field(default_factory=lambda: [0] * (len(LAG_BUCKETS) + 1))
    lag_sum: float = 0.0

    def answered(self, status: int) -> None:
        """An offer got this status."""
        self.admissions[_RESULTS.get(status, "failed")] += 1

    def loop_lag(self, seconds: float) -> None:
        """How late the event loop was."""
        place = sum(bound < seconds for bound in LAG_BUCKETS)
        self.lag_counts[place] += 1
        self.lag_sum += seconds


class Exposition(Collector):
    """The page.

    Args:
        rooms: their measurements.
        front: those of the front process.
        facts: the relay as a whole.
    """

    def __init__(self, rooms: Measured, front: FrontMetrics, facts: Callable[[], Facts]) -> None:
        self._rooms, self._front, self._facts = rooms, front, facts
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def page(self, accept: str) -> tuple[bytes, str]:
        """The page and its ``Content-Type``.

        Args:
            accept: the request's ``Accept``.
        """
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def collect(self) -> Iterable[Metric]:
        """All of it, for prometheus_client."""
        yield from self._of_front()
        yield from self._of_rooms(summed(self._rooms.metrics(), self._rooms.past))

    def _of_front(self) -> Iterator[Metric]:
        facts = self._facts()
        for name, text, value in (
            ("rooms", "Rooms that run.", facts.rooms),
            ("rooms_limit", "Rooms that may run.", facts.most_rooms),
            ("draining", "1 while no new sessions are taken.", int(facts.draining)),
            ("engine_up", "1 while there is an engine.", int(facts.engine_alive)),
            ("rooms_memory_bytes", "Memory of the rooms' processes.", facts.memory_bytes),
        ):
            if value is not None:
                yield GaugeMetricFamily(PREFIX + name, text, value=value)
        yield CounterMetricFamily(
            PREFIX + "engine_restarts", "Engines put in place of another.", facts.engine_restarts
        )
        yield from _of_engine(facts.engine)
        ends = CounterMetricFamily(PREFIX + "room_ends", "Rooms that ended.", labels=["reason"])
        for reason in ENDINGS:
            ends.add_metric([reason], facts.endings[reason])
        yield ends
        admissions = CounterMetricFamily(
            PREFIX + "session_admission", "Answers to offers.", labels=["result"]
        )
        for result in sorted({*_RESULTS.values(), "failed"}):
            admissions.add_metric([result], self._front.admissions[result])
        yield admissions
        yield HistogramMetricFamily(
            PREFIX + "loop_lag_seconds",
            "How late the front process's event loop was.",
            _cumulative(LAG_BUCKETS, self._front.lag_counts),
            self._front.lag_sum,
        )

    def _of_rooms(self, total: MetricsSum) -> Iterator[Metric]:
        for name, instrument in COUNTERS.items():
            counter = CounterMetricFamily(
                PREFIX + name, instrument.help, labels=[*instrument.labels]
            )
            nothing = {} if instrument.labels else {"": 0.0}
            for labels, value in (nothing | total.counters[name]).items():
                counter.add_metric(_values(labels), value)
            yield counter
        for name, instrument in GAUGES.items():
            gauge = GaugeMetricFamily(PREFIX + name, instrument.help, labels=[*instrument.labels])
            for labels, value in total.gauges[name].items():
                gauge.add_metric(_values(labels), value)
            yield gauge
        for name, instrument in HISTOGRAMS.items():
            family = HistogramMetricFamily(
                PREFIX + name, instrument.help, labels=[*instrument.labels]
            )
            for labels, one in total.histograms[name].items():
                buckets = _cumulative(instrument.buckets, one.counts)
                family.add_metric(_values(labels), buckets, one.sum)
            yield family


def _of_engine(told: Mapping[str, Any]) -> Iterator[Metric]:
    for name, fact, text in _ENGINE_GAUGES:
        if fact in told:
            yield GaugeMetricFamily(f"{PREFIX}engine_{name}", text, value=float(told[fact]))
    for name, fact, text in _ENGINE_COUNTERS:
        if fact in told:
            yield CounterMetricFamily(f"{PREFIX}engine_{name}", text, float(told[fact]))


def _values(labels: str) -> list[str]:
    return labels.split(SPLIT) if labels else []


def _cumulative(bounds: Iterable[float], counts: Iterable[int]) -> list[tuple[str, float]]:
    names = [*(str(bound) for bound in bounds), "+Inf"]
    return [*zip(names, (float(n) for n in accumulate(counts)), strict=True)]
