"""When a peer's pictures were taken, on the room's clock, so that they fit to its sound.

Sound and pictures of a peer each count on a clock of their own, from a random number. The sender
reports (RFC 3550 §6.4.1) say which of the two times belong together; before there are any, the
earliest arrivals do. The sound comes into the room through an intake, and a picture belongs to
the moment at which the sound of its time does.

Media times are seconds of a stream's own clock: a timestamp that counts on, over its rate.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Final, Literal

from stream.core.sound import TICK_S

Kind = Literal["sound", "picture"]

MOST_APART_S: Final = 1.0
"""Sender reports that set sound and pictures further apart than their arrivals by more than this
are not believed: networks don't hold up one of them for so long."""

SLEW: Final = 0.5
"""A correction moves pictures by at most this share of the time between them: half a picture."""

MOST_AHEAD_S: Final = 1.0
"""No picture gets a time further ahead of now; no intake holds sound for so long."""

_REPORTS: Final = 10
_REPORT_AGE_S: Final = 30.0  # over it, clocks that are 100 ppm apart have moved 3 ms
_STEP_S: Final = 0.5  # the sender's wall clock was set, or the stream began anew
_ARRIVAL_BUCKET_S, _ARRIVAL_BUCKETS = 1.0, 10
_PLACES: Final = 15  # pieces of sound, 0.3 s; of while an intake fills up, some are wrong
_SOUND_GONE_S: Final = 10.0  # without sound for this long, pictures follow their own arrivals
_MOST_GAP_S: Final = 1.0  # between two pictures that counts for a correction
_LEAST_RISE_S: Final = 0.001
_NEW_CLOCK_S: Final = 5.0  # a media clock that is off by this much is another one


class _Earliest:
    """The least of the values of the last ten seconds."""

    def __init__(self) -> None:
        self._buckets: deque[tuple[int, float]] = deque(maxlen=_ARRIVAL_BUCKETS)

    @property
    def value(self) -> float | None:
        return min((least for _, least in self._buckets), default=None)

    def add(self, value: float, now: float) -> None:
        bucket = math.floor(now / _ARRIVAL_BUCKET_S)
        if self._buckets and self._buckets[-1][0] == bucket:
            self._buckets[-1] = bucket, min(value, self._buckets[-1][1])
        else:
            self._buckets.append((bucket, value))


class _Stream:
    """What is known of one of the two clocks.

    Attributes:
        arrivals: room seconds less media time at which packets come.
    """

    def __init__(self) -> None:
        self.arrivals = _Earliest()
        self._reports: deque[tuple[float, float]] = deque(maxlen=_REPORTS)

    def report(self, ahead_s: float, now: float) -> None:
        """The sender's wall clock is so far ahead of the media clock."""
        best = self.reported
        if best is not None and abs(ahead_s - best) > _STEP_S:
            self._reports.clear()
        while self._reports and now - self._reports[0][0] > _REPORT_AGE_S:
            self._reports.popleft()
        self._reports.append((now, ahead_s))

    @property
    def reported(self) -> float | None:
        """The sender's wall clock less the media clock.

        Senders that take the time when a packet leaves are late by what they had to do before,
        never early; so the least counts.
        """
        return min((ahead_s for _, ahead_s in self._reports), default=None)


