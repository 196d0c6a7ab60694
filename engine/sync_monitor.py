"""The rolling judge of a running session: a window over what leaves, new frames embedded once.

Pure: it is given 25 mouth regions and 16 000 samples a second, counted from one moment on, and says
on demand how lips and speech of the last seconds belong together.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from engine.filterbank import FPS, FilterbankStream
from engine.lip_expert import AROUND, Alone
from engine.lip_sync import Offset, estimate_offset, frame_cosines
from engine.mouth_region import INNER, network_input

WINDOW: Final = 100
"""Frames that are judged together: 4 s. In three, a regular rhythm
is sometimes taken for another."""
LEAST: Final = 50
"""Frames that must be there before anything is said: 2 s."""
MOST_OFFSET: Final = 12
"""Frames either way that are looked at: 0.48 s."""

_NO_FRAME: Final = np.zeros((INNER, INNER), np.float32)


class Expert(Protocol):
    """What the monitor needs of a lip expert; :class:`engine.lip_expert.LipExpert` has it."""

    dim: int

    def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]: ...  # noqa: D102

    def hear(self, rows: NDArray[np.float32]) -> NDArray[np.float32]: ...  # noqa: D102

    def alone(  # noqa: D102
        self, heard: NDArray[np.float32], watched: NDArray[np.float32]
    ) -> Alone: ...


@dataclass(frozen=True, slots=True)
class Reading:
    """What the window says.

    Attributes:
        at_s: the end of the window, in seconds since the beginning.
        avsu: mean cosine of sound alone and lips alone as they leave together, −1..1.
        offset: where they would fit best.
        spoken: share of the window in which there is speech, 0..1.
        seen: share of the window's frames whose lips count, 0..1.
    """

    at_s: float
    avsu: float
    offset: Offset
    spoken: float
    seen: float


class SyncMonitor:
    """Judges the last seconds. For one thread.

    Frame i lies at i / 25 s, and with it belong the samples from 640 · i on.

    Args:
        expert: the judge.
        window: frames that are judged together.
    """

    def __init__(self, expert: Expert, window: int = WINDOW) -> None:
        self._expert = expert
        self._window = window
        self._filterbank = FilterbankStream()
        self._rows = np.zeros((0, expert.dim), np.float32)
        self._rows_end = 0
        # Before the first there is none: nothing, as around a clip.
        self._frames = [_NO_FRAME] * AROUND
        self._kept: list[bool] = []
        self._watched = np.zeros((0, expert.dim), np.float32)
        self._watched_end = 0
        self._seen_end = 0
        # Hops are 32 ms: twice as many as the window has frames are more than it needs.
        self._spoken: deque[tuple[float, float, bool]] = deque(maxlen=2 * window)

    @property
    def frames(self) -> int:
        """How many mouth regions have come."""
        return self._seen_end

    def see(self, region: NDArray[np.uint8] | None, *, counts: bool = True) -> None:
        """Take the next frame.

        Args:
            region: uint8 (96, 96), gray; None where no face is seen.
            counts: whether its lips are to be judged.
        """
        self._frames.append(_NO_FRAME if region is None else network_input(region))
        self._kept.append(counts and region is not None)
        self._kept = self._kept[-self._most :]
        self._seen_end += 1

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Take the next samples, float32 (n,) in [−1, 1] at 16 kHz, any n."""
        rows = self._filterbank.push(samples)
        if len(rows):
            self._rows = np.concatenate([self._rows, self._expert.hear(rows)])[-self._most :]
            self._rows_end += len(rows)

    def voice(self, end_s: float, length_s: float, speech: bool) -> None:
        """Whether a stretch that ends then holds speech; in order, seconds since the beginning."""
        self._spoken.append((end_s - length_s, end_s, speech))

    def read(self) -> Reading | None:
        """Judge the window; None while too little has come."""
        self._embed()
        end = min(self._rows_end, self._watched_end)
        first = max(0, end - self._window, self._rows_end - len(self._rows))
        first = max(first, self._watched_end - len(self._watched))
        if end - first < LEAST:
            return None
        heard = self._rows[first - self._rows_end + len(self._rows) :][: end - first]
        watched = self._watched[first - self._watched_end + len(self._watched) :][: end - first]
        kept = np.array(self._kept[first - self._seen_end + len(self._kept) :][: end - first])
        sound, lips = self._expert.alone(heard, watched)
        cosines = frame_cosines(sound, lips)
        return Reading(
            at_s=end / FPS,
            avsu=float(cosines[kept].mean()) if kept.any() else 0.0,
            offset=estimate_offset(sound, lips, MOST_OFFSET, kept),
            spoken=self._spoken_share(first / FPS, end / FPS),
            seen=float(kept.mean()),
        )

    @property
    def _most(self) -> int:
        """Frames that are kept of each modality: one may run ahead of the other."""
        return 2 * self._window

    def _embed(self) -> None:
        """Run the picture's network on the frames that have both their neighbours now."""
        if (count := len(self._frames) - 2 * AROUND) <= 0:
            return
        watched = self._expert.watch(np.stack(self._frames))
        self._watched = np.concatenate([self._watched, watched])[-self._most :]
        self._watched_end += count
        self._frames = self._frames[-2 * AROUND :]

    def _spoken_share(self, start_s: float, end_s: float) -> float:
        speech_s = sum(
            min(end, end_s) - max(start, start_s)
            for start, end, speech in self._spoken
            if speech and start < end_s and end > start_s
        )
        return speech_s / (end_s - start_s)
