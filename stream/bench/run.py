"""A run of ``bench``: everything is measured in turn, on one machine, at one time."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from engine.backends.interface import Variant
from engine.backends.loading import usable
from engine.backends.openvino import missing
from engine.bundle import GENERATOR, IDENTITY, Bundle, load_bundle
from engine.errors import BundleError, EngineError, LipstreamError
from engine.machine import processor
from stream.bench import machine
from stream.bench.children import TorchPeer, has_torch
from stream.bench.figures import TORCH, Figures, ModelFigures
from stream.bench.graph_cost import graph_flops, graph_parameters
from stream.bench.painting import SESSIONS, Painting
from stream.bench.paper import UNTRAINED, Paper, check_size, make_paper
from stream.bench.peak import SIDE, peak_flops, products
from stream.bench.rounds import Candidate, round_robin
from stream.bench.stages import CHUNKS, stage_times

STARTER: Final = "starter"
PAPER: Final = "paper"
PASSES_FILE: Final = "passes.json"
_TORCH_KEPT: Final = "torch-fp32, identity kept"
_PEAK: Final = "peak"

_Name = tuple[str, str]  # of a candidate: model, and run time or number of sessions


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What to measure.

    Attributes:
        bundle: the folder of the bundle that runs here.
        paper: the folder of a bundle of the paper's size; made in the cache where it is None.
        with_paper: whether the paper's generator is measured at all.
        with_torch: whether PyTorch is measured, where it is installed.
        cache: the user's cache folder.
        threads: processor threads of every candidate.
        rounds: how often each is run, from 1.
        seconds: no further round begins after so long.
        peak_side: rows and columns of the matrices that the peak is measured with.
        chunks: that the stages of a live frame are measured with.
    """

    bundle: Path
    paper: Path | None = None
    with_paper: bool = True
    with_torch: bool = True
    cache: Path
    threads: int
    rounds: int
    seconds: float
    peak_side: int = SIDE
    chunks: int = CHUNKS


class _Model:
    """A network with all that runs it."""

    def __init__(self, bundle: Bundle, network: Path, *, unchecked: bool = False) -> None:
        self.bundle = bundle
        self.network = network
        self.variants = usable(bundle)
        bf16 = Variant("openvino", "bf16")
        self._unchecked = {bf16} - {*self.variants} if unchecked else set()
        if missing("bf16") is None:
            self.variants += self._unchecked
        self.paintings: dict[str, Painting] = {}
        self.figures = ModelFigures(
            bundle=bundle.folder.resolve().name,
            fps=bundle.fps,
            k=bundle.k,
            passes=_passes(bundle.folder),
        )

    def load(self, threads: int, note: Callable[[str], None]) -> None:
        for variant in self.variants:
            try:
                self.paintings[str(variant)] = Painting(
                    self.bundle, variant, threads, checked=variant not in self._unchecked
                )
            except LipstreamError as error:
                note(f"{self.figures.bundle} is not measured on {variant}: {error}")
                continue
            path = self.bundle.graph_path(GENERATOR, _file_of(self.bundle, variant))
            flop = graph_flops(path, self.bundle.k)
            self.figures.chunk_gflop[str(variant)] = flop / 1e9


def bench(
    order: Order, say: Callable[[str], None], progress: Callable[[int, int], None]
) -> Figures:
    """Measure this machine.

    Args:
        order: what to measure.
        say: takes a line for the user.
        progress: takes the rounds done and all rounds.

    Raises:
        ConfigError: something is missing that can't be done without.
        BundleError: a bundle can't be read.
        EngineError: the generator can't be run at all, or the paper's is too small.
    """
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        say(text)

    facts = _machine(order.threads, note)
    models = {STARTER: _Model(load_bundle(order.bundle), order.bundle)}
    paper = _paper(order, note, say)
    if paper is not None:
        models[PAPER] = _Model(load_bundle(paper.bundle), paper.network, unchecked=paper.made)
    with ExitStack() as stack:
        peer = _peer(order, models, note)
        if peer is not None:
            stack.enter_context(peer)
        _check(models, peer)
        for model in models.values():
            model.load(order.threads, note)
            if not model.paintings:
                raise EngineError(
                    f"No run time can run {model.bundle.folder}; `run_stream.py doctor` says what"
                    " is missing."
                )
        candidates = _candidates(models, peer, order)
        say(f"measuring {len(candidates)} candidates in turn")
        took = _run(candidates, order, note, progress)
    for name, model in models.items():
        _fill(model.figures, name, took)
    say("measuring batches and the stages of a live frame")
    took |= _run(_batches(models), order, note, progress)
    for name, model in models.items():
        found = {n: took[name, str(n)] for n in SESSIONS if took.get((name, str(n)))}
        model.figures.batch_ms = {
            n * model.bundle.k: _median_ms(seconds) for n, seconds in found.items()
        }
    starter = models[STARTER]
    painting = starter.paintings[starter.figures.best]
    return Figures(
        machine=facts,
        rounds=max(map(len, took.values())),
        models={name: model.figures for name, model in models.items()},
        peak_gflops={
            precision: peak_flops(order.peak_side) / min(seconds) / 1e9
            for (name, precision), seconds in took.items()
            if name == _PEAK and seconds
        },
        stages_ms=stage_times(starter.bundle, painting, chunks=order.chunks),
        notes=notes,
    )


