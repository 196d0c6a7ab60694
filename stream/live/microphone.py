"""An input device as a session's sound: a microphone, or what another program plays."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from stream.core.drift import VariableRate
from stream.core.intake import LiveIntake
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_S, as_sound
from stream.live.portaudio import BLOCK_S, OpenStream, PortAudio
from stream.live.sound_stream import SoundStream, State

TARGET_S: Final = 0.04

_SHARE: Final = 0.02  # of a block in the mean age: half a second of 10 ms blocks
_MOST_AGE_S: Final = 2.0


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
        self._age_s = 0.0
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
        """From the air to the session, in seconds: how much later a sound is on its timeline."""
        # Packets and ticks both count from their start: a tick's sound is there at its end.
        return self.intake.latency_s + self._age_s - (BLOCK_S + TICK_S) / 2

    async def run(self) -> None:
        """Work until cancelled; then close the device."""
        await self._stream.run()

    def _prepare(self, stream: OpenStream) -> None:
        self._age_s = stream.latency_s
        same = stream.rate == SOUND_RATE
        self._converter = None if same else VariableRate(stream.rate, stream.channels)
        self.intake.restart()

    def _take(self, buffer: NDArray[np.float32], stream: OpenStream, times: Any) -> None:
        sound = as_sound(buffer) if self._converter is None else self._converter.push(buffer)
        self.intake.push(sound, self._clock())
        self._age_s += _SHARE * (adc_age(times, stream.latency_s) - self._age_s)


def adc_age(times: Any, latency_s: float) -> float:
    """Seconds from the first sample's coming in to its callback.

    Args:
        times: PortAudio's; some host APIs leave zeros in it. Only their difference counts.
        latency_s: the driver's, where the times are of no use.
    """
    age_s = float(times.currentTime) - float(times.inputBufferAdcTime)
    usable = times.inputBufferAdcTime > 0 and abs(age_s) < _MOST_AGE_S
    return age_s if usable else latency_s
