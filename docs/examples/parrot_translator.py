"""A translator for lipstream that needs no account: a parrot.

It waits until the speaker has finished a sentence, and says it again 0.8 s later, in a higher
voice:

    python docs/examples/parrot_translator.py
    python run_stream.py relay --translator main/ann/de=ws://127.0.0.1:9100

With `--espeak de` it says a fixed sentence in that language instead, by espeak-ng, if that is
installed. Whoever writes a real translator, in any language, replaces `translate`. The messages
are described in docs/pcm.md, the connection in docs/translators.md.
"""

import argparse
import asyncio
import contextlib
import logging
import shutil
import struct
from collections.abc import Iterator

import numpy as np
from aiohttp import WSMsgType, web
from numpy.typing import NDArray

log = logging.getLogger("parrot")

FORMAT, SOUND, END, FLUSH, TIME = 1, 2, 3, 4, 5
RATE = 16_000  # Hz, of what lipstream sends: one channel of signed 16-bit samples
QUIET = 300  # mean level, of 32767, below which nobody has begun to speak
LONGEST_S = 15.0  # a longer sentence is said in parts
PARROT_RATE = 20_000  # Hz: the same samples, played a quarter faster, give a higher voice
SENTENCES = {
    "de": "Das ist die Übersetzung.",
    "en": "This is the translation.",
    "es": "Esta es la traducción.",
    "fr": "Voici la traduction.",
    "it": "Questa è la traduzione.",
}

Samples = NDArray[np.int16]
Sentence = tuple[float, Samples]  # when it was said, in seconds of the source stream; its sound


def message(kind: int, payload: bytes = b"") -> bytes:
    """A message: its type, how long its payload is, the payload."""
    return struct.pack(">BI", kind, len(payload)) + payload


def messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The messages that one message of the WebSocket holds."""
    while data:
        kind, length = struct.unpack_from(">BI", data)
        yield kind, data[5 : 5 + length]
        data = data[5 + length :]


async def listen(ws: web.WebSocketResponse, sentences: asyncio.Queue[Sentence]) -> None:
    """Collect what the speaker says, and hand on each sentence when it is over."""
    parts: list[Samples] = []
    position = 0  # Samples since the connection began: they come all the time and tell the time.
    talking = False
    async for received in ws:
        for kind, payload in messages(received.data) if received.type is WSMsgType.BINARY else ():
            if kind == SOUND:
                parts.append(np.frombuffer(payload, "<i2").astype(np.int16))
                position += len(parts[-1])
                talking = talking or float(np.abs(parts[-1].astype(float)).mean()) > QUIET
                if not talking:
                    parts = parts[-5:]  # a first sound may be soft: keep 100 ms before it
            too_long = sum(map(len, parts)) > LONGEST_S * RATE
            if talking and (kind == END or too_long):
                sound = np.concatenate(parts)
                begins_s = (position - len(sound)) / RATE
                if kind == END:  # it comes 0.6 s after the last word
                    sound = sound[: -RATE // 2]
                await sentences.put((begins_s, sound))
                parts, talking = [], False


async def translate(sound: Samples, espeak: str | None) -> tuple[Samples, int]:
    """The translation of a sentence, and its rate: here a real translator does its work."""
    if espeak is None:
        return sound, PARROT_RATE
    command = "espeak-ng", "-v", espeak, "--stdout", SENTENCES[espeak]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    wav, _ = await process.communicate()
    (rate,) = struct.unpack_from("<I", wav, 24)  # in the header, which has 44 bytes
    return np.frombuffer(wav[44 : len(wav) // 2 * 2], "<i2").astype(np.int16), rate


async def speak(
    ws: web.WebSocketResponse, sentences: asyncio.Queue[Sentence], args: argparse.Namespace
) -> None:
    """Send the translation of each sentence at once: lipstream plays it at its own pace."""
    while True:
        said_at, sound = await sentences.get()
        await asyncio.sleep(args.delay)
        translation, rate = await translate(sound, args.espeak)
        await ws.send_bytes(message(FORMAT, struct.pack(">IB", rate, 1)))
        for start in range(0, len(translation), rate // 2):
            # Time tells lipstream how far behind this is: a share of the translation stands for
            # as large a share of what was said.
            time_s = said_at + len(sound) / RATE * start / len(translation)
            time = message(TIME, struct.pack(">q", round(time_s * 1_000_000)))
            part = translation[start : start + rate // 2].astype("<i2").tobytes()
            await ws.send_bytes(time + message(SOUND, part))
        await ws.send_bytes(message(END))
        log.info("what was said at %.1f s is translated", said_at)


async def serve(request: web.Request) -> web.WebSocketResponse:
    """One connection: one speaker into one language."""
    log.info("a speaker is to be translated into %s", request.query.get("target"))
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    sentences: asyncio.Queue[Sentence] = asyncio.Queue(maxsize=4)
    speaking = asyncio.create_task(speak(ws, sentences, request.app[ARGS]))
    try:
        await listen(ws, sentences)
    finally:
        speaking.cancel()
        with contextlib.suppress(asyncio.CancelledError, ConnectionError):
            await speaking
    return ws


ARGS = web.AppKey("args", argparse.Namespace)

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A translator for lipstream: a parrot.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9100)
    parser.add_argument("--delay", type=float, default=0.8, help="seconds that it thinks")
    parser.add_argument("--espeak", choices=SENTENCES, help="say a fixed sentence by espeak-ng")
    app = web.Application()
    app[ARGS] = args = parser.parse_args()
    if args.espeak and shutil.which("espeak-ng") is None:
        parser.error("--espeak needs espeak-ng; install it, or leave --espeak out")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app.router.add_get("/", serve)
    web.run_app(app, host=args.host, port=args.port, print=log.info, access_log=None)
