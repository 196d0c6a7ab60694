import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from stream.core.floor import FloorRouter

pytestmark = pytest.mark.unit

TICK_S = 0.02

Spans = Sequence[tuple[float, float]]


@dataclass
class Meeting:
    """Who speaks when, in seconds, played to a router tick by tick.

    ``gone`` says from when to when somebody is not there.
    """

    speakers: Mapping[str, Spans]
    interpreter: Spans = ()
    gone: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    router: FloorRouter = field(default_factory=FloorRouter)

    def play(self, until_s: float) -> list[tuple[float, str | None, str | None]]:
        """Time, route and floor of each tick."""
        found = []
        for tick in range(round(until_s / TICK_S)):
            now = tick * TICK_S
            for name, spans in self.speakers.items():
                start, end = self.gone.get(name, (1e9, 1e9))
                if start <= now < end:
                    self.router.left(name, now)
                else:
                    self.router.heard(name, during(spans, now), now)
            route = self.router.route("de", during(self.interpreter, now), now)
            found.append((now, route, self.router.floor_speaker(now)))
        return found

    def owners(self) -> list[str | None]:
        """Whose each of the interpreter's utterances was; each is one's from end to end."""
        ticks = self.play(self.interpreter[-1][1] + 0.1)
        owners: list[str | None] = []
        for start, end in self.interpreter:
            routes = {route for now, route, _ in ticks if start < now < end}
            assert len(routes) == 1, f"the utterance of {start} s changes hands: {routes}"
            owners += routes
        return owners


def during(spans: Spans, now: float) -> bool:
    return any(start <= now < end for start, end in spans)


SCRIPTS: dict[str, tuple[Mapping[str, Spans], Spans, list[str | None]]] = {
    "one speaker, one interpreter behind": (
        {"ann": [(0, 5), (7, 12)]},
        [(2, 6.5), (9, 14)],
        ["ann", "ann"],
    ),
    "the interpreter finishes ann's words while bob has begun": (
        {"ann": [(0, 10)], "bob": [(10.5, 30)]},
        [(2, 9), (10.9, 12.5)],
        ["ann", "ann"],
    ),
    "bob is interpreted once he spoke longer than ann in the window": (
        {"ann": [(0, 10)], "bob": [(10.5, 30)]},
        [(2, 11.5), (14.6, 20)],
        ["ann", "bob"],
    ),
    "a slow interpreter begins ann's last sentence when bob has spoken for three seconds": (
        {"ann": [(0, 10)], "bob": [(10.5, 30)]},
        [(4, 11), (13.4, 16)],
        ["ann", "ann"],
    ),
    "pauses of half a second are within an utterance, whoever speaks by then": (
        {"ann": [(0, 10)], "bob": [(10.5, 30)]},
        [(2, 20), (20.5, 25), (26, 28)],
        ["ann", "ann", "bob"],
    ),
    "somebody who began half a second ago is not interpreted yet": (
        {"ann": [(0, 3)], "bob": [(12, 20)]},
        [(12.5, 13.5)],
        ["ann"],
    ),
    "mhm never wins the floor": (
        {"ann": [(0, 2)], "bob": [(3, 3.5), (5, 5.5), (7, 7.5), (9, 9.5)]},
        [(3, 5.5), (6.5, 8), (11, 12)],
        ["ann", "ann", "ann"],
    ),
    "mhm under somebody's speech does not end their being alone": (
        {"ann": [(0, 6)], "bob": [(6, 30)], "eve": [(8, 8.4), (9.5, 9.9), (11, 11.4)]},
        [(12, 14)],
        ["bob"],
    ),
    "of two who speak at once, the one who spoke longer": (
        {"ann": [(0, 10)], "bob": [(4, 10)]},
        [(5, 6), (8.5, 12)],
        ["ann", "ann"],
    ),
    "of two who spoke equally long, the one who had the floor two seconds ago": (
        {"ann": [(0.9, 3.5)], "bob": [(3.5, 6.1)]},
        [(7.0, 8)],
        ["bob"],
    ),
    "after a long silence, who spoke last": (
        {"ann": [(0, 5)], "bob": [(5, 8)]},
        [(60, 62)],
        ["bob"],
    ),
    "a minute of mhm does not make anybody forget who spoke last": (
        {"ann": [(2, 8)], "bob": [(0, 2)] + [(10 + 2 * i, 10.4 + 2 * i) for i in range(30)]},
        [(70, 72)],
        ["ann"],
    ),
    "a minute of one's own mhm neither": (
        {"ann": [(0, 2)], "bob": [(2, 8)] + [(10 + 2 * i, 10.4 + 2 * i) for i in range(30)]},
        [(70, 72)],
        ["bob"],
    ),
    "nobody has spoken": ({"ann": []}, [(1, 2)], [None]),
    "a machine that answers at once, when there is nobody else": (
        {"ann": [(1, 5)]},
        [(1.8, 4)],
        ["ann"],
    ),
}


@pytest.mark.parametrize(("speakers", "interpreter", "owners"), SCRIPTS.values(), ids=SCRIPTS)
def test_each_utterance_belongs_to(
    speakers: Mapping[str, Spans], interpreter: Spans, owners: list[str | None]
) -> None:
    assert Meeting(speakers, interpreter).owners() == owners


def test_a_pause_of_the_interpreter_switches_to_who_speaks_alone() -> None:
    """With a hold shorter than the window: bob is alone for two seconds from 12 s on."""
    speakers = {"ann": [(0.0, 10.0)], "bob": [(10.0, 30.0)]}
    routes = {}
    for hold_s in (2.0, 4.0):
        meeting = Meeting(speakers, [(2.0, 11.5)], router=FloorRouter(hold_s=hold_s))
        routes[hold_s] = {round(now, 2): route for now, route, _ in meeting.play(15)}
    assert routes[2.0][11.9] == "ann"
    assert routes[2.0][12.26] == "ann"  # the utterance is not over yet
    assert routes[2.0][12.32] == "bob"
    assert routes[4.0][12.32] == "ann"
    assert routes[4.0][14.1] == "bob"


