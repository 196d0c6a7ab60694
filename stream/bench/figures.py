"""What a run of ``bench`` found, and the shares and ratios that follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from engine.backends.interface import Variant
from stream.bench.stages import FRAME_STAGES
from stream.core.admission import capacity

TORCH: Final = "torch-fp32"
"""The peer's name among the run times: the whole network, as it was trained."""


@dataclass(kw_only=True, slots=True)
class ModelFigures:
    """What was measured of one network.

    Attributes:
        bundle: its folder's name.
        fps: frames a second of a session.
        k: frames of a chunk.
        chunk_ms: milliseconds of a chunk of k frames by run time, medians; with ``torch-fp32``
            where PyTorch is there.
        torch_kept_ms: the same of PyTorch with the identity's features computed beforehand.
        chunk_gflop: operations of a chunk, in 10^9, of the graph that a run time runs.
        batch_ms: milliseconds of a batch by its frames, of the fastest run time.
        parameters: numbers that are learnt.
        frame_gflop: operations of one frame before any pass, in 10^9.
        passes: what each pass of the export is worth, as the bundle tells it.
    """

    bundle: str
    fps: float
    k: int
    chunk_ms: dict[str, float] = field(default_factory=dict)
    torch_kept_ms: float | None = None
    chunk_gflop: dict[str, float] = field(default_factory=dict)
    batch_ms: dict[int, float] = field(default_factory=dict)
    parameters: float | None = None
    frame_gflop: float | None = None
    passes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def best(self) -> str:
        """The fastest run time of the bundle."""
        return min((v for v in self.chunk_ms if v != TORCH), key=self.chunk_ms.__getitem__)

    @property
    def best_ms(self) -> float:
        """Its milliseconds of a chunk."""
        return self.chunk_ms[self.best]

    @property
    def budget_ms(self) -> float:
        """How long a chunk lasts."""
        return self.k / self.fps * 1e3

    def torch_ratio(self, variant: str) -> float | None:
        """How many times faster than PyTorch a run time is."""
        torch_ms = self.chunk_ms.get(TORCH)
        return None if torch_ms is None else torch_ms / self.chunk_ms[variant]

    def gflops(self, variant: str) -> float | None:
        """10^9 operations a second of a run time."""
        flop = self.chunk_gflop.get(variant)
        return None if flop is None else flop / self.chunk_ms[variant] * 1e3

    def peak_share(self, variant: str, peak: Mapping[str, float]) -> float | None:
        """Share of the processor's peak that a run time reaches.

        Args:
            variant: the run time; on a graphics processor there is no share.
            peak: 10^9 operations a second by number format.
        """
        reached = self.gflops(variant)
        if variant == TORCH or reached is None:
            return None
        most = peak.get(Variant.parse(variant).precision)
        return None if most is None else reached / most

    def sessions(self) -> int | None:
        """How many sessions the scheduler lets in at these times; None where none were taken."""
        if not self.batch_ms:
            return None
        step_s = {frames: ms / 1e3 for frames, ms in self.batch_ms.items()}
        return capacity(step_s, fps=self.fps, k=self.k)


@dataclass(kw_only=True, slots=True)
class Figures:
    """A run.

    Attributes:
        machine: what it was measured on: plain values by name.
        rounds: how often each candidate was run.
        models: ``starter``, and ``paper`` where it was measured.
        peak_gflops: of a large matrix product, in 10^9 operations a second, by number format.
        stages_ms: milliseconds of each step of a live frame.
        notes: what was left out, and why.
    """

    machine: Mapping[str, Any]
    rounds: int
    models: Mapping[str, ModelFigures]
    peak_gflops: Mapping[str, float]
    stages_ms: Mapping[str, float]
    notes: list[str]

    @property
    def frame_ms(self) -> float:
        """Milliseconds of all steps of a modified frame together."""
        return sum(self.stages_ms[stage] for stage in FRAME_STAGES)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; docs/bench.md says what each key is."""
        models = self.models
        return {
            **self.machine,
            "rounds": self.rounds,
            "bundles": {name: m.bundle for name, m in models.items()},
            "chunk_ms": {name: _rounded(m.chunk_ms) for name, m in models.items()},
            "best": {name: m.best for name, m in models.items()},
            "torch_kept_ms": _known({name: m.torch_kept_ms for name, m in models.items()}),
            "torch_ratio": _known({name: m.torch_ratio(m.best) for name, m in models.items()}),
            "budget_share": _rounded(
                {name: m.best_ms / m.budget_ms for name, m in models.items()}, 4
            ),
            "peak_share": _known(
                {name: m.peak_share(m.best, self.peak_gflops) for name, m in models.items()}, 4
            ),
            "peak_gflops": _rounded(self.peak_gflops, 1),
            "chunk_gflop": {name: _rounded(m.chunk_gflop) for name, m in models.items()},
            "parameters": _known({name: m.parameters for name, m in models.items()}),
            "frame_gflop": _known({name: m.frame_gflop for name, m in models.items()}),
            "stages_ms": _rounded(self.stages_ms),
            "frame_ms": round(self.frame_ms, 3),
            "batch_ms": {
                name: _rounded({str(frames): ms for frames, ms in m.batch_ms.items()})
                for name, m in models.items()
            },
            "sessions": _known({name: m.sessions() for name, m in models.items()}),
            "passes": {name: {**m.passes} for name, m in models.items() if m.passes},
            "notes": [*self.notes],
        }


def _rounded(values: Mapping[str, float], digits: int = 3) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items()}


def _known(values: Mapping[str, float | None], digits: int = 3) -> dict[str, float]:
    return {name: round(value, digits) for name, value in values.items() if value is not None}
