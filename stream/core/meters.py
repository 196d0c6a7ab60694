"""Counts and measures a session: for the live page, and for the report at its end."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, Final, Literal

from stream.core.histogram import Quantiles
from stream.core.series import Moment, Series
from stream.core.skew import SkewMeter
from stream.core.sync_meter import SyncMeter
from stream.report import CASES, STAGES, Report

Kind = Literal["generated", "passthrough", "repeated", "card"]

LATE_S: Final = 0.02
"""A picture that leaves later than this after it was due is late: half a frame's time."""

SETTLED_S: Final = 10.0
"""Memory is judged from here on: before, everything is still being set up."""

_LEAST_SLOPE_S = 20.0  # over less time a slope of memory says nothing
_LEAST_TICK_S = 0.5
_LIVE_S = 2.0  # what the live page shows is that old at most
_MOST_RATE = 240  # pictures a second, far beyond any camera
_MOST_SOUND_S = 600  # seconds between two ticks; each brings 50 values
_DELAY_MS = (0.0, 10_000.0, 1.0)
_STAGE_MS = (0.0, 4_000.0, 0.2)
_NOT_DUE = frozenset({"order"})  # dropped as it was older than the last: it had no time to leave


class Meters:
    """What a session did so far. May be called from any thread; no call takes long.

    Args:
        resident_mb: the process's memory now, in 10^6 bytes; None where it can't be known.
        skew: measures the pair of sinks that the report is about.

    Attributes:
        skew: to be told what left these sinks.
        skew_source: says which sinks these are.
        sync: what the sync monitor found, where there is one.
    """

    def __init__(
        self,
        resident_mb: Callable[[], float | None] = lambda: None,
        skew: SkewMeter | None = None,
    ) -> None:
        self.skew = skew or SkewMeter()
        self.skew_source = "nothing"
        self.sync: SyncMeter | None = None
        self._resident_mb = resident_mb
        self._lock = threading.Lock()
        self._sinks: dict[str, Callable[[], Mapping[str, Any]]] = {}
        self._in = 0
        self._dropped: Counter[str] = Counter()
        self._passed: Counter[str] = Counter()
        self._repeated: Counter[str] = Counter()
        self._shown_in: dict[str, Counter[Kind]] = {case: Counter() for case in CASES}
        self._generated = self._late = 0
        self._last_reason: str | None = None
        self._first_at: float | None = None
        self._last_at = 0.0
        self._fresh_times: deque[float] = deque(maxlen=round(_LIVE_S * _MOST_RATE))
        self._stages = {name: _Timing(_STAGE_MS) for name in STAGES}
        self._delay = _Timing(_DELAY_MS)
        self._gate_s = dict.fromkeys(CASES, 0.0)
        self._case: str | None = None
        self._series = Series()
        self._second = _Second(0.0)
        self._ticked = False
        self._rss_start: tuple[float, float] | None = None  # session seconds, MB

    # What happens

    def frame_in(self) -> None:
        """The camera gave a picture."""
        with self._lock:
            self._in += 1

    def dropped(self, reason: str) -> None:
        """A picture will not be shown."""
        with self._lock:
            self._dropped[reason] += 1

    def stage(self, name: str, seconds: float) -> None:
        """A step of the work took this long.

        Args:
            name: one of :data:`stream.report.STAGES`.
            seconds: ≥ 0.

        Raises:
            KeyError: there is no such stage.
        """
        with self._lock:
            self._stages[name].add(seconds * 1000)

    def shown(
        self, kind: Kind, reason: str | None, *, late_s: float, case: str | None, now: float
    ) -> None:
        """A picture left for the sinks.

        Args:
            kind: ``repeated`` for one that had left before, ``card`` for the still card.
            reason: why it passed through or was repeated.
            late_s: how long after it was due.
            case: the gate's; None where it has none.
            now: session seconds.
        """
        with self._lock:
            self._last_at = max(self._last_at, now)
            if kind in ("repeated", "card"):
                self._repeated["card" if kind == "card" else reason or "gap"] += 1
                return
            self._first_at = now if self._first_at is None else self._first_at
            self._late += int(late_s > LATE_S)
            self._fresh_times.append(now)
            self._second.pictures += 1
            if case is not None:
                self._shown_in[case][kind] += 1
            if kind == "generated":
                self._generated += 1
            else:
                self._passed[reason or "unknown"] += 1
            self._last_reason = reason if kind == "passthrough" else None

    def added_delay(self, seconds: float) -> None:
        """Sound left this long after it came in."""
        with self._lock:
            self._delay.add(seconds * 1000)
            self._second.delays_ms.append(seconds * 1000)

    def gate(self, case: str, seconds: float) -> None:
        """The gate was in a case for this much of the session.

        Raises:
            KeyError: there is no such case.
        """
        with self._lock:
            self._gate_s[case] += seconds
            self._second.case_s[case] += seconds
            self._case = case

    def sink(self, name: str, facts: Callable[[], Mapping[str, Any]]) -> None:
        """Let the report say more of a sink.

        Args:
            name: its key in the report.
            facts: asked when a report is made; JSON values.
        """
        with self._lock:
            self._sinks[name] = facts

    def tick(self, now: float) -> None:
        """A second of the session is over; calls that come too soon do nothing."""
        with self._lock:
            if self._ticked and now - self._second.start < _LEAST_TICK_S:
                return
            self._ticked = True
        rss_mb = self._resident_mb()
        skews = self.skew.take()
        with self._lock:
            moment = self._second.end(now, skews, rss_mb)
            self._second = _Second(now)
            self._series.add(moment)
            self._last_at = max(self._last_at, now)
            if rss_mb is None:
                return
            start = self._rss_start
            if start is None or (start[0] < SETTLED_S <= now):
                self._rss_start = now, rss_mb

    # What it came to

    def snapshot(self, now: float) -> dict[str, Any]:
        """The session as it is now, for a live page; JSON values.

        Args:
            now: session seconds.
        """
        skew_ms = self.skew.now_ms
        with self._lock:
            fresh = sum(at > now - _LIVE_S for at in self._fresh_times)
            return {
                "fps": round(fresh / min(_LIVE_S, max(now, 0.1)), 1),
                "added_delay_ms": {
                    "total": _rounded(self._delay.recent()),
                    "stages": {name: _rounded(t.recent()) for name, t in self._stages.items()},
                },
                "skew_ms": _rounded(skew_ms),
                "sync": None if self.sync is None else self.sync.snapshot(),
                "gate": self._case,
                "frames": self._frames(),
                "passthrough_reason": self._last_reason,
                "uptime_s": round(now, 1),
            }

    def series(self) -> list[Moment]:
        """The session second by second, for a plot."""
        with self._lock:
            return self._series.moments()

    def report(self, now: float, *, backend: str, bundle: str) -> Report:
        """The report of the session so far.

        Args:
            now: session seconds.
            backend: the run time of the networks.
            bundle: the bundle's name.
        """
        sinks = {name: dict(facts()) for name, facts in self._sinks.items()}
        with self._lock:
            moments = self._series.moments()
            frames = self._frames()
            fresh = frames["generated"] + frames["passthrough"]
            unshown = sum(n for why, n in self._dropped.items() if why not in _NOT_DUE)
            return Report(
                shown_fps=self._fps(fresh),
                late_ratio=_ratio(self._late + unshown, fresh + unshown),
                added_delay_ms=self._delay.quantiles(),
                skew_ms=self.skew.sizes_ms(),
                stages_ms={name: timing.quantiles() for name, timing in self._stages.items()},
                frames=frames,
                generated_share={
                    case: _ratio(kinds["generated"], kinds.total())
                    for case, kinds in self._shown_in.items()
                },
                gate_s=dict(self._gate_s),
                rss_mb=self._rss(moments),
                backend=backend,
                bundle=bundle,
                frames_by_reason={
                    "dropped": dict(self._dropped),
                    "passthrough": dict(self._passed),
                    "repeated": dict(self._repeated),
                },
                duration_s=now,
                rss_slope_mb_per_min=_slope_per_min(moments),
                skew_signed_p50_ms=self.skew.signed_p50_ms,
                skew_source=self.skew_source,
                sync=None if self.sync is None else self.sync.report(),
                sinks=sinks,
            )

    def _frames(self) -> dict[str, int]:
        passed, repeated = self._passed.total(), self._repeated.total()
        return {
            "in": self._in,
            "out": self._generated + passed + repeated,
            "generated": self._generated,
            "dropped": self._dropped.total(),
            "repeated": repeated,
            "passthrough": passed,
        }

    def _fps(self, fresh: int) -> float | None:
        """New pictures a second, from the first that left to the end."""
        if self._first_at is None or self._last_at <= self._first_at or fresh < 2:
            return None
        return (fresh - 1) / (self._last_at - self._first_at)

    def _rss(self, moments: Sequence[Moment]) -> dict[str, float | None]:
        known = [m for m in moments if m.rss_mb is not None]
        if not known or self._rss_start is None:
            return {"start": None, "middle": None, "end": None}
        start_at, start_mb = self._rss_start
        middle_at = (start_at + known[-1].at) / 2
        middle = min(known, key=lambda m: abs(m.at - middle_at))
        return {"start": start_mb, "middle": middle.rss_mb, "end": known[-1].rss_mb}


