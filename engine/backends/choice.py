"""Which run time a bundle's generator takes: the one that was asked for, or the fastest here.

What the self-benchmark found is kept in the user's cache folder, and measured again when the
bundle, the processor, the threads or a run time change.
"""

import dataclasses
import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, Protocol, cast

from engine.backends.interface import BACKENDS, Backend, Variant
from engine.backends.loading import missing, usable, version
from engine.backends.self_benchmark import Timing, self_benchmark
from engine.bundle import MANIFEST, Bundle
from engine.bundle_variants import PRECISIONS, Precision
from engine.errors import ConfigError
from engine.files import sha256_of, write_whole
from engine.machine import processor, user_cache

log = logging.getLogger(__name__)

AUTO: Final = "auto"
CACHE_FILE: Final = "backends.json"

_FORMAT = 1
_MOST_KEPT = 32  # choices, the latest ones


class Measure(Protocol):
    """Times run times; see :func:`engine.backends.self_benchmark.self_benchmark`."""

    def __call__(  # noqa: D102
        self, bundle: Bundle, variants: Sequence[Variant], *, threads: int
    ) -> list[Timing]: ...


@dataclasses.dataclass(frozen=True, slots=True)
class Wanted:
    """What was asked for; None leaves it open.

    Attributes:
        backend: the run time.
        precision: its number format; only with a run time.
    """

    backend: Backend | None = None
    precision: Precision | None = None


def parse_backend(wanted: str, switched_off: Sequence[str]) -> tuple[Wanted, tuple[Backend, ...]]:
    """Read which run time is asked for, and which must not be taken.

    Args:
        wanted: ``auto``, ``BACKEND`` or ``BACKEND-PRECISION``.
        switched_off: names of run times.

    Raises:
        ConfigError: a name is unknown, none is left, or the one asked for is switched off.
    """
    off = tuple(backend for backend in BACKENDS if backend in switched_off)
    for name in switched_off:
        if name not in BACKENDS:
            raise ConfigError(
                f"Run times that can be switched off are {', '.join(BACKENDS)}, not {name!r}."
            )
    if len(off) == len(BACKENDS):
        raise ConfigError(f"Every run time is switched off; leave one of {', '.join(off)} on.")
    if wanted == AUTO:
        return Wanted(), off
    name, dash, format_ = wanted.partition("-")
    if name not in BACKENDS or (dash and format_ not in PRECISIONS):
        raise ConfigError(
            f"backend must be {AUTO}, a run time ({', '.join(BACKENDS)}) or one with its number"
            f" format ({', '.join(PRECISIONS)}), like openvino-int8, not {wanted!r}."
        )
    if name in off:
        raise ConfigError(f"{name} is asked for and switched off at once; leave one of both out.")
    precision = cast("Precision", format_) if dash else None
    return Wanted(name, precision), off


def candidates(
    bundle: Bundle, wanted: str = AUTO, switched_off: Sequence[str] = ()
) -> tuple[list[Variant], list[Variant]]:
    """Return the run times that were asked for, and those for when they fail; nothing is measured.

    Args:
        bundle: what they run.
        wanted: as for :func:`ranked`.
        switched_off: names of run times that are never taken.

    Raises:
        ConfigError: a name is wrong, or what was asked for can't be had here.
    """
    asked, off = parse_backend(wanted, switched_off)
    here = [variant for variant in usable(bundle) if variant.backend not in off]
    first = [variant for variant in here if _fits(variant, asked)]
    if not first:
        raise ConfigError(_why_not(bundle, asked, off, here))
    others = [v for v in here if v.backend != asked.backend and v.precision == "fp32"]
    return first, [] if asked.backend is None else others


