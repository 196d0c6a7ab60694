"""What the figures were measured on."""

from __future__ import annotations

import importlib.metadata
import os
from typing import Final

PACKAGES: Final = ("openvino", "onnxruntime", "tensorrt", "tensorrt_rtx", "torch")
BUSY: Final = 0.5
"""Programs that wait for a core, on the mean of a minute, from which on figures suffer."""


def cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load() -> float | None:
    """Return how many programs used or waited for a core in the last minute; None: unknown."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def versions() -> dict[str, str]:
    """Return the versions of the run times that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def own_version() -> str | None:
    """Return lipstream's version; None where it runs from a checkout that is not installed."""
    try:
        return importlib.metadata.version("lipstream")
    except importlib.metadata.PackageNotFoundError:
        return None
