"""What a lip expert makes of windows and of whole clips, in torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.errors import ConfigError
from engine.filterbank import audio_features
from engine.lip_expert import AROUND, Alone
from engine.mouth_region import network_input
from training.avhubert import AvHubert, AvHubertConfig
from training.checkpoint import EXPERT, Checkpoint, load_checkpoint


def load_expert(path: Path) -> AvHubert:
    """The lip expert of a file, for use; see :func:`expert_checkpoint`."""
    return expert_network(expert_checkpoint(path))


def expert_checkpoint(path: Path) -> Checkpoint:
    """All that a lip expert's file holds.

    Raises:
        ConfigError: the file holds none.
    """
    checkpoint = load_checkpoint(path)
    if checkpoint.kind != EXPERT:
        raise ConfigError(
            f"{path} holds a checkpoint of kind {checkpoint.kind}, not a lip expert: name what"
            " `python -m training expert` has made."
        )
    return checkpoint


def expert_network(checkpoint: Checkpoint) -> AvHubert:
    """The network of a lip expert's checkpoint, for use.

    Raises:
        ConfigError: its weights do not fit its settings.
    """
    model = AvHubert(AvHubertConfig.from_dict(checkpoint.config))
    try:
        model.load_state_dict(checkpoint.model)
    except RuntimeError as error:
        raise ConfigError(
            "The lip expert's weights do not fit its own settings; save it again."
        ) from error
    return model.eval()


def features_alone(model: AvHubert, video: Tensor, audio: Tensor) -> tuple[Tensor, Tensor]:
    """Each modality of windows without the other.

    Args:
        model: the network.
        video: (B, 1, T + 4, 88, 88), with two more frames on either side.
        audio: (B, 104, T).

    Returns:
        Lips alone and sound alone, (B, T, D) each.
    """
    watched = model.watch(video)[:, AROUND:-AROUND]
    return model.fuse(None, watched), model.fuse(model.hear(audio), None)


@torch.inference_mode()
def watch_alone(model: AvHubert, regions: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A whole clip's lips without its sound: uint8 (T, 96, 96) to float32 (T, D)."""
    video = torch.from_numpy(network_input(regions))[None, None]
    return model.fuse(None, model.watch(video))[0].numpy()


@torch.inference_mode()
def hear_alone(model: AvHubert, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
    """A whole clip's sound without its lips: float32 (n,) at 16 kHz to float32 (frames, D)."""
    rows = torch.from_numpy(audio_features(samples, frames)).T[None]
    return model.fuse(model.hear(rows), None)[0].numpy()


def clip_alone(model: AvHubert, regions: NDArray[np.uint8], samples: NDArray[np.float32]) -> Alone:
    """Each modality of a whole clip without the other.

    Args:
        model: the network, in ``eval``.
        regions: uint8 (T, 96, 96).
        samples: float32 (n,), mono at 16 kHz in [−1, 1].
    """
    return Alone(hear_alone(model, samples, len(regions)), watch_alone(model, regions))
