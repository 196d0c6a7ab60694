"""``python -m export CHECKPOINT -o BUNDLE``: turn a checkpoint into a verified bundle."""

import argparse
import hashlib
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from engine.backends.interface import Variant
from engine.bundle import EXPERT_PARTS, MANIFEST, Bundle, load_bundle
from engine.bundle_variants import PRECISIONS, Precision
from engine.errors import ConfigError, LipstreamError
from engine.files import sha256_of
from engine.lip_expert import CONFIDENT
from training.tables import Rows, show_table

if TYPE_CHECKING:  # a bundle gets other number formats and engines without torch
    from export.lip_expert import Expert
    from training.checkpoint import Checkpoint
    from training.weights import Weights as Imported

BACKENDS = ("onnx", "openvino", "tensorrt")
WRONG_USE = 2  # exit status, as argparse's own
INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        if arguments.checkpoint.is_dir():
            _extend(_copy(arguments.checkpoint, arguments.output), arguments)
            return 0
        _export_file(arguments)
    except LipstreamError as error:
        print(f"lipstream-export: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print(
            "lipstream-export: stopped; the same command goes on with what is done.",
            file=sys.stderr,
        )
        return INTERRUPTED
    return 0


def _say(text: str) -> None:
    """Tell somebody who waits what goes on; a log takes the results only."""
    if sys.stderr.isatty():
        print(text, file=sys.stderr, flush=True)


def _export_file(arguments: argparse.Namespace) -> None:
    if arguments.output is None:
        raise ConfigError("Name the bundle to write with -o BUNDLE.")
    from export.lip_expert import expert_of
    from training.checkpoint import load_checkpoint
    from training.weights import SUFFIX, load_weights

    path = arguments.checkpoint
    source = load_weights(path) if path.suffix == SUFFIX else load_checkpoint(path)
    expert = expert_of(source, arguments.name or path.stem, arguments.confident)
    if expert is not None:
        _add(expert, arguments)
        return
    bundle = _write(source, arguments)
    _extend(bundle, arguments, source)


def _add(expert: "Expert", arguments: argparse.Namespace) -> None:
    from export.lip_expert import add_lip_expert
    from export.verify import TOLERANCE

    if arguments.emphasis is not None:
        raise ConfigError("A lip expert takes no --emphasis; leave it out.")
    if _formats(arguments) or "tensorrt" in arguments.backend:
        raise ConfigError("A lip expert runs in fp32 on OpenVINO; leave --precision out.")
    bundle, difference = add_lip_expert(load_bundle(arguments.output), *expert)
    size = sum((bundle.folder / bundle.graphs[part].file).stat().st_size for part in EXPERT_PARTS)
    print(f"{bundle.folder}: its lip expert is {expert[1].name} now, {size / 1e6:.1f} MB")
    print(f"largest difference from the checkpoint: {difference:.1e} (allowed: {TOLERANCE:g})")


def _write(source: "Imported | Checkpoint", arguments: argparse.Namespace) -> Bundle:
    """Write the bundle in fp32, unless it is there already."""
    from export.build import build
    from export.verify import TOLERANCE
    from export.wav2lip import export_wav2lip
    from training.checkpoint import Checkpoint

    made_from = _made_from(arguments)
    if (arguments.output / MANIFEST).is_file():
        found = load_bundle(arguments.output)
        if found.made_from == made_from:
            print(f"{found.folder}: made of this checkpoint already")
            return found
    _say("fp32: writing the graphs and running them")
    if isinstance(source, Checkpoint):
        if arguments.emphasis is not None:
            source = replace(source, config={**source.config, "emphasis": arguments.emphasis})
        bundle, differences = build(
            source, arguments.output, whole=arguments.whole, made_from=made_from
        )
    else:
        if arguments.emphasis is not None:
            raise ConfigError("Imported weights take no --emphasis; leave it out.")
        bundle, differences = export_wav2lip(source, arguments.output, made_from)
    size = sum((bundle.folder / file).stat().st_size for file in bundle.sha256)
    print(f"{bundle.folder}: {', '.join(bundle.sha256)}, {size / 1e6:.1f} MB")
    print(
        f"largest difference from the checkpoint: {differences.graphs:.1e} in the graphs,"
        f" {differences.runtime:.1e} in the run time (allowed: {TOLERANCE:g})"
    )
    return bundle


def _made_from(arguments: argparse.Namespace) -> str:
    facts = (sha256_of(arguments.checkpoint), arguments.emphasis, arguments.whole)
    return hashlib.sha256(repr(facts).encode()).hexdigest()


def _copy(source: Path, target: Path | None) -> Bundle:
    """Return the bundle to extend: the one that was named, or a copy of it."""
    bundle = load_bundle(source)
    if target is None or target.resolve() == source.resolve():
        return bundle
    if (target / MANIFEST).is_file():
        return load_bundle(target)
    try:
        shutil.copytree(source, target, dirs_exist_ok=True)
    except OSError as error:
        raise ConfigError(f"The bundle {target} can't be written: {error}.") from error
    return load_bundle(target)


