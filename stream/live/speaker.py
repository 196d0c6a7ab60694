"""An output device as a sink: loudspeakers, or what other programs hear as a microphone."""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any, Final

import numpy as np
import soxr
from numpy.typing import NDArray

from stream.core.intake import LiveIntake
from stream.core.pump import QUIET_LEVEL
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_S, Sound
from stream.live.portaudio import OpenStream, PortAudio
from stream.live.sound_stream import SoundStream, State

TARGET_S: Final = 0.06
"""Mean level of the buffer: a tick that comes 40 ms late does no harm."""

_GUESS_S: Final = 0.08  # of a device that is not open yet
_MOST_DAC_S: Final = 2.0
_HEARD_S: Final = 0.2  # a session that has not spoken for this long is over or stuck
_QUIET_S: Final = 0.2

_LEAD_MEASURED: Final = 10  # values, a second's
_LEAD_NEAR_S, _LEAD_FAR_S = 0.004, 0.03


class Lead:
    """How long before it is due sound has to be given, so that it leaves when it is due.

    What is measured replaces the guess after a second. After that the value follows only in
    silence, or where it is far off: whenever it moves, sound is lost or doubled.

    Attributes:
        seconds: the value now.
    """

    def __init__(self, guess_s: float) -> None:
        self.seconds = guess_s
        self._settled = False
        self._recent: deque[float] = deque(maxlen=_LEAD_MEASURED)

    def restart(self, guess_s: float) -> None:
        """Another device follows."""
        self.seconds, self._settled = guess_s, False
        self._recent.clear()

    def measured(self, seconds: float, *, quiet: bool) -> None:
        """Sound took so long; ``quiet``: nothing sounds now."""
        self._recent.append(seconds)
        if len(self._recent) < _LEAD_MEASURED:
            return
        middle = median(self._recent)
        off = abs(middle - self.seconds)
        if off > (_LEAD_FAR_S if self._settled and not quiet else _LEAD_NEAR_S):
            self.seconds = middle
            self._recent.clear()
        self._settled = True


