"""Imported weights: one file of tensors, with where they come from in its header.

The file is in the format of safetensors, which holds nothing but numbers and text. Its header
carries one JSON text under the name ``lipstream``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import ConfigError

FORMAT_VERSION: Final = 1
SUFFIX: Final = ".safetensors"
_HEADER: Final = "lipstream"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """A network's weights and what is known of them.

    Attributes:
        kind: which network, one of :mod:`training.public_networks`.
        config: the network's own sizes; empty where the kind has one size only.
        source: name of the file that they were read from.
        source_sha256: its hash, as hexadecimal digits.
        licence: terms under which they may be used.
        training_data: what they were trained on.
        tensors: by their public names.
    """

    kind: str
    config: Mapping[str, Any]
    source: str
    source_sha256: str
    licence: str
    training_data: str
    tensors: Mapping[str, Tensor]


def save_weights(path: Path, weights: Weights) -> None:
    """Write weights; the file appears whole or not at all.

    Args:
        path: of the file; folders that are missing are made.
        weights: with tensors that share no memory.

    Raises:
        ConfigError: the file can't be written.
    """
    facts = {f.name: getattr(weights, f.name) for f in fields(weights) if f.name != "tensors"}
    header = json.dumps({"format": FORMAT_VERSION, **facts, "config": dict(weights.config)})
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(dict(weights.tensors), partial, {_HEADER: header})
        os.replace(partial, path)
    except (OSError, SafetensorError) as error:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise ConfigError(f"The weights {path} can't be written: {error}.") from error


def load_weights(path: Path) -> Weights:
    """Read weights onto the CPU.

    Raises:
        ConfigError: the file is missing, damaged, or not written by :func:`save_weights` of this
            version.
    """
    if not path.is_file():
        raise ConfigError(f"There are no weights at {path}; make them with `python -m training`.")
    try:
        with safe_open(path, "pt") as file:
            header = (file.metadata() or {}).get(_HEADER)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path} can't be read as weights; is the file whole?") from error
    names = [field.name for field in fields(Weights) if field.name != "tensors"]
    try:
        facts = json.loads(header or "")
        version = facts["format"]
        values = {name: facts[name] for name in names}
        config = values.pop("config")
        if not isinstance(config, dict) or not all(isinstance(v, str) for v in values.values()):
            raise TypeError("a fact is of another kind")
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(
            f"{path} does not say what its weights are; make it with `python -m training import`."
        ) from error
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"The weights {path} have format {version}, this program reads {FORMAT_VERSION};"
            " import them again."
        )
    return Weights(tensors=tensors, config=config, **values)
