"""The client of translators against a real WebSocket server; the session's time is the test's."""

import asyncio
import base64
import contextlib
import datetime
import hashlib
import ipaddress
import json
import logging
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.mel import SAMPLE_RATE
from stream.core.intake import PushedIntake
from stream.core.pcm_messages import (
    LONGEST,
    End,
    Flush,
    Format,
    Message,
    Pcm,
    PcmParser,
    Time,
    encode,
)
from stream.core.sound import SOUND_RATE, TICK_SAMPLES, Sound
from stream.relay.room.translator import (
    MOST_BEHIND_S,
    TOKEN_VARIABLE,
    WebSocketTranslator,
    translator_address,
)

pytestmark = pytest.mark.unit

LIFE = WSMsgType.PING, WSMsgType.PONG
TICK_S = 0.02
TICK = SAMPLE_RATE // 50

Talk = Callable[[web.WebSocketResponse], Awaitable[None]]


def noise(count: int, channels: int = 2, seed: int = 0) -> NDArray[np.int16]:
    values = np.random.default_rng(seed).integers(-20_000, 20_000, (count, channels))
    return values.astype(np.int16)


FORMAT = encode(Format(SOUND_RATE, 2))
END, FLUSH = encode(End()), encode(Flush())
WORD = noise(TICK_SAMPLES)  # 20 ms: too short to begin before more comes or the utterance ends


def sound(samples: NDArray[np.int16]) -> bytes:
    return encode(Pcm(samples, SOUND_RATE))


async def listen(ws: web.WebSocketResponse) -> None:
    """Say nothing; what is sent is taken by the booth."""