def _machine(threads: int, note: Callable[[str], None]) -> dict[str, Any]:
    load = machine.load()
    if load is not None and load > machine.BUSY:
        note(f"the load here was {load:.1f} before: figures are worse than on an idle machine")
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "version": machine.own_version(),
        "processor": processor(),
        "cores": machine.cores(),
        "threads": threads,
        "load_1min": load,
        "versions": machine.versions(),
    }


def _paper(order: Order, note: Callable[[str], None], say: Callable[[str], None]) -> Paper | None:
    if not order.with_paper:
        return None
    if order.paper is not None:
        return Paper(order.paper, order.paper, made=False)
    if not has_torch():
        note("the paper's generator is left out: PyTorch is missing; name a bundle with --paper")
        return None
    note(UNTRAINED)
    return make_paper(order.cache, say)


def _peer(
    order: Order, models: Mapping[str, _Model], note: Callable[[str], None]
) -> TorchPeer | None:
    if not order.with_torch:
        return None
    if not has_torch():
        note("there is nothing to compare with: PyTorch is missing")
        return None
    networks = {name: model.network for name, model in models.items()}
    try:
        peer = TorchPeer(networks, order.threads)
    except EngineError as error:
        note(str(error))
        return None
    for name, reason in peer.refused.items():
        note(f"{name} is not measured in PyTorch: {reason}")
    return peer


def _check(models: Mapping[str, _Model], peer: TorchPeer | None) -> None:
    for name, model in models.items():
        known = peer.networks.get(name) if peer is not None else None
        if known is not None:
            model.figures.parameters = known["parameters"]
            model.figures.frame_gflop = known["gflop_frame"]
        else:
            roles = [role for role in (GENERATOR, IDENTITY) if role in model.bundle.graphs]
            model.figures.parameters = sum(
                graph_parameters(model.bundle.graph_path(role)) for role in roles
            )
        if name == PAPER:
            check_size(model.figures.parameters, model.figures.frame_gflop)


def _candidates(
    models: Mapping[str, _Model], peer: TorchPeer | None, order: Order
) -> dict[_Name, Candidate]:
    found: dict[_Name, Candidate] = {}
    for name, model in models.items():
        for variant, painting in model.paintings.items():
            found[name, variant] = painting.step()
        if peer is not None and name in peer.networks:
            found[name, TORCH] = peer.chunk(name, keeps_identity=False)
            found[name, _TORCH_KEPT] = peer.chunk(name, keeps_identity=True)
    for precision, product in products(order.threads, order.peak_side).items():
        found[_PEAK, precision] = product
    return found


def _batches(models: Mapping[str, _Model]) -> dict[_Name, Candidate]:
    return {
        (name, str(sessions)): model.paintings[model.figures.best].step(sessions)
        for name, model in models.items()
        for sessions in SESSIONS
    }


def _run(
    candidates: Mapping[_Name, Candidate],
    order: Order,
    note: Callable[[str], None],
    progress: Callable[[int, int], None],
) -> dict[_Name, list[float]]:
    return round_robin(
        candidates,
        rounds=order.rounds,
        seconds=order.seconds,
        failed=lambda name, why: note(f"{name[0]} failed on {name[1]}: {why}"),
        progress=progress,
    )


def _fill(figures: ModelFigures, model: str, took: Mapping[_Name, list[float]]) -> None:
    for (name, variant), seconds in took.items():
        if name != model:
            continue
        if variant == _TORCH_KEPT:
            figures.torch_kept_ms = _median_ms(seconds)
        else:
            figures.chunk_ms[variant] = _median_ms(seconds)
    if not set(figures.chunk_ms) - {TORCH}:
        raise EngineError(f"{figures.bundle} failed on every run time; see above.")


def _median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1e3


def _file_of(bundle: Bundle, variant: Variant) -> str:
    """The number format of the file that a run time reads: some convert the float32 one."""
    return variant.precision if variant.precision in bundle.graphs[GENERATOR].variants else "fp32"


def _passes(folder: Path) -> dict[str, dict[str, Any]]:
    """What the export measured of its passes.

    Raises:
        BundleError: the file is there and can't be read.
    """
    path = folder / PASSES_FILE
    if not path.is_file():
        return {}
    try:
        return {
            str(name): {
                "without_ms": float(row["without_ms"]),
                "with_ms": float(row["with_ms"]),
                **({"variant": str(row["variant"])} if "variant" in row else {}),
            }
            for name, row in json.loads(path.read_text(encoding="utf-8")).items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise BundleError(
            f"{path} can't be read; remove it, or measure the passes again with `python -m export"
            " … --measure-passes`."
        ) from error
