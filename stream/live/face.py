"""What is known of one speaker's face: what hides it, what its lips do, how it looks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.agreement import Visibility
from engine.identity import make_identity
from engine.lips import mouth_opening
from stream.core.identity import IdentityChooser
from stream.core.lip_motion import LipMotion
from stream.core.pictures import Trouble
from stream.live.eye import Seen
from stream.live.worker import Worker


@dataclass(frozen=True, slots=True, eq=False)
class Reference:
    """An identity reference.

    Attributes:
        crop: uint8 (S, S, 3), its mouth shut.
        person: the tracker's number of whose it is.
    """

    crop: NDArray[np.uint8]
    person: int


@dataclass(kw_only=True)
class _Learned:
    """What holds for one person only."""

    visibility: Visibility = field(default_factory=Visibility)
    lips: LipMotion = field(default_factory=LipMotion)
    chooser: IdentityChooser = field(default_factory=IdentityChooser)


class SpeakerFace:
    """Follows a speaker's face for all that is made of it. For one event loop alone.

    Args:
        hand: shuts the reference's mouth, in its thread.

    Attributes:
        person: the tracker's number of the one who is followed; None before the first face.
        reference: the identity reference, once there is one of this person.
    """

    def __init__(self, hand: Worker) -> None:
        self._hand = hand
        self._learned = _Learned()
        self._choosing: asyncio.Task[None] | None = None
        self.person: int | None = None
        self.reference: Reference | None = None

    def saw(self, seen: Seen, now: float) -> bool:
        """Take the next picture.

        Args:
            seen: with its face, if it has one.
            now: seconds on the clock of ``seen.pts``.

        Returns:
            Whether the lips move.
        """
        if seen.face is not None and seen.face.person != self.person:
            # Somebody else: nothing that was learned of the last one holds.
            self.person, self._learned, self.reference = seen.face.person, _Learned(), None
        self._learned.visibility.saw(seen.face, seen.pts)
        free = self._choosing is None
        if free and seen.cost is not None and self._learned.chooser.offer(seen.cost, now):
            self._choosing = asyncio.get_running_loop().create_task(self._choose(seen))
        opening = None if seen.face is None else mouth_opening(seen.face.mesh)
        return self._learned.lips.update(opening, seen.pts)

    def painted(self, disagreement: float, pts: float) -> None:
        """A picture was painted; see :meth:`engine.agreement.Visibility.painted`."""
        self._learned.visibility.painted(disagreement, pts)

    def trouble(self, seen: Seen) -> Trouble | None:
        """Why the lips of this picture can't be changed, by all that is known now."""
        if seen.face is None:
            return "no-face"
        return self._learned.visibility.trouble(seen.pts)

    async def _choose(self, seen: Seen) -> None:
        face, crop = seen.face, seen.crop
        assert face is not None
        assert crop is not None
        try:
            identity = await self._hand.do(lambda: make_identity(face, crop))
            if face.person == self.person:
                self.reference = Reference(identity.crop, face.person)
        finally:
            self._choosing = None
