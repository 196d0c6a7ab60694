"""What the sync monitor costs: ``python -m tests.stream.sync_cost [BUNDLE] [--base]``.

First a monitor beside a session of 25 pictures a second, in real time; then one reading of the
rolling window against computing the whole window anew, both on one thread. ``--base`` puts an
AV-HuBERT of the base size with random weights into the place of the bundle's expert (needs torch).
"""

from __future__ import annotations

import argparse
import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.bundle import STARTER, Bundle, load_bundle
from engine.bundle_weights import ExpertFacts, Weights
from engine.filterbank import FPS, ROW_SAMPLES, ROW_TAIL, STACKED, log_filterbank, stack
from engine.lip_expert import AROUND, Alone, LipExpert
from engine.mel import SAMPLE_RATE
from engine.mouth_region import MouthStream, network_input
from engine.sync_monitor import WINDOW, SyncMonitor
from stream.core.sinks import Shown
from stream.core.sound import TICK_S, TICK_SAMPLES
from stream.live.sync_watch import watch_with
from tests.mean_face import mean_points, mesh_of, moved

SECONDS = 20.0
CORES = 2
HOPS = (5, 10, 15)
SIZE = 720, 1280


def with_base(bundle: Bundle, folder: Path) -> Bundle:
    import torch

    from export.lip_expert import add_lip_expert
    from training.avhubert import BASE, AvHubert

    torch.manual_seed(0)
    shutil.copytree(bundle.folder, folder, dirs_exist_ok=True)
    copy = dataclasses.replace(bundle, folder=folder)
    weights = Weights(licence="none", training_data="none: random weights")
    facts = ExpertFacts(name="base, random", weights=weights, confident=0.25)
    return add_lip_expert(copy, AvHubert(BASE).eval(), facts)[0]


def face() -> NDArray[np.float32]:
    """A mesh in the middle of the picture, about 300 px high."""
    points = mean_points()
    return mesh_of(moved(points - points.mean(axis=0), 0.0, 2.0) + np.array([600.0, 350.0]))


def pictures(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (*SIZE, 3), dtype=np.uint8) for _ in range(count)]


def speech(seconds: float) -> NDArray[np.float32]:
    random = np.random.default_rng(1)
    return (0.1 * random.standard_normal(round(seconds * SAMPLE_RATE))).astype(np.float32)