class Booth:
    """A translator: what it was sent, and what it does with its connections, in turn.

    The last of ``talks`` serves all further connections.
    """

    def __init__(self, *talks: Talk) -> None:
        self.talks = list(talks) or [listen]
        self.requests: list[web.Request] = []
        self.closed: list[tuple[int | None, str]] = []  # code and reason, as they came
        self.open = 0
        self.url = ""

    async def serve(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        ws = web.WebSocketResponse(autoping=False)
        await ws.prepare(request)
        self.open += 1
        try:
            talk = self.talks.pop(0) if len(self.talks) > 1 else self.talks[0]
            with contextlib.suppress(ConnectionError):
                await talk(ws)
                await self.wait_for_close(ws)
        finally:
            self.open -= 1
        return ws

    async def wait_for_close(self, ws: web.WebSocketResponse) -> None:
        while (message := await ws.receive()).type in (*LIFE, WSMsgType.BINARY):
            if message.type is WSMsgType.PING:
                await ws.pong(message.data)
        if message.type is WSMsgType.CLOSE:
            self.closed.append((message.data, message.extra or ""))


@asynccontextmanager
async def serving(
    booth: Booth, *, port: int = 0, small: bool = False, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Booth]:
    """Let a booth listen; a small one takes little from a socket that it does not read."""
    app = web.Application()
    app.router.add_get("/live", booth.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if small:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
    listener.bind(("127.0.0.1", port))
    await web.SockSite(runner, listener, ssl_context=tls).start()
    scheme = "ws" if tls is None else "wss"
    booth.url = f"{scheme}://127.0.0.1:{listener.getsockname()[1]}/live"
    try:
        yield booth
    finally:
        await runner.cleanup()


class Room:
    """A session with a translator, whose time passes when the test says so."""

    def __init__(
        self,
        url: str,
        *,
        hold_s: float = 60.0,
        source: str | None = None,
        added_delay_s: float = 0.0,
        environment: dict[str, str] | None = None,
        patience_s: float = 10.0,
    ) -> None:
        self.intake = PushedIntake(hold_s=hold_s)
        self.pauses: list[float] = []  # before it dials again
        self.translator = WebSocketTranslator(
            url,
            "de",
            self.intake,
            source=source,
            added_delay_s=lambda: added_delay_s,
            environment=environment or {},
            pause=self.pause,
            chance=lambda: 0.0,
            patience_s=patience_s,
        )
        self.now = 100.0

    async def pause(self, seconds: float) -> None:
        if seconds >= 0.5:
            self.pauses.append(seconds)
        await asyncio.sleep(0.001)

    def tick(self, block: NDArray[np.floating] | None = None, *, speaking: bool = False) -> Sound:
        """20 ms: the speaker's go out, the translation's come in."""
        self.now += TICK_S
        self.translator.speaking(speaking)
        samples = np.zeros(TICK) if block is None else block
        self.translator.send(samples.astype(np.float32), self.now)
        return self.intake.pull(TICK_SAMPLES, self.now)

    async def pass_s(self, seconds: float, *, speaking: bool = False) -> list[Sound]:
        blocks = []
        for _ in range(round(seconds / TICK_S)):
            blocks.append(self.tick(speaking=speaking))
            await asyncio.sleep(0)
        return blocks

    async def hear(self, samples: NDArray[np.int16]) -> None:
        """Let time pass until as much as this was heard; then it must be this."""
        blocks: list[Sound] = []

        def whole() -> bool:
            blocks.append(self.tick())
            return len(heard(blocks)) >= len(samples)

        await until(whole)
        np.testing.assert_array_equal(heard(blocks), samples)


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


@asynccontextmanager
async def running(room: Room, *, connected: bool = True) -> AsyncIterator[Room]:
    task = asyncio.create_task(room.translator.run())
    try:
        if connected:
            await until(lambda: room.translator.connected or task.done())
        yield room
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    """No test leaves a thread behind."""
    yield
    for thread in threading.enumerate():
        if thread.name == "translator":
            thread.join(5)
            assert not thread.is_alive()


# Out


class Ear:
    """What a translator is sent, message by message."""

    def __init__(self) -> None:
        self.parser = PcmParser()
        self.messages: list[Message] = []

    async def listen(self, ws: web.WebSocketResponse) -> None:
        while (message := await ws.receive()).type in (*LIFE, WSMsgType.BINARY):
            if message.type is WSMsgType.BINARY:
                self.messages += self.parser.feed(message.data)
                assert not self.parser.amid
            elif message.type is WSMsgType.PING:
                await ws.pong(message.data)

    @property
    def samples(self) -> NDArray[np.int16]:
        parts = [m.samples[:, 0] for m in self.messages if isinstance(m, Pcm)]
        return np.concatenate([np.zeros(0, np.int16), *parts])


async def test_it_is_dialled_with_languages_and_token_and_hears_the_speaker() -> None:
    ear = Ear()
    values = noise(50 * TICK, 1)[:, 0]
    async with serving(Booth(ear.listen)) as booth:
        room = Room(
            booth.url + "?model=small",
            source="en",
            environment={TOKEN_VARIABLE: " s3cret\n"},
        )
        async with running(room):
            for block in np.split(values.astype(np.float32) / 32768, 50):
                room.tick(block, speaking=True)
                await asyncio.sleep(0)
            await room.pass_s(1)
            await until(lambda: len(ear.samples) == 100 * TICK)
        (request,) = booth.requests
    assert dict(request.query) == {"model": "small", "target": "de", "source": "en"}
    assert request.headers["Authorization"] == "Bearer s3cret"
    assert ear.messages[0] == Format(SAMPLE_RATE, 1)
    np.testing.assert_array_equal(ear.samples, np.concatenate([values, np.zeros_like(values)]))
    lengths = [len(m.samples) for m in ear.messages if isinstance(m, Pcm)]
    assert max(lengths) <= 5 * TICK
    end = ear.messages.index(End())
    before = sum(len(m.samples) for m in ear.messages[:end] if isinstance(m, Pcm))
    assert before == 80 * TICK  # 0.6 s after the last word
    assert ear.messages.count(End()) == 1


async def test_what_is_no_sound_is_silence_and_without_a_token_none_is_sent() -> None:
    ear = Ear()
    odd = np.array([np.nan, np.inf, -np.inf, 7, -7], np.float32)
    async with serving(Booth(ear.listen)) as booth, running(Room(booth.url)) as room:
        room.tick(odd)
        await until(lambda: len(ear.samples) == 5)
        assert ear.samples.tolist() == [0, 32767, -32768, 32767, -32768]
        assert "Authorization" not in booth.requests[0].headers
        assert dict(booth.requests[0].query) == {"target": "de"}


async def test_a_slow_translator_loses_the_oldest_and_keeps_its_clock() -> None:
    """It reads nothing for a while; then it gets silence for what was dropped."""
    ear, go_on = Ear(), asyncio.Event()

    async def wait(ws: web.WebSocketResponse) -> None:
        await go_on.wait()
        await ear.listen(ws)

    given: list[NDArray[np.int16]] = []
    async with serving(Booth(wait), small=True) as booth, running(Room(booth.url)) as room:
        queue = room.translator
        for number in range(5000):
            values = np.full(TICK, number % 999 + 1, np.int16)
            given.append(values)
            room.tick(values.astype(np.float32) / 32768)
            await asyncio.sleep(0)
            facts = queue.facts()
            if facts["source_dropped_s"] == 5:
                break
        # What the sockets hold is bounded too: nothing that is sent later is a minute old.
        assert len(given) * TICK_S < 15 + 30
        assert queue.facts()["source_behind_s"] == 15
        go_on.set()
        whole = np.concatenate(given)
        await until(lambda: len(ear.samples) == len(whole))
        assert queue.facts()["source_behind_s"] == 0
        assert room.translator.connections == 1
    lost = np.flatnonzero(ear.samples != whole)
    assert len(lost) == 5 * SAMPLE_RATE
    assert lost[-1] - lost[0] == len(lost) - 1
    assert not ear.samples[lost].any()


async def test_a_translator_that_takes_nothing_is_dialled_again() -> None:
    ear = Ear()

    async def sleep(ws: web.WebSocketResponse) -> None:
        await until(lambda: len(booth.requests) > 1)

    async with (
        serving(Booth(sleep, ear.listen), small=True) as booth,
        running(Room(booth.url)) as room,
    ):
        while room.translator.connections == 1:
            room.tick()
            await asyncio.sleep(0)
            assert room.now < 200
        assert room.translator.trouble is not None
        assert f"was {MOST_BEHIND_S:.0f} s behind" in room.translator.trouble
        assert room.translator.connections == 2
        before = len(ear.samples)
        room.tick(np.full(TICK, 0.5, np.float32))
        await until(lambda: len(ear.samples) > before)
        assert ear.samples[-1] == 16384


# In


async def test_its_speech_is_heard_as_it_was_sent_and_at_its_pace() -> None:
    """30 s at once, in messages of every size, some of them together in one of the WebSocket."""
    samples = noise(30 * SOUND_RATE)
    threads = set()

    async def burst(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT)
        await ws.send_bytes(sound(samples[:1]) + sound(samples[1:500]) + sound(samples[:0]))
        for part in np.array_split(samples[500:], 33):
            await ws.send_bytes(sound(part))
        await ws.send_bytes(END)

    async with serving(Booth(burst)) as booth:
        room = Room(booth.url)
        push = room.intake.push

        def watched(samples: NDArray[np.int16], rate: int) -> None:
            threads.add(threading.current_thread().name)
            push(samples, rate)

        room.intake.push = watched  # type: ignore[method-assign,assignment]
        async with running(room):
            await until(lambda: room.intake.level_s == 30)
            assert room.translator.facts()["waiting_s"] == 30
            blocks = await room.pass_s(30.5)
            np.testing.assert_array_equal(heard(blocks), samples)
    assert room.intake.starved_s == 0
    assert threads == {"translator"}


async def test_a_burst_that_is_too_long_is_held_back_and_heard_whole() -> None:
    """40 s, far more than the sockets hold, into an intake that holds two."""
    samples = noise(40 * SOUND_RATE)
    sent = asyncio.Event()

    async def burst(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT)
        for part in np.array_split(samples, 160):
            await ws.send_bytes(sound(part))
        await ws.send_bytes(END)
        sent.set()

    async with serving(Booth(burst)) as booth, running(Room(booth.url, hold_s=2.0)) as room:
        await until(lambda: room.intake.level_s > 1.7)
        await asyncio.sleep(0.05)  # while nothing is pulled the translator waits
        assert not sent.is_set()
        assert room.intake.level_s <= 2.0
        blocks: list[Sound] = []
        async with asyncio.timeout(30):
            while room.intake.level_s > 0.02 or not sent.is_set():
                if room.intake.level_s > 0.5 or sent.is_set():
                    blocks.append(room.tick())
                await asyncio.sleep(0 if room.intake.level_s > 0.5 else 0.001)
        blocks += await room.pass_s(0.1)
        np.testing.assert_array_equal(heard(blocks), samples)
        assert room.translator.connections == 1


@pytest.mark.parametrize("how", ["end", "close", "abort", "garbage"])
async def test_an_utterance_ends_by_message_or_when_the_translator_goes(how: str) -> None:
    go = asyncio.Event()

    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT + sound(WORD))
        await go.wait()
        match how:
            case "end":
                await ws.send_bytes(END)
            case "close":
                await ws.close()
            case "abort":
                transport = booth.requests[0].transport
                assert transport is not None
                transport.abort()
            case "garbage":
                await ws.send_bytes(b"?")

    async with serving(Booth(talk, listen)) as booth, running(Room(booth.url)) as room:
        await until(lambda: room.intake.level_s > 0)
        assert not room.tick().any()
        go.set()
        await room.hear(WORD)
        if how != "end":
            await until(lambda: room.translator.connections == 2)


async def test_a_flush_silences_what_waits() -> None:
    next_words = noise(SOUND_RATE, seed=1)
    go = asyncio.Event()

    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT + encode(Time(0)) + sound(noise(SOUND_RATE)))
        await ws.send_bytes(encode(Time(0)) + sound(noise(SOUND_RATE)))
        await go.wait()
        await ws.send_bytes(FLUSH)
        await go.wait()
        await ws.send_bytes(sound(next_words) + END)

    async with serving(Booth(talk)) as booth, running(Room(booth.url)) as room:
        await until(lambda: room.intake.level_s == 2)
        go.set()
        go.clear()
        await until(lambda: room.intake.level_s == 0)
        await room.pass_s(0.2)
        go.set()
        await room.hear(next_words)
        assert room.translator.lag_s is None


