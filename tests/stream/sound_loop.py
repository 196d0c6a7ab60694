"""A session's sound through real devices: bursts to a speaker, and from a microphone back.

A program of its own, since PortAudio is one for a process. It prints one JSON object a line:
every change of the devices' states, and at the end what was measured.
"""

import asyncio
import json
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from stream.core.sound import SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.live.clock import SessionClock
from stream.live.microphone import Microphone
from stream.live.speaker import Speaker
from tests.stream.pulse import SINK, SOURCE

DELAY_S = 0.4
EVERY_S, BURST_S = 0.25, 0.03


def bursts(start: int, count: int) -> Sound:
    """1 kHz bursts on the session's timeline, from this sample on."""
    time = np.arange(start, start + count) / SOUND_RATE
    on = (time % EVERY_S < BURST_S) & (time >= 0)
    tone = 0.5 * on * np.sin(2 * np.pi * 1000 * time)
    return np.repeat(tone.astype(np.float32)[:, None], 2, axis=1)


@dataclass
class Loop:
    """Two devices, what is sent to one and what the other gave."""

    clock: SessionClock = field(default_factory=SessionClock)
    left: list[tuple[float, float]] = field(default_factory=list)
    heard: list[Sound] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.speaker = Speaker(
            SINK, self.clock, on_left=lambda content_s, at: self.left.append((content_s, at))
        )
        self.microphone = Microphone(SOURCE, self.clock)

    async def talk(self) -> None:
        tick = 0
        while True:
            await asyncio.sleep(max(0.0, (tick + 1) * TICK_S - self.clock()))
            now = self.clock()
            self.late_s.append(now - (tick + 1) * TICK_S)
            behind = round((DELAY_S - self.speaker.lead_s) * SOUND_RATE)
            start = (tick + 1) * TICK_SAMPLES - behind
            self.speaker.hear(bursts(start, TICK_SAMPLES), start / SOUND_RATE)
            self.heard.append(self.microphone.intake.pull(TICK_SAMPLES, now))
            self.latencies.append(self.microphone.latency_s)
            tick += 1

    def onsets(self) -> list[float]:
        """Where each burst lies on the timeline of what the microphone gave, in session seconds."""
        loud = np.abs(np.concatenate(self.heard)).max(axis=1) > 0.1
        places = np.flatnonzero(loud)
        first = np.diff(places, prepend=-SOUND_RATE) > 0.1 * SOUND_RATE
        return [float(place / SOUND_RATE) for place in places[first]]

    def loud(self) -> bool:
        """Whether the last half of a second held a burst."""
        return bool(np.abs(np.concatenate(self.heard[-25:])).max() > 0.1)

    def states(self) -> dict[str, Any]:
        return {
            "speaker": self.speaker.state,
            "microphone": self.microphone.state,
            "troubles": [self.speaker.trouble, self.microphone.trouble],
            "loud": self.loud(),
        }


def say(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


async def measure(loop: Loop, seconds: float) -> None:
    """After two seconds of settling: what leaves, what comes back, what is missing."""
    await asyncio.sleep(2.0)
    intakes = loop.speaker.intake, loop.microphone.intake

    def missing_s() -> float:
        return sum(intake.starved_s + intake.dropped_s for intake in intakes)

    missing_before_s = missing_s()
    start = loop.clock()
    await asyncio.sleep(seconds)
    end = loop.clock()
    say(
        {
            "window": [start, end],
            "left": [one for one in loop.left if start <= one[1] < end],
            "onsets": [onset for onset in loop.onsets() if start <= onset < end],
            "missing_s": missing_s() - missing_before_s,
            "microphone_latency_s": float(np.median(loop.latencies[-100:])),
            "latest_s": max(loop.late_s[-round(seconds / TICK_S) :]),
        }
    )


async def watch(loop: Loop) -> None:
    """Say each change, until the devices were gone and are there and heard again."""
    last: dict[str, Any] = {}
    gone = False
    while True:
        await asyncio.sleep(0.05)
        if not loop.heard or (states := loop.states()) == last:
            continue
        say(states)
        last = states
        both = {states["speaker"], states["microphone"]}
        gone = gone or both == {"waiting"}
        if gone and both == {"running"} and states["loud"]:
            return


async def main(what: str) -> None:
    loop = Loop()
    work = [loop.speaker.run, loop.microphone.run, loop.talk]
    tasks = [asyncio.create_task(job()) for job in work]
    await (measure(loop, 4.0) if what == "measure" else watch(loop))
    for task in tasks:
        task.cancel()
    ends = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(end, asyncio.CancelledError) for end in ends), ends


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
