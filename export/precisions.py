"""Other number formats of a bundle's generator: made, judged, and added if they pass."""

import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import onnx

from engine.backends import openvino
from engine.backends.interface import Network
from engine.backends.onnx_runtime import OnnxRuntimeNetwork
from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, Bundle, write_bundle
from engine.bundle_variants import Precision, PrecisionFacts
from engine.errors import BundleError, ConfigError
from engine.face_models import FaceModels
from export.bfloat import rounded
from export.calibration import Clips, Feed, feeds_of
from export.gate import LEAST_PSNR_DB, MOST_LIPS_LOST, Judge, passes
from export.groups import groups, only
from export.half import half
from export.quantise import quantise
from export.symmetric import symmetric

SHOWN_GROUPS: Final = 4

Say = Callable[[str], None]


class Maker:
    """Adds number formats to a bundle; what they have in common is computed once.

    Args:
        bundle: with its graphs in fp32.
        clips: videos for the scales and for the judgement.
        threads: processor threads, from 1.
        kept: groups of layers that stay in float in int8.
        say: takes a line of progress.
    """

    def __init__(
        self, bundle: Bundle, clips: Clips, *, threads: int, kept: Sequence[str], say: Say
    ) -> None:
        self.bundle = bundle
        self._clips = clips
        self._threads = threads
        self._kept = tuple(kept)
        self._say = say
        self._exact = OpenVinoNetwork(bundle, GENERATOR, threads)
        self._models = FaceModels(threads=1)
        self._judge: Judge | None = None

    def add(self, precision: Precision) -> PrecisionFacts:
        """Add a number format.

        Raises:
            ConfigError: it can't be had here.
            MediaError: a clip can't be read, or none shows a face.
            BundleError: it strays too far from fp32; the bundle is left without it.
        """
        trial = self._make(precision)
        self._say(f"{precision}: judging it on {len(self._clips.judging)} clips")
        facts = self.judge.judge(self._load(trial, precision))
        if precision == "int8":
            worse = min(facts.psnr_db, self._symmetric_db(trial))
            facts = dataclasses.replace(facts, psnr_db=worse)
        if not passes(facts):
            worst = self._worst_groups(trial) if precision == "int8" else []
            for file in trial.graphs[GENERATOR].files[1:]:
                if file not in self.bundle.graphs[GENERATOR].files:
                    (trial.folder / file).unlink()
            raise BundleError(_refusal(precision, facts, worst))
        self.bundle = write_bundle(
            dataclasses.replace(trial, precisions={**self.bundle.precisions, precision: facts}),
            self.bundle.sha256,
        )
        return facts

    @property
    def judge(self) -> Judge:
        """What number formats are held against."""
        if self._judge is None:
            self._say(f"fp32: {len(self._clips.judging)} clips to judge by")
            self._judge = Judge.from_clips(
                self.bundle, self._exact, self._clips.judging, self._models
            )
        return self._judge

    def _make(self, precision: Precision) -> Bundle:
        """Write the graph in a number format; the bundle's description is left as it is."""
        if precision == "bf16":
            return self.bundle  # computed from the graph in fp32
        name = f"generator.{precision}.onnx"
        target = self.bundle.folder / name
        partial = target.with_name(f"{name}.partial")
        source = self.bundle.graph_path(GENERATOR)
        if precision == "fp16":
            self._say("fp16: rounding the weights")
            onnx.save(half(onnx.load(source)), partial)
        else:
            self._check_groups(source)
            quantise(source, partial, self._feeds(), kept=self._kept)
        os.replace(partial, target)
        return _with_file(self.bundle, precision, name)

    def _feeds(self) -> list[Feed]:
        self._say(f"int8: scales from {len(self._clips.calibration)} clips")
        return list(feeds_of(self.bundle, self._exact, self._clips.calibration, self._models))

    def _check_groups(self, source: Path) -> None:
        known = groups(onnx.load(source))
        unknown = [group for group in self._kept if group not in known]
        if unknown:
            raise ConfigError(
                f"The generator has no layers {unknown[0]!r}; its groups are {', '.join(known)}."
            )

    def _load(self, bundle: Bundle, precision: Precision) -> Network:
        """Load the graph in a number format, by whatever can compute it on this machine."""
        if precision == "bf16" and openvino.missing("bf16") is not None:
            self._say("bf16: this processor has none, so every value is rounded to it")
            made = rounded(onnx.load(bundle.graph_path(GENERATOR)))
            with _apart(bundle, "bf16", made) as judged:
                return OnnxRuntimeNetwork(judged, GENERATOR, self._threads, "bf16")
        return _run_time(precision)(bundle, GENERATOR, self._threads, precision)

    def _symmetric_db(self, trial: Bundle) -> float:
        """Return how near the form for TensorRT is, which has half as many levels."""
        made = symmetric(onnx.load(trial.graph_path(GENERATOR, "int8")))
        return round(self._apart_db(trial, made, OnnxRuntimeNetwork), 2)

    def _worst_groups(self, trial: Bundle) -> list[tuple[str, float]]:
        """Return what each group of layers costs alone: its PSNR in dB, the worst first."""
        self._say("int8: looking for the layers that hurt")
        exact = onnx.load(trial.graph_path(GENERATOR))
        quantised = onnx.load(trial.graph_path(GENERATOR, "int8"))
        found = [
            (group, self._apart_db(trial, only(group, quantised, exact), _run_time("int8")))
            for group in groups(exact)
        ]
        return sorted(found, key=lambda item: item[1])

    def _apart_db(
        self,
        trial: Bundle,
        model: onnx.ModelProto,
        run_time: type[OpenVinoNetwork | OnnxRuntimeNetwork],
    ) -> float:
        """Return the PSNR in dB of a graph in int8 that does not stay in the bundle."""
        with _apart(trial, "int8", model) as bundle:
            return self.judge.psnr_db(run_time(bundle, GENERATOR, self._threads, "int8"))


def _run_time(precision: Precision) -> type[OpenVinoNetwork | OnnxRuntimeNetwork]:
    return OpenVinoNetwork if openvino.missing(precision) is None else OnnxRuntimeNetwork


@contextmanager
def _apart(bundle: Bundle, precision: Precision, model: onnx.ModelProto) -> Iterator[Bundle]:
    """The bundle with a graph that does not stay in it; run times read it when they are made."""
    name = f"generator.{precision}-apart.onnx"
    onnx.save(model, bundle.folder / name)
    try:
        yield _with_file(bundle, precision, name)
    finally:
        (bundle.folder / name).unlink()


def _with_file(bundle: Bundle, precision: Precision, name: str) -> Bundle:
    graph = bundle.graphs[GENERATOR]
    graph = dataclasses.replace(graph, variants={**graph.variants, precision: name})
    return dataclasses.replace(bundle, graphs={**bundle.graphs, GENERATOR: graph})


def _refusal(
    precision: Precision, facts: PrecisionFacts, worst: Sequence[tuple[str, float]]
) -> str:
    if worst:
        listed = ", ".join(f"{group} ({psnr:.1f} dB alone)" for group, psnr in worst[:SHOWN_GROUPS])
        advice = f"the layers that hurt most are {listed}; keep some in float with --float GROUP"
    else:
        advice = "leave it out"
    return (
        f"{precision} strays too far from fp32: {facts.psnr_db:.1f} dB (at least"
        f" {LEAST_PSNR_DB:.0f}), the lips' correlation falls by {facts.lips_lost:.3f} (at most"
        f" {MOST_LIPS_LOST}); {advice}."
    )