async def test_text_and_signs_of_life_break_nothing() -> None:
    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_str(json.dumps({"text": "Guten Tag", "language": "de"}))
        for text in ("", "{", "[" * 100_000, "\0"):
            await ws.send_str(text)
        await ws.send_bytes(b"")
        await ws.ping(b"there?")
        while (message := await ws.receive()).type is not WSMsgType.PONG:
            assert message.type is WSMsgType.BINARY
        assert message.data == b"there?"
        await ws.send_bytes(FORMAT + sound(WORD) + END)

    async with serving(Booth(talk)) as booth, running(Room(booth.url)) as room:
        await room.hear(WORD)
        assert room.translator.connections == 1


async def test_very_many_small_messages_do_not_hold_up_the_loop() -> None:
    flood = encode(Time(0)) * 300_000
    turns = 0

    async def talk(ws: web.WebSocketResponse) -> None:
        nonlocal turns
        await ws.send_bytes(FORMAT)
        await ws.send_bytes(flood)
        await ws.send_bytes(sound(WORD) + END)

    async with serving(Booth(talk)) as booth, running(Room(booth.url)) as room:
        blocks: list[Sound] = []
        while not len(heard(blocks := [*blocks[-9:], room.tick()])):
            turns += 1
            await asyncio.sleep(0)
        assert turns > len(flood) / (1 << 14)