def beside_a_session(bundle: Bundle) -> tuple[float, int]:
    """Share of all cores that it takes in real time, and how many readings it gave."""
    watch = watch_with(bundle, "report")
    assert watch is not None
    alone = paced(lambda tick: None, SECONDS / 4)
    shown, mesh = pictures(10), face()
    sound = np.repeat(np.resize(speech(4.0), (TICK_SAMPLES, 1)), 2, axis=1)
    watch.start()
    watch.ready.wait()

    def step(tick: int) -> None:
        at = 10.0 + tick * TICK_S
        watch.hear(sound, at)
        if tick % 2 == 0:
            watch.show(Shown(tick // 2, at, shown[tick % 10], shown[0], True, at, mesh))
        watch.tick(at, intended_s=0.0, quiet=False)

    share = paced(step, SECONDS) - alone
    watch.end()
    return share, sum(watch.meter.readings.values())


def paced(step: Callable[[int], None], seconds: float) -> float:
    """Run a step every 20 ms; the share of all cores that the process takes."""
    start, busy = time.monotonic(), time.process_time()
    for tick in range(round(seconds / TICK_S)):
        step(tick)
        time.sleep(max(0.0, start + (tick + 1) * TICK_S - time.monotonic()))
    return (time.process_time() - busy) / (time.monotonic() - start) / CORES


def timed(job: Callable[[], object], repeat: int = 5) -> float:
    """Median seconds of a job, after one that warms up."""
    job()
    times = []
    for _ in range(repeat):
        began = time.perf_counter()
        job()
        times.append(time.perf_counter() - began)
    return median(times)


class Rolling:
    """Both ways to judge a window of the same regions and the same sound."""

    def __init__(self, expert: LipExpert) -> None:
        self.expert = expert
        self._shown, self._mesh = pictures(10), face()
        mouth = MouthStream()
        self._regions = [mouth.push(self._shown[i % 10], self._mesh) for i in range(3 * WINDOW)]
        self._sound = speech(3 * WINDOW / FPS)

    def fresh(self, monitor: SyncMonitor, mouth: MouthStream, count: int) -> None:
        """So many new frames are cut out and embedded."""
        for _ in range(count):
            i = monitor.frames % (2 * WINDOW)
            mouth.push(self._shown[i % 10], self._mesh)
            monitor.see(self._regions[i])
            monitor.hear(self._sound[i * ROW_SAMPLES : (i + 1) * ROW_SAMPLES])
        monitor._embed()

    def anew(self, start: int = AROUND) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The window's front ends from its pictures and its sound, and what lies around them."""
        mouth = MouthStream()
        for i in range(start, start + WINDOW):
            mouth.push(self._shown[i % 10], self._mesh)
        samples = self._sound[(start - 1) * ROW_SAMPLES : (start + WINDOW) * ROW_SAMPLES + ROW_TAIL]
        heard = self.expert.hear(stack(log_filterbank(samples)[STACKED:], WINDOW))
        regions = np.stack(self._regions[start - AROUND : start + WINDOW + AROUND])
        return heard, self.expert.watch(network_input(regions))

    def difference(self) -> float:
        """The largest, of all features of a window."""
        expert = Remembering(self.expert)
        monitor = SyncMonitor(expert)
        for i in range(2 * WINDOW):
            monitor.see(self._regions[i])
            monitor.hear(self._sound[i * ROW_SAMPLES : (i + 1) * ROW_SAMPLES])
            if i % 10 == 9:
                reading = monitor.read()
        assert reading is not None
        end = round(reading.at_s * FPS)
        whole = self.expert.alone(*self.anew(end - WINDOW))
        pairs = zip(expert.features, whole, strict=True)
        return max(float(np.abs(a - b).max()) for a, b in pairs)


class Remembering:
    """A lip expert that keeps the features it gave last.

    Attributes:
        features: of sound alone and lips alone.
    """

    features: Alone

    def __init__(self, expert: LipExpert) -> None:
        self._expert = expert
        self.dim, self.watch, self.hear = expert.dim, expert.watch, expert.hear

    def alone(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> Alone:
        self.features = self._expert.alone(heard, watched)
        return self.features


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", nargs="?", type=Path, default=STARTER)
    parser.add_argument("--base", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)  # as in a session
    with tempfile.TemporaryDirectory() as folder:
        bundle = load_bundle(arguments.bundle)
        if arguments.base:
            bundle = with_base(bundle, Path(folder))
        share, readings = beside_a_session(bundle)
        assert bundle.expert is not None
        print(f"{bundle.expert.name}: {100 * share:.1f} % of {CORES} cores,", end=" ")  # noqa: T201
        print(f"{readings} readings in {SECONDS:.0f} s")  # noqa: T201
        rolling = Rolling(LipExpert(bundle, threads=1))
        print(f"difference from computing anew: {rolling.difference():.1e}")  # noqa: T201
        monitor, mouth = SyncMonitor(rolling.expert), MouthStream()
        rolling.fresh(monitor, mouth, 2 * WINDOW)
        anew_s = timed(lambda: rolling.anew())
        both = rolling.anew()
        judged_s = timed(lambda: rolling.expert.alone(*both))
        print(f"anew: front ends {1000 * anew_s:.1f} ms, all {1000 * (anew_s + judged_s):.1f} ms")  # noqa: T201
        for hop in HOPS:
            fresh_s = timed(partial(rolling.fresh, monitor, mouth, hop))
            print(  # noqa: T201
                f"every {hop} frames: front ends {1000 * fresh_s:.1f} ms ({anew_s / fresh_s:.1f}"
                f" times cheaper), all {1000 * (fresh_s + judged_s):.1f} ms"
                f" ({(anew_s + judged_s) / (fresh_s + judged_s):.2f} times cheaper)"
            )


if __name__ == "__main__":
    main()
