"""One session in one process: the tasks and threads around the core.

The event loop decides and hands on; the camera's thread reads pictures and follows the face, the
painter's runs the generator, the hand's puts pictures together, and each sink has its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.agreement import Visibility
from engine.bundle import Bundle
from engine.generator import Chunk
from engine.identity import make_identity
from engine.lips import mouth_opening
from engine.mark import Badge
from engine.mel import SAMPLE_RATE
from engine.paste import disagreement, paste
from engine.resample import Resampler
from engine.tracker import FaceTracker
from stream.core.delay import START_S, Delay
from stream.core.gate import Gate
from stream.core.hearing import Hearing
from stream.core.identity import IdentityChooser
from stream.core.lip_motion import LipMotion
from stream.core.meters import Meters
from stream.core.pictures import Trouble, Waiting
from stream.core.pump import SoundPump
from stream.core.session import Composition, Event, SessionCore
from stream.core.sinks import Shown
from stream.core.sound import CHANNELS, SOUND_RATE, TICK_S, TICK_SAMPLES, Sound
from stream.core.voice import VoiceActivity
from stream.live.card import still_card
from stream.live.clock import SessionClock
from stream.live.ends import Controls, Ends, Runner
from stream.live.eye import Eye, Seen
from stream.live.painter import Painter
from stream.live.worker import Worker

log = logging.getLogger(__name__)

CARD_FPS: Final = 5
CARD_SIZE: Final = 720, 1280  # height and width in pixels, while no camera has said its own
LOST_LINES: Final = ("No picture from the camera", "The sound goes on")
PAUSED_LINES: Final = ("Picture paused",)

_NAP_S: Final = 0.25  # how long the loop of pictures sleeps when nothing wakes it
_ASLEEP_S: Final = 2.0  # behind by more, the machine slept and the session goes on where it was
_DELAY_EVERY: Final = 5  # ticks between looks at the delay


@dataclass(kw_only=True)
class _Face:
    """What is known of the speaker's face so far."""

    visibility: Visibility = field(default_factory=Visibility)
    lips: LipMotion = field(default_factory=LipMotion)
    chooser: IdentityChooser = field(default_factory=IdentityChooser)


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
        trace: Callable[[Event], None] | None = None,
    ) -> None:
        self.controls = controls or Controls()
        self.clock = clock
        self.meters = meters
        self.delay = delay or Delay(START_S)
        self._ends = ends
        self._bundle = bundle
        self._painter = painter
        self._gate = Gate(has_source=ends.source is not None, has_target=ends.target is not None)
        self.core = SessionCore(
            k=bundle.k,
            placement=bundle.placement,
            gate=self._gate,
            delay=self.delay,
            dropped=lambda picture, reason: meters.dropped(reason),
            trace=trace,
        )
        self.eye = Eye(ends.camera, make_tracker, self._see)
        self._hearing = Hearing(bundle.mel, bundle.placement)
        self._pump = SoundPump(self.delay, own_voice=self.controls.own_voice)
        self._target_voice, self._source_voice = VoiceActivity(), VoiceActivity()
        self._source_copy = Resampler(SOUND_RATE, SAMPLE_RATE, CHANNELS)
        self._face = _Face()
        self._hand = Worker("hand")
        self._badge = badge
        self._marks: dict[tuple[int, int], Badge] = {}
        self._news = asyncio.Event()
        self._identity_set = False
        self._person: int | None = None
        self._choosing: asyncio.Task[None] | None = None
        self._last: Seen | None = None
        self._card: tuple[tuple[str, ...], NDArray[np.uint8]] | None = None
        self._case_pts: float | None = None
        self.sound_level = self.voice_level = 0.0

    def add(self, runner: Runner) -> None:
        """Let another end run with the session; to be called before it runs."""
        self._ends.runners = [*self._ends.runners, runner]

    async def run(self, seconds: float | None = None) -> None:
        """Hold the session.

        Args:
            seconds: how much of it is wanted at the sinks; without end by default, until the
                task is cancelled.
        """
        work = [self._hear_and_speak, self._paint, self._show, self._measure, self.eye.run]
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
        await asyncio.sleep(seconds + self.delay.seconds - self.clock())

    # What comes in

    def _see(self, seen: Seen) -> None:
        """A picture arrived, on the event loop."""
        now = self.clock()
        self.meters.frame_in()
        self.meters.stage("capture", max(0.0, now - seen.pts - seen.track_s))
        self.meters.stage("track", seen.track_s)
        if seen.face is not None and seen.face.person != self._person:
            # Somebody else: nothing that was learned of the last one holds.
            self._person, self._face, self._identity_set = seen.face.person, _Face(), False
        self._face.visibility.saw(seen.face, seen.pts)
        opening = None if seen.face is None else mouth_opening(seen.face.mesh)
        if self._ends.source is None:
            self._gate.lips(seen.pts, self._face.lips.update(opening, seen.pts))
        free = self._choosing is None and self._painter.trouble is None
        if free and seen.cost is not None and self._face.chooser.offer(seen.cost, now):
            loop = asyncio.get_running_loop()
            self._choosing = loop.create_task(self._take_identity(seen))
        if not self.core.seen(seen.pts, seen, self._trouble(seen), now):
            self.meters.dropped("order")
        self._last = seen
        self._news.set()

    def _trouble(self, seen: Seen) -> Trouble | None:
        if seen.face is None:
            return "no-face"
        if not self._identity_set:
            return "no-identity"
        return self._face.visibility.trouble(seen.pts)

    async def _take_identity(self, seen: Seen) -> None:
        face, crop = seen.face, seen.crop
        assert face is not None
        assert crop is not None
        try:
            identity = await self._hand.do(lambda: make_identity(face, crop))
            taken = await self._painter.set_identity(identity.crop)
            self._identity_set |= taken and face.person == self._person
        finally:
            self._choosing = None

    async def _hear_and_speak(self) -> None:
        """Every 20 ms: sound in from every intake, and out to every sink."""
        silence = np.zeros((TICK_SAMPLES, CHANNELS), np.float32)
        tick = 0
        while True:
            wait_s = (tick + 1) * TICK_S - self.clock()
            if wait_s < -_ASLEEP_S:
                self.clock.hold_back(-wait_s)
            elif wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await asyncio.sleep(0)
            now = self.clock()
            target = self._ends.target.pull(TICK_SAMPLES, now) if self._ends.target else silence
            voice = self._ends.source.pull(TICK_SAMPLES, now) if self._ends.source else silence
            self._listen(target, voice)
            self._pump.own_voice = self.controls.own_voice
            self._pump.trim_s = max(0.0, -self.controls.trim_s)
            self._pump.take(target, voice)
            if tick % _DELAY_EVERY == 0 and self._pump.quiet() and (step := self.delay.change()):
                log.info("the added delay changed by %d ms", round(step * TICK_S * 1000))
            for sink in self._ends.sounds:
                wait_s = self._ends.picture_wait_s if sink.lead_s else 0.0
                block, position_s = self._pump.give(sink, sink.lead_s - wait_s)
                sink.hear(block, position_s)
                if sink.lead_s == 0 and block.any():
                    held_s = now - position_s + self._ends.target_latency_s()
                    self.meters.added_delay(held_s)
            tick += 1

    def _listen(self, target: Sound, voice: Sound) -> None:
        self.sound_level = float(np.abs(target).max())
        self.voice_level = float(np.abs(voice).max())
        if self._ends.target is not None:
            for hop in self._target_voice.push(self._hearing.hear(target)):
                self._gate.heard_target(*hop)
        else:
            self._hearing.hear(target)
        if self._ends.source is not None:
            for hop in self._source_voice.push(self._source_copy.push(voice)):
                self._gate.heard_source(*hop)
        self.core.columns = self._hearing.columns
        self._news.set()

    # The mouth

    async def _paint(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while chunk := self.core.chunk(self.clock()) if self._painter.ready else []:
                await self._paint_chunk(chunk)

    async def _paint_chunk(self, chunk: list[Waiting]) -> None:
        started = self.clock()
        seen: list[Seen] = [picture.payload for picture in chunk]
        decisions = [p.decision for p in chunk if p.decision is not None]
        self.meters.stage("wait", started - chunk[-1].pts)
        mel = self._hearing.windows([s.pts for s in seen], [d.mel_amount for d in decisions])
        crops = [s.crop for s in seen if s.crop is not None]
        rows = await self._painter.paint(Chunk(mel=mel, pose=np.stack(crops)))
        if rows is not None:
            self.meters.stage("generate", self.clock() - started)
            for picture, own, crop in zip(chunk, rows, crops, strict=True):
                apart = disagreement(crop, own, self._bundle.rows)
                self._face.visibility.painted(apart, picture.pts)
            # After all of them: what covers the mouth is known a little after it came.
            for picture in chunk:
                picture.trouble = self._trouble(picture.payload)
        self.core.painted(None if rows is None else list(rows), self.clock())

    # What goes out

    async def _show(self) -> None:
        card_at = 0.0
        while True:
            now = self.clock()
            self.core.lip_sync = self.controls.lip_sync
            self.core.trim_s = max(0.0, self.controls.trim_s)
            composition = self.core.compose(now)
            if composition is not None:
                await self._leave(composition)
                continue
            if self.core.lost(now) and now >= card_at:
                await self._show_card(LOST_LINES, now)
                card_at = now + 1 / CARD_FPS
            wake = self.core.wake_at()
            until = min(now + _NAP_S, wake if wake is not None else now + TICK_S)
            await asyncio.sleep(max(until - now, 0.001))

    async def _leave(self, composition: Composition) -> None:
        started = self.clock()
        seen: Seen = composition.waiting.payload
        if composition.amount:
            picture = await self._hand.do(lambda: self._put_together(composition))
        else:
            picture = seen.picture
        ready = self.clock()
        self.meters.stage("compose", ready - started)
        if composition.due > ready:
            await asyncio.sleep(composition.due - ready)
        now = self.clock()
        if self.controls.paused:
            await self._show_card(PAUSED_LINES, now, number=composition.waiting.number)
            return
        self._card = None
        shown = Shown(
            number=composition.waiting.number,
            pts=seen.pts,
            picture=picture,
            original=seen.picture,
            modified=composition.amount > 0,
            at=now,
        )
        for sink in self._ends.pictures:
            sink.show(shown)
        self.meters.stage("show", self.clock() - now)
        self.meters.shown(
            composition.kind,
            composition.reason,
            late_s=now - composition.due,
            case=composition.case,
            now=now,
        )
        if self._case_pts is not None:
            self.meters.gate(composition.case, seen.pts - self._case_pts)
        self._case_pts = seen.pts

    def _put_together(self, composition: Composition) -> NDArray[np.uint8]:
        seen: Seen = composition.waiting.payload
        assert seen.face is not None
        assert seen.crop is not None
        picture = paste(
            seen.picture,
            seen.crop,
            composition.rows,
            self._bundle.rows,
            seen.face.matrix,
            amount=composition.amount,
        )
        if not self._badge:
            return picture
        height, width = picture.shape[:2]
        if (width, height) not in self._marks:
            self._marks[width, height] = Badge(width, height)
        return self._marks[width, height].on(picture)

    async def _show_card(self, lines: tuple[str, ...], now: float, *, number: int = -1) -> None:
        if self._card is None or self._card[0] != lines:
            picture = None if self._last is None else self._last.picture
            height, width = CARD_SIZE if picture is None else picture.shape[:2]
            made = await self._hand.do(lambda: still_card(picture, width, height, lines))
            self._card = lines, made
        card = self._card[1]
        shown = Shown(
            number=number,
            pts=now - self.core.picture_delay_s,
            picture=card,
            original=card,
            modified=False,
            at=now,
        )
        for sink in self._ends.pictures:
            sink.show(shown)
        self.meters.shown("card", None, late_s=0.0, case=None, now=now)

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
        return {"camera": self.eye.trouble, "generator": self._painter.trouble}
