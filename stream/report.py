"""The report of a live session: see docs/report.md for each key."""

from __future__ import annotations

import ctypes
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from engine.errors import MediaError
from engine.files import write_whole

STAGES: Final = ("capture", "track", "wait", "generate", "compose", "show")
CASES: Final = ("real", "speech", "closed")

RSS_SOURCE: Final = "peak so far" if sys.platform == "darwin" else "now"
"""What :func:`resident_mb` gives on this system."""

_Numbers = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """What a session did; None where nothing was measured.

    Attributes:
        shown_fps: new pictures that left a second.
        late_ratio: share of the pictures due that left over 20 ms late, or never.
        added_delay_ms: p50, p95, p99 of how long sound was held.
        skew_ms: p50, p95, max of the distance between a picture and its sound.
        stages_ms: p50, p95, p99 of each step.
        frames: pictures in, out, generated, dropped, repeated, passthrough.
        generated_share: of the pictures shown in each case of the gate, the generated ones.
        gate_s: seconds in each case of the gate.
        rss_mb: memory at start, middle, end, in 10^6 bytes.
        backend: the run time of the networks.
        bundle: the bundle's name.
        frames_by_reason: of those dropped, passthrough and repeated.
        duration_s: of the session.
        rss_slope_mb_per_min: growth of memory.
        skew_signed_p50_ms: median skew, + = sound late.
        skew_source: which sinks the skew was measured at.
        sync: what the sync monitor found; None without one.
        rss_source: what the numbers of memory are.
        sinks: more of each sink.
    """

    shown_fps: float | None
    late_ratio: float | None
    added_delay_ms: _Numbers
    skew_ms: _Numbers
    stages_ms: Mapping[str, _Numbers]
    frames: Mapping[str, int]
    generated_share: _Numbers
    gate_s: _Numbers
    rss_mb: _Numbers
    backend: str
    bundle: str
    frames_by_reason: Mapping[str, Mapping[str, int]]
    duration_s: float
    rss_slope_mb_per_min: float | None
    skew_signed_p50_ms: float | None
    skew_source: str
    sync: Mapping[str, Any] | None = None
    rss_source: str = RSS_SOURCE
    sinks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values, sensibly rounded; what is not finite becomes None."""
        values = asdict(self)
        return {name: _rounded(value, _DIGITS.get(name, 1)) for name, value in values.items()}

    def write(self, path: Path) -> None:
        """Write the report as JSON, whole or not at all.

        Raises:
            MediaError: the file can't be written.
        """
        try:
            write_whole(path, json.dumps(self.to_dict(), indent=2, allow_nan=False) + "\n")
        except OSError as error:
            raise MediaError(
                f"The report {path} can't be written ({error.strerror}); check its folder."
            ) from error

    def table(self) -> Table:
        """The short form for the terminal."""
        table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        table.add_column(style="bold")
        table.add_column()
        for name, text in self._lines():
            table.add_row(name, text)
        return table

    def _lines(self) -> list[tuple[str, str]]:
        frames, delay, skew, rss = self.frames, self.added_delay_ms, self.skew_ms, self.rss_mb
        late = None if self.late_ratio is None else 100 * self.late_ratio
        speech = self.generated_share.get("speech")
        lines = [
            (
                "pictures",
                f"{_text(self.shown_fps, 1)} a second, {_text(late, 1)} % late;"
                f" {frames['in']} in, {frames['generated']} generated,"
                f" {frames['passthrough']} passed through, {frames['repeated']} repeated,"
                f" {frames['dropped']} dropped",
            ),
            ("while speech sounds", f"{_text(_percent(speech), 1)} % of the pictures generated"),
            ("added delay", f"{_text(delay['p50'])} ms, 95 % within {_text(delay['p95'])} ms"),
            (
                "picture to sound",
                f"95 % within {_text(skew['p95'])} ms, all within {_text(skew['max'])} ms"
                f" ({self.skew_source})",
            ),
            ("gate", ", ".join(f"{case} {s or 0:.1f} s" for case, s in self.gate_s.items())),
            *([] if self.sync is None else [("lips to speech", _sync_text(self.sync))]),
            (
                "memory",
                f"{_text(rss['start'])} MB at the start, {_text(rss['end'])} MB at the end",
            ),
            ("model", f"{self.bundle}, {self.backend}"),
        ]
        for kind, reasons in self.frames_by_reason.items():
            if reasons:
                ordered = sorted(reasons.items(), key=lambda item: -item[1])
                lines.append((f"{kind} why", ", ".join(f"{why} {n}" for why, n in ordered)))
        return lines


_DIGITS: Final = {
    "shown_fps": 2,
    "late_ratio": 5,
    "generated_share": 4,
    "gate_s": 2,
    "duration_s": 2,
    "rss_slope_mb_per_min": 2,
    "sinks": 3,
    "sync": 3,
}


def _sync_text(sync: Mapping[str, Any]) -> str:
    """What the sync monitor found, in one line."""
    avsu, states = sync["avsu"]["p50"], sync["readings"]
    found = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    moved = sync["correction_frames"]
    return (
        f"AVSu {_text(avsu, 2)}, readings: {found or 'none'}"
        f"{f'; corrected by {moved:+d} frames' if moved else ''} ({sync['expert']})"
    )


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, Mapping):
        return {name: _rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, float):
        return round(value, digits) if math.isfinite(value) else None
    return value


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _text(value: float | None, digits: int = 0) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


if sys.platform == "win32":

    class _ProcessMemory(ctypes.Structure):
        """PROCESS_MEMORY_COUNTERS of psapi.h."""

        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            ("peak_working_set", ctypes.c_size_t),
            ("working_set", ctypes.c_size_t),
            ("peak_paged_pool", ctypes.c_size_t),
            ("paged_pool", ctypes.c_size_t),
            ("peak_nonpaged_pool", ctypes.c_size_t),
            ("nonpaged_pool", ctypes.c_size_t),
            ("page_file", ctypes.c_size_t),
            ("peak_page_file", ctypes.c_size_t),
        )

    def resident_mb() -> float | None:
        """The process's memory in RAM now, in 10^6 bytes; None where it can't be known."""
        kernel = ctypes.WinDLL("kernel32")
        kernel.GetCurrentProcess.restype = ctypes.c_void_p
        memory = _ProcessMemory(size=ctypes.sizeof(_ProcessMemory))
        found = kernel.K32GetProcessMemoryInfo(
            ctypes.c_void_p(kernel.GetCurrentProcess()), ctypes.byref(memory), memory.size
        )
        return memory.working_set / 1e6 if found else None

elif sys.platform == "darwin":
    import resource

    def resident_mb() -> float | None:
        """The most memory that the process had in RAM so far, in 10^6 bytes."""
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: in bytes

else:
    import os

    def resident_mb() -> float | None:
        """The process's memory in RAM now, in 10^6 bytes; None where it can't be known."""
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[1])
        except (OSError, ValueError, IndexError):
            return None
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