@pytest.mark.parametrize(
    ("bob", "owner"),
    [
        pytest.param((3.5, 5.0), "ann", id="alone, but silent for a second"),
        pytest.param((5.0, 9.0), "ann", id="alone for a second and a half"),
        pytest.param((4.2, 9.0), "bob", id="alone for more than two"),
    ],
)
def test_who_speaks_alone_is_who_does_so_now_and_for_all_of_the_hold(
    bob: tuple[float, float], owner: str
) -> None:
    router = FloorRouter(hold_s=2.0)
    meeting = Meeting({"ann": [(0, min(bob[0], 4.4))], "bob": [bob]}, [(6.5, 7)], router=router)
    assert meeting.owners() == [owner]


def test_the_route_in_a_pause_is_where_an_utterance_would_go() -> None:
    """So that the first syllable, heard late by the detector, is not sent to the one before."""
    speakers = {"ann": [(0.0, 10.0)], "bob": [(10.5, 30.0)]}
    ticks = Meeting(speakers, [(2.0, 11.0), (15.0, 20.0)]).play(20)
    routes = {round(now, 2): route for now, route, _ in ticks}
    assert routes[11.0] == routes[11.7] == "ann"
    assert routes[14.98] == routes[15.0] == "bob"


def test_words_of_somebody_who_left_are_nobodys_and_the_next_ones_are_the_next_speakers() -> None:
    meeting = Meeting(
        {"ann": [(0, 10)], "bob": [(11, 40)]},
        [(2, 9), (11, 13), (16.2, 20)],
        gone={"ann": (9.5, 1e9)},
    )
    assert meeting.owners() == ["ann", None, "bob"]


def test_an_utterance_without_end_goes_on_to_the_next_speaker_when_the_left_one_is_forgotten() -> (
    None
):
    meeting = Meeting({"ann": [(0, 10)], "bob": [(10, 40)]}, [(2, 30)], gone={"ann": (9.0, 1e9)})
    routes = [route for now, route, _ in meeting.play(30) if now > 2.1]
    changes = [routes[0]] + [b for a, b in itertools.pairwise(routes) if a != b]
    assert changes == ["ann", None, "bob"]


def test_who_comes_back_at_once_goes_on_being_interpreted() -> None:
    meeting = Meeting({"ann": [(0, 8)], "bob": []}, [(2, 10)], gone={"ann": (4, 6)})
    routes = {round(now, 2): route for now, route, _ in meeting.play(10)}
    assert routes[3.98] == "ann"
    assert routes[5.0] is None
    assert routes[6.02] == routes[9.0] == "ann"


def test_whoever_left_is_never_the_answer() -> None:
    """All leave one after the other, whoever was interpreted."""
    meeting = Meeting(
        {"ann": [(0, 5)], "bob": [(4, 9)], "eve": [(8, 13)]},
        [(i * 2.0, i * 2.0 + 1) for i in range(15)],
        gone={"ann": (5, 1e9), "bob": (9, 1e9), "eve": (13, 1e9)},
    )
    for now, route, floor in meeting.play(30):
        for name in (route, floor):
            assert name is None or now < meeting.gone[name][0]


def test_interpreters_of_two_languages_are_routed_each_by_their_own_pauses() -> None:
    router = FloorRouter()
    last = {}
    for tick in range(1000):
        now = tick * TICK_S
        router.heard("ann", now < 10, now)
        router.heard("bob", now >= 10, now)
        last["de"] = router.route("de", True, now)
        last["fr"] = router.route("fr", now < 12 or now > 15, now)
    assert last == {"de": "ann", "fr": "bob"}
    router.end("de")
    assert router.route("de", True, 20.0) == "bob"


def test_the_floor_is_with_who_began_first_and_pauses_do_not_end_a_turn() -> None:
    meeting = Meeting({"ann": [(1, 4), (4.5, 8)], "bob": [(6, 12)], "eve": [(14, 14.5)]})
    floors = {round(now, 2): floor for now, _, floor in meeting.play(16)}
    assert floors[0.9] is None
    assert floors[1.5] is None  # it may still be a noise
    assert floors[1.7] == floors[4.3] == floors[7.9] == "ann"
    assert floors[9.0] == floors[11.9] == floors[12.7] == "bob"
    assert floors[12.9] is None
    assert floors[14.6] is None


def test_ticks_that_were_left_out_are_no_speech_and_a_clock_that_stands_changes_nothing() -> None:
    router = FloorRouter()
    for now in (0.0, 0.02, 5.0, 5.02, *[5.02, 1.0] * 20):
        router.heard("ann", True, now)
    assert router.floor_speaker(5.02) is None
    for tick in range(50):
        router.heard("bob", True, 6 + tick * TICK_S)
    router.heard("bob", True, 6.0)
    assert router.floor_speaker(7.0) == "bob"


def test_hours_of_meeting_are_held_in_a_few_turns() -> None:
    router = FloorRouter()
    for tick in range(200_000):
        now = tick * TICK_S
        router.heard("ann", tick % 75 < 34, now)
    assert len(router._speakers["ann"].turns) < 15


@pytest.mark.parametrize("times", [{"lag_s": -1.0}, {"hold_s": 11.0}, {"lag_s": float("nan")}])
def test_impossible_times_are_refused(times: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="from 0 to 10 s"):
        FloorRouter(**times)
