"""One session in one process: a camera and sounds in, one line out.

The camera's thread reads pictures and follows the face; what is made of them is the line's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np

from engine.bundle import Bundle
from engine.tracker import FaceTracker
from stream.core.delay import START_S, Delay
from stream.core.hearing import VoiceHearing
from stream.core.meters import Meters
from stream.core.session import Event
from stream.core.sound import CHANNELS, TICK_SAMPLES
from stream.live.clock import SessionClock
from stream.live.ends import Controls, Ends, Runner
from stream.live.eye import Eye, Seen
from stream.live.face import SpeakerFace
from stream.live.line import Heard, Line, Outlets
from stream.live.painter import Painter
from stream.live.sync_watch import SyncWatch
from stream.live.ticks import ticks
from stream.live.worker import Worker


class LiveSession:
    """A session: pictures and sound in, pictures with matching lips and their sound out.

    Args:
        ends: cameras, microphones, sinks.
        bundle: the generator's.
        painter: runs it; started before.
        make_tracker: a new face tracker, called in the camera's thread.
        clock: the session's.
        meters: count and measure.
        controls: what the user can change.
        delay: of pictures and sound.
        badge: whether modified pictures are marked.
        watch: judges what leaves, if anything does.
        trace: takes the core's decisions.
    """

    def __init__(
        self,
        ends: Ends,
        *,
        bundle: Bundle,
        painter: Painter,
        make_tracker: Callable[[], FaceTracker],
        clock: SessionClock,
        meters: Meters,
        controls: Controls | None = None,
        delay: Delay | None = None,
        badge: bool = True,
        watch: SyncWatch | None = None,
        trace: Callable[[Event], None] | None = None,
    ) -> None:
        self.controls = controls or Controls()
        self.clock = clock
        self.meters = meters
        self._ends = ends
        self._painter = painter
        self._hand = Worker("reference")
        self._face = SpeakerFace(self._hand)
        self.line = Line(
            Outlets(
                pictures=ends.pictures,
                sounds=ends.sounds,
                picture_wait_s=ends.picture_wait_s,
                target_latency_s=ends.target_latency_s,
            ),
            Heard(target=ends.target is not None, source=ends.source is not None),
            bundle=bundle,
            painter=painter,
            face=self._face,
            clock=clock,
            meters=meters,
            controls=self.controls,
            delay=delay or Delay(START_S),
            badge=badge,
            watch=watch,
            trace=trace,
        )
        self.eye = Eye(ends.camera, make_tracker, self._see)
        self._source_voice = VoiceHearing() if ends.source is not None else None

    def add(self, runner: Runner) -> None:
        """Let another end run with the session; to be called before it runs."""
        self._ends.runners = [*self._ends.runners, runner]

    async def run(self, seconds: float | None = None) -> None:
        """Hold the session.

        Args:
            seconds: how much of it is wanted at the sinks; without end by default, until the
                task is cancelled.
        """
        work = [self._hear, self.line.run, self._measure, self.eye.run]
        work += [runner.run for runner in self._ends.runners]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(job()) for job in work]
            try:
                await self._until(seconds)
            finally:
                # Once each: for a sink a second cancellation means to give up what it holds.
                for task in tasks:
                    if not task.cancelling():
                        task.cancel()
                await asyncio.wait(tasks)
                await self._hand.end()

    async def _until(self, seconds: float | None) -> None:
        if seconds is None:
            await asyncio.Event().wait()
            return
        # The last second that is wanted leaves the added delay later.
        await asyncio.sleep(seconds + self.line.delay.seconds - self.clock())

    def _see(self, seen: Seen) -> None:
        """A picture arrived, on the event loop."""
        self.line.see(seen, lips_move=self._face.saw(seen, self.clock()))

    async def _hear(self) -> None:
        """Every 20 ms: sound in from every intake, and on to the line."""
        silence = np.zeros((TICK_SAMPLES, CHANNELS), np.float32)
        async for now in ticks(self.clock):
            target = self._ends.target.pull(TICK_SAMPLES, now) if self._ends.target else silence
            voice = self._ends.source.pull(TICK_SAMPLES, now) if self._ends.source else silence
            hops = [] if self._source_voice is None else self._source_voice.hear(voice)
            self.line.hear(target, voice, hops)

    async def _measure(self) -> None:
        while True:
            self.meters.tick(self.clock())
            await asyncio.sleep(1.0)

    # The user

    def choose_face(self, x: float, y: float) -> None:
        """Follow the face nearest to this place, in shares of the picture, from now on."""
        self.eye.choose(x, y)

    def troubles(self) -> Mapping[str, str | None]:
        """One sentence, or None, for each part of the session that can fail."""
        watch = self.line.watch
        return {
            "camera": self.eye.trouble,
            "generator": self._painter.trouble,
            **({} if watch is None else {"sync monitor": watch.trouble}),
        }
