"""The networks that metrics ask, each loaded where its weights were given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import nn

from engine.bundle import MANIFEST, load_bundle
from engine.errors import ConfigError
from engine.files import sha256_of
from engine.lip_expert import Alone, Expert, LipExpert
from training.public_networks import KINDS, restore
from training.scoring.fan import Fan
from training.scoring.inception import Inception
from training.scoring.torch_expert import TorchExpert
from training.syncnet import SyncNet
from training.wav2lip import SyncNetColour
from training.weights import load_weights

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeFiles:
    """Where judges come from, so that another process can open them too.

    Attributes:
        experts: lip experts as training has made or imported them.
        bundles: folders of bundles with lip experts. The first expert of all gives scores.
        syncnet: imported weights of SyncNet v2.
        colour: of Wav2Lip's lip expert.
        inception: of the Inception of FID.
        fan: whether landmarks are FAN's instead of the face mesh's.
    """

    experts: tuple[Path, ...] = ()
    bundles: tuple[Path, ...] = ()
    syncnet: Path | None = None
    colour: Path | None = None
    inception: Path | None = None
    fan: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Judges:
    """What is there to judge with.

    Attributes:
        expert: a lip expert, for AVSu, AVSm and AVSv.
        more_experts: others, for studies.
        syncnet: SyncNet v2, for LSE-C and LSE-D.
        colour: Wav2Lip's lip expert, for studies.
        inception: the Inception of 2015-12-05, for FID.
        fan: FAN, for LMD; without it, the face mesh gives the landmarks.
        names: of each that is there, with its weights' SHA-256 where they are given as a file.
        files: where they come from; None where they were not opened by :func:`open_judges`.
    """

    expert: Expert | None = None
    more_experts: tuple[Expert, ...] = ()
    syncnet: SyncNet | None = None
    colour: SyncNetColour | None = None
    inception: Inception | None = None
    fan: Fan | None = None
    names: dict[str, str]
    files: JudgeFiles | None = None

    @property
    def experts(self) -> tuple[Expert, ...]:
        """Every lip expert."""
        return (*(() if self.expert is None else (self.expert,)), *self.more_experts)


def open_judges(files: JudgeFiles) -> Judges:
    """Load what is there.

    Raises:
        BundleError: a bundle can't be read, or has no lip expert.
        ConfigError: an expert's file holds none; weights can't be read, or are of another
            network; two experts have one name; FAN can't be loaded.
    """
    bundles = [load_bundle(folder) for folder in files.bundles]
    names: dict[str, str] = {}
    experts: list[Expert] = [TorchExpert(path) for path in files.experts]
    whence = [f"SHA-256 {sha256_of(path)}" for path in files.experts]
    experts += [LipExpert(bundle) for bundle in bundles]
    whence += [f"of the bundle with SHA-256 {sha256_of(b.folder / MANIFEST)}" for b in bundles]
    for expert, text in zip(experts, whence, strict=True):
        name = f"lip expert, {expert.name}"
        if name in names:
            raise ConfigError(f"Two lip experts have the name {expert.name!r}: leave one out.")
        names[name] = text

    def load(path: Path | None, kind: type[Network]) -> Network | None:
        if path is None:
            return None
        weights = load_weights(path)
        network = restore(weights)
        if not isinstance(network, kind):
            title = KINDS[weights.kind].title
            raise ConfigError(
                f"{path} holds {title}, which is not what it was given for; name the right file."
            )
        names[weights.kind] = f"{weights.source}, SHA-256 {weights.source_sha256}"
        return network

    fan = Fan() if files.fan else None
    if fan is not None:
        names["landmarks"] = fan.name
    return Judges(
        expert=next(iter(experts), None),
        more_experts=tuple(experts[1:]),
        syncnet=load(files.syncnet, SyncNet),
        colour=load(files.colour, SyncNetColour),
        inception=load(files.inception, Inception),
        fan=fan,
        names=names,
        files=files,
    )


@dataclass(frozen=True, slots=True)
class Embedded:
    """A clip's lips as the lip expert takes them in, before its transformer.

    Attributes:
        expert: whose.
        watched: float32 (T, D).
    """

    expert: Expert
    watched: NDArray[np.float32]

    def alone(self, sound: NDArray[np.float32]) -> Alone:
        """TE(0, A) and TE(V, 0), float32 (T, D) each; sound (n,) at 16 kHz."""
        return self.expert.alone(self._embed(sound), self.watched)

    def together(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        """TE(V, A), float32 (T, D)."""
        fused = self.expert.fuse(self._embed(sound)[None], self.watched[None])
        return np.asarray(fused[0], np.float32)

    def cut(self, frames: int) -> Embedded:
        """The first frames only."""
        return Embedded(self.expert, self.watched[:frames])

    def _embed(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        return self.expert.embed_sound(sound, len(self.watched))
