"""What a generator's training run is made of, and the runs that have names.

A run is a function that returns a whole configuration; ``python -m training train --run NAME``
takes nothing else but places and numbers of steps, so that a name says what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from engine.errors import ConfigError
from engine.mel import WindowPlacement
from training.generator import GeneratorConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class LossWeights:
    """Weights of the terms of the generator's loss; pictures count in 0..1, flow in pixels.

    Attributes:
        pixel: mean absolute difference.
        gradient: the same of the picture's horizontal and vertical differences.
        mouth: how much more a pixel near the lips counts in both.
        outside: how much a pixel counts that the paste will not show.
        flow: distance of the flow at the mesh's points from the motion that the mesh itself shows.
        lips: how much more the points of lips and jaw count in the flow.
        rough: total variation of the flow.
        mask: cross-entropy of the mask: between open lips is to be painted, since a shut mouth has
            no pixels to warp there, and everything else is the person's own.
        paint: mean absolute difference of the paint between open lips.
    """

    pixel: float = 1.0
    gradient: float = 0.5
    mouth: float = 6.0
    outside: float = 0.15
    flow: float = 0.2
    lips: float = 6.0
    rough: float = 0.002
    mask: float = 0.05
    paint: float = 0.3


@dataclass(frozen=True, kw_only=True, slots=True)
class Augment:
    """Pseudo identities: one change for the identity reference and its targets.

    Attributes:
        share: of samples that are changed.
        colour: spread of the entries of a colour matrix around the identity.
        gamma: greatest change of the logarithm of gamma.
        elastic: greatest smooth shift of a point, as a share of the crop's side.
        flip: share of mirrored samples.
        misplace: greatest shift of the reference alone, as a share of the side; its roll and size
            change by as much at the crop's edge.
    """

    share: float = 0.8
    colour: float = 0.07
    gamma: float = 0.25
    elastic: float = 0.03
    flip: float = 0.5
    misplace: float = 0.015


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One run of the generator.

    Attributes:
        generator: size and form of the network.
        placement: where a frame's mel window lies; the audio encoder must have learnt with it.
        weights: of the loss.
        augment: pseudo identities.
        speakers: share of samples from each speaker; ``*`` stands for all others together.
        clips: samples of a batch, each of k frames.
        k: frames of a sample, one after the other.
        shut_share: the identity reference is drawn from this share of a clip's frames, those with
            the mouth shut most.
        silent_share: share of samples with digital silence for sound and the clip's most shut k
            frames for targets: clips from a microphone hold no such silence.
        apart_s: seconds between reference and target within one clip.
        steps: of Adam, warm-up and cosine decay included.
        learning_rate, warmup_steps, betas: of Adam.
        average: decay of the running average of the weights, which is what is exported.
        save_every: steps between checkpoints.
        seed: of weights and samples.
        threads: of torch.
    """

    generator: GeneratorConfig
    placement: WindowPlacement = field(default_factory=lambda: WindowPlacement(-0.1))
    weights: LossWeights = field(default_factory=LossWeights)
    augment: Augment = field(default_factory=Augment)
    speakers: Mapping[str, float] = field(default_factory=lambda: {"*": 1.0})
    clips: int = 6
    k: int = 5
    shut_share: float = 0.1
    silent_share: float = 0.06
    apart_s: float = 1.0
    steps: int = 5000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    average: float = 0.998
    save_every: int = 250
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("clips", "k", "steps", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.clips < 2:
            raise ConfigError("clips must be at least 2: one identity has no statistics.")
        if abs(sum(self.speakers.values()) - 1) > 1e-6:
            raise ConfigError(f"the shares of speakers must sum to 1, not {dict(self.speakers)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        plain = asdict(self)
        plain["generator"] = self.generator.to_dict()
        plain["placement"] = self.placement.to_dict()
        plain["betas"] = list(self.betas)
        plain["speakers"] = dict(self.speakers)
        return plain


def narrow() -> TrainConfig:
    """A small generator that keeps whoever it sees, on one core in about an hour."""
    generator = GeneratorConfig(
        width=0.24, audio_width=0.5, head="warp", rows=(40, 96), masked_from=40
    )
    return TrainConfig(generator=generator)


def starter() -> TrainConfig:
    """The bundle that ships: :func:`narrow` with the speakers it was made of."""
    return replace(narrow(), speakers={"s1": 0.5, "astronaut": 0.12, "*": 0.38})


def paper() -> TrainConfig:
    """The paper's generator in full size: painted RGB, lower half masked, the whole face out."""
    return TrainConfig(generator=GeneratorConfig(), learning_rate=1e-4, betas=(0.5, 0.999))


RUNS: Final[Mapping[str, Callable[[], TrainConfig]]] = {
    "narrow": narrow,
    "starter": starter,
    "paper": paper,
}


def run_named(name: str) -> TrainConfig:
    """The configuration of a named run.

    Raises:
        ConfigError: there is no such run.
    """
    if name not in RUNS:
        raise ConfigError(f"There is no run {name!r}; the runs are {', '.join(RUNS)}.")
    return RUNS[name]()
