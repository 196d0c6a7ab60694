import asyncio
import contextlib
import logging
import random
import re
import socket
import struct
import threading
import wave
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import ConfigError, MediaError
from stream.core.intake import PushedIntake
from stream.core.pcm_messages import (
    LONGEST,
    End,
    Flush,
    Format,
    Message,
    Pcm,
    PcmError,
    PcmParser,
    Time,
    encode,
)
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound
from stream.live.pcm import PcmServer, parse_pcm_url

pytestmark = pytest.mark.unit

PAGE = Path(__file__).resolve().parents[2] / "docs" / "pcm.md"


def message(kind: int, payload: bytes = b"") -> bytes:
    return struct.pack(">BI", kind, len(payload)) + payload


def form(rate: int = SOUND_RATE, channels: int = 2) -> bytes:
    return message(1, struct.pack(">IB", rate, channels))


def sound(samples: NDArray[np.int16]) -> bytes:
    return message(2, samples.astype("<i2").tobytes())


END, FLUSH = message(3), message(4)


def moment(microseconds: int) -> bytes:
    return message(5, struct.pack(">q", microseconds))


def noise(count: int, channels: int = 2, seed: int = 0) -> NDArray[np.int16]:
    values = np.random.default_rng(seed).integers(-20_000, 20_000, (count, channels))
    return values.astype(np.int16)


def facts(messages: list[Message]) -> list[object]:
    """Messages in a form that can be compared."""
    return [
        (m.rate, m.samples.dtype, m.samples.tolist()) if isinstance(m, Pcm) else m for m in messages
    ]


# The parser


def test_messages_are_the_same_however_the_bytes_are_cut() -> None:
    first, second = noise(3), noise(2, channels=1)
    data = moment(-1) + form() + sound(first) + END + form(16_000, 1) + moment(3_600_000_000)
    data += sound(second) + FLUSH + sound(first[:0])
    expected: list[object] = [
        Time(-1),
        Format(SOUND_RATE, 2),
        (SOUND_RATE, np.int16, first.tolist()),
        End(),
        Format(16_000, 1),
        Time(3_600_000_000),
        (16_000, np.int16, second.tolist()),
        Flush(),
        (16_000, np.int16, []),
    ]
    for cut in range(len(data) + 1):
        parser = PcmParser()
        found = facts(parser.feed(data[:cut]) + parser.feed(data[cut:]))
        assert found == expected
        assert parser.error is None
        assert not parser.amid
    parser = PcmParser()
    bytewise = [m for i in range(len(data)) for m in parser.feed(data[i : i + 1])]
    assert facts(bytewise) == expected


BAD = {
    "unknown type": (b"\x06", "type 6 is unknown"),
    "no protocol at all": (b"GET / HTTP/1.1\r\n", "type 71 is unknown"),
    "too long": (form() + struct.pack(">BI", 2, LONGEST + 4), "too long"),
    "sound before format": (struct.pack(">BI", 2, 4), "before its format"),
    "half a sample": (form(16_000, 1) + struct.pack(">BI", 2, 3), "whole number of samples"),
    "one channel of two": (form() + struct.pack(">BI", 2, 6), "whole number of samples"),
    "short format": (message(1, b"\0" * 4), "5 bytes, not 4"),
    "rate 0": (form(0), "rate of 0 Hz"),
    "rate too high": (form(192_001), "rate of 192001 Hz"),
    "no channel": (form(16_000, 0), "0 channels"),
    "three channels": (form(16_000, 3), "3 channels"),
    "end with a payload": (struct.pack(">BI", 3, 1), "no payload"),
    "flush with a payload": (struct.pack(">BI", 4, 9), "no payload"),
    "short time": (struct.pack(">BI", 5, 4), "8 bytes, not 4"),
    "time without payload": (struct.pack(">BI", 5, 0), "8 bytes, not 0"),
}


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD.keys())
def test_a_bad_message_ends_the_reading_and_what_came_before_it_counts(
    data: bytes, why: str
) -> None:
    before = form() + sound(noise(4)) + END
    for cut in range(len(before + data) + 1):
        whole = before + data if why != "before its format" else data
        parser = PcmParser()
        found = parser.feed(whole[:cut]) + parser.feed(whole[cut:]) + parser.feed(form())
        assert isinstance(parser.error, PcmError)
        assert why in str(parser.error)
        if whole is not data:
            assert facts(found)[:3] == facts(PcmParser().feed(before))
            assert found[3:] in ([], [Format(SOUND_RATE, 2)], [Format(16_000, 1)])


