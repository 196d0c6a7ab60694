"""Sound devices that come and go, without any: PortAudio is a fake and time is made up."""

import asyncio
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound
from stream.live.microphone import Microphone, adc_age
from stream.live.sound_devices import (
    SoundDevice,
    find,
    list_inputs,
    parse_pulse_list,
    pick,
    read_devices,
)
from stream.live.sound_stream import SoundStream
from stream.live.speaker import Lead, Speaker, dac_delay
from tests.stream.fake_portaudio import FakeDevice, FakeStream, FakeSystem, times_of

pytestmark = pytest.mark.unit

BLOCK = 480


# Names


def device(id_: str, name: str, host: str = "ALSA") -> SoundDevice:
    return SoundDevice(id_, name, host, 2, 48_000)


SOME = [
    device("0", "Built-in Microphone"),
    device("1", "USB Microphone"),
    device("2", "USB Microphone Pro 3"),
    device("3", "loop"),
]


@pytest.mark.parametrize(
    ("wanted", "id_"),
    [
        ("USB Microphone", "1"),  # also a part of another's name
        ("pro", "2"),
        ("BUILT-IN", "0"),
        ("3", "3"),  # not the part of a name
        (2, "2"),
        (" loop ", "3"),
    ],
)
def test_a_device_is_found_by_name_number_or_part_of_its_name(wanted: str | int, id_: str) -> None:
    assert pick(SOME, wanted, "input").id == id_


@pytest.mark.parametrize("wanted", ["Microphone", "usb"])
def test_several_devices_are_named(wanted: str) -> None:
    with pytest.raises(MediaError, match=r"Several sound inputs fit .*; name one of .*'USB Mic"):
        pick(SOME, wanted, "input")


@pytest.mark.parametrize("wanted", ["headset", "4", "-1", ""])
def test_a_missing_device_is_named_with_those_that_there_are(wanted: str) -> None:
    with pytest.raises(MediaError, match=r"There is no sound output '.*'; there are: 0 'Built-in"):
        pick(SOME, wanted, "output")
    with pytest.raises(MediaError, match="there are: none at all"):
        pick([], wanted, "output")


def test_of_a_device_with_several_drivers_the_best_one_is_taken() -> None:
    hosts = ("MME", "Windows DirectSound", "Windows WASAPI", "Windows WDM-KS", "Something new")
    several = [device(str(i), "CABLE Input", host) for i, host in enumerate(hosts)]
    assert pick(several, "CABLE Input", "output").host == "Windows WASAPI"
    assert pick(several, "cable", "output").host == "Windows WASAPI"
    assert pick(several, "3", "output").host == "Windows WDM-KS"
    assert pick(several[3:], "cable", "output").host == "Windows WDM-KS"


def test_the_system_s_choice_is_called_default_unless_a_device_is() -> None:
    system = FakeSystem([FakeDevice("Webcam", inputs=1), FakeDevice("Desk", inputs=2, outputs=2)])
    system.default.device = (1, -1)
    inputs = read_devices(system, "input")
    assert [one.name for one in inputs] == ["Webcam", "Desk", "default"]
    assert pick(inputs, "default", "input").id == pick(inputs, "1", "input").id == "1"
    assert [one.name for one in read_devices(system, "output")] == ["Desk"]
    system.listed.append(FakeDevice("default", inputs=2))
    assert pick(read_devices(system, "input"), "default", "input").id == "2"


def test_the_answer_of_pactl_is_read_and_what_is_odd_left_out() -> None:
    answer = (
        "0\tvspk\tmodule-null-sink.c\ts16le 2ch 48000Hz\tRUNNING\n"
        "53\tbluez.mono mic\tPipeWire\tfloat32le 1ch 16000Hz\tSUSPENDED\n"
        "54\tno form\tPipeWire\n"
        "55\todd\tPipeWire\ts16le xch 48000Hz\tIDLE\n"
        "Connection failure: Connection refused\n\n"
    )
    assert parse_pulse_list(answer) == [
        SoundDevice("pulse:vspk", "vspk", "PulseAudio", 2, 48_000),
        SoundDevice("pulse:bluez.mono mic", "bluez.mono mic", "PulseAudio", 1, 16_000),
    ]


