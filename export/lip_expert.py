"""A lip expert's three graphs: lips frame by frame, sound row by row, the transformer."""

from __future__ import annotations

import copy
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from engine.bundle import (
    EXPERT_FUSION,
    EXPERT_LIPS,
    EXPERT_SOUND,
    MANIFEST,
    Bundle,
    Graph,
    TensorSpec,
    load_bundle,
    write_bundle,
)
from engine.bundle_weights import ExpertFacts, Weights
from engine.errors import BundleError, ConfigError
from engine.filterbank import VALUES
from engine.lip_expert import AROUND, LipExpert
from engine.mouth_region import DEVIATION, INNER, MEAN
from export.graphs import write_graph
from export.verify import TOLERANCE
from training.avhubert import POSITION_KERNEL, AvHubert
from training.checkpoint import EXPERT, Checkpoint
from training.expert_features import expert_network
from training.public_networks import AVHUBERT, restore
from training.weights import Weights as Imported

Expert = tuple[AvHubert, ExpertFacts]

_LENGTHS = (6, 50, 75)  # frames


class LipsGraph(nn.Module):
    """The picture's network on stacks of five frames, without anything around them.

    The first convolution over time and place becomes one over place whose channels are the five
    frames: each frame's features can be computed by themselves, exactly as within the clip.
    """

    def __init__(self, model: AvHubert) -> None:
        super().__init__()
        extractor = model.feature_extractor_video
        front = extractor.resnet.frontend3D
        whole = cast("nn.Conv3d", front[0])
        own = nn.Conv2d(2 * AROUND + 1, whole.out_channels, 7, 2, 3, bias=False)
        own.weight.data.copy_(whole.weight.data[:, 0])
        norm3d = cast("nn.BatchNorm3d", front[1])
        norm = nn.BatchNorm2d(norm3d.num_features, norm3d.eps)
        norm.load_state_dict(norm3d.state_dict())
        self.front = nn.Sequential(own, norm, front[2], nn.MaxPool2d(3, 2, 1))
        self.trunk, self.proj = extractor.resnet.trunk, extractor.proj

    def forward(self, frames: Tensor) -> Tensor:
        """Map (N, 5, 88, 88) to (N, D)."""
        watched: Tensor = self.proj(self.trunk(self.front(frames)))
        return watched


class SoundGraph(nn.Module):
    """The sound's projection."""

    def __init__(self, model: AvHubert) -> None:
        super().__init__()
        self.proj = model.feature_extractor_audio.proj

    def forward(self, rows: Tensor) -> Tensor:
        """Map (N, 104) to (N, D)."""
        heard: Tensor = self.proj(rows)
        return heard


class FusionGraph(nn.Module):
    """The transformer."""

    def __init__(self, model: AvHubert) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        # While it learns, the convolution of positions keeps its weight as length and direction.
        learnt = cast("nn.Conv1d", model.encoder.pos_conv[0])
        plain = nn.Conv1d(
            learnt.in_channels,
            learnt.out_channels,
            POSITION_KERNEL,
            padding=POSITION_KERNEL // 2,
            groups=learnt.groups,
        )
        plain.load_state_dict({"weight": learnt.weight, "bias": learnt.bias})
        self.model.encoder.pos_conv[0] = plain

    def forward(self, heard: Tensor, watched: Tensor) -> Tensor:
        """Map (B, T, D) twice to (B, T, D)."""
        return self.model.fuse(heard, watched)


def expert_of(source: Imported | Checkpoint, name: str, confident: float) -> Expert | None:
    """A lip expert, ready to be put into a bundle.

    Args:
        source: what ``python -m training expert`` has saved, or ``import`` of an AV-HuBERT.
        name: that its figures are to be reported under.
        confident: confidence at which one of its offsets counts.

    Returns:
        The network and what a bundle says of it; None where the source is of another network.

    Raises:
        ConfigError: the weights do not fit, a fact is missing, or ``confident`` is no confidence.
    """
    if not 0 < confident <= 2:
        raise ConfigError(f"--confident must be above 0 and at most 2, not {confident}.")
    if isinstance(source, Imported):
        if source.kind != AVHUBERT:
            return None
        model = cast("AvHubert", restore(source))
        weights = Weights(licence=source.licence, training_data=source.training_data)
        return model, ExpertFacts(name=name, weights=weights, confident=confident)
    if source.kind != EXPERT:
        return None
    model = expert_network(source)
    try:
        weights = Weights(
            licence=source.training["licence"], training_data=source.training["training_data"]
        )
    except KeyError as error:
        raise ConfigError(
            f"The lip expert does not state its {error.args[0]}; give the same command of"
            " `python -m training expert` again with it."
        ) from error
    return model, ExpertFacts(name=name, weights=weights, confident=confident)


