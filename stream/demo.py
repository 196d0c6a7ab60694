"""The demo: a built-in speaker says a built-in speech, so that a first look needs no file."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import count
from pathlib import Path
from typing import Final

from engine.sources import FaceSource, Picture, Speech
from stream.portrait import Portrait

FPS: Final = Fraction(25)
SPEECH_FILE: Final = Path(__file__).parent / "assets" / "demo_speech.flac"
NOTICE: Final = (
    "What you will see is a modified picture of a real person, the astronaut Eileen Collins"
    " (portrait: NASA, public domain);\nshe never said these words, and the voice is synthetic."
)


def speaker() -> FaceSource:
    """The built-in speaker: a portrait that sways and blinks, without end."""
    portrait = Portrait()

    def pictures() -> Iterator[Picture]:
        return (portrait.frame(float(number / FPS)) for number in count())

    return FaceSource(
        name="the built-in portrait",
        width=portrait.width,
        height=portrait.height,
        fps=FPS,
        pictures=pictures,
    )


def speech(seconds: float | None = None) -> Speech:
    """The built-in speech.

    Args:
        seconds: how much of it; it starts again where it is shorter. Once by default.
    """
    return Speech(SPEECH_FILE, seconds=seconds)