def test_the_longest_message_is_taken_and_the_limits_of_a_format() -> None:
    parser = PcmParser()
    found = parser.feed(form(8_000, 1) + form(192_000, 2) + message(2, bytes(LONGEST)))
    assert found[:2] == [Format(8_000, 1), Format(192_000, 2)]
    assert isinstance(found[2], Pcm)
    assert found[2].samples.shape == (LONGEST // 4, 2)


def test_messages_are_written_as_they_are_read() -> None:
    samples = noise(5)
    sent: list[Message] = [
        Time(-5),
        Format(SOUND_RATE, 2),
        Pcm(samples, SOUND_RATE),
        Time(2**62),
        End(),
        Flush(),
    ]
    data = b"".join(encode(one) for one in sent)
    assert data == moment(-5) + form() + sound(samples) + moment(2**62) + END + FLUSH
    assert facts(PcmParser().feed(data)) == facts(sent)
    with pytest.raises(ValueError, match=f"at most {LONGEST} bytes"):
        encode(Pcm(noise(LONGEST // 4 + 1), SOUND_RATE))


def test_no_bytes_make_the_parser_raise() -> None:
    """Random bytes, and good ones with some bytes changed, dropped or doubled, cut at random."""
    chance = random.Random(7)
    good = (
        form() + sound(noise(20)) + END + form(24_000, 1) + moment(7) + sound(noise(30, 1)) + FLUSH
    )
    failed = 0
    for _ in range(2000):
        if chance.random() < 0.3:
            data = bytearray(chance.randbytes(chance.randrange(200)))
        else:
            data = bytearray(good)
            for _ in range(chance.randrange(1, 5)):
                at = chance.randrange(len(data))
                match chance.randrange(3):
                    case 0:
                        data[at] = chance.randrange(256)
                    case 1:
                        del data[at]
                    case 2:
                        data[at:at] = data[at : at + chance.randrange(12)]
        parser, whole = PcmParser(), PcmParser()
        found: list[Message] = []
        at = 0
        while at < len(data):
            step = chance.randrange(1, 40)
            found += parser.feed(bytes(data[at : at + step]))
            at += step
        assert facts(found) == facts(whole.feed(bytes(data)))
        assert str(parser.error) == str(whole.error)
        for one in found:
            if isinstance(one, Pcm):
                assert one.samples.dtype == np.int16
                assert one.samples.shape[1] in (1, 2)
        failed += parser.error is not None
    assert 500 < failed < 2000


# The server


class Door:
    """A server, its intake, and what was heard of it so far."""

    def __init__(self, hold_s: float) -> None:
        self.intake = PushedIntake(hold_s=hold_s)
        self.server = PcmServer("127.0.0.1", 0, self.intake)
        self.now = 0.0

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.server.port)

    def pull(self) -> Sound:
        self.now += 0.02
        return self.intake.pull(TICK_SAMPLES, self.now)


@pytest.fixture
async def door(request: pytest.FixtureRequest) -> AsyncIterator[Door]:
    door = Door(getattr(request, "param", 60.0))
    await door.server.start()
    running = asyncio.create_task(door.server.run())
    yield door
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def heard(blocks: list[Sound]) -> NDArray[np.int16]:
    """What sounds, as it was sent; silence around it is taken off."""
    whole = np.round(np.concatenate(blocks) * 32768).astype(np.int16)
    loud = np.flatnonzero(np.abs(whole).max(axis=1))
    return whole[loud[0] : loud[-1] + 1] if len(loud) else whole[:0]


async def until(done: Callable[[], object]) -> None:
    for _ in range(5000):
        if done():
            return
        await asyncio.sleep(0.002)
    raise AssertionError("it never happened")


async def hear(door: Door, samples: NDArray[np.int16]) -> None:
    """Pull until as much as this was heard; then it must be this."""
    blocks: list[Sound] = []

    def whole() -> bool:
        blocks.append(door.pull())
        return len(heard(blocks)) >= len(samples)

    await until(whole)
    np.testing.assert_array_equal(heard(blocks), samples)


async def closed(reader: asyncio.StreamReader) -> None:
    """Wait until the other end closes the connection."""
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@pytest.mark.parametrize("door", [2.0], indirect=True)
async def test_a_long_burst_is_held_back_by_tcp_and_heard_whole(door: Door) -> None:
    """40 s, far more than the sockets hold, into an intake that holds two."""
    samples = noise(40 * SOUND_RATE)
    _, writer = await door.connect()

    async def send() -> None:
        writer.write(form())
        for part in np.array_split(samples, 160):
            writer.write(sound(part))
            await writer.drain()
        writer.write(END)
        writer.close()

    sending = asyncio.create_task(send())
    await until(lambda: door.intake.level_s > 1.7)
    blocks: list[Sound] = []
    most_s = 0.0
    for _ in range(100):  # while nothing is pulled the sender waits
        await asyncio.sleep(0.001)
    assert not sending.done()
    async with asyncio.timeout(20):
        while door.server.state == "connected" or door.intake.level_s > 0:
            if door.intake.level_s > 0.5 or door.server.state != "connected":
                blocks.append(door.pull())
            else:
                await asyncio.sleep(0.001)
            most_s = max(most_s, door.intake.level_s)
    await sending
    np.testing.assert_array_equal(heard(blocks), samples)
    assert most_s <= 2.0
    assert door.intake.starved_s == 0


async def test_speech_at_another_rate_keeps_its_length_and_level(door: Door) -> None:
    tone = 16_000 * np.sin(np.arange(16_000) / 16_000 * 2 * np.pi * 1000)
    _, writer = await door.connect()
    writer.write(form(16_000, 1) + sound(tone[:, None].astype(np.int16)) + END)
    await until(lambda: door.intake.level_s > 0.999)
    whole = heard([door.pull() for _ in range(60)])
    assert len(whole) == pytest.approx(SOUND_RATE, abs=100)
    assert whole[4800:-4800].std(axis=0) == pytest.approx(16_000 / 2**0.5, rel=0.01)
    writer.close()


# 20 ms: too short to begin before more comes or the utterance ends.
WORD = noise(TICK_SAMPLES)


@pytest.mark.parametrize("how", ["end", "close", "reset", "bad"])
async def test_an_utterance_ends_by_message_or_when_the_translator_goes(
    door: Door, how: str
) -> None:
    reader, writer = await door.connect()
    writer.write(form() + sound(WORD))
    await until(lambda: door.intake.level_s > 0)
    assert not door.pull().any()
    assert door.server.state == "connected"
    match how:
        case "end":
            writer.write(END)
        case "close":
            writer.close()
        case "reset":
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        case "bad":
            writer.write(b"?")
            await closed(reader)
    await hear(door, WORD)
    if how != "end":
        await until(lambda: door.server.state == "waiting")
    writer.close()


async def test_a_flush_silences_what_waits_and_the_next_words_are_heard(door: Door) -> None:
    _, writer = await door.connect()
    writer.write(form() + sound(noise(5 * SOUND_RATE)))
    await until(lambda: door.intake.level_s == 5)
    assert door.pull().any()
    writer.write(FLUSH)
    await until(lambda: door.intake.level_s == 0)
    assert not np.concatenate([door.pull() for _ in range(10)])[240:].any()
    next_words = noise(SOUND_RATE, seed=1)
    writer.write(sound(next_words) + END)
    await hear(door, next_words)
    writer.close()


async def test_times_map_nothing_here_and_do_no_harm(door: Door) -> None:
    _, writer = await door.connect()
    samples = noise(SOUND_RATE)
    writer.write(
        moment(0)
        + form()
        + moment(5)
        + sound(samples[:999])
        + moment(-1)
        + sound(samples[999:])
        + END
    )
    await until(lambda: door.intake.level_s == 1)
    await hear(door, samples)
    writer.close()


async def test_a_second_translator_takes_over_with_its_format(door: Door) -> None:
    first_reader, first = await door.connect()
    first.write(form() + sound(WORD))
    await until(lambda: door.intake.level_s > 0)
    second_reader, second = await door.connect()
    second.write(END + FLUSH)  # before its format: not its turn
    await asyncio.sleep(0.05)
    assert not door.pull().any()
    assert door.intake.level_s > 0
    assert not first_reader.at_eof()
    other = noise(SOUND_RATE, seed=2)
    second.write(form() + sound(other) + END)
    await closed(first_reader)
    await until(lambda: door.intake.level_s > 1)
    await hear(door, np.concatenate([WORD, other]))
    assert door.server.state == "connected"
    assert not second_reader.at_eof()
    for writer in (first, second):
        writer.close()
    await until(lambda: door.server.state == "waiting")


@pytest.mark.parametrize("door", [2.0], indirect=True)
async def test_a_translator_that_is_held_back_can_be_replaced(door: Door) -> None:
    first_reader, first = await door.connect()
    first.write(form() + sound(noise(4 * SOUND_RATE)))
    await until(lambda: door.intake.level_s > 1.7)
    _, second = await door.connect()
    second.write(form() + FLUSH + sound(WORD) + END)
    await closed(first_reader)
    await until(lambda: door.intake.level_s < 1)
    await hear(door, WORD)
    for writer in (first, second):
        writer.close()


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD.keys())
async def test_a_bad_message_closes_that_connection_with_one_line_and_the_next_is_heard(
    door: Door, caplog: pytest.LogCaptureFixture, data: bytes, why: str
) -> None:
    caplog.set_level(logging.INFO)
    reader, writer = await door.connect()
    writer.write(data)
    await closed(reader)
    writer.close()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert why in record.getMessage()
    assert "\n" not in record.getMessage()
    assert door.server.refused == 1
    _, writer = await door.connect()
    writer.write(form() + sound(WORD) + END)
    await hear(door, WORD)
    writer.close()


async def test_a_message_that_breaks_off_is_named(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    _, writer = await door.connect()
    writer.write(form() + sound(WORD)[:-1])
    writer.close()
    await until(lambda: door.server.refused)
    assert "ended within a message" in caplog.text
    assert door.intake.level_s == 0


async def test_connections_that_say_nothing_are_bounded_and_do_not_disturb(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(form())
    await until(lambda: door.server.state == "connected")
    silent = [await door.connect() for _ in range(9)]
    await closed(silent[0][0])
    assert not any(other.at_eof() for other, _ in silent[1:])
    assert not reader.at_eof()
    for _, other in (*silent, (reader, writer)):
        other.close()


async def test_speech_is_converted_off_the_event_loop(door: Door) -> None:
    threads = set()
    push = door.intake.push

    def watched(samples: NDArray[np.int16], rate: int) -> None:
        threads.add(threading.current_thread())
        push(samples, rate)

    door.intake.push = watched  # type: ignore[method-assign,assignment]
    _, writer = await door.connect()
    writer.write(form(8000, 1) + sound(noise(80_000, 1)) + END)
    await until(lambda: door.intake.level_s > 9.9)
    assert threads
    assert threading.current_thread() not in threads
    writer.close()


async def test_closing_ends_every_connection_and_frees_the_port(door: Door) -> None:
    reader, writer = await door.connect()
    writer.write(form())
    silent, other = await door.connect()
    await until(lambda: door.server.state == "connected")
    port = door.server.port
    await door.server.close()
    await closed(reader)
    await closed(silent)
    assert door.server.state == "closed"
    again = PcmServer("127.0.0.1", port, door.intake)
    await again.start()
    await again.close()
    writer.close()
    other.close()


async def test_a_taken_port_and_a_foreign_address_are_named(door: Door) -> None:
    intake = PushedIntake()
    with pytest.raises(MediaError, match=rf"Port {door.server.port} on 127\.0\.0\.1 is taken; .*"):
        await PcmServer("127.0.0.1", door.server.port, intake).start()
    for host in ("192.0.2.1", "no-such-host.invalid", "a" * 70):
        with pytest.raises(MediaError, match="is no address of this computer; use pcm://"):
            await PcmServer(host, 9000, intake).start()


async def test_the_example_of_the_page_works(
    door: Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    match = re.search(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert match
    example = match[1].replace("9000", str(door.server.port))
    samples = noise(3 * SOUND_RATE // 2)
    monkeypatch.chdir(tmp_path)
    with wave.open("speech.wav", "wb") as file:
        file.setparams((2, 2, SOUND_RATE, 0, "NONE", ""))
        file.writeframes(samples.astype("<i2").tobytes())
    await asyncio.to_thread(exec, example, {})
    await until(lambda: door.intake.level_s == 1.5 and door.server.state == "waiting")
    await hear(door, samples)


# The address


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("pcm://127.0.0.1:9000", "127.0.0.1", 9000),
        ("pcm://localhost:1", "localhost", 1),
        ("pcm://:65535", "127.0.0.1", 65535),
        ("PCM://0.0.0.0:9000/", "0.0.0.0", 9000),
        ("pcm://[::1]:9000", "::1", 9000),
    ],
)
def test_addresses_are_read(url: str, host: str, port: int) -> None:
    assert parse_pcm_url(url) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pcm://",
        "pcm:9000",
        "pcm://localhost",
        "pcm://localhost:",
        "pcm://localhost:0",
        "pcm://localhost:65536",
        "pcm://localhost:-1",
        "pcm://localhost:http",
        "pcm://[::1:9000",
        "pcm://me@localhost:9000",
        "pcm://localhost:9000/path",
        "pcm://localhost:9000?rate=16000",
        "pcm://localhost:9000#x",
        "tcp://localhost:9000",
        "localhost:9000",
    ],
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"is no address like pcm://127\.0\.0\.1:9000"):
        parse_pcm_url(url)