def ranked(
    bundle: Bundle,
    wanted: str = AUTO,
    switched_off: Sequence[str] = (),
    *,
    threads: int,
    measure: Measure = self_benchmark,
    cache: Path | None = None,
) -> list[Variant]:
    """Return the run times to take, the best first; a later one is for when those before fail.

    Args:
        bundle: what they run.
        wanted: ``auto``: the fastest; ``BACKEND``: the fastest number format of that run time;
            ``BACKEND-PRECISION``: exactly that. What was not asked for follows it in float32.
        switched_off: names of run times that are never taken.
        threads: processor threads of one call, from 1.
        measure: finds the fastest of several.
        cache: the folder that keeps what was found; the user's own where it is None.

    Raises:
        ConfigError: a name is wrong, or what was asked for can't be had here.
    """
    first, others = candidates(bundle, wanted, switched_off)
    if len(first) > 1:
        first = _fastest_first(bundle, first, threads, measure, cache)
    return [*first, *others]


def _fits(variant: Variant, asked: Wanted) -> bool:
    return asked.backend in (None, variant.backend) and asked.precision in (
        None,
        variant.precision,
    )


def _why_not(bundle: Bundle, asked: Wanted, off: Sequence[Backend], here: Sequence[Variant]) -> str:
    if asked.backend is not None:
        variant = Variant(asked.backend, asked.precision or "fp32")
        name = str(variant) if asked.precision else asked.backend
        there = ", ".join(map(str, here)) or "nothing else"
        return f"{name} can't be used here: {missing(variant, bundle)}; there is: {there}."
    reasons = [f"{b}: {missing(Variant(b, 'fp32'), bundle)}" for b in BACKENDS if b not in off]
    switched = f" ({', '.join(off)} switched off)" if off else ""
    return f"No run time can be used here{switched}; {'; '.join(reasons)}."


def _fastest_first(
    bundle: Bundle,
    variants: Sequence[Variant],
    threads: int,
    measure: Measure,
    cache: Path | None,
) -> list[Variant]:
    file = _cache_file(cache)
    facts = {
        "bundle": sha256_of(bundle.folder / MANIFEST),
        "processor": processor(),
        "threads": threads,
        "variants": [str(variant) for variant in variants],
        "versions": {b: version(b) for b in BACKENDS if any(v.backend == b for v in variants)},
    }
    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    kept = _read(file)
    order = _order_of(kept.get(key), variants)
    if order is not None:
        return order
    timings = measure(bundle, variants, threads=threads)
    log.info(
        "chose the run time for %s: %s",
        bundle.folder.name,
        ", ".join(f"{timing.variant} {timing.chunk_ms:.1f} ms a chunk" for timing in timings),
    )
    order = [timing.variant for timing in timings]
    if len(order) < len(variants):
        # What failed may work next time, so nothing is kept; here it is tried last.
        return [*order, *(variant for variant in variants if variant not in order)]
    kept.pop(key, None)
    found = [[str(timing.variant), timing.chunk_ms] for timing in timings]
    kept[key] = {"for": facts, "chunk_ms": found}
    _write(file, dict([*kept.items()][-_MOST_KEPT:]))
    return order


def _cache_file(cache: Path | None) -> Path | None:
    try:
        return (user_cache() if cache is None else cache) / CACHE_FILE
    except RuntimeError:  # no home folder
        return None


def _read(file: Path | None) -> dict[str, Any]:
    """Return the choices that a file holds; none where it can't be read or is something else."""
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict) or content.get("format") != _FORMAT:
        return {}
    choices = content.get("choices")
    return choices if isinstance(choices, dict) else {}


def _order_of(choice: Any, variants: Sequence[Variant]) -> list[Variant] | None:
    """Return the order that a choice says; None where it does not name each of them once."""
    try:
        order = [Variant.parse(name) for name, _ in choice["chunk_ms"]]
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError):
        return None
    return order if sorted(order) == sorted(variants) else None


def _write(file: Path | None, choices: dict[str, Any]) -> None:
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"format": _FORMAT, "choices": choices}
        write_whole(file, json.dumps(content, indent=2) + "\n")
    except OSError as error:
        log.info("%s can't be written (%s): the choice is not kept", file, error.strerror)
