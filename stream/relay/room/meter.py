"""Turns what a room's parts say of themselves into the relay's measurements, once a second."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from engine.filterbank import FPS
from stream.core.meters import Meters
from stream.core.sync_meter import SyncMeter
from stream.relay.metrics import Codec, Rendition, RoomMetrics
from stream.web.broadcast import Broadcast
from stream.web.publisher import Publisher
from stream.web.viewer import Viewer

if TYPE_CHECKING:
    from stream.relay.room.room import Room

_FRAMES: Final[dict[str, Literal["generated", "passthrough", "repeated", "dropped_late"]]] = {
    "generated": "generated",
    "passthrough": "passthrough",
    "repeated": "repeated",
    "dropped": "dropped_late",
}
_CODECS: Final[dict[str, Codec]] = {"VP8": "vp8", "H264": "h264", "Opus": "opus"}


class RoomMeter:
    """Counts what has come since it last looked.

    Args:
        metrics: takes the counts.
    """

    def __init__(self, metrics: RoomMetrics) -> None:
        self._metrics = metrics
        self._seen: dict[tuple[int, str], float] = {}
        self._now: dict[tuple[int, str], float] = {}

    def look(self, room: Room) -> None:
        """A second is over."""
        self._now = {}
        metrics = self._metrics
        uses = [*room.uses.values()]
        publishers = [use for use in uses if isinstance(use, Publisher)]
        viewers = [use for use in uses if isinstance(use, Viewer)]
        metrics.sessions("speaker", sum(s.source is not None for s in room.speakers.values()))
        metrics.sessions("listener", len(viewers))
        interpreters = len(publishers) - sum(s.source is not None for s in room.speakers.values())
        metrics.sessions("interpreter", max(0, interpreters))
        metrics.sessions("process", sum(lang.process is not None for lang in _languages(room)))
        for publisher in publishers:
            self._received(publisher)
        renditions: dict[Rendition, int] = {"full": 0, "small": 0, "sound": 0}
        for viewer in viewers:
            renditions[self._sent(viewer)] += 1
        for rendition, count in renditions.items():
            metrics.viewers(rendition, count)
        for broadcast in _broadcasts(room):
            self._encoded(broadcast)
        for language in _languages(room):
            self._shown(language.meters, language.line.now())
        self._seen = self._now

    def _since(self, whose: object, name: str, value: float) -> int:
        """How much a counter has grown; a thing that is new counts from 0."""
        key = id(whose), name
        self._now[key] = value
        return max(0, round(value - self._seen.get(key, 0)))

    def _received(self, publisher: Publisher) -> None:
        facts, metrics = publisher.facts(), self._metrics
        if (sound := facts["sound"]) is not None:
            packets, lost = (
                self._since(publisher, f"s-{n}", sound[n]) for n in ("packets", "lost")
            )
            metrics.rtp("in", "audio", packets, lost)
            metrics.jitter(sound["jitter_ms"] / 1000)
        if (pictures := facts["pictures"]) is not None:
            packets = self._since(publisher, "p-packets", pictures["packets"])
            lost = self._since(publisher, "p-lost", pictures["lost"])
            metrics.rtp("in", "video", packets, lost)
            nacks = pictures["nacks"] + pictures["nacks_repeated"]
            metrics.nack("out", self._since(publisher, "nacks", nacks))
            metrics.pli("out", self._since(publisher, "plis", pictures["key_frames_asked"]))
            if pictures["rtt_ms"] is not None:
                metrics.rtt(pictures["rtt_ms"] / 1000)

    def _sent(self, viewer: Viewer) -> Rendition:
        facts, metrics = viewer.facts(), self._metrics
        metrics.rtp("out", "video", self._since(viewer, "packets", facts["packets"]))
        metrics.nack("in", self._since(viewer, "nacks", facts["nacks"]))
        metrics.pli("in", self._since(viewer, "plis", facts["plis"]))
        if facts["round_trip_s"] is not None:
            metrics.rtt(facts["round_trip_s"])
        rendition: Rendition = facts["rendition"] or "sound"
        return rendition

    def _encoded(self, broadcast: Broadcast) -> None:
        facts = broadcast.facts()
        for what, made in facts["encoded"].items():
            codec, _, rendition = what.partition(" ")
            self._metrics.encoded(
                _CODECS[codec],
                _rendition(rendition),
                self._since(broadcast, f"{what}-n", made["packets"]),
                self._since(broadcast, f"{what}-k", made["key_frames"]),
            )
        for reason, count in facts["dropped"].items():
            dropped = self._since(broadcast, f"dropped-{reason}", count)
            if dropped:
                self._metrics.dropped("broadcast", reason.replace(" ", "_"), dropped)

    def _shown(self, meters: Meters, now: float) -> None:
        found = meters.snapshot(now)
        frames: Mapping[str, Any] = found["frames"]
        shown = 0
        for name, kind in _FRAMES.items():
            grown = self._since(meters, name, frames[name])
            self._metrics.frames(kind, grown)
            shown += grown if name in ("generated", "passthrough") else 0
        self._metrics.frames("shown", shown)
        if found["skew_ms"] is not None:
            self._metrics.skew(found["skew_ms"] / 1000)
        if meters.sync is not None:
            self._judged(meters.sync)

    def _judged(self, sync: SyncMeter) -> None:
        said = 0
        for state, count in sync.readings.items():
            grown = self._since(sync, state, count)
            self._metrics.sync(state, grown)
            said += grown if state != "unsure" else 0
        self._metrics.sync_acts(
            self._since(sync, "corrections", sync.corrections),
            self._since(sync, "withdrawals", sync.withdrawals),
        )
        status = sync.status
        if said and status.avsu is not None:
            offset_s = None if status.offset is None else status.offset / FPS
            self._metrics.sync_figures(status.avsu, offset_s)


def _rendition(word: str) -> Rendition:
    return "full" if word == "full" else "small" if word == "small" else "sound"


def _languages(room: Room) -> Iterator[Any]:
    return (lang for speaker in room.speakers.values() for lang in speaker.languages.values())


def _broadcasts(room: Room) -> Iterator[Broadcast]:
    for speaker in room.speakers.values():
        yield speaker.broadcast
    for language in _languages(room):
        yield language.broadcast
