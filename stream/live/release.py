"""Where a session's pictures and sound are counted when no device and no file does it."""

import asyncio
from collections.abc import Callable

from stream.core.sinks import Shown
from stream.core.sound import Sound


class Release:
    """A sink that keeps nothing: it reports when the session let go of pictures and sound.

    Args:
        clock: session seconds.
        on_picture_left: told each picture's pts, and when it left.
        on_sound_left: told when each block of sound came in, and when it left.
    """

    lead_s = 0.0

    def __init__(
        self,
        clock: Callable[[], float],
        on_picture_left: Callable[[float, float], object],
        on_sound_left: Callable[[float, float], object],
    ) -> None:
        self._clock = clock
        self._on_picture_left, self._on_sound_left = on_picture_left, on_sound_left

    def show(self, shown: Shown) -> None:
        """Report a picture; a still card is none."""
        if shown.number >= 0:
            self._on_picture_left(shown.pts, self._clock())

    def hear(self, block: Sound, position_s: float) -> None:
        """Report a block."""
        self._on_sound_left(position_s, self._clock())

    async def run(self) -> None:
        """Wait until cancelled."""
        await asyncio.Event().wait()
