"""One line out of a session: a speaker's pictures with one sound's lips, and that sound.

The event loop decides and hands on; the painter's thread runs the generator, the hand's puts
pictures together, and each sink has its own. A camera's session has one line; a speaker in a
meeting has one for each language, and one for the original.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.generator import Chunk
from engine.mark import Badge
from engine.paste import disagreement, paste
from stream.core.delay import Delay
from stream.core.gate import Gate
from stream.core.hearing import Hearing
from stream.core.meters import Meters
from stream.core.pictures import Trouble, Waiting
from stream.core.pump import SoundPump
from stream.core.session import Composition, Event, SessionCore
from stream.core.sinks import PictureSink, Shown, SoundSink
from stream.core.sound import TICK_S, Sound
from stream.core.voice import Hop, VoiceActivity
from stream.live.card import still_card
from stream.live.ends import Controls
from stream.live.eye import Seen
from stream.live.face import Reference, SpeakerFace
from stream.live.painter import Painter
from stream.live.sync_watch import SyncWatch
from stream.live.worker import Worker

log = logging.getLogger(__name__)

CARD_FPS: Final = 5
CARD_SIZE: Final = 720, 1280  # height and width in pixels, while no camera has said its own
LOST_LINES: Final = ("No picture from the camera", "The sound goes on")
PAUSED_LINES: Final = ("Picture paused",)

_NAP_S: Final = 0.25  # how long the loop of pictures sleeps when nothing wakes it
_DELAY_EVERY: Final = 5  # ticks between looks at the delay


@dataclass(kw_only=True)
class Outlets:
    """Where a line goes.

    Attributes:
        pictures: where pictures go.
        sounds: where sound goes.
        picture_wait_s: how long a picture waits on average for its turn in a device; sound that
            leaves at devices waits as long.
        target_latency_s: how long the target sound was held before the line had it.
        watched: whether anybody sees what leaves; while nobody does, nothing is painted.
    """

    pictures: Sequence[PictureSink] = ()
    sounds: Sequence[SoundSink] = ()
    picture_wait_s: float = 0.0
    target_latency_s: Callable[[], float] = lambda: 0.0
    watched: Callable[[], bool] = lambda: True


@dataclass(kw_only=True)
class Heard:
    """What a line is given to hear.

    Attributes:
        target: whether there is target audio; where not, the mouth stays the real one.
        source: whether there is the speaker's own voice; where not, the lips tell.
    """

    target: bool
    source: bool


@dataclass(kw_only=True)
class _Looks:
    """What was made for the line's pictures and is used again."""

    marks: dict[tuple[int, int], Badge] = field(default_factory=dict)
    card: tuple[tuple[str, ...], NDArray[np.uint8]] | None = None