class RemoteClock:
    """Gives a peer's pictures their times in the room.

    Attributes:
        reports: sender reports that were taken.
        by_reports: whether they tell how sound and pictures belong together, and not arrivals.
    """

    def __init__(self) -> None:
        self.reports = 0
        self.by_reports = False
        self._streams: dict[Kind, _Stream] = {"sound": _Stream(), "picture": _Stream()}
        self._apart_s: float | None = None  # what to add to a picture's media time for the sound's
        # The room's time of sound less its media time, where the last pieces of it come to lie.
        self._places: deque[float] = deque(maxlen=_PLACES)
        self._sound_at = -math.inf
        self._starved = False
        self._pushed_s = 0.0  # media time at the end of the last piece
        self._last: tuple[float, float] | None = None  # media time and offset of the last picture
        self._last_pts = -math.inf

    def restart(self, kind: Kind) -> None:
        """Another stream of this kind begins, on a clock of its own."""
        self._streams[kind] = _Stream()
        self._apart_s = None
        if kind == "sound":
            self._places.clear()
            self._sound_at = -math.inf
        else:
            self._last = None

    def report(self, kind: Kind, sender_s: float, media_s: float, now: float) -> None:
        """A sender report came.

        Args:
            kind: of the stream that it is about.
            sender_s: its NTP time in seconds; the reports of both streams have the same origin.
            media_s: the media time that belongs to it.
            now: room seconds.
        """
        self._streams[kind].report(sender_s - media_s, now)
        self.reports += 1

    def arrived(self, kind: Kind, media_s: float, now: float) -> None:
        """A packet came.

        Args:
            kind: of its stream.
            media_s: when it was ready to be sent: at the end of its sound, or its picture's time.
            now: room seconds.
        """
        self._streams[kind].arrivals.add(now - media_s, now)

    def pushed(self, end_s: float, now: float, held_s: float) -> None:
        """Sound went into the intake.

        The room takes 20 ms from it at every multiple of 20 ms, as what came in since the last
        one. So it is known where each sample comes to lie, however unevenly packets arrive.

        Args:
            end_s: the media time at the end of it.
            now: room seconds.
            held_s: how much the intake holds now, this included, to the sample.
        """
        if self._starved:
            self._places.clear()
            self._starved = False
        place_s = _end_of(now, held_s) - end_s
        if self._places and abs(place_s - median(self._places)) > _NEW_CLOCK_S:
            self.restart("sound")
        self._places.append(place_s)
        self._pushed_s, self._sound_at = end_s, now

    def held(self, now: float, held_s: float) -> None:
        """What the intake holds now; to be told before each push and a few times between two.

        A tick that is late has not taken its 20 ms yet, and the sound seems to lie later than it
        does; so the least that is seen counts.

        Args:
            now: room seconds.
            held_s: how much the intake holds, to the sample.
        """
        if self._places and not self._starved:
            self._places[-1] = min(self._places[-1], _end_of(now, held_s) - self._pushed_s)

    def starved(self) -> None:
        """The intake has nothing to give; what it gets next lies elsewhere than what it had.

        Until it plays again, what is pushed is not to be told here.
        """
        self._starved = True

    def picture(self, media_s: float, now: float) -> float:
        """When a picture was taken.

        Args:
            media_s: its media time.
            now: room seconds.

        Returns:
            Room seconds, rising from picture to picture; a little ahead of now where the intake
            holds sound for longer than the picture took to come.
        """
        wanted = self._offset(media_s, now)
        offset = wanted
        if self._last is not None:
            last_media_s, last_offset = self._last
            elapsed_s = media_s - last_media_s
            if abs(wanted - last_offset) > _NEW_CLOCK_S or abs(elapsed_s) > _NEW_CLOCK_S:
                offset = wanted
            else:
                most_s = SLEW * min(max(elapsed_s, 0.0), _MOST_GAP_S)
                offset = last_offset + min(max(wanted - last_offset, -most_s), most_s)
        self._last = media_s, offset
        pts = min(media_s + offset, now + MOST_AHEAD_S)
        self._last_pts = max(pts, self._last_pts + _LEAST_RISE_S)
        return self._last_pts

    def _offset(self, media_s: float, now: float) -> float:
        """Room seconds less media time of pictures, as it is known now."""
        earliest = self._streams["picture"].arrivals.value
        alone_s = now - media_s if earliest is None else earliest
        apart_s = self._relation()
        if not self._places or apart_s is None or now - self._sound_at > _SOUND_GONE_S:
            return alone_s
        return apart_s + median(self._places)

    def _relation(self) -> float | None:
        sound, picture = self._streams["sound"], self._streams["picture"]
        if sound.arrivals.value is None or picture.arrivals.value is None:
            return self._apart_s
        arrived_s = picture.arrivals.value - sound.arrivals.value
        if sound.reported is not None and picture.reported is not None:
            reported_s = picture.reported - sound.reported
            if abs(reported_s - arrived_s) <= MOST_APART_S:
                self.by_reports = True
                self._apart_s = reported_s
                return reported_s
        if self._apart_s is None or not self.by_reports:
            self._apart_s = arrived_s
        elif abs(self._apart_s - arrived_s) > MOST_APART_S:
            self._apart_s, self.by_reports = arrived_s, False
        return self._apart_s


def _end_of(now: float, held_s: float) -> float:
    """The room's time at the end of what an intake holds."""
    next_tick = (math.floor(now / TICK_S) + 1) * TICK_S
    return next_tick - TICK_S + held_s