@pytest.mark.parametrize(
    ("code", "step"),
    [
        ("raise ModuleNotFoundError('No module')", "`pip install sounddevice`"),
        ("raise OSError('PortAudio library not found')", "the library PortAudio; run `"),
        ("raise RuntimeError('Error initializing PortAudio')", "Error initializing PortAudio"),
    ],
)
def test_what_is_missing_is_named_with_the_step(
    code: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sounddevice.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    with pytest.raises(ConfigError) as caught:
        list_inputs()
    assert step in str(caught.value)
    with pytest.raises(ConfigError):
        find("x", "output")


# Time and sound that a test makes


class World:
    """Devices, and a clock that moves only in :meth:`go`."""

    def __init__(self, *devices: FakeDevice) -> None:
        self.system = FakeSystem(list(devices))
        self.now = 0.0
        self.portaudio = self.system.portaudio(self.clock)
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []
        self._running = 0

    def clock(self) -> float:
        return self.now

    async def pause(self, seconds: float) -> None:
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, wake))
        await wake

    @asynccontextmanager
    async def running(self, *parts: Microphone | Speaker | SoundStream) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(part.run()) for part in parts]
        self._running = len(tasks)
        await self._settle()
        yield
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends
        assert not self.system.streams

    async def go(self, seconds: float, each: Callable[[], None] = lambda: None) -> None:
        """Let time pass in steps of 10 ms."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            each()
            due = [wake for at, wake in self._sleepers if at <= self.now + 1e-9]
            if due:
                self._sleepers = [one for one in self._sleepers if one[1] not in due]
                for wake in due:
                    wake.set_result(None)
                await self._settle()

    async def _settle(self) -> None:
        """Wait until all sleep again: their work is done in real threads."""
        async with asyncio.timeout(10):
            while len(self._sleepers) < self._running:
                await asyncio.sleep(0)

    def stream(self, name: str) -> FakeStream:
        (stream,) = [one for one in self.system.streams if one.device.name == name]
        return stream


MIC = FakeDevice("mic", inputs=1)
OUT = FakeDevice("out", outputs=2)


def state(part: Microphone | Speaker | SoundStream) -> str:
    """Read anew: a type checker holds that it does not change."""
    assert (part.trouble is None) == (part.state != "waiting")
    return part.state


def loud(count: int = BLOCK, channels: int = 1) -> NDArray[np.float32]:
    return np.full((count, channels), 0.5, np.float32)


def ignore(buffer: NDArray[np.float32], stream: object, times: object) -> None:
    pass


def ignore_call(buffer: object, count: int, times: object, flags: object) -> None:
    pass


# Opening


@pytest.mark.parametrize(
    ("rates", "rate"), [((48_000, 44_100), 48_000), ((44_100,), 44_100), ((16_000,), 16_000)]
)
async def test_a_device_runs_at_48_khz_or_else_at_its_own_rate(
    rates: tuple[int, ...], rate: int
) -> None:
    world = World(FakeDevice("many", inputs=32, rates=rates), FakeDevice("out", outputs=1))
    stream = SoundStream(
        "many", "input", world.clock, ignore, system=world.portaudio, pause=world.pause
    )
    async with world.running(stream):
        settings = world.stream("many").settings
        assert settings["samplerate"] == rate
        assert settings["blocksize"] == rate // 100
        assert settings["channels"] == 2
        assert settings["dtype"] == "float32"
        assert settings["extra_settings"] is None
        assert world.stream("many").started
        assert state(stream) == "running"
        assert stream.trouble is None
        assert stream.stream is not None
        assert stream.stream.latency_s == FakeStream.latency


async def test_wasapi_is_told_to_convert() -> None:
    world = World(OUT)
    world.system.hosts = ("Windows WASAPI",)
    async with world.running(
        SoundStream("out", "output", world.clock, ignore, system=world.portaudio, pause=world.pause)
    ):
        assert world.stream("out").settings["extra_settings"] == {"auto_convert": True}


async def test_a_sink_of_pulseaudio_is_opened_by_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(OUT, FakeDevice("pulse", outputs=32, inputs=32))
    sink = SoundDevice("pulse:vspk", "vspk", "PulseAudio", 2, 48_000)
    monkeypatch.setattr("stream.live.sound_devices._pulse_devices", lambda kind: [sink])
    monkeypatch.setenv("PULSE_SINK", "mine")
    seen = []
    make = world.system.OutputStream

    def watched(**settings: Any) -> FakeStream:
        seen.append(os.environ["PULSE_SINK"])
        return make(**settings)

    world.system.OutputStream = watched  # type: ignore[method-assign]
    async with world.running(
        SoundStream(
            "vspk", "output", world.clock, ignore, system=world.portaudio, pause=world.pause
        )
    ):
        assert world.stream("pulse").started
    assert seen == ["vspk"]
    assert os.environ["PULSE_SINK"] == "mine"


# Coming and going


def microphone(world: World) -> Microphone:
    return Microphone("mic", world.clock, system=world.portaudio, pause=world.pause)


@pytest.mark.parametrize("how", ["stream ends", "callbacks stop"])
async def test_a_device_that_vanishes_gives_silence_one_sentence_and_comes_back(
    how: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(MIC)
    mic = microphone(world)
    heard: list[Sound] = []

    def tick() -> None:
        for stream in world.system.streams:
            if stream.started and stream.device in world.system.devices:
                stream.give(loud())
        heard.append(mic.intake.pull(BLOCK, world.now))

    async with world.running(mic):
        await world.go(6, tick)
        assert heard[-1].min() > 0.49
        world.system.devices.remove(MIC)
        if how == "stream ends":
            world.stream("mic").vanish()
        await world.go(0.2 if how == "stream ends" else 1.2, tick)
        assert state(mic) == "waiting"
        assert mic.trouble == (
            "The sound input 'mic' is gone; plug it in or start it, and it is used again."
        )
        await world.go(10, tick)
        assert not np.concatenate(heard[-900:]).any()
        assert not world.system.streams
        world.system.devices.append(MIC)
        await world.go(1.1, tick)
        assert state(mic) == "running"
        await world.go(0.1, tick)
        assert heard[-1].min() > 0.49
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert [one.getMessage() for one in warnings] == [
        "The sound input 'mic' is gone; plug it in or start it, and it is used again."
    ]


async def test_a_device_may_take_two_seconds_to_begin_but_not_to_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    world = World(OUT)
    stream = SoundStream(
        "out", "output", world.clock, ignore, system=world.portaudio, pause=world.pause
    )

    def tick() -> None:
        world.stream("out").take(BLOCK)

    async with world.running(stream):
        await world.go(0.05, tick)
        await world.go(2.5)
        await world.go(3, tick)
        await world.go(0.9)
        assert stream.opens == 1
        await world.go(0.3)  # it is there, so it is opened again at once
        assert stream.opens == 2
        await world.go(2.5)
        assert stream.opens == 2
        await world.go(60)
        assert 15 < stream.opens < 25
    assert len(caplog.records) == 1


async def test_a_device_that_is_not_there_at_the_start_is_used_once_it_is() -> None:
    """PortAudio, which listed the devices before, starts again for it."""
    world = World(OUT)
    mic = microphone(world)
    async with world.running(mic):
        await world.go(3)
        assert state(mic) == "waiting"
        assert mic.trouble == "There is no sound input 'mic'; there are: none at all."
        assert world.system.starts == 0
        world.system.devices.insert(0, MIC)
        await world.go(1.2)
        assert state(mic) == "running"
        assert world.system.starts == 1


async def test_a_device_that_refuses_is_tried_each_second_and_named() -> None:
    world = World(MIC)
    world.system.refuses_start = True
    mic = microphone(world)
    async with world.running(mic):
        await world.go(5)
        assert state(mic) == "waiting"
        assert mic.trouble == (
            "The sound device 'mic' does not start (Unanticipated host error); choose another one."
        )
        assert not world.system.streams
        world.system.refuses_start = False
        await world.go(1.2)
        assert state(mic) == "running"


async def test_a_device_that_is_busy_is_named_and_others_are_disturbed_once_at_most() -> None:
    busy = FakeDevice("mic", inputs=1, rates=())
    busy.rates = (96_000,)
    world = World(OUT, busy)
    world.system.listed[1] = busy
    speaker = Speaker("out", world.clock, system=world.portaudio, pause=world.pause)
    mic = microphone(world)
    make = world.system.InputStream

    def refuse(**settings: Any) -> FakeStream:
        raise world.system.PortAudioError("Device unavailable", -9985)

    world.system.InputStream = refuse  # type: ignore[method-assign]

    def tick() -> None:
        for stream in world.system.streams:
            if stream.device is OUT:
                stream.take(BLOCK)

    async with world.running(speaker, mic):
        await world.go(20, tick)
        assert mic.trouble == (
            "The sound input 'mic' can't be opened (Device unavailable); close other programs that"
            " use it, or choose another one."
        )
        assert world.system.starts == 1
        assert state(speaker) == "running"
        world.system.InputStream = make  # type: ignore[method-assign]
        await world.go(1.2, tick)
        assert state(mic) == "running"


async def test_for_a_device_that_comes_back_elsewhere_the_others_pause_for_a_moment() -> None:
    """PortAudio must not start again under an open stream; the fake asserts it."""
    world = World(MIC, OUT)
    speaker = Speaker("1", world.clock, system=world.portaudio, pause=world.pause)
    mic = Microphone("0", world.clock, system=world.portaudio, pause=world.pause)
    played = 0

    def tick() -> None:
        nonlocal played
        for stream in list(world.system.streams):
            if stream.device is OUT:
                stream.take(BLOCK)
                played += 1
            elif stream.device in world.system.devices:
                stream.give(loud())

    async with world.running(speaker, mic):
        await world.go(6, tick)
        world.system.devices.remove(MIC)
        world.stream("mic").vanish()
        await world.go(5, tick)
        assert (state(mic), state(speaker)) == ("waiting", "running")
        assert played == pytest.approx(1100, abs=2)
        world.system.devices[:] = [OUT, MIC]  # numbers change
        await world.go(2, tick)
        assert (state(mic), state(speaker)) == ("running", "running")
        assert world.system.starts == 1
        assert world.stream("mic").started
        assert world.stream("out").started
        assert played > 1100 + 200 - 40
        assert speaker.trouble is None
        await world.go(6, tick)
        world.system.devices.remove(MIC)
        world.stream("mic").vanish()
        await world.go(2, tick)
        world.system.devices.insert(0, MIC)
        await world.go(2, tick)
        assert (state(mic), state(speaker)) == ("running", "running")
        assert world.system.starts == 2


async def test_a_stream_that_never_closes_does_not_stop_the_others() -> None:
    world = World(OUT)
    stuck = FakeStream(world.system, OUT, {})
    world.system.streams.append(stuck)
    world.portaudio._open.add(id(stuck))
    mic = microphone(world)
    stream = SoundStream(
        "out", "output", world.clock, ignore, system=world.portaudio, pause=world.pause
    )

    def tick() -> None:
        for one in world.system.streams[1:]:
            one.take(BLOCK)

    async with world.running(mic, stream):
        world.system.devices.append(MIC)
        await world.go(10, tick)
        assert state(stream) == "running"
        assert stream.opens == 2
        await world.go(10, tick)
        assert stream.opens == 2
        assert state(mic) == "waiting"
        assert world.system.starts == 0
        world.system.streams.remove(stuck)


def test_a_stream_that_never_closed_is_waited_for_only_once() -> None:
    now = 0.0
    system = FakeSystem([OUT])
    portaudio = system.portaudio(lambda: now)
    stuck = portaudio.open("out", "output", ignore_call, lambda: None)
    portaudio.relist()
    with pytest.raises(MediaError, match="are being listed again; wait a moment"):
        portaudio.open("out", "output", ignore_call, lambda: None)
    now = 3.1
    assert not portaudio.relisting
    portaudio.close(portaudio.open("out", "output", ignore_call, lambda: None))
    portaudio.relist()
    assert not portaudio.relisting
    portaudio.close(stuck)


# What is heard


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000])
async def test_a_microphone_s_sound_keeps_its_pitch_and_level(rate: int) -> None:
    world = World(FakeDevice("mic", inputs=1, rates=(rate,)))
    mic = microphone(world)
    wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(5 * rate) / rate).astype(np.float32)
    block = rate // 100
    heard: list[Sound] = []

    def tick() -> None:
        at = len(heard) * block
        world.stream("mic").give(wave[at : at + block, None])
        heard.append(mic.intake.pull(BLOCK, world.now))

    async with world.running(mic):
        await world.go(4, tick)
    sound = np.concatenate(heard)[SOUND_RATE : 3 * SOUND_RATE]
    spectrum = np.abs(np.fft.rfft(sound[:, 0]))
    assert np.argmax(spectrum) == pytest.approx(880, abs=1)  # bins of half a Hz
    assert sound.std(axis=0) == pytest.approx(0.5 / 2**0.5, rel=0.01)


async def test_the_microphone_s_latency_is_from_the_air_to_the_timeline() -> None:
    """A step comes in at 3 s; PortAudio hands out blocks 25 ms after their first sample."""
    world = World(MIC)
    mic = microphone(world)
    heard: list[Sound] = []

    def tick() -> None:
        at = world.now - 0.025 + np.arange(BLOCK) / SOUND_RATE  # of each sample in the air
        step = (at >= 3).astype(np.float32)[:, None]
        world.stream("mic").give(step, times_of(now=50 + world.now, adc=50 + world.now - 0.025))
        if round(world.now * 100) % 2 == 0:
            heard.append(mic.intake.pull(TICK_SAMPLES, world.now))

    async with world.running(mic):
        await world.go(6, tick)
        latency_s = mic.latency_s
    found_s = np.argmax(np.concatenate(heard)[:, 0] > 0.5) / SOUND_RATE
    assert found_s - 3 == pytest.approx(latency_s, abs=0.004)
    assert 0.04 < latency_s < 0.07


@pytest.mark.parametrize(("rate", "channels"), [(48_000, 2), (48_000, 1), (44_100, 2)])
@pytest.mark.parametrize("times", ["told", "zeros"])
async def test_a_speaker_plays_each_sound_when_it_is_due_and_says_so(
    rate: int, channels: int, times: str
) -> None:
    """What is sent is its own time, a ramp, so that every sample played tells what it is."""
    delay_s, slope = 0.4, 1 / 32
    dac_s = 0.05 if times == "told" else FakeStream.latency
    world = World(FakeDevice("out", outputs=channels, rates=(rate,)))
    told: list[tuple[float, float]] = []
    speaker = Speaker(
        "out",
        world.clock,
        on_left=lambda content_s, at: told.append((content_s, at)),
        system=world.portaudio,
        pause=world.pause,
    )
    played: list[tuple[float, float]] = []  # session seconds of a block's start, content there

    def tick() -> None:
        if round(world.now * 100) % 2 == 0:
            start = round((world.now - delay_s + speaker.lead_s) * SOUND_RATE)
            ramp = slope * np.arange(start, start + TICK_SAMPLES) / SOUND_RATE
            block = np.repeat(ramp.astype(np.float32)[:, None], 2, axis=1)
            speaker.hear(block, start / SOUND_RATE)
        known = times_of(now=7 + world.now, dac=7 + world.now + dac_s)
        block = world.stream("out").take(rate // 100, known if times == "told" else None)
        assert block.shape[1] == channels
        played.append((world.now + dac_s, float(block[0, 0]) / slope))

    async with world.running(speaker):
        await world.go(12, tick)
    at, content = np.array(played[400:]).T
    assert np.abs(content - (at - delay_s)).max() < 0.003
    told_content, told_at = np.array(told[40:-1]).T
    assert len(told_at) == pytest.approx(80, abs=8)
    assert np.abs(told_content - np.interp(told_at, at, content)).max() < 0.003


async def test_a_speaker_that_comes_back_plays_what_is_due_then_and_says_so_only_of_sound() -> None:
    """What waited meanwhile is not heard late; nor is anything said to leave where sound is short.

    What is sent is its own time, a ramp, as above.
    """
    slope = 1 / 32
    world = World(OUT)
    told: list[tuple[float, float]] = []
    speaker = Speaker(
        "out",
        world.clock,
        on_left=lambda content_s, at: told.append((content_s, at)),
        system=world.portaudio,
        pause=world.pause,
    )
    speaks = True
    played: list[tuple[float, float]] = []

    def tick() -> None:
        if speaks and round(world.now * 100) % 2 == 0:
            start = round(world.now * SOUND_RATE)
            ramp = slope * np.arange(start, start + TICK_SAMPLES) / SOUND_RATE
            speaker.hear(np.repeat(ramp.astype(np.float32)[:, None], 2, axis=1), world.now)
        if OUT in world.system.devices and world.system.streams:
            block = world.stream("out").take(BLOCK, times_of(9, dac=9.05))
            played.append((world.now, float(block[-1, 0]) / slope))

    async with world.running(speaker):
        await world.go(3, tick)
        world.system.devices.remove(OUT)
        world.stream("out").vanish()
        await world.go(3, tick)
        assert state(speaker) == "waiting"
        world.system.devices.append(OUT)
        came_back = len(played)
        await world.go(4, tick)
        assert state(speaker) == "running"
        sounds = [(at, content) for at, content in played[came_back:] if content]
        assert sounds
        assert all(at - content < 0.12 for at, content in sounds)
        count, speaks = len(told), False
        await world.go(0.12, tick)  # shorter than it takes to call the session dead
        assert played[-1][1] == 0
        speaks = True
        await world.go(2, tick)
    silent = [at + 0.05 for at, content in played if not content and at > 8]
    assert silent
    assert not [at for _, at in told[count:] if any(abs(at - one) < 0.006 for one in silent)]


async def test_a_speaker_says_nothing_while_nothing_is_given_to_it() -> None:
    world = World(OUT)
    told: list[float] = []
    speaker = Speaker(
        "out",
        world.clock,
        on_left=lambda content_s, at: told.append(at),
        system=world.portaudio,
        pause=world.pause,
    )
    silent = np.zeros((TICK_SAMPLES, 2), np.float32)
    speaks = True

    def tick() -> None:
        if speaks and round(world.now * 100) % 2 == 0:
            speaker.hear(silent, world.now)
        assert not world.stream("out").take(BLOCK, times_of(1, dac=1.05)).any()

    async with world.running(speaker):
        speaks = False
        await world.go(2, tick)
        assert not told
        speaks = True
        await world.go(2, tick)
        assert len(told) > 15
        count, speaks = len(told), False
        await world.go(2, tick)
        assert len(told) <= count + 3


@pytest.mark.parametrize(
    ("times", "delay_s"),
    [
        (times_of(now=100.0, dac=100.05), 0.05),
        (times_of(now=0.0, dac=0.0), 0.03),
        (times_of(now=0.0, dac=0.5), 0.03),
        (times_of(now=100.0, dac=0.0), 0.03),
        (times_of(now=100.0, dac=100.0), 0.03),
        (times_of(now=100.0, dac=103.0), 0.03),
    ],
)
def test_times_of_no_use_are_replaced_by_the_driver_s_latency(times: Any, delay_s: float) -> None:
    assert dac_delay(times, 0.03) == pytest.approx(delay_s)


def test_the_age_of_a_block_is_taken_from_its_times_where_they_are_of_use() -> None:
    assert adc_age(times_of(now=100.0, adc=99.98), 0.03) == pytest.approx(0.02)
    assert adc_age(times_of(now=100.0, adc=100.004), 0.03) == pytest.approx(-0.004)
    assert adc_age(times_of(now=100.0, adc=0.0), 0.03) == 0.03
    assert adc_age(times_of(now=100.0, adc=90.0), 0.03) == 0.03


def test_the_lead_is_what_is_measured_and_moves_in_silence_only() -> None:
    lead = Lead(0.1)
    for _ in range(9):
        lead.measured(0.15, quiet=False)
    assert lead.seconds == 0.1
    lead.measured(0.15, quiet=False)
    assert lead.seconds == 0.15
    for _ in range(50):
        lead.measured(0.17, quiet=False)
    assert lead.seconds == 0.15
    lead.measured(0.17, quiet=True)
    assert lead.seconds == 0.17
    for _ in range(50):
        lead.measured(0.172, quiet=True)
    assert lead.seconds == 0.17
    for _ in range(50):
        lead.measured(0.25, quiet=False)
    assert lead.seconds == 0.25
    lead.restart(0.12)
    assert lead.seconds == 0.12
    for _ in range(10):
        lead.measured(0.1, quiet=False)
    assert lead.seconds == 0.1
