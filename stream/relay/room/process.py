"""What a room's process runs, from its name to its end."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final, Self

import cv2

from engine.bundle import Bundle, load_bundle
from stream.lip_experts import expert_bundle
from stream.live.clock import SessionClock
from stream.live.memory import give_back, keep_flat
from stream.relay.config import Translator
from stream.relay.engine.remote import RemoteEngine
from stream.relay.link import Link
from stream.relay.metrics import RoomMetrics
from stream.relay.room.desk import RoomDesk
from stream.relay.room.meter import RoomMeter
from stream.relay.room.room import Room
from stream.relay.room.translations import Translations
from stream.relay.room.workshop import Workshop
from stream.web.viewer import check_aiortc

log = logging.getLogger(__name__)

STATE_EVERY_S: Final = 0.5
GIVE_BACK_EVERY_S: Final = 60.0
IDLE_S: Final = 60.0
"""A room in which nobody publishes for this long is not needed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RoomOptions:
    """What a room is told by the front.

    Attributes:
        bundle_folder: the bundle that the engine process runs.
        engine_address: of the engine process.
        engine_key: its key.
        delay_s: added delay of a lip-synced line to begin with.
        badge: whether modified pictures are marked.
        most_peers: publishers and listeners that may be connected at once.
        translators: the languages that processes speak.
        sync_monitor: ``off``, ``report`` or ``act``.
        expert_folder: a bundle whose lip expert watches, if it is not the default.
    """

    bundle_folder: Path
    engine_address: str
    engine_key: bytes
    delay_s: float
    badge: bool
    most_peers: int
    translators: tuple[Translator, ...] = ()
    sync_monitor: str = "off"
    expert_folder: Path | None = None

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """What :meth:`to_json` gave."""
        return cls(
            bundle_folder=Path(values["bundle_folder"]),
            engine_address=values["engine_address"],
            engine_key=bytes.fromhex(values["engine_key"]),
            delay_s=values["delay_s"],
            badge=values["badge"],
            most_peers=values["most_peers"],
            translators=tuple(Translator(*order) for order in values["translators"]),
            sync_monitor=values["sync_monitor"],
            expert_folder=None if (expert := values["expert_folder"]) is None else Path(expert),
        )

    def to_json(self) -> dict[str, Any]:
        """JSON values."""
        return {
            "bundle_folder": str(self.bundle_folder),
            "engine_address": self.engine_address,
            "engine_key": self.engine_key.hex(),
            "delay_s": self.delay_s,
            "badge": self.badge,
            "most_peers": self.most_peers,
            "translators": [[o.room, o.speaker, o.language, o.url] for o in self.translators],
            "sync_monitor": self.sync_monitor,
            "expert_folder": None if self.expert_folder is None else str(self.expert_folder),
        }


def main(connection: Connection, room: str, options: dict[str, Any]) -> None:
    """Be a room until the front has closed the connection.

    Args:
        connection: to the front.
        room: its name.
        options: :meth:`RoomOptions.to_json`.
    """
    keep_flat()
    check_aiortc()
    cv2.setNumThreads(1)  # each step is short and has a thread of its own; a pool only waits
    asyncio.run(_hold(connection, room, RoomOptions.from_json(options)))


async def _hold(connection: Connection, name: str, options: RoomOptions) -> None:
    over = asyncio.Event()
    clock, metrics = SessionClock(), RoomMetrics()
    bundle = load_bundle(options.bundle_folder)
    room = Room(
        name,
        _workshop(clock, bundle, options, metrics),
        peers=options.most_peers,
        translations=Translations(options.translators, name),
        ended=lambda resource: link.tell("ended", resource=resource),
    )
    desk = RoomDesk(room)
    link = Link(connection, on_ask=desk.ask, on_end=over.set)
    link.start()
    clock.restart()
    try:
        async with asyncio.TaskGroup() as group:
            work = (room.run(), _tell(room, link, metrics), _give_back())
            tasks = [group.create_task(one) for one in work]
            try:
                await over.wait()
            finally:
                for task in tasks:
                    task.cancel()
    finally:
        await link.close()


def _workshop(
    clock: SessionClock, bundle: Bundle, options: RoomOptions, metrics: RoomMetrics
) -> Workshop:
    return Workshop(
        clock=clock,
        bundle=bundle,
        make_engine=lambda: RemoteEngine(options.engine_address, options.engine_key, bundle),
        metrics=metrics,
        delay_s=options.delay_s,
        badge=options.badge,
        sync_monitor=options.sync_monitor,
        expert=expert_bundle(bundle, options.sync_monitor, options.expert_folder),
    )


async def _give_back() -> None:
    """Let the system have what listeners who came and went leave of the heap."""
    while True:
        await asyncio.sleep(GIVE_BACK_EVERY_S)
        await asyncio.to_thread(give_back)


async def _tell(room: Room, link: Link, metrics: RoomMetrics) -> None:
    """Say how the room is, twice a second, and when nobody needs it any more."""
    meter = RoomMeter(metrics)
    even = False
    while True:
        await asyncio.sleep(STATE_EVERY_S)
        even = not even
        if even:
            meter.look(room)
        link.tell("state", **room.state(), metrics=metrics.as_json())
        if room.closed.is_set() or room.idle_s() > IDLE_S:
            link.tell("idle")
