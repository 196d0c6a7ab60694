"""Rooms for tests: what their processes run in place of a real room. They import little."""

import asyncio
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from stream.relay.link import Link
from stream.relay.metrics import RoomMetrics
from stream.relay.refusal import Refusal

HERE = "tests.stream.relay.room_mains"
OBEDIENT, BROKEN, MISSING = f"{HERE}:obedient", f"{HERE}:broken", f"{HERE}:missing"


class ObedientRoom:
    """Does what it is told by the word that stands where an offer would.

    Words: ``hang`` (the loop stands still), ``die`` (at once), ``grow`` (takes 200 MB), ``refuse``,
    ``garbage`` (sends what is no message), ``gone`` (tells that this session is gone), ``idle``,
    ``slow`` (answers after a while), ``quiet`` (tells no state any more); any other is answered.
    """

    def __init__(self, link: Link, connection: Connection, room: str) -> None:
        self._link, self._connection, self._room = link, connection, room
        self._sessions: set[str] = set()
        self._kept: list[bytearray] = []
        self._metrics = RoomMetrics()
        self.tells = True

    def state(self) -> dict[str, Any]:
        listeners = len(self._sessions)
        self._metrics.sessions("listener", listeners)
        return {
            "room": self._room,
            "speakers": [{"name": "ann", "original": {"listeners": listeners}, "languages": []}],
            "metrics": self._metrics.as_json(),
        }

    async def ask(self, do: str, fields: dict[str, Any]) -> dict[str, Any]:
        if do == "state":
            return self.state()
        if do == "end":
            self._sessions.discard(fields["resource"])
            return {}
        if do == "listen":
            self._sessions.add(fields["resource"])
        word = fields.get("offer", "")
        self._metrics.frames("shown")
        act: dict[str, Callable[[], object]] = {
            "hang": lambda: time.sleep(60),
            "die": lambda: os._exit(3),
            "grow": lambda: self._kept.append(bytearray(b"x") * 200_000_000),
            "garbage": lambda: self._connection.send_bytes(b"\xff{"),
            "gone": lambda: self._link.tell("ended", resource=fields["resource"]),
            "idle": lambda: asyncio.get_running_loop().call_later(0.1, self._link.tell, "idle"),
        }
        if word in act:
            act[word]()
        if word == "refuse":
            raise Refusal(409, "Nobody is live.", 1.0)
        if word == "quiet":
            self.tells = False
        if word == "slow":
            await asyncio.sleep(0.5)
        return {"answer": f"{self._room} heard {word}", "pid": os.getpid()}


def obedient(connection: Connection, room: str, options: dict[str, Any]) -> None:
    """Tells its state every 0.1 s until the link ends, and then one word to a file."""

    async def run() -> None:
        ended = asyncio.Event()
        link = Link(connection, on_ask=lambda do, fields: held.ask(do, fields), on_end=ended.set)
        held = ObedientRoom(link, connection, room)
        link.start()
        while not ended.is_set():
            if held.tells:
                link.tell("state", **held.state())
            try:
                await asyncio.wait_for(ended.wait(), 0.1)
            except TimeoutError:
                continue
        await link.close()

    asyncio.run(run())
    if "goodbye" in options:
        with open(options["goodbye"], "a", encoding="utf-8") as file:
            file.write(f"{room}\n")


def stubborn(connection: Connection, room: str, options: dict[str, Any]) -> None:
    """Neither reads nor ends."""
    time.sleep(60)


def broken(connection: Connection, room: str, options: dict[str, Any]) -> None:
    """Fails as soon as it is a room."""
    raise RuntimeError(f"the room {room} failed")


def leaving(connection: Connection, room: str, options: dict[str, Any]) -> None:
    """Ends well after its first request, as a room does that its host ends."""
    connection.recv_bytes()
    sys.exit(0)
