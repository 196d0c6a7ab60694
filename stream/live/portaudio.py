"""The process's one PortAudio: opening devices, and learning of those that come back.

PortAudio reads the list of devices once, when it starts, and can start again only while no stream
is open. So a device that comes back is looked for by another process; only once it is there do
all streams close for a moment and PortAudio starts again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from engine.errors import MediaError
from stream.core.sound import CHANNELS, SOUND_RATE
from stream.live.sound_devices import (
    PULSE,
    Kind,
    SoundDevice,
    load_sounddevice,
    one_at_a_time,
    pick,
    read_devices,
    reason,
)

BLOCK_S: Final = 0.01
"""What a callback gets or gives at once."""

# What the system is asked to buffer: Python's callbacks may come late while other threads work.
_LATENCY_S: Final[dict[Kind, float]] = {"input": 0.04, "output": 0.06}

_PULSE_VARIABLE: Final[dict[Kind, str]] = {"input": "PULSE_SOURCE", "output": "PULSE_SINK"}

_LOOK_S: Final = 10.0  # time limit of the other process
_LOOK_AGAIN_S: Final = 0.8
_RELIST_S: Final = 3.0  # so long do streams stay closed for a stream that does not close

Callback = Callable[[Any, int, Any, Any], None]
"""PortAudio's: buffer float32 (n, channels), n, times, flags; in PortAudio's own thread."""


@dataclass(frozen=True, slots=True)
class OpenStream:
    """A device at work.

    Attributes:
        device: which.
        rate: at which it runs, in Hz.
        channels: 1 or 2.
        latency_s: between the callback and the air, as the driver says, in seconds.
        handle: sounddevice's stream.
    """

    device: SoundDevice
    rate: int
    channels: int
    latency_s: float
    handle: Any


class PortAudio:
    """The process's PortAudio. May be used from any thread; every call can take long.

    Args:
        load: gives the sounddevice module.
        look: lists the devices that there are now, in another process.
        clock: seconds of any steady clock.
    """

    def __init__(
        self,
        load: Callable[[], Any] | None = None,
        look: Callable[[Kind], list[SoundDevice]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._load = load or load_sounddevice
        self._look = look or _Lookout()
        self._open: set[int] = set()  # ids of handles
        self._relist_until: float | None = None
        self._stuck = False

    @property
    def relisting(self) -> bool:
        """Whether streams shall close for a moment, so that PortAudio can start again."""
        until = self._relist_until
        return until is not None and self._clock() < until

    def devices(self, kind: Kind) -> list[SoundDevice]:
        """The devices as PortAudio found them when it started; those of PulseAudio as of now.

        Raises:
            ConfigError: sounddevice or PortAudio is missing.
        """
        with one_at_a_time():
            return read_devices(self._load(), kind)

    def find(self, wanted: str | int, kind: Kind) -> SoundDevice:
        """The device that a user means; see :func:`find`."""
        return pick(self.devices(kind), wanted, kind)

    def there(self, wanted: str, kind: Kind) -> bool:
        """Whether a device can be found now; it may take :meth:`relist` to open it."""
        try:
            pick(self._look(kind), wanted, kind)
        except MediaError:
            return False
        return True

    def outdated(self, wanted: str, kind: Kind) -> bool:
        """Whether a device that is there is another one, or none, in the list of this process."""
        try:
            return self.find(wanted, kind) != pick(self._look(kind), wanted, kind)
        except MediaError:
            return True

    def relist(self) -> None:
        """Ask all streams to close, so that PortAudio starts again with the next opening."""
        if not self._stuck:
            self._relist_until = self._clock() + _RELIST_S

    def open(
        self, wanted: str, kind: Kind, callback: Callback, finished: Callable[[], None]
    ) -> OpenStream:
        """Open a device at 48 kHz, or at its own rate where it takes no other; not yet started.

        Args:
            wanted: see :func:`pick`.
            kind: its direction.
            callback: gets or fills float32 (n, channels), with 1 or 2 channels.
            finished: called when the stream ends, whyever.

        Raises:
            ConfigError: sounddevice or PortAudio is missing.
            MediaError: there is no such device, or it can't be opened.
        """
        with one_at_a_time():
            module = self._load()
            self._start_again(module)
            device = self.find(wanted, kind)
            error: Exception | None = None
            for rate in dict.fromkeys((SOUND_RATE, device.rate)):
                try:
                    return self._opened(module, device, kind, rate, callback, finished)
                except module.PortAudioError as refusal:
                    error = refusal
            raise MediaError(
                f"The sound {kind} {device.name!r} can't be opened ({reason(error)}); close other"
                " programs that use it, or choose another one."
            ) from error

    def start(self, stream: OpenStream) -> None:
        """Begin with the callbacks.

        Raises:
            MediaError: the device refuses.
        """
        try:
            stream.handle.start()
        except self._load().PortAudioError as error:
            raise MediaError(
                f"The sound device {stream.device.name!r} does not start ({reason(error)});"
                " choose another one."
            ) from error

    def close(self, stream: OpenStream) -> None:
        """Stop and close; a device that is gone is closed all the same."""
        module = self._load()
        for step in (stream.handle.abort, stream.handle.close):
            try:
                step()
            except module.PortAudioError:
                continue  # gone
        self._open.discard(id(stream.handle))

    def _opened(
        self,
        module: Any,
        device: SoundDevice,
        kind: Kind,
        rate: int,
        callback: Callback,
        finished: Callable[[], None],
    ) -> OpenStream:
        make = module.InputStream if kind == "input" else module.OutputStream
        channels = min(CHANNELS, device.channels)
        extra = None
        if device.host == "Windows WASAPI":  # else it takes no rate but its own
            extra = module.WasapiSettings(auto_convert=True)
        with _pulse_environment(device, kind):
            handle = make(
                device=_portaudio_index(module, device),
                samplerate=rate,
                channels=channels,
                dtype="float32",
                blocksize=round(rate * BLOCK_S),
                latency=_LATENCY_S[kind],
                extra_settings=extra,
                callback=callback,
                finished_callback=finished,
            )
        self._open.add(id(handle))
        return OpenStream(device, rate, channels, float(handle.latency), handle)

    def _start_again(self, module: Any) -> None:
        if self._relist_until is None:
            return
        if self._open:
            if self.relisting:
                raise MediaError("The sound devices are being listed again; wait a moment.")
            self._stuck = True  # a stream that does not close: the list stays as it is
        else:
            module._terminate()
            module._initialize()
        self._relist_until = None


@cache
def portaudio() -> PortAudio:
    """The process's own."""
    return PortAudio()


