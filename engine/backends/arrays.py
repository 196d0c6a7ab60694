"""What run times that work in the computer's own memory have in common."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Arrays, Kept
from engine.bundle import Graph
from engine.errors import BundleError


class KeptArrays(NamedTuple):
    """Inputs of one session.

    Attributes:
        arrays: by name, float32 (1, …) each.
    """

    arrays: Arrays


def with_kept(feed: Arrays, kept: Sequence[tuple[Kept, int]]) -> dict[str, NDArray[np.float32]]:
    """Join a feed with the kept inputs, each repeated for its frames."""
    whole = dict(feed)
    if not kept:
        return whole
    sessions = [(cast("KeptArrays", holder).arrays, count) for holder, count in kept]
    frames = sum(count for _, count in sessions)
    for name, first in sessions[0][0].items():
        joined = np.empty((frames, *first.shape[1:]), np.float32)
        start = 0
        for arrays, count in sessions:
            joined[start : start + count] = arrays[name]
            start += count
        whole[name] = joined
    return whole


def check_shapes(path: Path, graph: Graph, found: Mapping[str, tuple[int | None, ...]]) -> None:
    """Refuse a file that is not what its bundle describes: OpenVINO would paint nonsense of it.

    Args:
        path: of the file.
        graph: the description.
        found: inputs and outputs of the file, by name; None is any length.

    Raises:
        BundleError: it is not.
    """
    for name, spec in (*graph.inputs.items(), *graph.outputs.items()):
        if found.get(name) != spec.shape:
            raise BundleError(
                f"{path} does not have {name!r} of the shape {list(spec.shape)} that the bundle"
                " describes; export it again."
            )
