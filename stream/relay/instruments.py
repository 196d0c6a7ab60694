"""The names of all measurements of the relay, and what their labels may say.

Units are base units (seconds, bytes). Nothing here names a room, a person or an address: a label
has few values, which are written down here or are plain words of the code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

SPLIT: Final = ","
"""Between the label values of a series where it stands as a key in JSON."""

PREFIX: Final = "lipstream_"

STAGES: Final = ("queue", "batch", "infer", "post", "total")
FRAME_KINDS: Final = ("shown", "generated", "dropped_late", "repeated", "passthrough")
SESSION_KINDS: Final = ("speaker", "interpreter", "process", "listener")
DIRECTIONS: Final = ("in", "out")
MEDIA: Final = ("audio", "video")
RENDITIONS: Final = ("full", "small", "sound")
CODECS: Final = ("vp8", "h264", "opus")
SYNC_STATES: Final = ("good", "drifting", "poor", "unsure")
ICE_STATES: Final = (
    "new",
    "checking",
    "connected",
    "completed",
    "disconnected",
    "failed",
    "closed",
)

CHUNK_BUCKETS: Final = (0.01, 0.02, 0.04, 0.08, 0.12, 0.16, 0.2, 0.3, 0.4, 1.0)
AVSU_BUCKETS: Final = (-0.2, -0.1, 0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SKEW_BUCKETS: Final = (
    *(-0.2, -0.16, -0.12, -0.08, -0.045, -0.02, 0.0),
    *(0.02, 0.045, 0.08, 0.12, 0.16, 0.2),
)
LAG_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
RTT_BUCKETS: Final = (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
JITTER_BUCKETS: Final = (0.001, 0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2)

Words = tuple[str, ...] | None
"""What a label may say; None: any plain word."""


@dataclass(frozen=True, slots=True)
class Instrument:
    """A measurement.

    Attributes:
        help: what it is, for whoever reads the metrics.
        labels: each with what it may say, in the order of the values.
        buckets: upper bounds, for a histogram.
    """

    help: str
    labels: dict[str, Words]
    buckets: tuple[float, ...] = ()


COUNTERS: Final[dict[str, Instrument]] = {
    "chunk_deadline_missed": Instrument("Chunks that came too late to be shown.", {}),
    "frames": Instrument("Pictures by what became of them.", {"kind": FRAME_KINDS}),
    "queue_dropped": Instrument(
        "Things that a full queue dropped.", {"queue": None, "reason": None}
    ),
    "rtp_packets": Instrument("RTP packets.", {"direction": DIRECTIONS, "kind": MEDIA}),
    "rtp_lost": Instrument("RTP packets that were lost.", {"direction": DIRECTIONS, "kind": MEDIA}),
    "nack": Instrument(
        "Retransmissions asked for: in by clients, out by us.", {"direction": DIRECTIONS}
    ),
    "pli": Instrument("Key frames asked for: in by clients, out by us.", {"direction": DIRECTIONS}),
    "ice_state": Instrument("Changes of a connection's ICE state.", {"state": ICE_STATES}),
    "encoded_frames": Instrument(
        "Frames encoded, once for all who get them.", {"codec": CODECS, "rendition": RENDITIONS}
    ),
    "sync_readings": Instrument(
        "What the sync monitors said of lips and speech.", {"state": SYNC_STATES}
    ),
    "sync_corrections": Instrument("Times that picture and sound were moved to fit.", {}),
    "sync_withdrawals": Instrument(
        "Times that the real mouth was shown since the painted one did not match.", {}
    ),
    "key_frames": Instrument("Of these, key frames.", {"codec": CODECS, "rendition": RENDITIONS}),
}
"""``_total`` comes after these names."""

GAUGES: Final[dict[str, Instrument]] = {
    "sessions": Instrument("Connections and processes, by what they are.", {"kind": SESSION_KINDS}),
    "viewers": Instrument("Listeners by what they are sent.", {"rendition": RENDITIONS}),
    "queue_depth": Instrument("Things that wait in a queue.", {"queue": None}),
}

HISTOGRAMS: Final[dict[str, Instrument]] = {
    "chunk_seconds": Instrument("Time that a chunk took.", {"stage": STAGES}, CHUNK_BUCKETS),
    "av_skew_seconds": Instrument("How much later than its picture sound left.", {}, SKEW_BUCKETS),
    "sync_avsu": Instrument(
        "AVSu of lips and speech as they left, where there was enough of both.", {}, AVSU_BUCKETS
    ),
    "sync_offset_seconds": Instrument(
        "How much later than the lips that it fits the sound left.", {}, SKEW_BUCKETS
    ),
    "rtt_seconds": Instrument("Round trips to clients, as they report them.", {}, RTT_BUCKETS),
    "jitter_seconds": Instrument("Jitter of what clients send.", {}, JITTER_BUCKETS),
    "room_loop_lag_seconds": Instrument("How late rooms' event loops were.", {}, LAG_BUCKETS),
}
