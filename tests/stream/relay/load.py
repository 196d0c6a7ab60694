"""How a relay fares with more and more listeners: a table, JSON, and a plot.

    python -m tests.stream.relay.load [--listeners 1 2 3 4 5 6] [--seconds 15] [--plot OUT.png]

One room, one speaker who talks all the time, two languages, 640x480; the listeners are shared out
between these. Every client is a process of its own, whose processor time is told apart from the
relay's: the speaker sends a film that was encoded before, listeners count pictures without decoding
them, so that a computer which runs both sides is not the relay's measure.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stream.demo import SPEECH_FILE

TOP = Path(__file__).parents[3]
LANGUAGES = ("de", "fr")
SETTLE_S = 6.0


@dataclass(frozen=True, kw_only=True)
class Row:
    """What was measured with so many listeners.

    Attributes:
        listeners: how many.
        fps_least: pictures a second at the listener that got fewest.
        longest_gap_s: the longest time without a new picture, at any listener.
        delay_ms: added delay of the languages, the larger one.
        skew_ms: between picture and sound where they left, the larger one.
        lag_p99_ms: 99 % of the room's ticks were no later than this (upper bound of a bucket).
        relay_cores: processor seconds a second of the relay's processes.
        client_cores: of all clients.
    """

    listeners: int
    fps_least: float
    longest_gap_s: float
    delay_ms: float
    skew_ms: float
    lag_p99_ms: float
    relay_cores: float
    client_cores: float


def cpu_s(pid: int) -> float:
    """Processor seconds of a process and all below it that still run."""
    total, parents = 0.0, {pid}
    table = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            table[int(entry.name)] = int(fields[1]), int(fields[11]) + int(fields[12])
    grown = True
    while grown:
        below = {child for child, (parent, _) in table.items() if parent in parents}
        grown = not below <= parents
        parents |= below
    total = sum(ticks for child, (_, ticks) in table.items() if child in parents)
    return total / os.sysconf("SC_CLK_TCK")


def client(*words: str) -> subprocess.Popen[str]:
    """Start a client of :mod:`tests.stream.relay.client`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.stream.relay.client", *words],
        cwd=TOP,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextmanager
def relay(port: int, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A relay of its own, ready."""
    process = subprocess.Popen(
        [sys.executable, "run_stream.py", "relay", "--port", str(port), *words],
        cwd=TOP,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        for _ in range(300):
            time.sleep(0.1)
            try:
                if get(port, "/healthz"):
                    break
            except OSError:
                continue
        yield process
    finally:
        process.terminate()
        process.wait(40)


def get(port: int, path: str) -> str:
    """What the relay answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def lag_counts(port: int) -> dict[float, float]:
    """The room's loop lag so far: ticks up to each bound, in seconds."""
    found = {}
    for line in get(port, "/metrics").splitlines():
        if line.startswith("lipstream_room_loop_lag_seconds_bucket"):
            bound = line.partition('le="')[2].partition('"')[0]
            found[float(bound)] = float(line.rpartition(" ")[2])
    return found


def quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """The bound that this share of what came between two counts did not exceed."""
    grown = {bound: after[bound] - before.get(bound, 0.0) for bound in sorted(after)}
    wanted = share * max(grown.values(), default=0.0)
    return next((bound for bound, count in grown.items() if count >= wanted), float("nan"))


def measure(port: int, process: subprocess.Popen[str], listeners: int, seconds: float) -> Row:
    """Let listeners come, watch, and leave."""
    root = f"http://127.0.0.1:{port}/whep/load/speaker"
    whole = seconds + SETTLE_S
    watching = [
        client("listen", f"{root}/{LANGUAGES[n % 2]}", "--seconds", str(whole), "--count")
        for n in range(listeners)
    ]
    time.sleep(SETTLE_S)
    lag, used, start = lag_counts(port), cpu_s(process.pid), time.monotonic()
    others = cpu_s(os.getpid()) - used
    time.sleep(seconds - 1)
    state = json.loads(get(port, "/api/rooms/load/state"))
    elapsed = time.monotonic() - start
    after = cpu_s(process.pid)
    clients = (cpu_s(os.getpid()) - after - others) / elapsed
    late = lag_counts(port)
    seen: list[dict[str, Any]] = []
    for one in watching:
        out, errors = one.communicate(timeout=whole + 30)
        if one.returncode:
            raise RuntimeError(errors)
        seen.append(json.loads(out.splitlines()[-1]))
    lines = [line for line in state["speakers"][0]["languages"] if line["listeners"]]
    return Row(
        listeners=listeners,
        fps_least=round(min(one["fps"] for one in seen), 1),
        longest_gap_s=round(max(one["longest_gap_s"] for one in seen), 3),
        delay_ms=max(line["added_delay_ms"] or 0.0 for line in lines),
        skew_ms=max(abs(line["skew_ms"] or 0.0) for line in lines),
        lag_p99_ms=1000 * quantile(lag, late, 0.99),
        relay_cores=round((after - used) / elapsed, 2),
        client_cores=round(clients, 2),
    )


def run(port: int, counts: Sequence[int], seconds: float) -> list[Row]:
    """Measure with each number of listeners, in one relay."""
    with relay(port) as process:
        root = f"http://127.0.0.1:{port}/whip/load/speaker"
        speech = str(SPEECH_FILE)
        publishing = [client("publish", root, "--face", "--speech", speech, "--shift", "7")]
        assert publishing[0].stderr is not None
        for line in publishing[0].stderr:
            if line == "connected\n":
                break
        for n, language in enumerate(LANGUAGES):
            words = ("--speech", speech, "--shift", str(3 * n))
            publishing.append(client("publish", f"{root}/{language}", *words))
        time.sleep(8)
        try:
            return [measure(port, process, count, seconds) for count in counts]
        finally:
            for one in publishing:
                one.terminate()
                one.wait(10)


def draw(rows: Sequence[Row], out: Path) -> None:
    """The curves of processor time, delay and loop lag over the listeners."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    over = [row.listeners for row in rows]
    figure, axes = pyplot.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    axes[0].plot(over, [row.relay_cores for row in rows], "o-", label="relay")
    axes[0].plot(over, [row.client_cores for row in rows], "s--", label="clients")
    axes[0].set(title="Processor cores in use", ylim=(0, None))
    axes[0].legend()
    axes[1].plot(over, [row.delay_ms for row in rows], "o-", label="added delay, ms")
    axes[1].plot(over, [row.lag_p99_ms for row in rows], "s--", label="loop lag p99, ms")
    axes[1].set(title="Time", ylim=(0, None))
    axes[1].legend()
    axes[2].plot(over, [row.fps_least for row in rows], "o-")
    axes[2].set(title="Pictures a second, least", ylim=(0, 26))
    for axis in axes:
        axis.set_xlabel("listeners, two languages")
        axis.set_xticks(np.asarray(over))
        axis.grid(alpha=0.3)
    figure.savefig(out, dpi=110)


def table(rows: Sequence[Row]) -> str:
    """The rows as Markdown."""
    names = list(asdict(rows[0]))
    cells = [names, *([f"{value:g}" for value in asdict(row).values()] for row in rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:]])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--listeners", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--port", type=int, default=8181)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    rows = run(arguments.port, arguments.listeners, arguments.seconds)
    sys.stdout.write(table(rows) + "\n")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    if arguments.plot is not None:
        draw(rows, arguments.plot)


if __name__ == "__main__":
    main()
