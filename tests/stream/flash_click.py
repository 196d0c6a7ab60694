"""An instrument: a white flash and a click at the same moment, every second.

Made by time, so that any source can play them; found again in any recording. What is measured is
skew in seconds, + = the sound is late.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from engine.media import VideoReader, read_audio

PERIOD_S: Final = 1.0
EVENT_S: Final = 0.4
"""When in each second flash and click begin: a whole number of pictures at 25 and 30 a second."""

FLASH_S: Final = 0.12
CLICK_S: Final = 0.01
_CLICK_HZ: Final = 1000.0
_CLICK_LEVEL: Final = 0.8
_DARK, _LIGHT = 40, 235

_RATE: Final = 48_000  # Hz at which a recording is read
_ONSET_SHARE: Final = 0.5  # of the loudest: below lies what a codec smears ahead of a click
_LEAST_CLICK: Final = 0.05
_EARLY_S: Final = 1e-6  # rounding of times


def flashes(at: float) -> bool:
    """Whether the picture of this time is white."""
    since_s = (at - EVENT_S + _EARLY_S) % PERIOD_S
    return since_s < FLASH_S


def picture(at: float, width: int, height: int) -> NDArray[np.uint8]:
    """The picture of a time: uint8 (height, width, 3)."""
    return np.full((height, width, 3), _LIGHT if flashes(at) else _DARK, np.uint8)


def sound(start_s: float, count: int, rate: int = _RATE) -> NDArray[np.float32]:
    """The sound from a time on: float32 (count,); a click begins at its full level."""
    since_s = (start_s + np.arange(count) / rate - EVENT_S + _EARLY_S) % PERIOD_S
    wave = _CLICK_LEVEL * np.cos(2 * np.pi * _CLICK_HZ * since_s)
    return np.where(since_s < CLICK_S, wave, 0.0).astype(np.float32)


def find_flashes(pictures: Iterable[tuple[float, NDArray[np.uint8]]]) -> list[float]:
    """The times of the first picture of each flash; one that is on at the start has none."""
    found: list[float] = []
    before = True
    for at, shown in pictures:
        light = float(shown.mean()) > (_DARK + _LIGHT) / 2
        if light and not before:
            found.append(at)
        before = light
    return found


def find_clicks(samples: NDArray[np.float32], rate: int = _RATE) -> list[float]:
    """The times at which clicks begin, in seconds from the first sample."""
    levels = np.abs(samples)
    if not len(levels) or levels.max() < _LEAST_CLICK:
        return []
    found: list[float] = []
    for place in np.flatnonzero(levels > _ONSET_SHARE * levels.max()):
        at = float(place) / rate
        if not found or at - found[-1] > PERIOD_S / 2:
            found.append(at)
    return found


def skews(flash_times: Sequence[float], click_times: Sequence[float]) -> list[float]:
    """For each flash the time of the click nearest to it less its own; none for one without."""
    pairs = [
        (min(click_times, key=lambda click, at=at: abs(click - at)), at)  # type: ignore[misc]
        for at in flash_times
        if click_times
    ]
    return [click - flash for click, flash in pairs if abs(click - flash) < PERIOD_S / 2]


def measure(path: Path) -> list[float]:
    """The skew of every flash in a file, in seconds; to the time of one picture."""
    with VideoReader(path) as pictures:
        flash_times = find_flashes(pictures)
    return skews(flash_times, find_clicks(read_audio(path, _RATE)))
