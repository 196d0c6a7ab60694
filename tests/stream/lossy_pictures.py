"""Pictures over a line that loses packets, in virtual time: an hour of them in seconds."""

import heapq
import itertools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from stream.core.nack import Nacks
from stream.core.picture_buffer import Encoded, Packet, PictureBuffer

RATE: Final = 90_000
_TICK_S: Final = 0.01
_HISTORY: Final = 128  # packets that the sender can send again, as aiortc
_ENCODE_S: Final = 0.01


@dataclass
class Shown:
    """What was given, and when."""

    at: list[float] = field(default_factory=list)
    pictures: list[Encoded] = field(default_factory=list)
    most_held: int = 0

    def freeze_s(self) -> float:
        """The longest time between two pictures."""
        return max(b - a for a, b in itertools.pairwise(self.at))


class LossyPictures:
    """A sender, a line with equal loss both ways, and the receiving side's logic.

    Args:
        seconds: how long it sends.
        loss: share of all packets lost, requests included.
        rtt_s: round trip.
        seed: of all that is random.
        fps: pictures a second.
        packets: of an ordinary picture; a key frame has six times as many.
        conceals: whether the decoder is one that conceals damage.
        lose: which packets are lost besides, by (number, how often it was sent before).
        cut: from when to when nothing passes.
        jitter_s: how much more or less than half the round trip a packet takes.
        answers_pli: whether the sender makes key frames on request.
    """

    def __init__(
        self,
        seconds: float,
        *,
        loss: float = 0.0,
        rtt_s: float = 0.05,
        seed: int = 1,
        fps: int = 25,
        packets: int = 3,
        conceals: bool = False,
        lose: Callable[[int, int], bool] = lambda number, before: False,
        cut: tuple[float, float] = (0.0, 0.0),
        jitter_s: float = 0.0,
        answers_pli: bool = True,
    ) -> None:
        self.nacks, self.buffer, self.shown = Nacks(), PictureBuffer(), Shown()
        self.buffer.give_up_s = 0.35 if conceals else None
        self._random = random.Random(seed)
        self._seconds, self._loss, self._rtt_s, self._fps = seconds, loss, rtt_s, fps
        self._per_picture, self._lose, self._cut = packets, lose, cut
        self._jitter_s, self._answers_pli = jitter_s, answers_pli
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._now = 0.0
        self._sent: dict[int, tuple[Packet, int]] = {}
        self._next = 0
        self._key_wanted = True
        self.key_frames = 0

    def run(self) -> Shown:
        for number in range(int(self._seconds * self._fps)):
            self._at(number / self._fps, lambda number=number: self._picture(number))  # type: ignore[misc]
        for tick in range(int(self._seconds / _TICK_S)):
            self._at(tick * _TICK_S, self._tick)
        while self._events:
            self._now, _, happen = heapq.heappop(self._events)
            happen()
        return self.shown

    def _at(self, when: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (when, next(self._order), happen))

    def _passes(self, happen: Callable[[], None]) -> None:
        """Something takes half a round trip, or is lost."""
        if self._cut[0] <= self._now < self._cut[1] or self._random.random() < self._loss:
            return
        delay_s = self._rtt_s / 2 + self._jitter_s * (2 * self._random.random() - 1)
        self._at(self._now + delay_s, happen)

    # The sender

    def _picture(self, number: int) -> None:
        key, self._key_wanted = self._key_wanted, False
        self.key_frames += key
        count = self._per_picture * (6 if key else 1)
        for part in range(count):
            packet = Packet(
                timestamp=number * RATE // self._fps,
                last=part == count - 1,
                data=b"k" if key else b"p",
                first=part == 0,
                key=key and part == 0,
            )
            self._sent[self._next] = packet, 0
            self._sent.pop(self._next - _HISTORY, None)
            self._at(self._now + _ENCODE_S, lambda number=self._next: self._send(number))  # type: ignore[misc]
            self._next += 1

    def _send(self, number: int) -> None:
        if number not in self._sent:
            return
        packet, before = self._sent[number]
        self._sent[number] = packet, before + 1
        if not self._lose(number, before):
            self._passes(lambda: self._arrive(number, packet, before > 0))

    def _asked(self, numbers: list[int]) -> None:
        for number in numbers:
            self._send(number)

    def _key_asked(self) -> None:
        self._key_wanted = self._key_wanted or self._answers_pli

    # The receiver

    def _arrive(self, number: int, packet: Packet, again: bool) -> None:
        self._ask_for(self.nacks.take(number, self._now, retransmitted=again))
        self._give(self.buffer.add(number, packet, self._now))

    def _tick(self) -> None:
        self._give(self.buffer.wait(self._now))
        self._ask_for(self.nacks.again(self._now))

    def _ask_for(self, numbers: list[int]) -> None:
        if numbers:
            self._passes(lambda: self._asked(numbers))

    def _give(self, pictures: list[Encoded]) -> None:
        self.shown.at += [self._now] * len(pictures)
        self.shown.pictures += pictures
        self.shown.most_held = max(self.shown.most_held, len(self.buffer))
        self.nacks.forget(self.buffer.head)
        self.buffer.rtt_s = self.nacks.rtt_s or 0.0
        if self.nacks.hopeless:
            self.nacks.hopeless = False
            self.buffer.want_key_frame()
        if self.buffer.ask(self._now):
            self._passes(self._key_asked)