def _extend(
    bundle: Bundle, arguments: argparse.Namespace, source: "Imported | Checkpoint | None" = None
) -> None:
    """Add number formats and engines that the bundle does not have, then compare all run times."""
    wanted = _formats(arguments)
    for precision in (p for p in wanted if p in bundle.precisions):
        print(f"{precision}: there already")
    missing = [p for p in wanted if p not in bundle.precisions]
    if missing:
        bundle = _make(bundle, missing, arguments)
    if "tensorrt" in arguments.backend:
        from export.tensorrt import build_engine

        for precision in wanted or ["fp32"]:
            if precision != "bf16":
                bundle = build_engine(bundle, precision, arguments.architecture, _say)
    if arguments.measure_passes:
        _measure_passes(bundle, source, arguments)
    _show(bundle, arguments)


def _make(bundle: Bundle, missing: Sequence[Precision], arguments: argparse.Namespace) -> Bundle:
    from export.calibration import find_clips
    from export.precisions import Maker

    if arguments.calibration is None:
        raise ConfigError(
            f"{missing[0]} is judged on real crops: name a folder with videos of speaking people"
            " with --calibration."
        )
    clips = find_clips(arguments.calibration, arguments.judge)
    maker = Maker(bundle, clips, threads=arguments.threads, kept=arguments.float, say=_say)
    for precision in missing:
        facts = maker.add(precision)
        print(
            f"{precision}: {facts.psnr_db:.1f} dB from fp32 on unseen crops, the lips' correlation"
            f" falls by {facts.lips_lost:.3f} ({facts.clips} clips)"
        )
    return maker.bundle


def _measure_passes(
    bundle: Bundle, source: "Imported | Checkpoint | None", arguments: argparse.Namespace
) -> None:
    from training.checkpoint import Checkpoint

    if not isinstance(source, Checkpoint):
        raise ConfigError("--measure-passes exports a checkpoint several times; name one.")
    from export.passes import measure_passes

    _say("passes: exporting without each of them")
    rows: Rows = [
        (name, f"{found['without_ms']}", f"{found['with_ms']}")
        for name, found in measure_passes(
            source,
            bundle,
            threads=arguments.threads,
            precision="bf16" if "bf16" in bundle.precisions else "fp32",
        ).items()
    ]
    show_table(Console(), "Passes", ("pass", "ms without", "ms with"), rows)


def _show(bundle: Bundle, arguments: argparse.Namespace) -> None:
    from engine.backends.noise import random_feed
    from export.comparison import compare_run_times

    feeds = [random_feed(bundle, bundle.k)]
    compared, failed = compare_run_times(bundle, feeds, threads=arguments.threads)
    slow = next(c for c in compared if c.variant == Variant("openvino", "fp32")).chunk_ms
    rows: Rows = [
        (
            str(found.variant),
            f"{found.difference:.1e}",
            f"{found.chunk_ms:.1f}",
            f"{slow / found.chunk_ms:.2f}",
            f"{found.size_mb:.1f}",
        )
        for found in compared
    ]
    heads = ("run time", "difference", f"ms per {bundle.k}", "times fp32", "MB")
    show_table(Console(), f"{bundle.folder.name} on this machine", heads, rows)
    for variant, reason in failed.items():
        print(f"{variant}: {reason}")


def _formats(arguments: argparse.Namespace) -> list[Precision]:
    return [p for p in PRECISIONS if p in arguments.precision and p != "fp32"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turn a checkpoint into a bundle and check that both paint the same. The same"
        " command goes on with what was stopped.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="what `python -m training` has saved or imported: a generator, or a lip expert; or a"
        " bundle's folder, to give it other number formats or engines",
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="BUNDLE",
        type=Path,
        help="folder of the bundle; a lip expert is put into one that is there already, and a"
        " bundle is extended where it lies if this is left out",
    )
    parser.add_argument(
        "--backend",
        choices=BACKENDS,
        action="append",
        default=[],
        help="tensorrt: also build engines, for the GPU that is here or for --architecture; the"
        " others run the graphs as they are (may be repeated)",
    )
    parser.add_argument(
        "--precision",
        choices=PRECISIONS,
        action="append",
        default=[],
        help="number format besides fp32; one that strays too far is refused (may be repeated)",
    )
    parser.add_argument(
        "--calibration",
        metavar="FOLDER",
        type=Path,
        help="videos of speaking people, for the scales of int8 and to judge by",
    )
    parser.add_argument(
        "--judge",
        metavar="FOLDER",
        type=Path,
        help="other videos to judge by (default: every other one of --calibration)",
    )
    parser.add_argument(
        "--float",
        metavar="GROUP",
        action="append",
        default=[],
        help="layers that stay in float in int8 (may be repeated)",
    )
    parser.add_argument(
        "--architecture",
        metavar="SM",
        action="append",
        default=[],
        help="GPU that TensorRT builds for, like sm_86, without having it (may be repeated)",
    )
    parser.add_argument(
        "--whole",
        action="store_true",
        help="paint every row that was trained, not only those that a picture takes",
    )
    parser.add_argument(
        "--measure-passes", action="store_true", help="also time what each pass is worth"
    )
    parser.add_argument(
        "--threads", metavar="N", type=int, default=2, help="processor threads (default: 2)"
    )
    parser.add_argument(
        "--emphasis",
        metavar="X",
        type=float,
        help="how far speech is carried away from silence: above 1 opens the mouth wider"
        " (default: the checkpoint's, 1)",
    )
    parser.add_argument(
        "--name", metavar="TEXT", help="of a lip expert, in every report (default: the file's)"
    )
    parser.add_argument(
        "--confident",
        metavar="X",
        type=float,
        default=CONFIDENT,
        help="confidence from which on a lip expert's offsets count (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
