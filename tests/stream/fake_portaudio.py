"""A PortAudio for tests: devices that come and go, and streams that a test drives."""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream.live.portaudio import PortAudio
from stream.live.sound_devices import Kind, SoundDevice, read_devices


class RefusalError(Exception):
    """What sounddevice raises."""


@dataclass
class FakeDevice:
    """Attributes: rates at which it opens; how many channels each way."""

    name: str
    inputs: int = 0
    outputs: int = 0
    rates: tuple[int, ...] = (48_000, 44_100)
    host: int = 0

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "hostapi": self.host,
            "max_input_channels": self.inputs,
            "max_output_channels": self.outputs,
            "default_samplerate": float(self.rates[-1]),
        }


class FakeStream:
    """Runs only as far as a test calls it."""

    latency = 0.03

    def __init__(self, system: "FakeSystem", device: FakeDevice, settings: dict[str, Any]) -> None:
        self.system, self.device, self.settings = system, device, settings
        self.started = False

    def start(self) -> None:
        if self.system.refuses_start:
            raise RefusalError("Unanticipated host error")
        self.started = True

    def abort(self) -> None:
        if self.device not in self.system.devices:
            raise RefusalError("gone")

    def close(self) -> None:
        self.started = False
        self.system.streams.remove(self)

    def vanish(self) -> None:
        self.started = False
        self.settings["finished_callback"]()

    def give(self, samples: NDArray[np.float32], times: Any = None) -> None:
        self.settings["callback"](samples, len(samples), times or times_of(), None)

    def take(self, count: int, times: Any = None) -> NDArray[np.float32]:
        buffer = np.full((count, self.settings["channels"]), np.nan, np.float32)
        self.settings["callback"](buffer, count, times or times_of(), None)
        return buffer


def times_of(now: float = 0.0, adc: float = 0.0, dac: float = 0.0) -> SimpleNamespace:
    return SimpleNamespace(currentTime=now, inputBufferAdcTime=adc, outputBufferDacTime=dac)


@dataclass
class FakeSystem:
    """Stands for the module sounddevice; its list is made at the start only."""

    devices: list[FakeDevice]
    hosts: tuple[str, ...] = ("Core Audio",)
    streams: list[FakeStream] = field(default_factory=list)
    starts: int = 0
    refuses_start: bool = False

    PortAudioError = RefusalError

    def __post_init__(self) -> None:
        self.listed = list(self.devices)
        self.default = SimpleNamespace(device=(-1, -1))

    def query_hostapis(self) -> list[dict[str, str]]:
        return [{"name": name} for name in self.hosts]

    def query_devices(self) -> list[dict[str, Any]]:
        return [device.facts for device in self.listed]

    def InputStream(self, **settings: Any) -> FakeStream:  # noqa: N802 (sounddevice's name)
        return self._stream(settings)

    def OutputStream(self, **settings: Any) -> FakeStream:  # noqa: N802 (sounddevice's name)
        return self._stream(settings)

    def WasapiSettings(self, **settings: Any) -> dict[str, Any]:  # noqa: N802 (sounddevice's name)
        return settings

    def _stream(self, settings: dict[str, Any]) -> FakeStream:
        device = self.listed[settings["device"]]
        if device not in self.devices or settings["samplerate"] not in device.rates:
            raise RefusalError("Error opening stream: Invalid sample rate", -9997)
        stream = FakeStream(self, device, settings)
        self.streams.append(stream)
        return stream

    def _terminate(self) -> None:
        assert not self.streams, "PortAudio ended under an open stream"

    def _initialize(self) -> None:
        self.listed = list(self.devices)
        self.starts += 1

    def look(self, kind: Kind) -> list[SoundDevice]:
        """What another process would see."""
        fresh = FakeSystem(self.devices, self.hosts)
        fresh.default = self.default
        return read_devices(fresh, kind)

    def portaudio(self, clock: Any) -> PortAudio:
        return PortAudio(load=lambda: self, look=self.look, clock=clock)
