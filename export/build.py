"""From a checkpoint to a bundle in fp32, checked against the checkpoint."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from engine.bundle import Bundle
from engine.bundle_weights import Weights
from engine.crop import geometry_from_dict
from engine.errors import ConfigError
from engine.mel import MelSettings, WindowPlacement
from engine.paste import pasted_rows
from export.graphs import write_graphs
from export.verify import Differences, write_checked
from training.checkpoint import Checkpoint
from training.painter import build_model


def build(
    checkpoint: Checkpoint, folder: Path, *, whole: bool = False, made_from: str | None = None
) -> tuple[Bundle, Differences]:
    """Write a bundle and check it against its checkpoint.

    Args:
        checkpoint: of a generator.
        folder: where the bundle goes; made where missing, its files are overwritten.
        whole: paint every row that was trained, not only those that a picture takes.
        made_from: see :class:`engine.bundle.Bundle`.

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
    rows = config.rows if whole else painted_rows(config.rows, config.resolution)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        graphs = write_graphs(model, mel, placement, folder, rows)
    except OSError as error:
        raise ConfigError(f"The bundle {folder} can't be written: {error}.") from error
    return write_checked(
        Bundle(
            folder=folder,
            graphs=graphs,
            architecture=f"two-encoder-{config.head}",
            width=config.width,
            resolution=config.resolution,
            rows=rows,
            trained_rows=None if rows == config.rows else config.rows,
            masked_from=config.masked_from,
            fps=facts.get("fps", 25.0),
            k=facts.get("k", 5),
            mel=mel,
            placement=placement,
            crop=crop,
            identity_policy=facts.get("identity_policy", "live"),
            colour_order=facts.get("colour_order", "rgb"),
            weights=weights,
            made_from=made_from,
        ),
        model,
    )


def write_variant(
    checkpoint: Checkpoint, bundle: Bundle, folder: Path, *, fold: bool = True, whole: bool = False
) -> Bundle:
    """Write a bundle's graphs again without a pass, to see what that is worth.

    Args:
        checkpoint: that the bundle was made of.
        bundle: with all passes.
        folder: where the graphs go; made here.
        fold: put batch normalisations into their convolutions.
        whole: paint every row that was trained.

    Returns:
        The description of a bundle of these graphs, which is not written.
    """
    model = build_model(checkpoint)
    rows = model.config.rows if whole else bundle.rows
    folder.mkdir(parents=True)
    graphs = write_graphs(model, bundle.mel, bundle.placement, folder, rows, fold=fold)
    return replace(bundle, folder=folder, graphs=graphs, rows=rows)


def painted_rows(trained: tuple[int, int], side: int) -> tuple[int, int]:
    """Return the rows that were trained and that a picture takes."""
    first, end = pasted_rows(side)
    return max(trained[0], first), min(trained[1], end)


def _fact(facts: Mapping[str, Any], name: str) -> str:
    value = facts.get(name)
    if not isinstance(value, str) or not value:
        raise ConfigError(
            f"The checkpoint's training facts lack {name!r}, which every bundle states; save it"
            " again with it."
        )
    return value
