"""``python -m export CHECKPOINT -o BUNDLE``: turn a checkpoint into a verified bundle."""

import argparse
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.bundle import EXPERT_PARTS, Bundle, Weights, load_bundle
from engine.crop import geometry_from_dict
from engine.errors import ConfigError, LipstreamError
from engine.mel import MelSettings, WindowPlacement
from export.graphs import write_graphs
from export.lip_expert import CONFIDENT, Expert, add_lip_expert, expert_of
from export.verify import TOLERANCE, Differences, write_checked
from export.wav2lip import export_wav2lip
from training.checkpoint import Checkpoint, load_checkpoint
from training.painter import build_model
from training.weights import SUFFIX, load_weights
from training.weights import Weights as Imported

BACKENDS = ("onnx",)
PRECISIONS = ("fp32",)
WRONG_USE = 2  # exit status, as argparse's own


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    arguments = _parser().parse_args(argv)
    try:
        source = _load(arguments.checkpoint)
        name = arguments.name or arguments.checkpoint.stem
        expert = expert_of(source, name, arguments.confident)
        if expert is None:
            _export(source, arguments)
        else:
            _add(expert, arguments)
    except LipstreamError as error:
        print(f"lipstream-export: {error}", file=sys.stderr)
        return WRONG_USE
    return 0


def _load(path: Path) -> Imported | Checkpoint:
    return load_weights(path) if path.suffix == SUFFIX else load_checkpoint(path)


def _add(expert: Expert, arguments: argparse.Namespace) -> None:
    if arguments.emphasis is not None:
        raise ConfigError("A lip expert takes no --emphasis; leave it out.")
    bundle, difference = add_lip_expert(load_bundle(arguments.output), *expert)
    size = sum((bundle.folder / bundle.graphs[part].file).stat().st_size for part in EXPERT_PARTS)
    print(f"{bundle.folder}: its lip expert is {expert[1].name} now, {size / 1e6:.1f} MB")
    print(f"largest difference from the checkpoint: {difference:.1e} (allowed: {TOLERANCE:g})")


def _export(source: Imported | Checkpoint, arguments: argparse.Namespace) -> None:
    if isinstance(source, Imported):
        if arguments.emphasis is not None:
            raise ConfigError("Imported weights take no --emphasis; leave it out.")
        bundle, differences = export_wav2lip(source, arguments.output, arguments.precision)
    else:
        if arguments.emphasis is not None:
            source = replace(source, config={**source.config, "emphasis": arguments.emphasis})
        bundle, differences = export(source, arguments.output, arguments.precision)
    size = sum((bundle.folder / file).stat().st_size for file in bundle.sha256)
    print(f"{bundle.folder}: {', '.join(bundle.sha256)}, {size / 1e6:.1f} MB")
    print(
        f"largest difference from the checkpoint: {differences.graphs:.1e} in the graphs,"
        f" {differences.runtime:.1e} in the run time (allowed: {TOLERANCE:g})"
    )


def export(checkpoint: Checkpoint, folder: Path, precision: str) -> tuple[Bundle, Differences]:
    """Write a bundle and check it against its checkpoint.

    Args:
        checkpoint: of a generator.
        folder: where the bundle goes; made where missing, its files are overwritten.
        precision: number format of the weights.

    Raises:
        ConfigError: the checkpoint holds no generator, lacks a fact, or the folder can't be made.
        BundleError: what was written is not what the checkpoint paints.
    """
    model = build_model(checkpoint)
    config, facts = model.config, checkpoint.training
    mel = MelSettings.from_dict(checkpoint.mel)
    placement = WindowPlacement.from_dict(checkpoint.placement)
    crop = geometry_from_dict(checkpoint.crop)
    weights = Weights(
        licence=_fact(facts, "licence"),
        training_data=_fact(facts, "training_data"),
        metrics=facts.get("metrics", {}),
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = write_graphs(model, mel, placement, folder)
    except OSError as error:
        raise ConfigError(f"The bundle {folder} can't be written: {error}.") from error
    return write_checked(
        Bundle(
            folder=folder,
            graphs=graphs,
            architecture=f"two-encoder-{config.head}",
            width=config.width,
            resolution=config.resolution,
            rows=config.rows,
            masked_from=config.masked_from,
            fps=facts.get("fps", 25.0),
            k=facts.get("k", 5),
            mel=mel,
            placement=placement,
            crop=crop,
            identity_policy=facts.get("identity_policy", "live"),
            colour_order=facts.get("colour_order", "rgb"),
            precision=precision,
            weights=weights,
        ),
        model,
    )


def _fact(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"The checkpoint's training facts lack {name!r}, which every bundle states; save it"
            " again with it."
        )
    return value


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m export",
        description="Turn a checkpoint into a bundle and check that both paint the same.",
    )
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="what `python -m training` has saved or imported: a generator, or a lip expert",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        help="folder of the bundle; a lip expert is put into one that is there already",
    )
    parser.add_argument("--backend", choices=BACKENDS, default="onnx", help="form of the graphs")
    parser.add_argument(
        "--precision", choices=PRECISIONS, default="fp32", help="number format of the weights"
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
