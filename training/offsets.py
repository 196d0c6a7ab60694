"""Whether a clip's lips and sound belong to the same moment, and what is done where they do not.

A lip expert judges the crops that training will see. It is asked of real, whole clips, so it must
be surer than the sync monitor, which watches painted mouths: docs/data.md has the figures.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from engine.bundle import load_bundle
from engine.errors import MediaError
from engine.filterbank import ROW_SAMPLES
from engine.lip_sync import MOST_OFFSET, estimate_offset
from engine.mouth_region import mouth_regions

if TYPE_CHECKING:
    from engine.lip_expert import LipExpert

Policy = Literal["keep", "repair", "drop"]
"""Keep clips as they are and measure nothing; move the sound of those that are clearly off; or
leave out those that are off or unclear."""
POLICIES: Final[tuple[Policy, ...]] = get_args(Policy)

Treatment = Literal["in sync", "repaired", "unclear", "too short"]
TREATMENTS: Final[tuple[Treatment, ...]] = get_args(Treatment)

LEAST_FRAMES: Final = 50
"""Shorter clips are not measured: of 29 frames, one offset in 200 comes out wrong, though sure."""
SURER: Final = 2.0
"""An offset is clear from so many times the confidence on that the expert's bundle asks for."""
LEAST_OFFSET: Final = 2
"""Frames from which a clip is off: the starter's expert finds one where there is none in a sixth
of the clips."""
MOST_REPAIRED: Final = 7
"""Frames beyond which a clip is left out."""

# Long clips are judged by stretches, so that memory stays bounded.
STRETCH: Final = 250  # frames
MOST_STRETCHES: Final = 12


@dataclass(frozen=True, slots=True)
class Measured:
    """How far the sound of a clip is from its lips.

    Attributes:
        frames: + where the sound is late.
        confidence: of the lip expert.
        needed: confidence from which the offset is clear.
    """

    frames: int
    confidence: float
    needed: float

    @property
    def clear(self) -> bool:
        """Whether lips and sound agree anywhere."""
        return self.confidence >= self.needed

    @property
    def off(self) -> bool:
        """Whether they clearly agree at another moment than the recorded one."""
        return self.clear and abs(self.frames) >= LEAST_OFFSET


@cache
def worker_expert(bundle: Path) -> LipExpert:
    """The process's own lip expert of a bundle, loaded once.

    Raises:
        BundleError: the bundle can't be read or carries no lip expert.
    """
    from engine.lip_expert import LipExpert  # its run time takes half a second that --help need not

    return LipExpert(load_bundle(bundle))


def measure(
    expert: LipExpert,
    crops: NDArray[np.uint8],
    mesh: NDArray[np.float32],
    samples: NDArray[np.float32],
) -> Measured | None:
    """How far the sound is from the lips.

    Args:
        expert: the judge.
        crops: uint8 (n, S, S, 3), 25 a second.
        mesh: float32 (n, 468, 3) in pixels of the crops.
        samples: float32 (m,) at 16 kHz in [−1, 1], from the first crop on.

    Returns:
        None for a clip too short to be judged.
    """
    frames = min(len(crops), len(samples) // ROW_SAMPLES)
    if frames < LEAST_FRAMES:
        return None
    sound, lips, counts = [], [], []
    stretches = _stretches(frames)
    for stretch in stretches:
        watched = expert.embed_regions(mouth_regions(list(crops[stretch]), list(mesh[stretch])))
        heard = samples[stretch.start * ROW_SAMPLES : stretch.stop * ROW_SAMPLES]
        alone = expert.alone(expert.embed_sound(heard, len(watched)), watched)
        inner = np.full(len(watched), len(stretches) == 1)
        inner[MOST_OFFSET:-MOST_OFFSET] = True  # no frame is set against another stretch's sound
        sound.append(alone.sound)
        lips.append(alone.lips)
        counts.append(inner)
    found = estimate_offset(
        np.concatenate(sound), np.concatenate(lips), counts=np.concatenate(counts)
    )
    return Measured(found.frames, found.confidence, SURER * expert.facts.confident)


def _stretches(frames: int) -> list[slice]:
    """Stretches of equal length, spread over a clip."""
    count = min(math.ceil(frames / STRETCH), MOST_STRETCHES)
    length = min(frames, STRETCH)
    starts = np.linspace(0, frames - length, count).astype(int)
    return [slice(int(start), int(start) + length) for start in starts]


def treat(name: str, measured: Measured | None, policy: Policy) -> Treatment:
    """What is to be done with a clip that was measured.

    Args:
        name: the clip's, for the sentence.
        measured: of :func:`measure`.
        policy: not ``keep``.

    Raises:
        MediaError: the clip is to be left out.
    """
    if measured is None:
        return "too short"
    figures = f"{measured.frames:+d} frames, confidence {measured.confidence:.2f}"
    if not measured.clear:
        if policy == "drop":
            raise MediaError(
                f"{name} has lips and sound that agree nowhere ({figures}; {measured.needed:.2f} is"
                " needed)."
            )
        return "unclear"
    if not measured.off:
        return "in sync"
    if policy == "drop":
        raise MediaError(f"{name} has its sound early or late ({figures}).")
    if abs(measured.frames) > MOST_REPAIRED:
        raise MediaError(
            f"{name} has its sound further off than is repaired ({figures}; {MOST_REPAIRED} at"
            " most)."
        )
    return "repaired"


def move_sound(
    offset: int,
    crops: NDArray[np.uint8],
    mesh: NDArray[np.float32],
    samples: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Bring lips and sound together by cutting off the start of what comes too late.

    Args:
        offset: frames, + where the sound is late.
        crops: (n, S, S, 3).
        mesh: (n, 468, 3).
        samples: (m,) at 16 kHz.

    Returns:
        The three, those that were late shorter by the offset.
    """
    late_lips, late_sound = max(0, -offset), max(0, offset)
    return crops[late_lips:], mesh[late_lips:], samples[late_sound * ROW_SAMPLES :]
