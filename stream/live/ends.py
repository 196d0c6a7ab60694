"""What a session is given: everything outside it, and what its user can change."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from stream.core.sinks import PictureSink, SoundSink
from stream.core.sound import Intake
from stream.live.cameras import Camera


class Runner(Protocol):
    """An end with work of its own: a device, a server."""

    async def run(self) -> None: ...  # noqa: D102


@dataclass(kw_only=True)
class Ends:
    """Everything outside the session.

    Attributes:
        camera: opens the camera; called in the camera's thread, again after it was lost.
        target: the speech that the lips follow, if any.
        source: the speaker's own voice, if any.
        pictures: where pictures go.
        sounds: where sound goes.
        runners: what else has to run: intakes and sinks alike.
        target_latency_s: how long the target sound is held before the session has it.
        picture_wait_s: how long a picture waits on average for its turn in a device; sound that
            leaves at devices waits as long.
    """

    camera: Callable[[], Camera]
    target: Intake | None = None
    source: Intake | None = None
    pictures: Sequence[PictureSink] = ()
    sounds: Sequence[SoundSink] = ()
    runners: Sequence[Runner] = ()
    target_latency_s: Callable[[], float] = lambda: 0.0
    picture_wait_s: float = 0.0


@dataclass(kw_only=True)
class Controls:
    """What the user can change while the session runs.

    Attributes:
        lip_sync: whether lips are changed.
        paused: whether the picture is replaced by a still card.
        own_voice: whether the speaker's own voice is heard.
        trim_s: how much later than the sound the picture leaves; negative: earlier.
    """

    lip_sync: bool = True
    paused: bool = False
    own_voice: bool = False
    trim_s: float = 0.0
