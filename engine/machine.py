"""The computer that this runs on: its processor's name, and the folder of its user's caches."""

import os
import platform
import sys
from pathlib import Path


def processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def user_cache() -> Path:
    """Return lipstream's folder among those for what can be made again; it may not exist.

    Raises:
        RuntimeError: the user has no home folder.
    """
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        default = ("AppData", "Local")
    elif sys.platform == "darwin":
        base, default = None, ("Library", "Caches")
    else:
        base, default = os.environ.get("XDG_CACHE_HOME"), (".cache",)
    return (Path(base) if base else Path.home().joinpath(*default)) / "lipstream"
