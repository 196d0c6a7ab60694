"""One line of JSON for each run, so that a slower program is seen."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import ConfigError


def check_history(path: Path) -> None:
    """Refuse a history that can't be written, before anything is measured.

    Raises:
        ConfigError: it is a folder, or one of its folders is a file.
    """
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; name a file for the history.")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _refused(path, error) from error


def append(path: Path, figures: Mapping[str, Any]) -> None:
    """Add a run's line, whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    line = json.dumps(figures, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # one call: nothing can come between
        finally:
            os.close(descriptor)
    except OSError as error:
        raise _refused(path, error) from error


def _refused(path: Path, error: OSError) -> ConfigError:
    return ConfigError(
        f"The history {path} can't be written ({error.strerror}); name another file with"
        " --history, or give --no-history."
    )