# The lag


async def test_the_lag_is_from_what_was_said_to_when_its_translation_is_heard() -> None:
    """Said at 0.5 s of the stream; 1 s of sound waits before its translation, 0.4 s are added."""

    async def talk(ws: web.WebSocketResponse) -> None:
        ear = Ear()
        while len(ear.samples) < 3 * SAMPLE_RATE:
            ear.messages += ear.parser.feed((await ws.receive()).data)
        await ws.send_bytes(FORMAT + sound(noise(SOUND_RATE)))
        await ws.send_bytes(encode(Time(500_000)) + sound(noise(SOUND_RATE)))
        await ws.send_bytes(encode(Time(2_500_000)) + encode(Time(2_000_000)))
        await ws.send_bytes(sound(noise(SOUND_RATE)) + END)

    async with (
        serving(Booth(talk)) as booth,
        running(Room(booth.url, added_delay_s=0.4)) as room,
    ):
        await room.pass_s(3)
        await until(lambda: room.intake.level_s == 3)
        lags = {}
        for tick in range(250):
            room.tick()
            lags[tick * 2] = room.translator.lag_s
            await asyncio.sleep(0)
    assert lags[130] is None
    assert lags[142] == pytest.approx(3 + 1 - 0.5 + 0.4, abs=0.03)
    assert lags[242] == pytest.approx(3 + 2 - 2.0 + 0.4, abs=0.03)
    assert lags[498] == lags[242]
    assert room.translator.facts()["lag_s"] == lags[242]


