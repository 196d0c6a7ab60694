"""Files: written whole or not at all, and their hashes."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, text: str) -> None:
    """Write a text file under a hidden name and give it its own when it is complete.

    Args:
        path: the file; an older one stays until the new one is complete.
        text: its content, written as UTF-8.

    Raises:
        OSError: the file can't be written; nothing is left of it.
    """
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
        raise


def sha256_of(path: Path) -> str:
    """A file's SHA-256 as hexadecimal digits.

    Raises:
        OSError: the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
