"""The room's side of the pipe: what the front may ask of it."""

from __future__ import annotations

from typing import Any, Final

from stream.relay.refusal import Refusal
from stream.relay.room.publications import FLOOR
from stream.relay.room.room import Room
from stream.web.offer import OfferError

_UNKNOWN: Final = "The room does not know what that is."


class RoomDesk:
    """Answers requests; their fields come from our own front, so a wrong one is a fault of ours.

    Args:
        room: that is asked.
    """

    def __init__(self, room: Room) -> None:
        self._room = room

    async def ask(self, do: str, fields: dict[str, Any]) -> dict[str, Any]:
        """Do what is asked.

        Args:
            do: ``publish``, ``listen``, ``candidates``, ``end``, ``admin`` or ``state``.
            fields: of the request; JSON values.

        Returns:
            The reply's fields.

        Raises:
            Refusal: it is not to be.
        """
        room = self._room
        match do:
            case "publish":
                return await room.publish(**_offered(fields))
            case "listen":
                return await room.listen(**_offered(fields))
            case "candidates":
                await self._candidates(fields["resource"], fields["mid"], fields["lines"])
            case "end":
                room.end(fields["resource"])
            case "admin":
                self._admin(fields["action"], fields.get("speaker"), fields.get("language"))
            case "state":
                return room.state()
            case _:
                raise Refusal(404, _UNKNOWN)
        return {}

    async def _candidates(self, resource: str, mid: str, lines: list[str]) -> None:
        try:
            await self._room.peers.add_candidates(resource, mid, lines)
        except OfferError as error:
            raise Refusal(error.status, str(error)) from error

    def _admin(self, action: str, speaker: str | None, language: str | None) -> None:
        room = self._room
        if action == "end":
            room.close()
            return
        if speaker is None:
            raise Refusal(400, "Name the speaker.")
        match action:
            case "mute" | "unmute":
                room.mute(speaker, language, action == "mute")
            case "remove":
                room.remove(speaker, language)
            case "lip_sync_on" | "lip_sync_off" if speaker != FLOOR:
                room.lip_sync(speaker, action == "lip_sync_on")
            case _:
                raise Refusal(404, _UNKNOWN)


def _offered(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: fields[name] for name in ("speaker", "language", "offer", "resource")}