class Line:
    """Takes pictures and ticks of sound, gives both to its outlets, the lips matching.

    Its own time counts from ``origin_s``, a tick of the clock that pictures are stamped by.

    Args:
        outlets: where it goes.
        heard: what it hears.
        bundle: the generator's.
        painter: runs it; None where nothing is ever painted.
        face: the speaker's.
        clock: the one that pictures are stamped by.
        origin_s: when the line's first tick begins, on that clock.
        meters: count and measure.
        controls: what the user can change.
        delay: of pictures and sound.
        badge: whether modified pictures are marked.
        watch: judges what leaves, if anything does; its thread ends with the line.
        trace: takes the core's decisions.

    Attributes:
        watch: the one that was given.
        sound_level: peak of the target's last tick, 0..1.
        voice_level: peak of the own voice's last tick, 0..1.
    """

    def __init__(
        self,
        outlets: Outlets,
        heard: Heard,
        *,
        bundle: Bundle,
        painter: Painter | None,
        face: SpeakerFace,
        clock: Callable[[], float],
        meters: Meters,
        controls: Controls,
        delay: Delay,
        origin_s: float = 0.0,
        badge: bool = True,
        watch: SyncWatch | None = None,
        trace: Callable[[Event], None] | None = None,
    ) -> None:
        self.controls, self.meters, self.delay = controls, meters, delay
        self._outlets, self._heard = outlets, heard
        self._bundle, self._painter, self._face = bundle, painter, face
        self._clock, self._origin_s = clock, origin_s
        self._badge = badge
        self.watch = watch
        if watch is not None:
            meters.sync = watch.meter
        self._gate = Gate(has_source=heard.source, has_target=heard.target)
        self.core = SessionCore(
            k=bundle.k,
            placement=bundle.placement,
            gate=self._gate,
            delay=delay,
            dropped=lambda picture, reason: meters.dropped(reason),
            trace=trace,
        )
        self._hearing = Hearing(bundle.mel, bundle.placement)
        self._voice = VoiceActivity() if heard.target else None
        self._pump = SoundPump(delay, own_voice=controls.own_voice)
        self._hand = Worker("hand")
        self._news = asyncio.Event()
        self._given: Reference | None = None  # the reference that the painter works with
        self._knows_person: int | None = None
        self._looks = _Looks()
        self._last: Seen | None = None
        self._case_pts: float | None = None
        self._ticks = 0
        self.sound_level = self.voice_level = 0.0

    def now(self) -> float:
        """Seconds of the line's own time."""
        return self._clock() - self._origin_s

    @property
    def trim_s(self) -> float:
        """How much later than the sound the picture leaves: the user's wish, and a correction."""
        correction_s = 0.0 if self.watch is None else self.watch.correction_s
        return self.controls.trim_s + correction_s

    async def run(self) -> None:
        """Paint and show until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._paint())
                group.create_task(self._show())
        finally:
            try:
                if self.watch is not None:
                    await asyncio.to_thread(self.watch.end)
            finally:
                await self._hand.end()

    # What comes in

    def see(self, seen: Seen, *, lips_move: bool) -> None:
        """A picture arrived.

        Args:
            seen: stamped by the clock that the line was given.
            lips_move: whether its lips do; counts where the speaker's own voice is not heard.
        """
        now, pts = self.now(), seen.pts - self._origin_s
        self.meters.frame_in()
        self.meters.stage("capture", max(0.0, now - pts - seen.track_s))
        self.meters.stage("track", seen.track_s)
        self._gate.lips(pts, lips_move)
        if not self.core.seen(pts, seen, self._trouble(seen), now):
            self.meters.dropped("order")
        if self._painter is None:
            self.delay.arrived(now - pts)
        self._last = seen
        self._news.set()

    def hear(self, target: Sound, voice: Sound, hops: Sequence[Hop] = ()) -> None:
        """The sound of the tick that ends now.

        Args:
            target: float32 (960, 2).
            voice: float32 (960, 2), the speaker's own.
            hops: what of the own voice is speech, on the clock that the line was given.
        """
        self.sound_level = float(np.abs(target).max())
        self.voice_level = float(np.abs(voice).max())
        mono = self._hearing.hear(target)
        if self._voice is not None:
            for hop in self._voice.push(mono):
                self._gate.heard_target(*hop)
        for end_s, length_s, probability in hops:
            self._gate.heard_source(end_s - self._origin_s, length_s, probability)
        self.core.columns = self._hearing.columns
        self._pump.own_voice = self.controls.own_voice
        self._pump.trim_s = max(0.0, -self.trim_s)
        self._pump.take(target, voice)
        # A picture that is to leave later than its sound: sound early, skew negative.
        self.meters.skew.intended_s = -self.trim_s
        self._change_delay()
        self._watch_sound()
        self._give_sound()
        self._ticks += 1
        self._news.set()

    def _change_delay(self) -> None:
        due = self._ticks % _DELAY_EVERY == 0
        if due and self._pump.quiet() and (step := self.delay.change()):
            log.info("the added delay changed by %d ms", round(step * TICK_S * 1000))

    def _watch_sound(self) -> None:
        if self.watch is None or not self._outlets.watched():
            return
        # Ticks come late, but their sound has a place of its own in time.
        self.watch.hear(self._pump.leaving(), (self._ticks + 1) * TICK_S)
        now = self.now()
        self.watch.tick(now, intended_s=self.controls.trim_s, quiet=self._pump.quiet())

    def _give_sound(self) -> None:
        now = self.now()
        for sink in self._outlets.sounds:
            wait_s = self._outlets.picture_wait_s if sink.lead_s else 0.0
            block, position_s = self._pump.give(sink, sink.lead_s - wait_s)
            sink.hear(block, position_s)
            if sink.lead_s == 0 and block.any():
                self.meters.added_delay(now - position_s + self._outlets.target_latency_s())

    def _trouble(self, seen: Seen) -> Trouble | None:
        trouble = self._face.trouble(seen)
        if trouble == "no-face" or self._painter is None:
            return trouble
        assert seen.face is not None
        if self._painter.ready and self._given is not None:
            self._knows_person = self._given.person
        return trouble if self._knows_person == seen.face.person else "no-identity"

    # The mouth

    async def _paint(self) -> None:
        painter = self._painter
        while True:
            await self._news.wait()
            self._news.clear()
            if painter is None or not self._outlets.watched():
                continue
            await self._take_reference(painter)
            while chunk := self.core.chunk(self.now()) if painter.ready else []:
                await self._paint_chunk(chunk, painter)

    async def _take_reference(self, painter: Painter) -> None:
        reference = self._face.reference
        if reference is None or reference is self._given:
            return
        # A generator that is being started again takes the last one by itself.
        if await painter.set_identity(reference.crop) or painter.broken:
            self._given = reference

    async def _paint_chunk(self, chunk: list[Waiting], painter: Painter) -> None:
        started = self.now()
        seen: list[Seen] = [picture.payload for picture in chunk]
        decisions = [p.decision for p in chunk if p.decision is not None]
        self.meters.stage("wait", started - chunk[-1].pts)
        mel = self._hearing.windows([p.pts for p in chunk], [d.mel_amount for d in decisions])
        crops = [s.crop for s in seen if s.crop is not None]
        rows = await painter.paint(Chunk(mel=mel, pose=np.stack(crops)))
        if self.watch is not None:
            self.watch.gap()
        if rows is not None:
            self.meters.stage("generate", self.now() - started)
            for its, own, crop in zip(seen, rows, crops, strict=True):
                self._face.painted(disagreement(crop, own, self._bundle.rows), its.pts)
            # After all of them: what covers the mouth is known a little after it came.
            for picture in chunk:
                picture.trouble = self._trouble(picture.payload)
        self.core.painted(None if rows is None else list(rows), self.now())

    # What goes out

    async def _show(self) -> None:
        card_at = 0.0
        while True:
            now = self.now()
            self.core.lip_sync = self.controls.lip_sync and self._outlets.watched()
            self.core.trim_s = max(0.0, self.trim_s)
            self.core.mismatch = self.watch is not None and self.watch.passthrough
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
        started = self.now()
        seen: Seen = composition.waiting.payload
        if composition.amount:
            picture = await self._hand.do(lambda: self._put_together(composition))
        else:
            picture = seen.picture
        ready = self.now()
        self.meters.stage("compose", ready - started)
        if composition.due > ready:
            await asyncio.sleep(composition.due - ready)
        now = self.now()
        if self.controls.paused:
            await self._show_card(PAUSED_LINES, now, number=composition.waiting.number)
            return
        self._looks.card = None
        shown = Shown(
            number=composition.waiting.number,
            pts=composition.waiting.pts,
            picture=picture,
            original=seen.picture,
            modified=composition.amount > 0,
            at=now,
            mesh=None if seen.face is None else seen.face.mesh,
        )
        if self.watch is not None and self._outlets.watched():
            self.watch.show(shown)
        for sink in self._outlets.pictures:
            sink.show(shown)
        self.meters.stage("show", self.now() - now)
        self.meters.shown(
            composition.kind,
            composition.reason,
            late_s=now - composition.due,
            case=composition.case,
            now=now,
        )
        if self._case_pts is not None:
            self.meters.gate(composition.case, shown.pts - self._case_pts)
        self._case_pts = shown.pts

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
        if (width, height) not in self._looks.marks:
            self._looks.marks[width, height] = Badge(width, height)
        return self._looks.marks[width, height].on(picture)

    async def _show_card(self, lines: tuple[str, ...], now: float, *, number: int = -1) -> None:
        looks = self._looks
        if looks.card is None or looks.card[0] != lines:
            picture = None if self._last is None else self._last.picture
            height, width = CARD_SIZE if picture is None else picture.shape[:2]
            made = await self._hand.do(lambda: still_card(picture, width, height, lines))
            looks.card = lines, made
        card = looks.card[1]
        shown = Shown(
            number=number,
            pts=now - self.core.picture_delay_s,
            picture=card,
            original=card,
            modified=False,
            at=now,
        )
        for sink in self._outlets.pictures:
            sink.show(shown)
        self.meters.shown("card", None, late_s=0.0, case=None, now=now)
