"""What leaves a session, for any number of viewers in browsers."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stream.core.sinks import Shown
from stream.core.sound import Sound
from stream.live.worker import Worker
from stream.web.mailbox import Mailbox

Which = Literal["output", "camera"]
"""The picture that leaves the session, or the camera's own at the same moment."""

PREVIEW_SIDE: Final = 640
"""Longer side of a preview in pixels: what a page shows side by side. At 1280x720 encoding the
two pictures takes most of a core, which the generator needs."""

_MOST_PICTURES: Final = 2
_MOST_BLOCKS: Final = 10  # 200 ms
_FULL_SCALE: Final = 32767


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as encoders take it.

    Attributes:
        planes: uint8 (3H/2, W), H and W even: Y, U and V of 4:2:0, BT.601, limited range.
        pts: when the camera took it, in session seconds.
    """

    planes: NDArray[np.uint8]
    pts: float


@dataclass(frozen=True, slots=True)
class Block:
    """20 ms of sound.

    Attributes:
        number: rises by one from block to block; a hole stands for dropped ones.
        samples: int16 (960, 2) at 48 kHz.
    """

    number: int
    samples: NDArray[np.int16]


class Broadcast:
    """A picture sink and a sound sink whose viewers come and go.

    Pictures are converted in a thread, once for all viewers, and not at all where there are none.
    All methods are for the event loop.

    Args:
        longest_side: pictures with a longer side are scaled down to it, in pixels; None for none.

    Attributes:
        live: whether there was a picture yet.
        lead_s: 0: sound goes out when it is due.
    """

    lead_s: float = 0.0

    def __init__(self, longest_side: int | None = PREVIEW_SIDE) -> None:
        self._longest_side = longest_side
        self._watching: dict[Mailbox[Picture], Which] = {}
        self._listening: set[Mailbox[Block]] = set()
        self._next: Shown | None = None
        self._news = asyncio.Event()
        self._converted: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []
        self._blocks = 0
        self._dropped: Counter[str] = Counter()
        self.live = False

    def watch(self, which: Which) -> Mailbox[Picture]:
        """Get the pictures from now on; close the mailbox to end it."""
        mailbox = Mailbox[Picture](_MOST_PICTURES, self._unwatch)
        self._watching[mailbox] = which
        return mailbox

    def listen(self) -> Mailbox[Block]:
        """Get the sound from now on; close the mailbox to end it."""
        mailbox = Mailbox[Block](_MOST_BLOCKS, self._unlisten)
        self._listening.add(mailbox)
        return mailbox

    def show(self, shown: Shown) -> None:
        """Take a picture; where one still waits to be converted, the newer one wins."""
        self.live = True
        if not self._watching:
            return
        if self._next is not None:
            self._dropped["conversion"] += 1
        self._next = shown
        self._news.set()

    def hear(self, block: Sound, position_s: float) -> None:
        """Take the next 20 ms; where they came in does not matter here."""
        self._blocks += 1
        if not self._listening:
            return
        samples = (np.clip(block, -1.0, 1.0) * np.float32(_FULL_SCALE)).astype(np.int16)
        for mailbox in self._listening:
            mailbox.put(Block(self._blocks, samples))

    async def run(self) -> None:
        """Convert and hand out pictures until cancelled; then let all viewers go."""
        worker = Worker("preview")
        try:
            while True:
                await self._news.wait()
                self._news.clear()
                shown, self._next = self._next, None
                if shown is not None:
                    await self._hand_out(shown, worker)
        finally:
            worker.leave()
            for watcher in [*self._watching]:
                watcher.close()
            for listener in [*self._listening]:
                listener.close()

    def facts(self) -> dict[str, Any]:
        """Who watches and what was dropped so far, for a report; JSON values."""
        waiting = Counter(
            pictures=sum(mailbox.dropped for mailbox in self._watching),
            sound=sum(mailbox.dropped for mailbox in self._listening),
        )
        kinds = ("conversion", "pictures", "sound")
        return {
            "viewers": len(self._watching),
            "dropped": {kind: self._dropped[kind] + waiting[kind] for kind in kinds},
        }

    async def _hand_out(self, shown: Shown, worker: Worker) -> None:
        pictures = {"output": shown.picture, "camera": shown.original}
        wanted = {id(pictures[which]): pictures[which] for which in self._watching.values()}
        known = {
            id(picture): planes for picture, planes in self._converted if id(picture) in wanted
        }
        for key, picture in wanted.items():
            if key not in known:
                known[key] = await worker.do(partial(self._convert, picture))
        # The pictures themselves are kept as well, or their ids could come again.
        self._converted = [(picture, known[key]) for key, picture in wanted.items()]
        for mailbox, which in self._watching.items():
            planes = known.get(id(pictures[which]))
            if planes is not None:  # None: the viewer came while this one was converted
                mailbox.put(Picture(planes, shown.pts))

    def _convert(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        height, width = picture.shape[:2]
        scale = min(1.0, (self._longest_side or max(height, width)) / max(height, width))
        height, width = (max(2, round(side * scale) // 2 * 2) for side in (height, width))
        if scale < 1.0:
            picture = np.asarray(
                cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        # Twenty times faster than swscale's conversion to the same numbers.
        even = np.ascontiguousarray(picture[:height, :width])
        return np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), np.uint8)

    def _unwatch(self, mailbox: Mailbox[Picture]) -> None:
        del self._watching[mailbox]
        self._dropped["pictures"] += mailbox.dropped

    def _unlisten(self, mailbox: Mailbox[Block]) -> None:
        self._listening.discard(mailbox)
        self._dropped["sound"] += mailbox.dropped