class _Lookout:
    """Lists the devices by a process of its own, at most about once a second."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._at = -_LOOK_S
        self._seen: dict[Kind, list[SoundDevice]] = {}

    def __call__(self, kind: Kind) -> list[SoundDevice]:
        with self._lock:
            if time.monotonic() - self._at > _LOOK_AGAIN_S:
                self._seen = self._ask()
                self._at = time.monotonic()
            return self._seen.get(kind, [])

    @staticmethod
    def _ask() -> dict[Kind, list[SoundDevice]]:
        paths = os.pathsep.join(path for path in sys.path if path)
        try:
            answer = subprocess.run(
                [sys.executable, "-m", "stream.live.sound_devices"],
                env=os.environ | {"PYTHONPATH": paths},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_LOOK_S,
                check=True,
            ).stdout
            lists = json.loads(answer)
        except (OSError, subprocess.SubprocessError, ValueError):
            return {}
        return {kind: [SoundDevice(**one) for one in found] for kind, found in lists.items()}


def _portaudio_index(module: Any, device: SoundDevice) -> int:
    if device.id.isdecimal():
        return int(device.id)
    return [facts["name"] for facts in module.query_devices()].index(PULSE)


@contextmanager
def _pulse_environment(device: SoundDevice, kind: Kind) -> Iterator[None]:
    """The sink or source is told to libpulse by the environment, when the device is opened."""
    if not device.id.startswith(f"{PULSE}:"):
        yield
        return
    variable = _PULSE_VARIABLE[kind]
    before = os.environ.get(variable)
    os.environ[variable] = device.name
    try:
        yield
    finally:
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
