"""What the control page sees of a session, and what it can change."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final

from engine.errors import ConfigError
from stream.live.session import LiveSession

MOST_TRIM_MS: Final = 500
_SWITCHES: Final = ("lip_sync", "paused", "own_voice")


class SessionControl:
    """A session as its page knows it.

    Args:
        session: the session.
        troubles: asked for the state of each end: a sentence, or None while it works.
        backend: says the generator's run time as it is now, empty before it is loaded.
        bundle: the bundle's name.
    """

    def __init__(
        self,
        session: LiveSession,
        troubles: Mapping[str, Callable[[], str | None]],
        *,
        backend: Callable[[], str],
        bundle: str,
    ) -> None:
        self._session = session
        self._troubles = troubles
        self._backend = backend
        self._bundle = bundle

    def meters(self) -> dict[str, object]:
        """The session as it is now, for the page; JSON values."""
        session = self._session
        found = {name: trouble() for name, trouble in self._troubles.items()}
        found |= session.troubles()
        return {
            **session.meters.snapshot(session.clock()),
            "states": {
                name: {"state": "waiting" if text else "running", "text": text or ""}
                for name, text in found.items()
            },
            "sound_level": round(session.line.sound_level, 3),
            "microphone_level": round(session.line.voice_level, 3),
            "backend": self._backend(),
            "bundle": self._bundle,
        }

    def settings(self) -> dict[str, object]:
        """What can be changed, as it is now."""
        controls = self._session.controls
        return {
            **{name: getattr(controls, name) for name in _SWITCHES},
            "trim_ms": round(controls.trim_s * 1000),
        }

    def change(self, name: str, value: object) -> None:
        """Change one setting.

        Args:
            name: ``lip_sync``, ``paused``, ``own_voice`` (bool) or ``trim_ms`` (−500 to 500,
                positive: the picture later).
            value: the new value.

        Raises:
            ConfigError: there is no such setting, or the value does not fit it.
        """
        controls = self._session.controls
        if name in _SWITCHES:
            if not isinstance(value, bool):
                raise ConfigError(f"{name} must be true or false, not {value!r}.")
            setattr(controls, name, value)
        elif name == "trim_ms":
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not abs(float(str(value))) <= MOST_TRIM_MS:
                raise ConfigError(
                    f"trim_ms must be -{MOST_TRIM_MS} to {MOST_TRIM_MS}, not {value!r}."
                )
            controls.trim_s = float(str(value)) / 1000
        else:
            raise ConfigError(f"There is no setting {name!r}.")

    def choose_face(self, x: float, y: float) -> None:
        """Follow the face nearest to this place.

        Args:
            x: from the left, 0..1 of the picture's width.
            y: from the top, 0..1 of the picture's height.

        Raises:
            ConfigError: the place is not in the picture.
        """
        if not (math.isfinite(x) and math.isfinite(y) and 0 <= x <= 1 and 0 <= y <= 1):
            raise ConfigError("The place of a face must lie in the picture.")
        self._session.choose_face(x, y)
