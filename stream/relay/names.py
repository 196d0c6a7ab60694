"""The names in a relay's addresses: rooms, speakers, languages."""

from __future__ import annotations

import re
from typing import Final

NAME: Final = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
"""A room's or a speaker's name, as a pattern."""

LANGUAGE: Final = "[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8}){0,3}"
"""A language tag (BCP 47), as a pattern."""

FLOOR: Final = "floor"
"""Stands where a speaker's name does for whoever is speaking; no speaker has this name."""

NO_ROOMS: Final = frozenset({"api", "favicon", "healthz", "metrics", "resource", "whep", "whip"})
"""First parts of the relay's own paths: no room has such a name."""

_NAME: Final = re.compile(NAME)
_LANGUAGE: Final = re.compile(LANGUAGE)
_REGION_LENGTH: Final = 2
_SCRIPT_LENGTH: Final = 4


def is_room(name: object) -> bool:
    """Whether a room may have this name."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name not in NO_ROOMS


def is_speaker(name: object) -> bool:
    """Whether this is a speaker's name; the floor's is none."""
    return isinstance(name, str) and bool(_NAME.fullmatch(name)) and name != FLOOR


def language_tag(text: object) -> str | None:
    """A language tag as BCP 47 (RFC 5646, section 2.1.1) writes it: ``pt-br`` is ``pt-BR``.

    Tags that differ only in letter case mean the same language, so they are made the same.

    Returns:
        None where it is no tag.
    """
    if not isinstance(text, str) or not _LANGUAGE.fullmatch(text):
        return None
    first, *rest = text.lower().split("-")
    return "-".join([first, *(_subtag(part) for part in rest)])


def _subtag(part: str) -> str:
    if len(part) == _REGION_LENGTH:
        return part.upper()
    return part.capitalize() if len(part) == _SCRIPT_LENGTH else part
