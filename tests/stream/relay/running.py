"""A relay as its users start it: a process of its own, whose page can be opened."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

TOP = Path(__file__).parents[3]
START_S = 40.0


@dataclass
class Running:
    """A relay that runs.

    Attributes:
        url: of its page, with a slash at the end.
        process: its front.
        said: what it has printed.
    """

    url: str
    process: asyncio.subprocess.Process
    said: list[str]

    @property
    def port(self) -> int:
        """Of its page."""
        return int(self.url.rstrip("/").rpartition(":")[2])


@asynccontextmanager
async def running(*words: str, secret: str | None = None) -> AsyncIterator[Running]:
    """Start ``run_stream.py relay`` on a free port; stop it as SIGTERM does.

    Args:
        *words: further words of the command line.
        secret: of its tokens; none where None.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if secret is not None:
        environment["LIPSTREAM_RELAY_SECRET"] = secret
    command = [sys.executable, "run_stream.py", "relay", "--port", "0", *words]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=TOP,
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    said: list[str] = []
    try:
        async with asyncio.timeout(START_S):
            url = await _url(process, said)
        yield Running(url, process, said)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 20)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _url(process: asyncio.subprocess.Process, said: list[str]) -> str:
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode().strip():
        said.append(line)
        _, found, url = line.partition("The page: ")
        if found:
            return url
    raise AssertionError(f"the relay ended: {said}")
