"""A bundle of the paper's generator to measure: named by the user, or made once and kept."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine.bundle import load_bundle
from engine.errors import BundleError, ConfigError, EngineError
from stream.bench.children import PEER_MODULE, Run, run_module

LEAST_PARAMETERS: Final = 36e6
LEAST_GFLOP: Final = 8.0
"""Of a frame, before any pass of the export. Wav2Lip's generator is so large."""

UNTRAINED: Final = (
    "the paper's generator is untrained, which changes no speed; int8 needs one that is trained:"
    " export it with --precision int8 and name it with --paper"
)
_PREFIX: Final = "paper-"
_SOURCES: Final = ("export", "training.generator", "training.blocks", "training.audio_encoder")


@dataclass(frozen=True, slots=True)
class Paper:
    """Where the paper-size generator lies.

    Attributes:
        bundle: its folder.
        network: what PyTorch loads: a checkpoint, or the bundle's folder again.
        made: whether it was made here, untrained.
    """

    bundle: Path
    network: Path
    made: bool


def check_size(parameters: float, gflop_frame: float | None) -> None:
    """Refuse a generator that is smaller than the one that it stands for.

    Args:
        parameters: numbers that are learnt.
        gflop_frame: operations of a frame before any pass, in 10^9; None where unknown.

    Raises:
        EngineError: it is smaller than Wav2Lip's.
    """
    if parameters < LEAST_PARAMETERS:
        found = f"{parameters / 1e6:.1f} M parameters, of {LEAST_PARAMETERS / 1e6:.0f} M at least"
    elif gflop_frame is not None and gflop_frame < LEAST_GFLOP:
        found = f"{gflop_frame:.2f} GFLOP a frame, of {LEAST_GFLOP:.0f} at least"
    else:
        return
    raise EngineError(
        f"The paper-size generator is smaller than Wav2Lip's: {found}; name a bundle of width 1.0"
        " with --paper."
    )


def make_paper(cache: Path, say: Callable[[str], None], run: Run = run_module) -> Paper:
    """Return the untrained bundle in the cache, made there if it is missing or no longer fits.

    Args:
        cache: the user's cache folder.
        say: takes a line for the user.
        run: runs a module in a process of its own.

    Raises:
        ConfigError: the folder can't be written.
        EngineError: the bundle can't be made.
    """
    home = cache / f"{_PREFIX}{_key()}"
    found = Paper(home / "untrained", home / "generator.pt", made=True)
    if found.network.is_file() and _fits(found.bundle):
        return found
    say("making a bundle of the paper's generator, once; this takes a minute or two")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{_PREFIX}", dir=cache) as work:
            part = Path(work) / "part"
            part.mkdir()
            run(PEER_MODULE, "--make-checkpoint", str(part / found.network.name))
            run("export", str(part / found.network.name), "-o", str(part / found.bundle.name))
            for old in cache.glob(f"{_PREFIX}*"):  # of another version: half a gigabyte each
                shutil.rmtree(old, ignore_errors=True)
            os.replace(part, home)
    except OSError as error:
        raise ConfigError(
            f"The cache folder {cache} can't be written: {error.strerror}."
        ) from error
    return found


def _fits(folder: Path) -> bool:
    try:
        load_bundle(folder)
    except BundleError:
        return False
    return True


def _key() -> str:
    """A name that changes with the code that makes the bundle."""
    digest = hashlib.sha256()
    for name in _SOURCES:
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            continue
        origin = Path(spec.origin)
        is_package = spec.submodule_search_locations is not None
        for file in sorted(origin.parent.glob("*.py")) if is_package else [origin]:
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]