async def test_times_that_are_none_of_the_stream_are_counted_and_ignored() -> None:
    async def talk(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT)
        for strange in (-1, 2**62, 10_000_000):
            await ws.send_bytes(encode(Time(strange)) + sound(noise(SOUND_RATE // 2)))
        await ws.send_bytes(END)

    async with serving(Booth(talk)) as booth, running(Room(booth.url)) as room:
        await until(lambda: room.intake.level_s == 1.5)
        await room.pass_s(2)
        assert room.translator.strange_times == 3
        assert room.translator.lag_s is None


# Trouble


async def test_it_is_dialled_with_growing_pauses_until_it_is_there(
    unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    url = f"ws://127.0.0.1:{unused_tcp_port}/live?key=hidden"
    async with running(Room(url), connected=False) as room:
        await until(lambda: len(room.pauses) > 6)
        assert room.pauses[:7] == [0.5, 1, 2, 4, 7.5, 7.5, 7.5]
        trouble = "The translator for de can't be reached; it is dialled again."
        assert room.translator.trouble == trouble
        await room.pass_s(1)
        assert room.translator.unsent_s == pytest.approx(1)
        async with serving(Booth(), port=unused_tcp_port) as booth:
            await until(lambda: room.translator.connected)
            await room.pass_s(2.9)
            assert room.translator.trouble == trouble
            await room.pass_s(0.3)
            await until(lambda: room.translator.trouble is None)
            assert booth.open == 1
            before = len(room.pauses)
        await until(lambda: len(room.pauses) > before)
        assert room.pauses[before] == 0.5
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(warnings) in (2, 3)  # it ended the connection; then it could not be reached
    assert all("hidden" not in r.getMessage() for r in caplog.records)


BAD = {
    "no protocol at all": (b"GET / HTTP/1.1\r\n", "message type 71 is unknown"),
    "too long": (FORMAT + struct.pack(">BI", 2, LONGEST + 4), "too long"),
    "sound before format": (struct.pack(">BI", 2, 4) + bytes(4), "before its format"),
    "rate 0": (encode(Format(0, 1)), "rate of 0 Hz"),
    "a message over two": (FORMAT + sound(WORD)[:-1], "the message breaks off"),
    "half a header": (b"\x01\0", "the message breaks off"),
    "beyond the WebSocket's limit": (bytes(5 << 20), "above 4194304 bytes"),
}


@pytest.mark.parametrize(("data", "why"), BAD.values(), ids=BAD.keys())
async def test_what_can_not_be_read_closes_the_connection_with_the_reason(
    data: bytes, why: str
) -> None:
    async def wrong(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(data)

    async def right(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT + sound(noise(SOUND_RATE)) + END)

    async with serving(Booth(wrong, right)) as booth, running(Room(booth.url)) as room:
        await until(lambda: room.translator.connections == 2)
        assert room.translator.refused == 1
        assert room.translator.trouble is not None
        assert why in room.translator.trouble
        assert room.pauses == [0.5]
        await until(lambda: room.intake.level_s == 1)
        if "above" not in why:  # of that one, aiohttp itself tells the translator
            await until(lambda: booth.closed)
            assert booth.closed[0][0] == 1002
            assert why in booth.closed[0][1]


async def test_one_that_always_ends_at_once_is_dialled_more_and_more_seldom() -> None:
    async def leave(ws: web.WebSocketResponse) -> None:
        await ws.close()

    async with (
        serving(Booth(leave)) as booth,
        running(Room(booth.url), connected=False) as room,
    ):
        await until(lambda: len(room.pauses) >= 5)
        assert room.pauses[:5] == [0.5, 1, 2, 4, 7.5]
        assert room.translator.trouble == (
            "The translator for de ended the connection; it is dialled again."
        )


async def answer(request: web.Request) -> web.Response:
    status = int(request.match_info["status"])
    headers = {"Location": "/live"} if 300 <= status < 400 else {}
    return web.Response(status=status, headers=headers)


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (401, r"does not accept lipstream's token \(HTTP 401\)"),
        (403, r"does not accept lipstream's token \(HTTP 403\)"),
        (404, r"opens no WebSocket \(HTTP 404\)"),
        (200, r"opens no WebSocket \(HTTP 200\)"),
        (307, "wants to send lipstream to another address; give that one"),
    ],
)
async def test_an_answer_that_is_no_connection_is_named(status: int, why: str) -> None:
    booth = Booth()
    app = web.Application()
    app.router.add_get("/live", booth.serve)
    app.router.add_get("/{status}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    async with running(Room(f"ws://127.0.0.1:{site.port}/{status}"), connected=False) as room:
        await until(lambda: len(room.pauses) >= 2)
        with pytest.raises(AssertionError, match=why):
            raise AssertionError(room.translator.trouble)
        assert not booth.requests
    await runner.cleanup()


async def test_one_that_opens_and_is_gone_in_the_same_breath_is_dialled_again() -> None:
    """The connection is lost before whoever dialled hears that there is one."""

    async def vanish(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        key = request.lower().partition(b"sec-websocket-key: ")[2].partition(b"\r\n")[0]
        start = request.lower().index(key)
        secret = request[start : start + len(key)] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(secret).digest())
        writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n")
        writer.write(b"Connection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(vanish, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(Room(f"ws://127.0.0.1:{port}"), connected=False) as room:
        await until(lambda: room.translator.connections >= 5)
        assert room.translator.trouble is not None
        assert "ended the connection" in room.translator.trouble
    server.close()


async def test_a_server_that_speaks_no_http_can_not_be_reached() -> None:
    async def mumble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"\xff\x00 no protocol of yours\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(mumble, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with running(Room(f"ws://127.0.0.1:{port}"), connected=False) as room:
        await until(lambda: len(room.pauses) >= 2)
        assert room.translator.trouble is not None
        assert "can't be reached" in room.translator.trouble
    server.close()


async def test_one_that_gives_no_sign_of_life_is_dialled_again_and_a_quiet_one_is_not() -> None:
    async def stand(ws: web.WebSocketResponse) -> None:
        while len(booth.requests) < 2:
            await ws.receive()  # takes everything, answers nothing

    async with (
        serving(Booth(stand, listen)) as booth,
        running(Room(booth.url, patience_s=0.05)) as room,
    ):
        await until(lambda: room.translator.connections == 2)
        assert room.translator.trouble is not None
        assert "gave no sign of life" in room.translator.trouble
    pongs = 0

    async def quiet(ws: web.WebSocketResponse) -> None:
        nonlocal pongs
        while (message := await ws.receive()).type is not WSMsgType.CLOSE:
            if message.type is WSMsgType.PING:
                pongs += 1
                await ws.pong(message.data)

    async with serving(Booth(quiet)) as booth, running(Room(booth.url, patience_s=0.2)) as room:
        await until(lambda: pongs >= 3)
        assert room.translator.connections == 1


async def test_tls_that_nobody_vouches_for_is_not_trusted(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.datetime.now(datetime.UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "both.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "both.pem")
    async with serving(Booth(), tls=tls) as booth:
        async with running(Room(booth.url), connected=False) as room:
            await until(lambda: len(room.pauses) >= 2)
            assert room.translator.trouble is not None
            assert "offers no TLS that can be trusted" in room.translator.trouble
        assert not booth.requests


async def test_cancelling_says_goodbye_and_leaves_nothing_behind() -> None:
    before = asyncio.all_tasks()
    async with serving(Booth()) as booth:
        room = Room(booth.url)
        async with running(room):
            await room.pass_s(1)
        assert not room.translator.connected
        await until(lambda: not booth.open)
        assert booth.closed == [(1001, "is not needed any more")]
        left = {task.get_name() for task in asyncio.all_tasks() - before}
        assert not any("WebSocketTranslator" in name for name in left)
        async with running(room):  # and it can be run again
            await until(lambda: booth.open == 1)


@pytest.mark.parametrize("turns", range(8))
async def test_cancelling_ends_one_whose_connection_just_fails(turns: int) -> None:
    """However many turns of the loop lie between: it is never dialled again."""
    async with serving(Booth()) as booth:
        room = Room(booth.url)
        task = asyncio.create_task(room.translator.run())
        await until(lambda: room.translator.connected)
        room.tick(np.zeros(round(MOST_BEHIND_S + 1) * SAMPLE_RATE))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        async with asyncio.timeout(5):
            with pytest.raises(asyncio.CancelledError):
                await task
        assert room.translator.connections == 1


async def test_cancelling_ends_one_that_reads_nothing_and_one_that_is_held_back() -> None:
    async def wait(ws: web.WebSocketResponse) -> None:
        await ws.send_bytes(FORMAT)
        for _ in range(4):
            await ws.send_bytes(sound(noise(SOUND_RATE)))
        await release.wait()

    release = asyncio.Event()
    async with serving(Booth(wait), small=True) as booth:
        room = Room(booth.url, hold_s=2.0)
        async with running(room):
            await until(lambda: room.intake.level_s > 1.7)
            while room.translator.facts()["source_behind_s"] != 5:
                room.tick()
                await asyncio.sleep(0)
                room.intake.flush()
        release.set()


# The address


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("ws://127.0.0.1:9100", "ws://127.0.0.1:9100/?target=de&source=en"),
        ("wss://example.org/live", "wss://example.org/live?target=de&source=en"),
        (
            "wss://example.org/live?key=a%2Bb&target=deu",
            "wss://example.org/live?key=a%2Bb&target=deu&source=en",
        ),
        ("ws://[::1]:9100/x#top", "ws://[::1]:9100/x?target=de&source=en"),
    ],
)
def test_languages_are_added_to_the_address(url: str, address: str) -> None:
    assert str(translator_address(url, target="de", source="en")) == address


@pytest.mark.parametrize(
    "url", ["", "ws://", "ws:9100", "http://127.0.0.1:9100", "127.0.0.1:9100", "ws://a:b:c", "/x"]
)
def test_other_addresses_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="is like ws://127"):
        translator_address(url, target="de")


def test_passwords_in_addresses_and_tokens_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=f"put a token into {TOKEN_VARIABLE}"):
        translator_address("ws://me:secret@127.0.0.1:9100", target="de")
    for token in ("two words", "line\nbreak", "café"):
        with pytest.raises(ConfigError, match=TOKEN_VARIABLE):
            Room("ws://127.0.0.1:9100", environment={TOKEN_VARIABLE: token})
