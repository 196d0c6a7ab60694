"""The example translator as a process of its own, as its writer would start it."""

import ast
import asyncio
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from stream.core.gate import ON_AT
from stream.core.intake import PushedIntake
from stream.core.pcm_messages import End, PcmParser
from stream.core.sound import TICK_SAMPLES
from stream.core.translation import SourceQueue, to_int16
from stream.core.voice import VoiceActivity
from stream.relay.room.translator import WebSocketTranslator

pytestmark = pytest.mark.models

EXAMPLE = Path(__file__).resolve().parents[3] / "docs" / "examples" / "parrot_translator.py"
SPEECH = Path(str(files("stream"))) / "assets" / "demo_speech.flac"
TICK = SAMPLE_RATE // 50
PARROT_RATE = 20_000


class Kept(PushedIntake):
    """Keeps what is pushed as it came, sentence by sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.sentences: list[tuple[int, NDArray[np.int16]]] = []  # rates and samples
        self._parts: list[NDArray[np.int16]] = []
        self._rate = 0

    def push(self, samples: NDArray[np.float32] | NDArray[np.int16], rate: int) -> None:
        self._parts.append(samples[:, 0].astype(np.int16))
        self._rate = rate
        super().push(samples, rate)

    def end_utterance(self) -> None:
        if self._parts:
            self.sentences.append((self._rate, np.concatenate(self._parts)))
        self._parts = []
        super().end_utterance()


@asynccontextmanager
async def parrot(port: int, *words: str) -> AsyncIterator[str]:
    """The example's address while it runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, EXAMPLE, "--port", str(port), *words, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    reading = process.stderr
    try:
        async with asyncio.timeout(30):
            while b"Running on" not in (line := await reading.readline()):
                assert line, "it ended before it listened"
        yield f"ws://127.0.0.1:{port}"
    finally:
        process.terminate()
        said, _ = await asyncio.gather(reading.read(), process.wait())
    assert b"Traceback" not in said


@pytest.fixture(scope="module")
def source() -> NDArray[np.float32]:
    """Real speech, a pause, and whole ticks."""
    speech = read_audio(SPEECH)[: 14 * SAMPLE_RATE]
    return np.concatenate([speech, np.zeros(SAMPLE_RATE + -len(speech) % TICK, np.float32)])


@pytest.fixture(scope="module")
def speaking(source: NDArray[np.float32]) -> list[bool]:
    """Whether there is speech in each tick."""
    voice, flags, flag = VoiceActivity(), [], False
    for block in source.reshape(-1, TICK):
        for hop in voice.push(block):
            flag = hop.probability >= ON_AT
        flags.append(flag)
    return flags


def count_ends(source: NDArray[np.float32], speaking: list[bool]) -> int:
    """How many sentences the translator is told of."""
    queue = SourceQueue(hold_s=60)
    for block, flag in zip(source.reshape(-1, TICK), speaking, strict=True):
        queue.push(to_int16(block), speaking=flag)
    ends = 0
    while (data := queue.take()) is not None:
        parser = PcmParser()
        parser.feed(b"\x01\0\0\0\5\0\0\x3e\x80\1")
        ends += End() in parser.feed(data)
    return ends


async def translate(
    url: str, intake: Kept, source: NDArray[np.float32], speaking: list[bool], sentences: int
) -> WebSocketTranslator:
    """Have the source translated, faster than it was said, until so many sentences are back."""
    translator = WebSocketTranslator(url, "de", intake, environment={})
    running = asyncio.create_task(translator.run())
    async with asyncio.timeout(60):
        while not translator.connected:
            await asyncio.sleep(0.005)
        for tick, (block, flag) in enumerate(
            zip(source.reshape(-1, TICK), speaking, strict=True), 1
        ):
            translator.speaking(flag)
            translator.send(block, tick * 0.02)
            while translator.facts()["source_behind_s"]:
                await asyncio.sleep(0)
        while len(intake.sentences) < sentences:
            assert translator.trouble is None
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return translator


def levels(samples: NDArray[np.floating] | NDArray[np.int16], width: int) -> NDArray[np.float64]:
    """The level of each stretch of so many samples."""
    whole = samples[: len(samples) // width * width].reshape(-1, width).astype(np.float64)
    return np.asarray(np.sqrt((whole**2).mean(axis=1)))


async def test_real_speech_comes_back_sentence_by_sentence_in_order(
    unused_tcp_port: int, source: NDArray[np.float32], speaking: list[bool]
) -> None:
    expected = count_ends(source, speaking)
    assert expected >= 2
    intake = Kept()
    async with parrot(unused_tcp_port, "--delay", "0.05") as url:
        translator = await translate(url, intake, source, speaking, expected)
    assert translator.facts()["source_dropped_s"] == 0

    said = to_int16(source).tobytes()
    spans = []
    for rate, sentence in intake.sentences:
        assert rate == PARROT_RATE
        start = said.find(sentence.tobytes())
        assert start >= 0, "a sentence is not what was said"
        spans.append((start // 2, start // 2 + len(sentence)))
    assert len(spans) == expected
    assert spans == sorted(spans)
    flags = np.repeat(speaking, TICK)
    assert sum(flags[start:end].sum() for start, end in spans) > 0.97 * flags.sum()

    sent = np.concatenate([sentence for _, sentence in intake.sentences])
    ticks = len(sent) * 50 // PARROT_RATE + 5
    blocks = []
    for tick in range(ticks):
        blocks.append(intake.pull(TICK_SAMPLES, len(source) / SAMPLE_RATE + tick * 0.02))
        translator.send(np.zeros(0, np.float32), len(source) / SAMPLE_RATE + tick * 0.02)
    assert intake.level_s == 0
    heard = levels(np.concatenate(blocks)[:, 0], TICK_SAMPLES)
    wanted = levels(sent, PARROT_RATE // 50)
    assert np.corrcoef(heard[: len(wanted)], wanted)[0, 1] > 0.99
    assert translator.strange_times == 0
    assert translator.lag_s is not None
    assert 0 < translator.lag_s < len(source) / SAMPLE_RATE


async def test_with_espeak_it_speaks_the_language(
    unused_tcp_port: int, source: NDArray[np.float32], speaking: list[bool]
) -> None:
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng is not installed")
    intake = Kept()
    async with parrot(unused_tcp_port, "--delay", "0", "--espeak", "de") as url:
        await translate(url, intake, source, speaking, 1)
    rate, sentence = intake.sentences[0]
    assert rate == 22_050
    assert 1 < len(sentence) / rate < 4
    assert np.abs(sentence).max() > 5_000


def test_the_example_is_short_and_needs_aiohttp_and_numpy_alone() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    imported = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            imported |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"aiohttp", "numpy"}
