"""A room as its pages show it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream.relay.room.language import Language
    from stream.relay.room.room import Room
    from stream.relay.room.speaker import RoomSpeaker


def room_state(room: Room) -> dict[str, Any]:
    """JSON values: ``room``, ``speakers`` and ``floor``; docs/relay.md describes them."""
    now = room.now()
    return {
        "room": room.name,
        "speakers": [_speaker(speaker, now) for speaker in room.speakers.values()],
        "floor": {
            "speaking": room.router.floor_speaker(now),
            "languages": [
                {
                    "code": code,
                    "live": voice.intake is not None,
                    "sounding": voice.speaking,
                    "muted": voice.muted,
                }
                for code, voice in room.floor.items()
            ],
        },
    }


def _speaker(speaker: RoomSpeaker, now: float) -> dict[str, Any]:
    return {
        "name": speaker.name,
        "live": speaker.source is not None,
        "speaking": speaker.speaking,
        "muted": speaker.muted,
        "lip_sync": speaker.lip_sync,
        "trouble": speaker.trouble,
        "original": {
            "listeners": speaker.broadcast.viewers,
            "fps": speaker.meters.snapshot(now)["fps"],
        },
        "languages": [_language(language) for language in speaker.languages.values()],
    }


def _language(language: Language) -> dict[str, Any]:
    found = language.meters.snapshot(language.line.now())
    return {
        "code": language.code,
        "live": language.source is not None,
        "from": language.source,
        "sounding": language.sounding,
        "muted": language.muted,
        "listeners": language.broadcast.viewers,
        "fps": found["fps"],
        "added_delay_ms": found["added_delay_ms"]["total"],
        "skew_ms": found["skew_ms"],
        "sync": found["sync"],
        "gate": found["gate"],
        "modified": found["passthrough_reason"] is None and bool(found["fps"]),
        "passthrough_reason": found["passthrough_reason"],
        "trouble": language.trouble,
        "lag_s": language.lag_s(),
    }
