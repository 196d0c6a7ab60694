"""What goes over a link: JSON objects, described in ``stream.relay.link``."""

from __future__ import annotations

import json
import math
from typing import Any, Final

from stream.relay.refusal import Refusal

_LONGEST_RETRY_S: Final = 86_400.0


class NoMessageError(Exception):
    """What came is no message."""


def refused(refusal: Refusal) -> dict[str, Any]:
    """The part of a reply that says no."""
    told = {
        "status": refusal.status,
        "text": refusal.text,
        "retry_after": refusal.retry_after_s,
    }
    return {"refusal": told}


def encode(message: dict[str, Any]) -> bytes:
    """A message as JSON (RFC 8259), which knows no NaN: null stands for it."""
    try:
        return json.dumps(message, allow_nan=False).encode()
    except ValueError:
        return json.dumps(_finite(message), allow_nan=False).encode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value


def decode(text: bytes) -> dict[str, Any]:
    """A message, whose parts have their kinds.

    Raises:
        NoMessageError: it is none.
    """
    try:
        message = json.loads(text, parse_constant=lambda name: None)
    except (ValueError, RecursionError) as error:
        raise NoMessageError from error
    if not isinstance(message, dict):
        raise NoMessageError
    refusal = message.get("refusal")
    if "re" in message:
        fits = _is_whole(message["re"]) and (
            isinstance(message.get("fields"), dict) if refusal is None else _is_refusal(refusal)
        )
    else:
        fits = (
            isinstance(message.get("do"), str)
            and isinstance(message.get("fields"), dict)
            and ("id" not in message or _is_whole(message["id"]))
        )
    if not fits:
        raise NoMessageError
    return message


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_refusal(value: object) -> bool:
    match value:
        case {"status": int(status), "text": str(), "retry_after": None | int() | float() as retry}:
            return 400 <= status <= 599 and 0 <= (retry or 0) <= _LONGEST_RETRY_S
    return False
