"""The networks of other projects that can be imported, and what is known of their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, nn

from engine.errors import ConfigError
from training.avhubert import AvHubert, AvHubertConfig, public_name
from training.scoring.inception import Inception
from training.syncnet import SyncNet
from training.wav2lip import SyncNetColour, Wav2Lip
from training.weights import Weights

AVHUBERT: Final = "avhubert"
WAV2LIP: Final = "wav2lip"
SYNCNET_COLOUR: Final = "syncnet-colour"
SYNCNET: Final = "syncnet-v2"
INCEPTION: Final = "inception-fid"


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """One network.

    Attributes:
        title: for messages, with an article.
        build: makes it, untrained, from its sizes.
        licence: of the public weights.
        training_data: of the public weights.
    """

    title: str
    build: Callable[[Mapping[str, Any]], nn.Module]
    licence: str
    training_data: str


_WAV2LIP_TERMS = (
    "no licence file; its authors allow personal, research and other non-commercial use only"
)
_LRS2 = "LRS2 (BBC: non-commercial research only)"

KINDS: Final[Mapping[str, Kind]] = {
    AVHUBERT: Kind(
        title="an AV-HuBERT",
        build=lambda config: AvHubert(AvHubertConfig.from_dict(dict(config))),
        licence=(
            "AV-HuBERT licence of Meta: non-commercial research only; no commercial or production"
            " use, no biometric processing; its notice goes with every copy"
        ),
        training_data="LRS3, in most checkpoints also VoxCeleb2; the file does not say which",
    ),
    WAV2LIP: Kind(
        title="a Wav2Lip generator",
        build=lambda _: Wav2Lip(),
        licence=_WAV2LIP_TERMS,
        training_data=_LRS2,
    ),
    SYNCNET_COLOUR: Kind(
        title="a Wav2Lip lip expert (SyncNet on colours)",
        build=lambda _: SyncNetColour(),
        licence=_WAV2LIP_TERMS,
        training_data=_LRS2,
    ),
    SYNCNET: Kind(
        title="a SyncNet v2",
        build=lambda _: SyncNet(),
        licence="none stated for the weights (their publisher's code is MIT)",
        training_data="not stated by its publisher",
    ),
    INCEPTION: Kind(
        title="an Inception of FID",
        build=lambda _: Inception(),
        licence="Apache-2.0 (TensorFlow's model of 2015-12-05, as pytorch-fid converted it)",
        training_data="ImageNet (ILSVRC 2012: non-commercial research and education)",
    ),
}

TALKLIP_LICENCE: Final = (
    "none stated: all rights reserved by TalkLip's authors; made from AV-HuBERT, whose licence"
    " allows non-commercial research only"
)
TALKLIP_DATA: Final = "LRS2 (BBC: non-commercial research only), after AV-HuBERT's own"


def public_shapes(kind: str, config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Every tensor of a network's public checkpoints that is used here, by its name."""
    network = empty_network(kind, config)
    return {name: tuple(tensor.shape) for name, tensor in public_state(network).items()}


def public_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's state dict under the names of its public checkpoints."""
    rename = public_name if isinstance(network, AvHubert) else str
    return {rename(name): tensor for name, tensor in network.state_dict().items()}


def empty_network(kind: str, config: Mapping[str, Any]) -> nn.Module:
    """A network whose tensors have shapes and no numbers.

    Raises:
        ConfigError: the kind is unknown.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no network {kind!r}; there are {', '.join(KINDS)}.")
    with torch.device("meta"):
        return KINDS[kind].build(config)


def restore(weights: Weights) -> nn.Module:
    """The network of imported weights, ready for use; their tensors become its own.

    Raises:
        ConfigError: the kind is unknown, or the tensors do not fit it.
    """
    try:
        network = empty_network(weights.kind, weights.config)
        network.to_empty(device="cpu").load_state_dict(dict(weights.tensors))
    except (RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"The weights of {weights.source} do not fit {weights.kind!r}; import them again."
        ) from error
    return network.eval().requires_grad_(False)
