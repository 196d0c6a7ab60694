"""What rooms measure, summed over all of them and read by Prometheus's own parser."""

import json
import math
from collections import Counter
from typing import Any

import pytest
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from stream.relay.front.exposition import ENDINGS, Exposition, Facts, FrontMetrics
from stream.relay.instruments import CHUNK_BUCKETS, COUNTERS, GAUGES, HISTOGRAMS
from stream.relay.metrics import MOST_SERIES, MetricsSum, RoomMetrics, summed

pytestmark = pytest.mark.unit


class Rooms:
    def __init__(self, *rooms: object) -> None:
        self.past = MetricsSum()
        self.told = list(rooms)

    def metrics(self) -> list[object]:
        return self.told


def facts(**change: Any) -> Facts:
    given: dict[str, Any] = {
        "rooms": 2,
        "most_rooms": 4,
        "draining": False,
        "memory_bytes": 1e8,
        "endings": Counter({"died": 3}),
        "engine_alive": True,
        "engine_restarts": 1,
    }
    return Facts(**(given | change))


def page(rooms: Rooms, front: FrontMetrics | None = None, **change: Any) -> str:
    made = Exposition(rooms, front or FrontMetrics(), lambda: facts(**change))
    body, kind = made.page("text/plain")
    assert kind.startswith("text/plain")
    return body.decode()


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Each by its name and its labels' values, in the order of the labels' names."""
    return {
        (sample.name.removeprefix("lipstream_"), *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def busy_room() -> RoomMetrics:
    room = RoomMetrics()
    room.sessions("speaker", 1)
    room.sessions("listener", 3)
    room.viewers("full", 2)
    room.queue_depth("broadcast", 5)
    room.dropped("broadcast", "slow_viewer", 4)
    room.chunk("infer", 0.2)
    room.chunk("infer", 0.21)
    room.chunk("total", 7.0)
    room.deadline_missed()
    room.frames("shown", 25)
    room.skew(-0.03)
    room.rtp("in", "video", 100, 2)
    room.nack("out", 3)
    room.pli("in")
    room.rtt(0.04)
    room.jitter(0.004)
    room.loop_lag(0.0007)
    room.ice("connected")
    room.encoded("vp8", "full", 25, 1)
    return room


def test_everything_that_a_room_measures_is_on_the_page() -> None:
    found = samples(page(Rooms(busy_room().as_json())))
    expected = {
        ("sessions", "speaker"): 1,
        ("sessions", "listener"): 3,
        ("viewers", "full"): 2,
        ("queue_depth", "broadcast"): 5,
        ("queue_dropped_total", "broadcast", "slow_viewer"): 4,
        ("chunk_seconds_count", "infer"): 2,
        ("chunk_seconds_sum", "infer"): 0.41,
        ("chunk_deadline_missed_total",): 1,
        ("frames_total", "shown"): 25,
        ("rtp_packets_total", "in", "video"): 100,
        ("rtp_lost_total", "in", "video"): 2,
        ("nack_total", "out"): 3,
        ("pli_total", "in"): 1,
        ("rtt_seconds_count",): 1,
        ("jitter_seconds_count",): 1,
        ("room_loop_lag_seconds_bucket", "0.001"): 1,
        ("ice_state_total", "connected"): 1,
        ("encoded_frames_total", "vp8", "full"): 25,
        ("key_frames_total", "vp8", "full"): 1,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_a_bound_belongs_to_its_bucket_and_buckets_add_up() -> None:
    found = samples(page(Rooms(busy_room().as_json())))
    infer = [found["chunk_seconds_bucket", str(bound), "infer"] for bound in CHUNK_BUCKETS]
    assert infer == [0, 0, 0, 0, 0, 0, 1, 2, 2, 2]  # 0.2 s, and 0.21 s
    assert found["chunk_seconds_bucket", "1.0", "total"] == 0
    assert found["chunk_seconds_bucket", "+Inf", "total"] == 1
    assert found["av_skew_seconds_bucket", "-0.02"] == 1
    assert found["av_skew_seconds_bucket", "-0.045"] == 0


def test_the_front_process_tells_of_itself() -> None:
    front = FrontMetrics()
    for status in (201, 201, 401, 403, 400, 409, 429, 503, 500):
        front.answered(status)
    front.loop_lag(0.003)
    found = samples(page(Rooms(), front))
    assert found["session_admission_total", "ok"] == 2
    assert found["session_admission_total", "auth"] == 2
    for result in ("bad_sdp", "not_live", "rate", "full", "failed"):
        assert found["session_admission_total", result] == 1
    assert found["loop_lag_seconds_bucket", "0.002"] == 0
    assert found["loop_lag_seconds_bucket", "0.005"] == 1
    assert found["rooms",] == 2
    assert found["rooms_limit",] == 4
    assert found["engine_up",] == 1
    assert found["engine_restarts_total",] == 1
    assert found["rooms_memory_bytes",] == 1e8
    assert [found["room_ends_total", reason] for reason in ENDINGS] == [0, 0, 3, 0, 0, 0]


def test_memory_that_is_not_known_is_left_out() -> None:
    assert ("rooms_memory_bytes",) not in samples(page(Rooms(), memory_bytes=None))


def test_the_engine_tells_how_much_it_has_to_do() -> None:
    """What it says of itself, and nothing while there is none."""
    told = {
        "open_slots": 3,
        "capacity": 4,
        "load": 0.5,
        "reserved": 0.6,
        "overloaded": True,
        "refused": 2,
        "chunks": 50,
        "late": 4,
        "shed": 1,
        "steps": 20,
        "frames": 250,
        "step_seconds": 1.5,
        "pid": 7,
        "working": None,
    }
    found = samples(page(Rooms(), engine=told))
    assert {name[0]: value for name, value in found.items() if name[0].startswith("engine_")} == {
        "engine_up": 1,
        "engine_restarts_total": 1,
        "engine_sessions": 3,
        "engine_capacity_sessions": 4,
        "engine_load_ratio": 0.5,
        "engine_reserved_ratio": 0.6,
        "engine_overloaded": 1,
        "engine_refused_total": 2,
        "engine_chunks_total": 50,
        "engine_chunks_late_total": 4,
        "engine_chunks_shed_total": 1,
        "engine_steps_total": 20,
        "engine_frames_total": 250,
        "engine_step_seconds_total": 1.5,
    }
    assert ("engine_load_ratio",) not in samples(page(Rooms()))


def test_both_formats_are_well_formed_and_follow_the_naming_rules() -> None:
    rooms = Rooms(busy_room().as_json(), busy_room().as_json())
    made = Exposition(rooms, FrontMetrics(), lambda: facts(engine={"load": 0.5, "shed": 1}))
    body, kind = made.page("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    parse: Any = openmetrics.text_string_to_metric_families  # it has no types
    families = [*parse(body.decode())]
    assert len(families) > 20
    plain = text_string_to_metric_families(page(rooms, engine={"load": 0.5, "shed": 1}))
    for family in [*families, *plain]:
        assert family.name.startswith("lipstream_")
        assert family.documentation.endswith(".")
        assert not family.name.endswith(("_ms", "_mb", "_percent"))


def test_rooms_are_summed_and_none_is_named() -> None:
    text = page(Rooms(busy_room().as_json(), busy_room().as_json()))
    found = samples(text)
    assert found["frames_total", "shown"] == 50
    assert found["sessions", "listener"] == 6
    assert found["chunk_seconds_count", "infer"] == 4
    labels = {
        name for f in text_string_to_metric_families(text) for s in f.samples for name in s.labels
    }
    known = {
        name for i in (COUNTERS, GAUGES, HISTOGRAMS) for one in i.values() for name in one.labels
    }
    assert labels <= known | {"le", "result", "reason"}


def test_what_an_ended_room_counted_stays_and_what_it_held_goes() -> None:
    rooms = Rooms()
    rooms.past.add(busy_room().as_json(), gauges=False)
    found = samples(page(rooms))
    assert found["frames_total", "shown"] == 25
    assert found["chunk_seconds_count", "infer"] == 2
    assert ("sessions", "listener") not in found
    rooms.told.append(busy_room().as_json())
    assert samples(page(rooms))["frames_total", "shown"] == 50


def test_the_json_form_survives_the_link() -> None:
    told = busy_room().as_json()
    assert json.loads(json.dumps(told)) == told
    assert summed([told], MetricsSum()).as_json() == told


def test_what_is_no_number_is_not_counted() -> None:
    room = RoomMetrics()
    room.chunk("infer", math.nan)
    room.skew(math.inf)
    room.rtp("in", "audio", -5)
    told = room.as_json()
    assert "rtp_packets" not in told["counters"]
    assert (
        sum(told["histograms"].get("chunk_seconds", {"infer": {"counts": []}})["infer"]["counts"])
        == 0
    )


GOOD = {"counts": [0] * 11, "sum": 0.0}
BAD: list[object] = [
    None,
    [],
    7,
    {"counters": 3},
    {"counters": {"frames": 3}},
    {"counters": {"frames": {"shown": "many"}}},
    {"counters": {"frames": {"shown": -1}}},
    {"counters": {"frames": {"shown": True}}},
    {"counters": {"frames": {"shown": 1e300}}},
    {"counters": {"frames": {"Aardvark": 1}}},
    {"counters": {"frames": {"shown,shown": 1}}},
    {"counters": {"chunk_deadline_missed": {"shown": 1}}},
    {"counters": {"unknown": {"shown": 1}}},
    {"counters": {"queue_dropped": {'a"}\n,b': 1}}},
    {"gauges": {"sessions": {"listener": None}}},
    {"gauges": {"frames": {"shown": 1}}},
    {"histograms": {"chunk_seconds": {"infer": 3}}},
    {"histograms": {"chunk_seconds": {"infer": GOOD | {"counts": [1] * 10}}}},
    {"histograms": {"chunk_seconds": {"infer": GOOD | {"counts": [1] * 10 + ["x"]}}}},
    {"histograms": {"chunk_seconds": {"infer": GOOD | {"counts": [-1] * 11}}}},
    {"histograms": {"chunk_seconds": {"infer": GOOD | {"sum": None}}}},
    {"histograms": {"chunk_seconds": {"lunch": GOOD}}},
]


@pytest.mark.parametrize("told", BAD, ids=lambda told: json.dumps(told)[:60])
def test_a_room_that_tells_nonsense_changes_nothing(told: object) -> None:
    assert page(Rooms(busy_room().as_json(), told)) == page(Rooms(busy_room().as_json()))


def test_series_are_bounded() -> None:
    room = RoomMetrics()
    for number in range(1000):
        room.dropped("queue", f"reason{number}")
    [series] = room.as_json()["counters"].values()
    assert len(series) == MOST_SERIES
