"""Where a session's pictures come from: a camera, or a film, a still or the demo's portrait.

All look alike to the session: each picture comes with the session time at which it was taken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.sources import FaceSource, Picture, back_and_forth, open_face

Clock: TypeAlias = Callable[[], float]
"""Gives session seconds."""

_KEPT_BYTES: Final = 512 << 20  # of a film's pictures, for playing it backward
_MOST_AHEAD_S: Final = 1.0  # a picture due later than this shows that the clock was set back
_CATCH_UP_SHARE: Final = 0.5  # of a picture's time: what leaving out pictures may take at once


@dataclass(frozen=True, slots=True)
class Captured:
    """A picture and when it was taken.

    Attributes:
        picture: uint8 (H, W, 3) RGB; not to be written to.
        time: session seconds, rising from picture to picture.
    """

    picture: NDArray[np.uint8]
    time: float


class Camera(Protocol):
    """What a session needs of a camera. One thread reads; any thread may close."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def width(self) -> int:
        """Of the pictures, in pixels."""
        ...

    @property
    def height(self) -> int:
        """Of the pictures, in pixels."""
        ...

    @property
    def fps(self) -> Fraction:
        """Pictures a second as promised; a webcam gives fewer in the dark."""
        ...

    def read(self) -> Captured:
        """Wait for the next picture.

        Raises:
            MediaError: the camera is gone or gives no more pictures.
        """
        ...

    def close(self) -> None:
        """Free the device; may be called twice."""
        ...


class PacedCamera:
    """Pictures that have no clock of their own, one after the other at their own pace.

    Picture n is due n / fps after the first one and carries exactly that time, however late it
    was made. Where the reader is late by more than a picture, pictures are left out; there is
    never a burst.

    Args:
        face: the pictures; where they end, they go backward and forward without end.
        clock: session seconds.
        wait: sleeps for so many seconds.

    Attributes:
        name: the source's.
        width: of the pictures in pixels.
        height: of the pictures in pixels.
        fps: pictures a second.
        skipped: how many pictures' times passed with none.
    """

    def __init__(self, face: FaceSource, clock: Clock, wait: Callable[[float], None]) -> None:
        self.name = face.name
        self.width = face.width
        self.height = face.height
        self.fps = face.fps
        self.skipped = 0
        self._pictures = back_and_forth(face.pictures)
        self._clock = clock
        self._wait = wait
        self._start: float | None = None
        self._number = 0
        self._closed = False

    def read(self) -> Captured:
        """Wait for the next picture.

        Raises:
            MediaError: it can't be read, or the camera is closed.
        """
        if self._closed:
            raise MediaError(f"{self.name} is closed; open it again.")
        picture = next(self._pictures, None)
        if picture is None:
            raise MediaError(f"{self.name} holds no pictures; choose another file.")
        now = self._clock()
        since_due = 0.0 if self._start is None else now - self._due(self._start)
        if self._start is None or since_due < -_MOST_AHEAD_S:
            self._start, since_due = now - float(self._number / self.fps), 0.0
        if (missed := int(since_due * self.fps)) > 0:
            picture = self._leave_out(missed, picture)
        due = self._due(self._start)
        while not self._closed and (left := due - self._clock()) > 0:
            self._wait(min(left, _MOST_AHEAD_S))
        self._number += 1
        return Captured(picture, due)

    def close(self) -> None:
        """End the reading; nothing is held."""
        self._closed = True

    def _due(self, start: float) -> float:
        return start + float(self._number / self.fps)

    def _leave_out(self, missed: int, picture: Picture) -> Picture:
        """Pass over pictures whose time is over.

        Where making them takes the time that this is to win, the film goes slower instead.
        """
        self._number += missed
        self.skipped += missed
        until = self._clock() + _CATCH_UP_SHARE / float(self.fps)
        for _ in range(missed):
            if self._clock() >= until:
                break
            picture = next(self._pictures, picture)
        return picture


def open_camera(
    name: str,
    clock: Clock,
    *,
    width: int,
    height: int,
    fps: int,
    wait: Callable[[float], None] = time.sleep,
) -> Camera:
    """Open what the user named.

    Args:
        name: a film or a picture, else a camera: its label, number or device; empty: the first.
        clock: session seconds.
        width: wanted of a camera, in pixels.
        height: wanted of a camera, in pixels.
        fps: wanted of a camera, in pictures a second.
        wait: sleeps for so many seconds.

    Raises:
        MediaError: there is no such file or camera, or it can't be used.
    """
    from stream.live.webcam import find_camera, open_webcam  # not at the top: it needs this module

    path = Path(name)
    if name and path.is_file():
        face = open_face(path)
        endless = replace(face, pictures=lambda: forward_and_backward(face.pictures))
        return PacedCamera(endless, clock, wait)
    return open_webcam(find_camera(name), clock, width=width, height=height, fps=fps)


def forward_and_backward(
    pictures: Callable[[], Iterator[Picture]], *, kept_bytes: int = _KEPT_BYTES
) -> Iterator[Picture]:
    """A film's pictures without end, with no pause at the turn.

    It keeps them as they go by, for a live session has no time to read the film again, as
    :func:`engine.sources.back_and_forth` does. Of a long film only the end is played again, as
    much as is kept.

    Args:
        pictures: gives them from the first one.
        kept_bytes: how much to keep.
    """
    kept: deque[Picture] = deque()
    held = 0
    for picture in pictures():
        kept.append(picture)
        held += picture.nbytes
        while held > kept_bytes and len(kept) > 1:
            held -= kept.popleft().nbytes
        yield picture
    film = list(kept)
    turns = [*film[-2::-1], *film[1:]] or film
    while turns:
        yield from turns