class Speaker:
    """Plays a session's sound on an output device, at the device's own clock.

    Args:
        device: a name, part of one, or a number; see :func:`stream.live.sound_devices.pick`.
        clock: session seconds.
        on_left: told, about every 100 ms, which sound (session seconds at which it came in) leaves
            the device when (session seconds, often a little ahead); called on the event loop.
        target_s: how much sound waits in the buffer on average.
        system: PortAudio; the process's own by default.
        pause: waits so many seconds.
    """

    def __init__(
        self,
        device: str,
        clock: Callable[[], float],
        *,
        on_left: Callable[[float, float], None] = lambda content_s, at: None,
        target_s: float = TARGET_S,
        system: PortAudio | None = None,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._clock = clock
        self._on_left = on_left
        self._target_s = target_s
        self.intake = LiveIntake(SOUND_RATE, CHANNELS, target_s=target_s)
        self._lead = Lead(target_s + _GUESS_S)
        self._lock = threading.Lock()  # around what both threads see; held for microseconds
        self._ahead_s = 0.0  # when what is heard came in, after the moment it is heard at
        self._heard_at = self._loud_at = -1.0
        self._left: tuple[float, float, float] | None = None
        self._starved_s = 0.0
        self._fitter: _Fitter | None = None
        self._stream = SoundStream(
            device,
            "output",
            clock,
            self._fill,
            opened=self._prepare,
            poll=self._report,
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
    def lead_s(self) -> float:
        """From :meth:`hear` to the air, in seconds."""
        return self._lead.seconds

    def hear(self, block: Sound, position_s: float) -> None:
        """Take the next 20 ms; see :class:`stream.core.sinks.SoundSink`."""
        now = self._clock()
        self.intake.push(block, now)
        loud = bool(np.abs(block).max() >= QUIET_LEVEL)
        with self._lock:
            self._ahead_s = position_s - now
            self._heard_at = now
            self._loud_at = now if loud else self._loud_at

    async def run(self) -> None:
        """Work until cancelled; then close the device."""
        await self._stream.run()

    def _prepare(self, stream: OpenStream) -> None:
        self._fitter = None if stream.rate == SOUND_RATE else _Fitter(stream.rate)
        self.intake.restart()
        with self._lock:
            self._lead.restart(self._target_s + stream.latency_s)
            self._left = None

    def _fill(self, buffer: NDArray[np.float32], stream: OpenStream, times: Any) -> None:
        now = self._clock()
        if self._fitter is None:
            sound = self.intake.pull(len(buffer), now)
        else:
            sound = self._fitter.take(len(buffer), lambda count: self.intake.pull(count, now))
        if buffer.shape[1] == CHANNELS:
            buffer[:] = sound
        else:
            buffer[:] = sound.mean(axis=1, keepdims=True)
        self._remember(now, len(buffer) / stream.rate, dac_delay(times, stream.latency_s))

    def _remember(self, now: float, length_s: float, dac_s: float) -> None:
        """The middle of a block of this length leaves so much later than now, plus its half."""
        starved_s, waited_s = self.intake.starved_s, self.intake.latency_s
        if self._fitter is not None:
            waited_s += self._fitter.delay_s
        with self._lock:
            starves = starved_s != self._starved_s
            self._starved_s = starved_s
            if starves or self._heard_at < 0 or now - self._heard_at > _HEARD_S:
                self._left = None
                return
            # Of a tick that came in so long ago the middle leaves at this block's middle.
            content_s = now - waited_s + self._ahead_s + TICK_S / 2
            at = now + dac_s + length_s / 2
            self._left = content_s, at, waited_s + at - now - TICK_S / 2

    def _report(self) -> None:
        now = self._clock()
        with self._lock:
            left, self._left = self._left, None
            quiet = now - self._loud_at > _QUIET_S
            if left is not None:
                self._lead.measured(left[2], quiet=quiet)
        if left is not None:
            self._on_left(left[0], left[1])


def dac_delay(times: Any, latency_s: float) -> float:
    """Seconds from a callback to its first sample's leaving.

    Only the difference of PortAudio's times counts: some systems' clock jumps with the wall clock.

    Args:
        times: PortAudio's; some host APIs leave zeros in it.
        latency_s: the driver's, where the times are of no use.
    """
    delay_s = float(times.outputBufferDacTime) - float(times.currentTime)
    usable = times.currentTime > 0 and 0 < delay_s < _MOST_DAC_S
    return delay_s if usable else latency_s


class _Fitter:
    """Sound at a device's rate, in blocks of any size, from 48 kHz."""

    def __init__(self, rate: int) -> None:
        # Of soxr's modes only the variable one gives its output evenly, and the less is pulled
        # ahead; the ratio it begins with is the highest it is good for, and not at the very edge.
        self._converter = soxr.ResampleStream(
            SOUND_RATE * 1.01, rate, CHANNELS, dtype="float32", vr=True
        )
        self._converter.set_io_ratio(SOUND_RATE, rate, 0)
        self._rest = np.zeros((0, CHANNELS), np.float32)
        self._rate = rate
        self._pulled = self._given = 0

    @property
    def delay_s(self) -> float:
        """Seconds of sound that were pulled and not given yet."""
        return self._pulled / SOUND_RATE - self._given / self._rate

    def take(self, count: int, pull: Callable[[int], Sound]) -> Sound:
        while (missing := count - len(self._rest)) > 0:
            pulled = pull(math.ceil(missing * SOUND_RATE / self._rate))
            self._pulled += len(pulled)
            more = np.clip(self._converter.resample_chunk(pulled), -1, 1)
            self._rest = np.concatenate([self._rest, more])
        sound, self._rest = self._rest[:count], self._rest[count:]
        self._given += count
        return sound
