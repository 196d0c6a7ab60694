"""Networks that take the time they are told to, on a clock of their own, and fail on demand."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Arrays, Kept, Network, Variant
from engine.bundle import Bundle


class FakeKept:
    def __init__(self, network: "FakeNetwork", arrays: Arrays) -> None:
        self.network = network
        self.arrays = arrays


class FakeNetwork:
    """Gives the sum of what it gets, times its factor; calls from ``fails_at`` on fail."""

    def __init__(self, machine: "FakeMachine", variant: Variant) -> None:
        self._machine = machine
        self.variant = variant
        self.calls = 0
        self.kept: list[Arrays] = []

    def keep(self, arrays: Arrays) -> Kept:
        self.kept.append(arrays)
        return FakeKept(self, arrays)

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        self.calls += 1
        machine = self._machine
        machine.now += machine.chunk_s.get(self.variant, 0.0) * machine.busier(machine.now)
        if self.calls >= machine.fails_at.get(self.variant, np.inf):
            raise machine.error
        total = sum(float(array.sum()) for array in feed.values())
        for holder, count in kept:
            assert isinstance(holder, FakeKept)
            assert holder.network is self  # another one's can't be used
            total += count * sum(float(array.sum()) for array in holder.arrays.values())
        factor = machine.factor.get(self.variant, 1.0)
        return {"frames": np.full((1, 1), total * factor, np.float32)}


@dataclass
class FakeMachine:
    """Where the networks run.

    Attributes:
        chunk_s: what a call takes.
        fails_at: the number of the call from which on a network fails.
        unloadable: what can't be loaded.
        factor: on a network's results.
        error: what a failing network raises.
        speed_falls_at: from when on everything takes twice as long.
        now: the clock, in seconds.
        loaded: every network that was loaded.
    """

    chunk_s: dict[Variant, float] = field(default_factory=dict)
    fails_at: dict[Variant, int] = field(default_factory=dict)
    unloadable: tuple[Variant, ...] = ()
    factor: dict[Variant, float] = field(default_factory=dict)
    error: Exception = field(default_factory=lambda: OSError("the device\n is gone"))
    speed_falls_at: float = np.inf
    now: float = 0.0
    loaded: list[FakeNetwork] = field(default_factory=list)

    def load(self, bundle: Bundle, variant: Variant, *, threads: int) -> Network:
        if variant in self.unloadable:
            raise RuntimeError(f"no library of {variant}")
        self.loaded.append(FakeNetwork(self, variant))
        return self.loaded[-1]

    def clock(self) -> float:
        return self.now

    def busier(self, now: float) -> float:
        return 2.0 if now >= self.speed_falls_at else 1.0

    def calls(self, variant: Variant) -> int:
        return sum(network.calls for network in self.loaded if network.variant == variant)