def add_lip_expert(bundle: Bundle, model: AvHubert, facts: ExpertFacts) -> tuple[Bundle, float]:
    """Write a lip expert into a bundle, in the place of another one if there is one.

    Args:
        bundle: where it goes.
        model: the expert.
        facts: what the bundle says of it.

    Returns:
        The bundle as it is now, and the largest difference of its features from the model's.

    Raises:
        BundleError: the expert's features, of about unit size, differ by more than ``TOLERANCE``;
            the bundle is as it was.
        ConfigError: the bundle can't be written.
    """
    model = copy.deepcopy(model).eval().requires_grad_(False)
    folder = bundle.folder
    try:
        # Beside the bundle's files, so that they move in one step each.
        with tempfile.TemporaryDirectory(dir=folder, prefix=".partial-") as made:
            for file in bundle.sha256:
                target = Path(made) / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / file, target)
            graphs = _write_graphs(model, Path(made))
            others = {role: graph for role, graph in bundle.graphs.items() if role not in graphs}
            own = {graph.file for graph in bundle.graphs.values()}
            new = replace(bundle, folder=Path(made), graphs={**others, **graphs}, expert=facts)
            difference = _difference(
                write_bundle(new, [file for file in bundle.sha256 if file not in own]), model
            )
            if not difference <= TOLERANCE:  # also refuses NaN
                raise BundleError(
                    f"The lip expert differs from its checkpoint by {difference:.2g} (allowed:"
                    f" {TOLERANCE:g}); {folder} was left as it is."
                )
            for file in [*(graph.file for graph in graphs.values()), MANIFEST]:
                os.replace(Path(made) / file, folder / file)
    except OSError as error:
        raise ConfigError(f"The bundle {folder} can't be written: {error}.") from error
    return load_bundle(folder), difference


def _write_graphs(model: AvHubert, folder: Path) -> dict[str, Graph]:
    dim = model.config.dim
    row, sequence = TensorSpec(shape=(None, dim)), TensorSpec(shape=(None, None, dim))
    frames = TensorSpec(
        shape=(None, 2 * AROUND + 1, INNER, INNER),
        range=(-MEAN / DEVIATION, (1 - MEAN) / DEVIATION),
    )
    graphs = {
        EXPERT_LIPS: Graph(
            file="expert-lips.onnx", inputs={"frames": frames}, outputs={"watched": row}
        ),
        EXPERT_SOUND: Graph(
            file="expert-sound.onnx",
            inputs={"rows": TensorSpec(shape=(None, VALUES))},
            outputs={"heard": row},
        ),
        EXPERT_FUSION: Graph(
            file="expert-fusion.onnx",
            inputs={"heard": sequence, "watched": sequence},
            outputs={"features": sequence},
        ),
    }
    write_graph(LipsGraph(model), graphs[EXPERT_LIPS], folder)
    write_graph(SoundGraph(model), graphs[EXPERT_SOUND], folder)
    write_graph(FusionGraph(model), graphs[EXPERT_FUSION], folder)
    return graphs


@torch.no_grad()
def _difference(bundle: Bundle, model: AvHubert) -> float:
    """The largest difference of features, sound alone, lips alone and both, on random clips."""
    expert = LipExpert(bundle)
    random = np.random.default_rng(0)
    worst = 0.0
    for length in _LENGTHS:
        regions = random.uniform(-1, 1, (length, INNER, INNER)).astype(np.float32)
        rows = random.standard_normal((length, VALUES)).astype(np.float32)
        video = torch.from_numpy(regions)[None, None]
        audio = torch.from_numpy(rows).T[None]
        heard = expert.hear(rows)
        watched = expert.watch(np.pad(regions, ((AROUND, AROUND), (0, 0), (0, 0))))
        sound, lips = expert.alone(heard, watched)
        both = expert.fuse(heard[None], watched[None])[0]
        for found, wanted in (
            (sound, model(audio=audio)),
            (lips, model(video=video)),
            (both, model(audio=audio, video=video)),
        ):
            worst = max(worst, float(np.abs(found - wanted[0].numpy()).max()))
    return worst
