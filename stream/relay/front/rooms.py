"""The relay's rooms, each in a process of its own: begun, asked, watched, ended."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from stream.relay.child import ROOM_MAIN, Child
from stream.relay.front.heartbeat import HUNG_S, QUIET_S, Health, Heartbeat
from stream.relay.front.held_room import HeldRoom
from stream.relay.front.spare import Spare
from stream.relay.link import ANSWER_S
from stream.relay.logs import LogFormat
from stream.relay.metrics import MetricsSum
from stream.relay.refusal import Refusal

log = logging.getLogger(__name__)

WATCH_S: Final = 0.5
"""How often rooms are looked at."""

_FULL_RETRY_S: Final = 30.0
_START_RETRY_S: Final = 2.0
_NOT_LIVE_RETRY_S: Final = 2.0
_DRAIN_RETRY_S: Final = 30.0
_BEGIN: Final = frozenset({"publish", "listen"})  # what begins a session


@dataclass(frozen=True, kw_only=True, slots=True)
class Patience:
    """How long rooms are waited for, in seconds.

    Attributes:
        start_s: for a process to have imported what it needs.
        answer_s: for a reply.
        quiet_s: without a word until a room is asked for its state.
        hung_s: without a word until it is killed.
        end_s: for a room to end by itself.
        watch_s: between two looks.
        spare_s: from a room's start to that of the next process that stands by.
    """

    start_s: float = 30.0
    answer_s: float = ANSWER_S
    quiet_s: float = QUIET_S
    hung_s: float = HUNG_S
    end_s: float = 5.0
    watch_s: float = WATCH_S
    spare_s: float = 5.0


class Rooms:
    """All rooms of a relay.

    Args:
        options: for a room's name, what its process is told; JSON values.
        most_rooms: at once, from 1.
        memory_mb: that a room's process may have for itself, in 10^6 bytes.
        main: what a room's process runs.
        log_format: of the rooms' logs.
        patience: how long they are waited for.
        clock: seconds; the one that links use.

    Attributes:
        open: whether rooms can begin; False until the relay has what they need.
        draining: whether no new sessions are taken.
        past: what the rooms counted that have ended.
        endings: how many ended, by why: ``idle``, ``closed``, ``died``, ``hung``, ``memory``,
            ``failed``.
    """

    def __init__(
        self,
        options: Callable[[str], dict[str, Any]],
        *,
        most_rooms: int,
        memory_mb: float,
        main: str = ROOM_MAIN,
        log_format: LogFormat = "json",
        patience: Patience | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._options = options
        self.most_rooms = most_rooms
        self._most_memory_mb = memory_mb
        self._patience = patience or Patience()
        self._clock = clock
        self._rooms: dict[str, HeldRoom] = {}
        self._number = 0
        self._told: list[Callable[[str], None]] = []
        self._spare = Spare(
            lambda: Child(main, log_format, answer_s=self._patience.answer_s),
            start_s=self._patience.start_s,
        )
        self._watching: asyncio.Task[None] | None = None
        self._closing = False
        self._news = asyncio.Event()  # of any room's state
        self.open = True
        self.draining = False
        self.past = MetricsSum()
        self.endings: Counter[str] = Counter()

    def start(self) -> None:
        """Begin to watch rooms, and to keep a process ready for the next one."""
        atexit.register(self.kill_all)  # a relay that fails must not wait for its rooms
        self._watching = asyncio.get_running_loop().create_task(self._watch())
        self._spare.prepare(0.0)

    def on_ended(self, told: Callable[[str], None]) -> None:
        """Have a function called with each resource whose peer is gone by itself."""
        self._told.append(told)

    async def ask(
        self, room: str, do: str, *, start: bool = False, **fields: Any
    ) -> dict[str, Any]:
        """Have a room do something.

        Args:
            room: its name.
            do: what.
            start: whether the room is begun where there is none.
            **fields: what it needs to know; JSON values.

        Returns:
            The reply; JSON values.

        Raises:
            Refusal: it won't, does not answer, is not there, or can't be begun.
        """
        held = await self._find(room)
        if self.draining and do in _BEGIN:
            raise Refusal(503, "This relay is about to stop; try again later.", _DRAIN_RETRY_S)
        if held is None:
            if not start:
                raise _absent(do)
            held = self._admit(room)
        resource = str(fields.get("resource"))
        if do in _BEGIN:
            held.resources.add(resource)  # now: its end may be told as soon as it has begun
        held.asks += 1
        try:
            assert held.starting is not None
            await asyncio.shield(held.starting)
            assert held.child is not None
            reply = await held.child.link.ask(do, **fields)
        except BaseException:
            if do in _BEGIN:
                held.resources.discard(resource)
            raise
        finally:
            held.asks -= 1
        if do == "end":
            held.resources.discard(resource)
        return reply

    def state(self, room: str) -> dict[str, Any] | None:
        """A room as it last told, without its measurements; None where there is none.

        Another object after each news.
        """
        held = self._rooms.get(room)
        return None if held is None or held.ending is not None else held.state

    def metrics(self) -> list[object]:
        """What each room that runs measured, as it last told."""
        return [held.metrics for held in self._rooms.values()]

    def __len__(self) -> int:
        """How many there are, with those that begin or end."""
        return len(self._rooms)

    @property
    def listeners(self) -> int:
        """Of all rooms."""
        return sum(held.listeners for held in self._rooms.values())

    @property
    def memory_mb(self) -> float | None:
        """Of all rooms' processes, in 10^6 bytes; None where the system does not tell."""
        known = [held.memory_mb for held in self._rooms.values() if held.memory_mb is not None]
        return sum(known) if known or not self._rooms else None

    def facts(self) -> dict[str, int | bool]:
        """The rooms as a whole, for ``/healthz``."""
        return {
            "rooms": len(self),
            "most_rooms": self.most_rooms,
            "listeners": self.listeners,
            "spare": self._spare.is_ready,
        }

    def drain(self) -> None:
        """Take no new sessions; those that there are go on."""
        self.draining = True

    async def left(self) -> None:
        """Wait until nobody listens any more."""
        while self.listeners:
            self._news.clear()
            await self._news.wait()

    def kill_all(self) -> None:
        """End all processes at once."""
        for held in self._rooms.values():
            if held.child is not None:
                held.child.kill()
        self._spare.kill()

    async def close(self) -> None:
        """End all rooms."""
        self.draining = self._closing = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        ending = [asyncio.ensure_future(self._spare.close())]
        ending += [self._end(held, "closed") for held in self._rooms.values()]
        await asyncio.gather(*ending)
        atexit.unregister(self.kill_all)

    # How rooms begin and end

    async def _find(self, room: str) -> HeldRoom | None:
        while (held := self._rooms.get(room)) is not None and held.ending is not None:
            await asyncio.wait([held.ending])
        return held

    def _admit(self, room: str) -> HeldRoom:
        if not self.open:
            raise Refusal(503, "This relay is still starting; try again.", _START_RETRY_S)
        if len(self._rooms) >= self.most_rooms:
            raise Refusal(503, "All rooms of this relay are taken; try later.", _FULL_RETRY_S)
        self._number += 1
        heartbeat = Heartbeat(
            self._patience.watch_s, quiet_s=self._patience.quiet_s, hung_s=self._patience.hung_s
        )
        held = self._rooms[room] = HeldRoom(room, self._number, heartbeat)
        held.starting = asyncio.get_running_loop().create_task(self._start(held))
        held.starting.add_done_callback(_look_at)
        return held

    async def _start(self, held: HeldRoom) -> None:
        child = await self._spare.take()
        if child is None:
            self._end(held, "failed")
            raise Refusal(503, "The room could not be begun; try again.", _START_RETRY_S)
        held.child = child
        child.on_tell = lambda do, fields: self._heard(held, do, fields)
        child.on_end = lambda: self._lost(held)
        if held.ending is not None:
            raise Refusal(503, "The room has ended; try again.", _START_RETRY_S)
        if not child.lives:
            self._end(held, "died")
            raise Refusal(503, "The room has ended; try again.", _START_RETRY_S)
        child.become(held.name, self._options(held.name))
        log.info("a room began", extra=self._told_of(held))
        if len(self._rooms) < self.most_rooms and not self._closing:
            self._spare.prepare(self._patience.spare_s)

    def _heard(self, held: HeldRoom, do: str, fields: dict[str, Any]) -> None:
        match do:
            case "state":
                self._keep_state(held, fields)
            case "ended":
                resource = fields.get("resource")
                if isinstance(resource, str) and resource in held.resources:
                    held.resources.discard(resource)
                    self._tell([resource])
            case "idle":
                # A publisher may be on the way; the room says it again.
                if not held.asks:
                    self._end(held, "idle")

    def _keep_state(self, held: HeldRoom, fields: dict[str, Any]) -> None:
        held.keep(fields)
        self._news.set()

    def _lost(self, held: HeldRoom) -> None:
        self._end(held, "died")

    def _end(self, held: HeldRoom, reason: str) -> asyncio.Task[None]:
        if held.ending is None:
            held.ending = asyncio.get_running_loop().create_task(self._bury(held, reason))
        return held.ending

    async def _bury(self, held: HeldRoom, reason: str) -> None:
        """End a room's process, and leave nothing of it."""
        try:
            await self._end_process(held, reason)
        finally:
            if held.asking is not None:
                held.asking.cancel()
            del self._rooms[held.name]
            self.past.add(held.metrics, gauges=False)
            self._news.set()
            self._tell(held.resources)
            if not (self._closing or self.draining):
                self._spare.prepare(self._patience.spare_s)

    async def _end_process(self, held: HeldRoom, reason: str) -> None:
        code: int | None = None
        if reason == "closed" and held.starting is not None:
            with contextlib.suppress(Refusal):
                await held.starting
        if held.child is not None:
            if reason in ("idle", "closed"):
                with contextlib.suppress(Refusal, TimeoutError):
                    async with asyncio.timeout(1.0):
                        self._keep_state(held, await held.child.link.ask("state"))
            if reason in ("hung", "memory"):
                held.child.kill()
            code = await held.child.end(self._patience.end_s)
        if reason == "died" and code == 0:
            reason = "closed"  # its host ended it
        self.endings[reason] += 1
        facts = self._told_of(held) | {"reason": reason}
        if reason in ("idle", "closed"):
            log.info("a room ended", extra=facts)
        else:
            log.warning("a room was lost", extra=facts | {"exit_code": code})

    def _tell(self, resources: Iterable[str]) -> None:
        for resource in [*resources]:
            for told in self._told:
                told(resource)

    # How they are watched

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._patience.watch_s)
            now = self._clock()
            for held in [*self._rooms.values()]:
                started = held.starting is not None and held.starting.done()
                if started and held.ending is None:
                    try:
                        self._look(held, now)
                    except Exception:
                        log.exception("a room could not be looked at")

    def _look(self, held: HeldRoom, now: float) -> None:
        child = held.child
        if child is None:
            return
        held.memory_mb = child.memory_mb()
        if held.memory_mb is not None and held.memory_mb > self._most_memory_mb:
            self._end(held, "memory")
            return
        match held.heartbeat.judge(child.link.heard_at, now):
            case Health.HUNG:
                self._end(held, "hung")
            case Health.QUIET if held.asking is None or held.asking.done():
                held.asking = asyncio.get_running_loop().create_task(self._ask_state(held, child))

    async def _ask_state(self, held: HeldRoom, child: Child) -> None:
        with contextlib.suppress(Refusal):
            self._keep_state(held, await child.link.ask("state"))

    def _told_of(self, held: HeldRoom) -> dict[str, object]:
        return {"room_number": held.number, "rooms": len(self._rooms)}


def _absent(do: str) -> Refusal:
    if do == "listen":
        return Refusal(409, "Nobody is live here yet; try again.", _NOT_LIVE_RETRY_S)
    return Refusal(404, "There is no such room, or nobody is in it.")


def _look_at(task: asyncio.Task[None]) -> None:
    """Nobody may wait for it any more; asyncio would complain."""
    if not task.cancelled():
        task.exception()