class _Timing:
    """How long something took, in ms, since the start and lately."""

    def __init__(self, bins: tuple[float, float, float]) -> None:
        self._all = Quantiles(*bins)
        self._lately: deque[float] = deque(maxlen=50)

    def add(self, ms: float) -> None:
        self._all.add(ms)
        self._lately.append(ms)

    def recent(self) -> float | None:
        return median(self._lately) if self._lately else None

    def quantiles(self) -> dict[str, float | None]:
        return {f"p{percent}": self._all.quantile(percent / 100) for percent in (50, 95, 99)}


class _Second:
    """What is collected between two ticks."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.pictures = 0
        self.delays_ms: deque[float] = deque(maxlen=_MOST_SOUND_S * 50)
        self.case_s = dict.fromkeys(CASES, 0.0)

    def end(self, now: float, skews_s: Sequence[float], rss_mb: float | None) -> Moment:
        length_s = now - self.start
        longest = max(CASES, key=lambda case: self.case_s[case])
        return Moment(
            at=now,
            fps=self.pictures / length_s if length_s >= _LEAST_TICK_S else None,
            added_delay_ms=_p95(self.delays_ms),
            skew_ms=_p95([abs(skew_s) * 1000 for skew_s in skews_s]),
            case=longest if self.case_s[longest] else None,
            rss_mb=rss_mb,
        )


def _p95(values: Sequence[float]) -> float | None:
    ordered = sorted(values)
    return ordered[-1 - len(ordered) // 20] if ordered else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _slope_per_min(moments: Sequence[Moment]) -> float | None:
    """Growth of memory in MB a minute, fitted over what comes after the first seconds."""
    settled = [(m.at, m.rss_mb) for m in moments if m.rss_mb is not None and m.at >= SETTLED_S]
    if not settled or settled[-1][0] - settled[0][0] < _LEAST_SLOPE_S:
        return None
    at_mean = sum(at for at, _ in settled) / len(settled)
    mb_mean = sum(mb for _, mb in settled) / len(settled)
    covariance = sum((at - at_mean) * (mb - mb_mean) for at, mb in settled)
    variance = sum((at - at_mean) ** 2 for at, _ in settled)
    return 60 * covariance / variance
