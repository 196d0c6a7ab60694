"""What a generator's training run is made of, and the runs that have names.

A run is a function that returns a whole configuration; ``python -m training train --run NAME``
takes nothing else but places and numbers of steps, so that a name says what was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final, Literal, get_args

from engine.errors import ConfigError
from engine.mel import WindowPlacement
from training.generator import GeneratorConfig

PerceptualKind = Literal["none", "vgg19", "expert"]
SyncForm = Literal["none", "unsupervised", "visual", "multimodal", "syncnet"]
AdversarialForm = Literal["bce", "hinge"]
Precision = Literal["fp32", "bf16", "fp16"]
Statistics = Literal["batch", "fixed"]


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
        paint: quantile loss of the paint between open lips, where the generator has put them.
        place: half the squared distance in px of the painted lips from where they are to be, per
            axis: a little further apart than the true ones, as paint blends into them.
    """

    pixel: float = 1.0
    gradient: float = 0.5
    mouth: float = 6.0
    outside: float = 0.15
    flow: float = 0.2
    lips: float = 6.0
    rough: float = 0.002
    mask: float = 0.2
    paint: float = 3.0
    place: float = 0.0


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
class Objective:
    """What is added to the generator's own loss: the paper's other three terms (eq. 3).

    A term whose weight is 0, or whose kind is ``none``, is left out with the network it needs.

    Attributes:
        adversarial: weight of the discriminator's opinion; 0 trains without one.
        adversarial_form: ``bce``, the non-saturating form of the GAN that the paper cites, or
            ``hinge``; the paper gives no formula.
        perceptual: whose maps are compared: ``vgg19``, the paper's, or ``expert``, the picture's
            network of an AV-HuBERT on gray mouth regions.
        perceptual_weight: of their distance.
        sync: form of the lip-sync loss: ``unsupervised`` (sound against generated lips, the
            paper's), ``visual`` (generated against true lips), ``multimodal`` (both with their
            sound) or ``syncnet`` (Wav2Lip's lip expert, the paper's baseline).
        sync_weight: of it.
        sync_frames: of a clip that the lip expert sees around the generated ones, at most; a
            shorter clip is seen whole.
        discriminator_width: factor on the discriminator's channels; 1 beside the paper's
            generator in full size.
        discriminator_rate, discriminator_betas: of its own Adam; the rate rises and falls with
            the generator's.
    """

    adversarial: float = 0.0
    adversarial_form: AdversarialForm = "bce"
    perceptual: PerceptualKind = "none"
    perceptual_weight: float = 1.0
    sync: SyncForm = "none"
    sync_weight: float = 0.5
    sync_frames: int = 125
    discriminator_width: float = 0.25
    discriminator_rate: float = 1e-4
    discriminator_betas: tuple[float, float] = (0.5, 0.999)

    def __post_init__(self) -> None:
        choices = {
            "adversarial_form": AdversarialForm,
            "perceptual": PerceptualKind,
            "sync": SyncForm,
        }
        for name, kinds in choices.items():
            _check_choice(name, getattr(self, name), get_args(kinds))
        for name in ("adversarial", "perceptual_weight", "sync_weight"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} must be at least 0, not {getattr(self, name)}.")
        for name in ("discriminator_width", "discriminator_rate"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} must be above 0, not {getattr(self, name)}.")

    @property
    def judges_sync(self) -> bool:
        """Whether a lip expert judges lips and speech."""
        return self.sync != "none" and self.sync_weight > 0

    @property
    def judges_looks(self) -> bool:
        """Whether a network's maps of real and generated pictures are compared."""
        return self.perceptual != "none" and self.perceptual_weight > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One run of the generator.

    Attributes:
        generator: size and form of the network.
        placement: where a frame's mel window lies; the audio encoder must have learnt with it.
        weights: of the loss.
        objective: what else the generator is judged by.
        augment: pseudo identities.
        speakers: share of samples from each speaker; ``*`` stands for all others together.
        clips: samples of a step, each of k frames, over all processes.
        accumulate: parts that a process's samples are computed in, one after the other; it saves
            memory, and batch normalisation sees a part at a time.
        k: frames of a sample, one after the other.
        shut_share: the identity reference is drawn from this share of a clip's frames, those with
            the mouth shut most.
        silent_share: share of samples with digital silence for sound and the clip's most shut k
            frames for targets: clips from a microphone hold no such silence.
        open_share: share of samples that are the widest open of three drawn from a clip: teeth are
            seen in few of the frames.
        apart_s: seconds between reference and target within one clip.
        steps: of Adam, warm-up and cosine decay included.
        learning_rate, warmup_steps, betas: of Adam.
        average: decay of the running average of the weights, which is what is exported.
        precision: what networks compute in: ``fp32``, ``bf16`` or, on a GPU, ``fp16``; losses,
            discriminator and weights stay in float32.
        statistics: of batch normalisation: those of each ``batch``, or ``fixed`` at the start's.
        save_every: steps between checkpoints.
        seed: of weights and samples.
        threads: of torch.
    """

    generator: GeneratorConfig
    placement: WindowPlacement = field(default_factory=lambda: WindowPlacement(-0.1))
    weights: LossWeights = field(default_factory=LossWeights)
    objective: Objective = field(default_factory=Objective)
    augment: Augment = field(default_factory=Augment)
    speakers: Mapping[str, float] = field(default_factory=lambda: {"*": 1.0})
    clips: int = 6
    accumulate: int = 1
    k: int = 5
    shut_share: float = 0.1
    silent_share: float = 0.06
    open_share: float = 0.0
    apart_s: float = 1.0
    steps: int = 5000
    learning_rate: float = 1e-3
    warmup_steps: int = 200
    betas: tuple[float, float] = (0.9, 0.99)
    average: float = 0.998
    precision: Precision = "fp32"
    statistics: Statistics = "batch"
    save_every: int = 250
    seed: int = 0
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("clips", "accumulate", "k", "steps", "save_every", "threads"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}.")
        if self.clips < 2:
            raise ConfigError("clips must be at least 2: one identity has no statistics.")
        if self.clips % self.accumulate or self.clips < 2 * self.accumulate:
            raise ConfigError(
                f"clips must make {self.accumulate} equal parts of at least 2, not {self.clips}."
            )
        if self.generator.audio_columns != self.placement.columns:
            raise ConfigError(
                f"a generator of {self.generator.audio_columns} audio_columns can't learn with mel"
                f" windows of {self.placement.columns}."
            )
        _check_choice("precision", self.precision, get_args(Precision))
        _check_choice("statistics", self.statistics, get_args(Statistics))
        if self.objective.judges_sync and self.objective.sync_frames < self.k:
            raise ConfigError(f"sync_frames must be at least the run's {self.k} frames.")
        if abs(sum(self.speakers.values()) - 1) > 1e-6:
            raise ConfigError(f"the shares of speakers must sum to 1, not {dict(self.speakers)}.")

    def to_dict(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        plain = asdict(self)
        plain["generator"] = self.generator.to_dict()
        plain["placement"] = self.placement.to_dict()
        plain["betas"] = list(self.betas)
        plain["speakers"] = dict(self.speakers)
        plain["objective"]["discriminator_betas"] = list(self.objective.discriminator_betas)
        return plain


def _check_choice(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigError(f"{name} must be one of {', '.join(allowed)}, not {value!r}.")


def narrow() -> TrainConfig:
    """A small generator that keeps whoever it sees, on one core in about an hour."""
    placement = WindowPlacement(-0.325, 34)  # the past costs no delay
    generator = GeneratorConfig(
        width=0.24,
        audio_width=0.5,
        audio_columns=placement.columns,
        head="warp",
        rows=(40, 96),
        masked_from=40,
    )
    return TrainConfig(
        generator=generator,
        placement=placement,
        weights=LossWeights(place=0.5),
        open_share=0.6,
    )


def starter() -> TrainConfig:
    """The bundle that ships: :func:`narrow` with the speakers it was made of, and more judges."""
    return replace(
        narrow(),
        speakers={
            "s1": 0.4,
            "brbk7n": 0.06,
            "lbbc2a": 0.06,
            "pwij3p": 0.08,
            "astronaut": 0.06,
            "*": 0.34,
        },
        objective=Objective(adversarial=0.1, perceptual="expert", perceptual_weight=0.1),
    )


def paper() -> TrainConfig:
    """The paper's generator in full size, with its objective (eq. 3): GAN + 10 L1 + VGG + 0.5 sync.

    Painted RGB, lower half masked, the whole face out; every pixel counts alike.
    """
    return TrainConfig(
        generator=GeneratorConfig(),
        weights=LossWeights(pixel=10.0, gradient=0.0, mouth=1.0, outside=1.0),
        objective=Objective(
            adversarial=1.0, perceptual="vgg19", sync="unsupervised", discriminator_width=1.0
        ),
        learning_rate=1e-4,
        betas=(0.5, 0.999),
    )


def personal(generator: GeneratorConfig, placement: WindowPlacement) -> TrainConfig:
    """Fine-tuning a bundle's generator, of whatever form, on one speaker: :func:`narrow`, gentler.

    It is no named run of ``train``: without a bundle to start from it would learn next to nothing.

    Args:
        generator: the bundle's.
        placement: likewise.
    """
    return replace(
        narrow(),
        generator=generator,
        placement=placement,
        learning_rate=2e-4,
        warmup_steps=50,
        average=0.99,
        statistics="fixed",
        steps=2000,
        save_every=100,
    )


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
