"""The file between ``training`` and ``export``: weights and all facts that a bundle needs.

A checkpoint is one file of tensors and plain values. It is read with ``weights_only``: no code in
it is ever run.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import torch
from torch import Tensor

from engine.errors import ConfigError

FORMAT_VERSION = 1
GENERATOR = "generator"  # the only kind that export turns into a bundle
EXPERT = "expert"  # a lip expert, which export adds to one


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """What one checkpoint holds: tensors, text, numbers, and lists and dicts of them.

    Attributes:
        kind: which network: ``generator``, or the name of another one that is trained here.
        config: the network's own settings, such as ``GeneratorConfig.to_dict()``.
        model: the weights to use (the averaged ones where an average is kept).
        mel: audio feature settings, ``MelSettings.to_dict()``.
        placement: where a frame's mel window lies, ``WindowPlacement.to_dict()``.
        crop: how the crop lies on the face, ``geometry_to_dict()``.
        training: facts about the run; export reads ``licence``, ``training_data``, ``metrics``,
            ``fps``, ``k``, ``identity_policy`` and ``colour_order`` where they are there.
        resume: what is needed to go on training: optimiser, step, random state.
    """

    kind: str
    config: dict[str, Any]
    model: dict[str, Tensor]
    mel: dict[str, Any] = field(default_factory=dict)
    placement: dict[str, Any] = field(default_factory=dict)
    crop: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)
    resume: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(
    path: Path,
    *,
    kind: str = GENERATOR,
    config: Mapping[str, Any],
    model: Mapping[str, Tensor],
    mel: Mapping[str, Any] | None = None,
    placement: Mapping[str, Any] | None = None,
    crop: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    resume: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint; the arguments are the fields of :class:`Checkpoint`.

    The file appears whole or not at all, so that a run which is stopped while it saves keeps the
    checkpoint before.

    Raises:
        ConfigError: the file can't be written.
    """
    content = {
        "format": FORMAT_VERSION,
        "kind": kind,
        "config": dict(config),
        "model": {name: tensor.detach().cpu() for name, tensor in model.items()},
        "mel": dict(mel or {}),
        "placement": dict(placement or {}),
        "crop": dict(crop or {}),
        "training": dict(training or {}),
        "resume": dict(resume or {}),
    }
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(content, file)
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError(f"The checkpoint {path} can't be written: {error}.") from error


def save_corrected(
    path: Path, read: Checkpoint, model: Mapping[str, Tensor], facts: Mapping[str, Any]
) -> None:
    """Write a checkpoint once more, with other weights and more facts about its run.

    What it takes to go on with the run is left out, as it belongs to the weights before.

    Args:
        path: file to write.
        read: the checkpoint.
        model: the weights.
        facts: to add to its ``training``.

    Raises:
        ConfigError: the file can't be written.
    """
    save_checkpoint(
        path,
        kind=read.kind,
        config=read.config,
        model=model,
        mel=read.mel,
        placement=read.placement,
        crop=read.crop,
        training={**read.training, **facts},
    )


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises:
        ConfigError: the file is missing, is no checkpoint of this program, or of another version.
    """
    if not path.is_file():
        raise ConfigError(f"There is no checkpoint at {path}; make one with `python -m training`.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, BadZipFile) as error:
        raise ConfigError(f"{path} can't be read as a checkpoint; is the file whole?") from error
    except Exception as error:
        # torch.load raises pickle's own error (a bare Exception below) for any object in the file
        # that is neither a tensor nor a plain value.
        raise ConfigError(
            f"{path} holds more than tensors and plain values, which is never read; save it with"
            " this program."
        ) from error
    names = [item.name for item in fields(Checkpoint)]
    if not isinstance(content, dict) or not {"format", *names} <= content.keys():
        raise ConfigError(f"{path} is no checkpoint of this program; train or import one.")
    if content["format"] != FORMAT_VERSION:
        raise ConfigError(
            f"The checkpoint {path} has format {content['format']}, this program reads"
            f" {FORMAT_VERSION}; save it with this version."
        )
    return Checkpoint(**{name: content[name] for name in names})
