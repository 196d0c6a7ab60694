"""Pictures on the room's clock, beside the sound of the same moment; an hour in seconds."""

import math
import random
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import pytest

from stream.core.intake import LiveIntake
from stream.core.intake_watch import IntakeWatch
from stream.core.remote_clock import MOST_AHEAD_S, RemoteClock
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.core.sound_timeline import SoundTimeline, Stretch

pytestmark = pytest.mark.unit

FPS = 25
PERIOD_S, SCALE = 10.0, 20.0  # samples rise with their content's time, again every 10 s
CLEAN = 0.1  # of the rise within a block, by which it may be off; where sound is filled, it is


def never(at: float) -> float:
    return 0.0


@dataclass
class Meeting:
    """A sender, two lines and a room, in virtual time; all delays in seconds.

    Attributes:
        sound_delay_s: of the line for sound.
        picture_delay_s: of the line for pictures.
        jitter_s: by how much more than that each packet may take.
        loss: share of sound packets and of pictures lost.
        sound_ppm: how fast the sender's sound clock runs against its pictures' and its wall clock.
        room_ppm: how fast all of the sender's clocks run against the room's.
        report_s: how often it sends reports; 0: never.
        step_s: how far its wall clock has been set by then, by sender's time.
        sounds: whether it sends sound, by sender's time.
        cut: from when to when nothing passes.
        tick_late_s: by how much the room's ticks may be late.
    """

    sound_delay_s: float = 0.05
    picture_delay_s: float = 0.05
    jitter_s: float = 0.0
    loss: float = 0.0
    sound_ppm: float = 0.0
    room_ppm: float = 0.0
    report_s: float = 1.0
    step_s: Callable[[float], float] = never
    sounds: Callable[[float], bool] = lambda at: True
    cut: tuple[float, float] = (0.0, 0.0)
    tick_late_s: float = 0.0
    seed: int = 1
    clock: RemoteClock = field(default_factory=RemoteClock)
    pts: list[tuple[float, float, float]] = field(default_factory=list)  # now, content, pts
    pulled: list[tuple[float, float]] = field(default_factory=list)  # room seconds, content

    def run(self, seconds: float) -> "Meeting":
        chance = random.Random(self.seed)
        intake = LiveIntake(SOUND_RATE, CHANNELS, target_s=0.08)
        watch, timeline = IntakeWatch(intake, self.clock), SoundTimeline(decode)
        sound_base, picture_base = 7e5, 3e4  # media seconds: random origins
        events: list[tuple[float, int, Callable[[float], None]]] = []

        def at(when: float, happen: Callable[[float], None]) -> None:
            events.append((when, len(events), happen))

        def push(stretches: list[Stretch], now: float) -> None:
            for stretch in stretches:
                intake.push(stretch.samples, now)
                end_s = (stretch.start + len(stretch.samples)) / SOUND_RATE
                watch.pushed(end_s, now)

        def arrives(number: int, timestamp: int, content: float, now: float) -> None:
            self.clock.arrived("sound", timestamp / SOUND_RATE + TICK_S, now)
            data, dry = struct.pack("!d", content), watch.look(now)
            push(timeline.add(number, timestamp, data, now, dry=dry), now)

        def seen(media_s: float, content: float, now: float) -> None:
            self.clock.arrived("picture", media_s, now)
            self.pts.append((now, content, self.clock.picture(media_s, now)))

        def look(now: float) -> None:
            push(timeline.wait(now, dry=watch.look(now)), now)

        def pull(tick: int, now: float) -> None:
            block = intake.pull(TICK_SAMPLES, now)
            rise_s = float(block[-1, 0] - block[0, 0]) * SCALE
            steps = np.diff(block[:, 0]) * SCALE * SOUND_RATE
            if abs(rise_s - TICK_S) < CLEAN * TICK_S and np.abs(steps - 1).max() < 3:
                room = (tick - 0.5) * TICK_S
                shown = float(block[TICK_SAMPLES // 2, 0]) * SCALE
                content = room + math.remainder(shown - room, PERIOD_S)
                self.pulled.append((room, content))

        # Sender's time is the content's; the room's runs differently by room_ppm.
        room_rate = 1 - self.room_ppm * 1e-6
        own = TICK_S / (1 + self.sound_ppm * 1e-6)  # a packet's length by the wall clock
        for number in range(int(seconds / own)):
            content = number * own
            if self.sounds(content) and self._passes(content, chance):
                timestamp = round(sound_base * SOUND_RATE) + number * TICK_SAMPLES
                arrival = (content + TICK_S) * room_rate + self._delay(self.sound_delay_s, chance)
                at(arrival, lambda now, n=number, t=timestamp, c=content: arrives(n, t, c, now))  # type: ignore[misc]
        for number in range(int(seconds * FPS)):
            content = number / FPS
            if self._passes(content, chance):
                arrival = content * room_rate + self._delay(self.picture_delay_s, chance)
                at(arrival, lambda now, c=content: seen(picture_base + c, c, now))  # type: ignore[misc]
        report = 0.4 * self.report_s
        while self.report_s and report < seconds:
            sound_media = sound_base + report * (1 + self.sound_ppm * 1e-6)
            wall = 3.9e9 + report + self.step_s(report)
            at(
                report + self.sound_delay_s,
                lambda now, w=wall, m=sound_media: self.clock.report("sound", w, m, now),  # type: ignore[misc]
            )
            later = report + 0.3 * self.report_s
            wall = 3.9e9 + later + self.step_s(later)
            at(
                later + self.picture_delay_s,
                lambda now, w=wall, m=picture_base + later: self.clock.report(  # type: ignore[misc]
                    "picture", w, m, now
                ),
            )
            report += self.report_s
        for tick in range(1, int(seconds / TICK_S)):
            pull_at = tick * TICK_S + self.tick_late_s * chance.random()
            at(pull_at, lambda now, t=tick: pull(t, now))  # type: ignore[misc]
            at(tick * TICK_S + 0.004, look)
            at(tick * TICK_S + 0.014, look)
        for when, _, happen in sorted(events, key=lambda event: event[:2]):
            happen(when)
        return self

    def _passes(self, at: float, chance: random.Random) -> bool:
        return chance.random() >= self.loss and not self.cut[0] <= at < self.cut[1]

    def _delay(self, least_s: float, chance: random.Random) -> float:
        return least_s + self.jitter_s * chance.random()

    def apart(self, after_s: float) -> list[float]:
        """For each picture: how much later than it the sound of its moment is in the room."""
        rooms = np.array([room for room, _ in self.pulled])
        contents = np.array([content for _, content in self.pulled])
        order = np.argsort(contents)
        found = []
        for now, content, pts in self.pts:
            place = np.searchsorted(contents[order], content)
            known = 0 < place < len(order)
            if now > after_s and known and np.ptp(contents[order[place - 1 : place + 1]]) < 0.1:
                found.append(float(np.interp(content, contents[order], rooms[order])) - pts)
        return found


def decode(data: bytes) -> Sound:
    """Each sample tells the content's time."""
    (content,) = struct.unpack("!d", data)
    times = content + np.arange(TICK_SAMPLES) / SOUND_RATE
    values = (times % PERIOD_S / SCALE).astype(np.float32)
    return np.stack([values, values], axis=1)


def assert_together(meeting: Meeting, *, after_s: float = 3.0, within_s: float = 0.02) -> None:
    apart = meeting.apart(after_s)
    assert len(apart) > 100
    sizes = np.abs(apart)
    assert np.quantile(sizes, 0.95) <= within_s
    # Where so much is lost that the intake runs dry, the sound moves behind pictures' backs.
    assert meeting.loss or meeting.cut[1] or sizes.max() <= within_s
    assert all(b > a for (_, _, a), (_, _, b) in pairwise(meeting.pts))


@pytest.mark.parametrize(
    "meeting",
    [
        pytest.param(Meeting(), id="a good line"),
        pytest.param(Meeting(sound_delay_s=0.35), id="sound 300 ms behind"),
        pytest.param(Meeting(picture_delay_s=0.35), id="pictures 300 ms behind"),
        pytest.param(Meeting(jitter_s=0.04), id="jitter"),
        pytest.param(Meeting(tick_late_s=0.015, sound_delay_s=0.06), id="late ticks"),
        pytest.param(Meeting(loss=0.05, picture_delay_s=0.35, jitter_s=0.02), id="5 % loss"),
        pytest.param(Meeting(loss=0.1, sound_delay_s=0.2), id="10 % loss"),
        pytest.param(Meeting(report_s=5.0, sound_delay_s=0.2), id="rare reports"),
        pytest.param(Meeting(room_ppm=200), id="a sender that is fast"),
    ],
)
def test_pictures_and_sound_of_one_moment_belong_together(meeting: Meeting) -> None:
    assert_together(meeting.run(30), after_s=6.0 if meeting.report_s > 1 else 3.0)


@pytest.mark.parametrize("ppm", [-200.0, 200.0])
def test_a_sound_clock_that_runs_differently_is_followed_for_minutes(ppm: float) -> None:
    meeting = Meeting(sound_ppm=ppm, sound_delay_s=0.15).run(120)
    assert_together(meeting)


def test_an_outage_moves_nothing() -> None:
    meeting = Meeting(sound_delay_s=0.15, cut=(8.0, 10.0)).run(20)
    assert_together(meeting)
    offsets = [pts - content for _, content, pts in meeting.pts if content > 3]
    assert max(offsets) - min(offsets) < 1 / FPS


def test_before_reports_and_without_any_arrivals_tell() -> None:
    meeting = Meeting(report_s=0.0, jitter_s=0.03, loss=0.05).run(30)
    assert not meeting.clock.by_reports
    assert_together(meeting)


def test_the_first_report_moves_pictures_softly() -> None:
    meeting = Meeting(picture_delay_s=0.35).run(10)
    steps = [b - a for (_, _, a), (_, _, b) in pairwise(meeting.pts)]
    assert min(steps) >= 0.5 / FPS - 1e-6
    assert max(steps) <= 1.5 / FPS + 1e-6
    assert meeting.clock.by_reports


def test_a_wall_clock_that_is_set_by_an_hour_moves_nothing() -> None:
    meeting = Meeting(sound_delay_s=0.25, step_s=lambda at: 3600.0 if at > 10 else 0.0).run(40)
    assert_together(meeting)


def test_reports_that_can_not_be_true_are_not_believed() -> None:
    """Each track counts from its own start, in a sender that reports so."""
    meeting = Meeting(report_s=0.0)
    for number in range(30):
        meeting.clock.report("sound", number, 7e5 + number, float(number))
        meeting.clock.report("picture", 500.0 + number, 3e4 + number, float(number))
    assert_together(meeting.run(20))


def test_pictures_without_sound_are_timed_by_their_earliest_arrivals() -> None:
    clock, chance, offsets = RemoteClock(), random.Random(5), []
    for number in range(500):
        media_s = 1e6 + number / FPS
        now = number / FPS + 0.05 + 0.1 * chance.random()
        clock.arrived("picture", media_s, now)
        offsets.append(clock.picture(media_s, now) - number / FPS)
    late = offsets[100:]
    assert max(late) - min(late) < 0.01
    assert 0.05 <= min(late) <= 0.06


def test_sound_that_begins_later_moves_pictures_softly_to_itself() -> None:
    meeting = Meeting(sounds=lambda at: at > 10).run(30)
    steps = [b - a for (_, _, a), (_, _, b) in pairwise(meeting.pts)]
    assert min(steps) >= 0.5 / FPS - 1e-6
    assert_together(meeting, after_s=12.0)


def test_pictures_go_on_by_themselves_when_sound_ends() -> None:
    meeting = Meeting(sounds=lambda at: at < 5).run(60)
    late = [now - pts for now, _, pts in meeting.pts if now > 40]
    assert max(abs(value) for value in late) < 0.01


def test_another_stream_of_pictures_counts_from_anywhere() -> None:
    clock = RemoteClock()
    last = -math.inf
    for start, now0 in ((5.0, 0.0), (9e4, 4.0), (17.0, 8.0)):
        clock.restart("picture")
        for number in range(100):
            now = now0 + number / FPS
            clock.arrived("picture", start + number / FPS, now)
            pts = clock.picture(start + number / FPS, now)
            assert last < pts
            assert abs(pts - now) < 0.01
            last = pts


def test_no_picture_gets_a_time_far_ahead() -> None:
    clock = RemoteClock()
    for number in range(50):
        now = number / FPS
        clock.arrived("sound", now, now)
        clock.pushed(now, now, 4.0)
        clock.arrived("picture", now, now)
        assert clock.picture(now, now) <= now + MOST_AHEAD_S + 0.06
