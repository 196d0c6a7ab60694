"""An input device as a session's sound: a microphone, or what another program plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.core.drift import VariableRate
from stream.core.intake import LiveIntake
from stream.core.sound import CHANNELS, SOUND_RATE, as_sound
from stream.live.portaudio import OpenStream, PortAudio
from stream.live.sound_stream import SoundStream, State

TARGET_S: Final = 0.04


class Microphone:
    """Reads an input device. Where it is gone there is silence, until it is back.

    Args:
        device: a name, part of one, or a number; see :func:`stream.live.sound_devices.pick`.
        clock: session seconds.
        target_s: how much sound waits in the intake on average.
        system: PortAudio; the process's own by default.
        pause: waits so many seconds.

    Attributes:
        intake: what the session pulls from; the same for as long as this lives.
    """

    def __init__(
        self,
        device: str,
        clock: Callable[[], float],
        *,
        target_s: float = TARGET_S,
        system: PortAudio | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._converter: VariableRate | None = None
        self.intake = LiveIntake(SOUND_RATE, CHANNELS, target_s=target_s)
        self._stream = SoundStream(
            device,
            "input",
            clock,
            self._take,
            opened=self._prepare,
            system=system,
            pause=pause,
        )

    @property
    def state(self) -> State:
        """``waiting`` while the device is gone or can't be opened."""
        return self._stream.state

    @property
    def trouble(self) -> str | None:
        """One sentence while it is waiting, else None."""
        return self._stream.trouble

    @property
    def latency_s(self) -> float:
        """From the air to the session, in seconds."""
        stream = self._stream.stream
        return self.intake.latency_s + (0.0 if stream is None else stream.latency_s)

    async def run(self) -> None:
        """Work until cancelled; then close the device."""
        await self._stream.run()

    def _prepare(self, stream: OpenStream) -> None:
        same = stream.rate == SOUND_RATE
        self._converter = None if same else VariableRate(stream.rate, stream.channels)
        self.intake.restart()

    def _take(self, buffer: NDArray[np.float32], stream: OpenStream, times: Any) -> None:
        sound = as_sound(buffer) if self._converter is None else self._converter.push(buffer)
        self.intake.push(sound, self._clock())
