"""A process that becomes a room: begun ahead of its room, as its imports take seconds.

The child imports what rooms need, says ``here``, and waits for ``room`` with the room's name and
options; then it is that room until its link ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from stream.relay.link import ANSWER_S, LONGEST, Link
from stream.relay.logs import LogFormat, set_up_logs
from stream.relay.signals import ignore_stop_signals, signals_held_back

log = logging.getLogger(__name__)

ROOM_MAIN: Final = "stream.relay.room.process:main"
"""``module:function`` of ``main(connection, room, options)``, which a room's process runs."""

END_S: Final = 5.0
"""How long a room has to end by itself once its link has ended."""

_HERE, _ROOM = "here", "room"
_GONE_S: Final = 5.0  # for a killed process
_STATM_RESIDENT, _STATM_SHARED = 1, 2  # fields of Linux's /proc/PID/statm


def stand_by(connection: Connection, main: str, log_format: LogFormat) -> None:
    """What the process runs.

    Ctrl-C and SIGTERM are the front process's to answer: it lets rooms go on for a while.
    """
    ignore_stop_signals()
    set_up_logs(log_format, process=_ROOM)
    module, _, function = main.partition(":")
    try:
        run: Callable[[Connection, str, dict[str, Any]], None]
        run = getattr(importlib.import_module(module), function)
        try:
            connection.send_bytes(json.dumps({"do": _HERE, "fields": {}}).encode())
            wish = json.loads(connection.recv_bytes(LONGEST))["fields"]
        except (EOFError, OSError):
            return  # the relay has ended
        run(connection, wish["room"], wish["options"])
    except Exception:
        log.exception("a room failed")
        sys.exit(1)


class Child:
    """Such a process, as its parent sees it.

    Args:
        main: see ``ROOM_MAIN``.
        log_format: how it writes its log.
        answer_s: how long its link waits for a reply.

    Attributes:
        link: to the process, once it has started.
        on_tell: takes its notifications.
        on_end: called when its link has ended by itself.
    """

    link: Link

    def __init__(
        self,
        main: str = ROOM_MAIN,
        log_format: LogFormat = "json",
        *,
        answer_s: float = ANSWER_S,
    ) -> None:
        self._main, self._log_format, self._answer_s = main, log_format, answer_s
        self._process: SpawnProcess | None = None
        self._killed = False
        self._here = asyncio.Event()
        self._lost = asyncio.Event()
        self.on_tell: Callable[[str, dict[str, Any]], None] = lambda do, fields: None
        self.on_end: Callable[[], None] = lambda: None

    @property
    def pid(self) -> int | None:
        """The process's number, once it has started."""
        return None if self._process is None else self._process.pid

    @property
    def lives(self) -> bool:
        """Whether there is a process that its link still reaches."""
        return self._process is not None and not self._lost.is_set()

    async def start(self) -> None:
        """Start the process; it imports on for a while after that."""
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        launching = asyncio.ensure_future(asyncio.to_thread(self._launch, theirs))
        try:
            self._process = await asyncio.shield(launching)
        except asyncio.CancelledError:
            launching.add_done_callback(lambda launched: launched.result().kill())
            ours.close()
            raise
        self.link = Link(ours, on_tell=self._told, on_end=self._end, answer_s=self._answer_s)
        self.link.start()

    async def here(self) -> bool:
        """Wait until the process has imported all it needs.

        Returns:
            False where it ended instead.
        """
        events = [asyncio.ensure_future(event.wait()) for event in (self._here, self._lost)]
        try:
            await asyncio.wait(events, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for event in events:
                event.cancel()
        return self.lives

    def become(self, room: str, options: dict[str, Any]) -> None:
        """Let the process be a room.

        Args:
            room: its name.
            options: JSON values.
        """
        self.link.tell(_ROOM, room=room, options=options)

    def memory_mb(self) -> float | None:
        """Memory of the process alone, in 10^6 bytes; None where the system does not tell."""
        try:
            pages = Path(f"/proc/{self.pid}/statm").read_text().split()
            own = int(pages[_STATM_RESIDENT]) - int(pages[_STATM_SHARED])
        except (OSError, ValueError, IndexError):
            return None
        return own * os.sysconf("SC_PAGE_SIZE") / 1e6

    def kill(self) -> None:
        """End the process at once."""
        self._killed = True
        if self._process is not None:
            with contextlib.suppress(ValueError):  # it is closed already
                self._process.kill()

    async def end(self, grace_s: float = END_S) -> int | None:
        """End the process: by the end of its link, or, after a time, by force.

        Args:
            grace_s: how long it has to end by itself.

        Returns:
            Its exit code, negative for a signal; None where it never ran or can't be ended.
        """
        if self._process is None:
            return None
        if not await self.link.close():
            self.kill()
        if not self._killed and not await self._gone_within(grace_s):
            log.warning("a room did not end by itself and is killed")
            self.kill()
        if not await self._gone_within(_GONE_S):
            log.error("a room can't be killed")
            return None
        await self.link.close()
        process, self._process = self._process, None
        code = process.exitcode
        process.close()
        return code

    async def _gone_within(self, seconds: float) -> bool:
        assert self._process is not None
        deadline = time.monotonic() + seconds
        while self._process.exitcode is None:
            if time.monotonic() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    def _launch(self, theirs: Connection) -> SpawnProcess:
        process = multiprocessing.get_context("spawn").Process(
            target=stand_by,
            args=(theirs, self._main, self._log_format),
            name="lipstream room",
            daemon=True,
        )
        with theirs, signals_held_back():
            process.start()
        return process

    def _told(self, do: str, fields: dict[str, Any]) -> None:
        if do == _HERE:
            self._here.set()
        else:
            self.on_tell(do, fields)

    def _end(self) -> None:
        self._lost.set()
        self.on_end()
