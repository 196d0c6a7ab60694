"""What leaves a session, and what a sink must offer."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from stream.core.sound import Sound


@dataclass(frozen=True, slots=True)
class Shown:
    """A picture that leaves the session now.

    Attributes:
        number: of the camera's picture, from 0; a repeated one has the same number.
        pts: when the camera took it, in session seconds.
        picture: uint8 (H, W, 3) RGB, marked where modified; not to be written to.
        original: uint8 (H, W, 3), as the camera gave it; not to be written to.
        modified: whether the lips were changed.
        at: session seconds at which it was due.
        mesh: float32 (468, 3), the face of the original in pixels, if there is one.
    """

    number: int
    pts: float
    picture: NDArray[np.uint8]
    original: NDArray[np.uint8]
    modified: bool
    at: float
    mesh: NDArray[np.float32] | None = None


class PictureSink(Protocol):
    """Where pictures go: a virtual camera, a file, the page."""

    def show(self, shown: Shown) -> None:
        """Take a picture; called on the event loop, returns at once and never raises."""
        ...

    async def run(self) -> None:
        """Work until cancelled; then free what is held."""
        ...


class SoundSink(Protocol):
    """Where sound goes: a device, a file, the page."""

    @property
    def lead_s(self) -> float:
        """How long before it is due the sink wants the sound, in seconds; 0 if it has no buffer."""
        ...

    def hear(self, block: Sound, position_s: float) -> None:
        """Take the next 20 ms; called on the event loop, returns at once and never raises.

        Args:
            block: float32 (960, 2).
            position_s: session seconds at which the block's first sample came in.
        """
        ...

    async def run(self) -> None:
        """Work until cancelled; then free what is held."""
        ...
