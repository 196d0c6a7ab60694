"""From a trained generator to the two ONNX graphs of a bundle.

The identity graph runs once per choice of a reference, the generator graph once per tick, with any
batch of frames. Every batch normalisation is folded into its convolution.
"""

import contextlib
import copy
import inspect
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, cast

import onnx
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from engine.bundle import GENERATOR, IDENTITY, Graph, TensorSpec
from engine.mel import MelSettings, WindowPlacement
from training.blocks import ConvBlock, UpBlock
from training.generator import Generator

MAX_BATCH = 1024  # frames; far above any tick, torch.export only asks for a bound
OPSET = 18  # the oldest that has every operator of the networks

UNIT = (0.0, 1.0)

AnyNetwork = TypeVar("AnyNetwork", bound=nn.Module)


class IdentityGraph(nn.Module):
    """The identity encoder with its maps as a tuple; export traces this."""

    def __init__(self, model: Generator) -> None:
        super().__init__()
        self.model = model

    def forward(self, identity: Tensor) -> tuple[Tensor, ...]:
        """Map (B, 3, S, S) to the identity encoder's maps."""
        return tuple(self.model.encode_identity(identity))


class GeneratorGraph(nn.Module):
    """The generator with ready identity maps, giving the frames only; export traces this."""

    def __init__(self, model: Generator) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, pose: Tensor, *references: Tensor) -> Tensor:
        """Map mel windows, pose faces and references to frames (B, 3, R, S).

        Args:
            mel: (B, 1, bands, columns).
            pose: (B, 3, S, S).
            references: the identity (B, 3, S, S), only for the warp head (the other takes no
                pixels of it), then its maps.
        """
        if self.model.config.head == "warp":
            identity, *features = references
        else:
            identity, features = pose, list(references)
        frames: Tensor = self.model(mel, pose, identity, features).frames
        return frames


def fold_normalisations(model: AnyNetwork) -> AnyNetwork:
    """Return a copy for use only, with every batch normalisation inside its convolution."""
    folded = copy.deepcopy(model).eval().requires_grad_(False)
    for block in folded.modules():
        if isinstance(block, ConvBlock | UpBlock):
            convolution, normalisation = block.conv_block
            transposed = isinstance(block, UpBlock)
            block.conv_block = nn.Sequential(
                fuse_conv_bn_eval(
                    cast("nn.Conv2d", convolution),
                    cast("nn.BatchNorm2d", normalisation),
                    transposed,
                )
            )
    return folded


def write_graphs(
    model: Generator,
    mel: MelSettings,
    placement: WindowPlacement,
    folder: Path,
    rows: tuple[int, int],
    *,
    fold: bool = True,
) -> dict[str, Graph]:
    """Write ``identity.onnx`` and ``generator.onnx``.

    Args:
        model: the trained generator.
        mel: audio feature settings, for the shape and the range of the mel windows.
        placement: for the width of the mel windows.
        folder: where the files go.
        rows: the rows of the crop to paint: what they do not depend on is left out.
        fold: put every batch normalisation into its convolution.

    Returns:
        Role to graph, as a bundle describes it.
    """
    folded = fold_normalisations(model) if fold else copy.deepcopy(model).eval()
    folded.requires_grad_(False).paint_only(rows)
    config = model.config
    side, height = config.resolution, rows[1] - rows[0]
    picture = TensorSpec(shape=(None, 3, side, side), range=UNIT)
    window = TensorSpec(
        shape=(None, 1, mel.bands, placement.columns), range=(-mel.max_abs, mel.max_abs)
    )
    with torch.no_grad():
        maps = folded.encode_identity(torch.zeros(1, 3, side, side))
    features = {f"identity_{i}": TensorSpec(shape=(None, *m.shape[1:])) for i, m in enumerate(maps)}
    pixels = {"identity": picture} if config.head == "warp" else {}
    frames = TensorSpec(shape=(None, 3, height, side), range=UNIT)
    graphs = {
        IDENTITY: Graph(file="identity.onnx", inputs={"identity": picture}, outputs=features),
        GENERATOR: Graph(
            file="generator.onnx",
            inputs={"mel": window, "pose": picture, **pixels, **features},
            outputs={"frames": frames},
        ),
    }
    write_graph(IdentityGraph(folded), graphs[IDENTITY], folder)
    write_graph(GeneratorGraph(folded), graphs[GENERATOR], folder)
    return graphs


def write_graph(module: nn.Module, graph: Graph, folder: Path) -> None:
    """Trace a module and write it as the graph says; its inputs lie in the graph's order.

    Axes without a length may have any, the same one for all inputs: the first is the batch, a
    second one time.
    """
    # Lengths above one, for torch.export would take a batch of one as fixed.
    example = tuple(
        torch.zeros([length or 2 + axis for axis, length in enumerate(spec.shape)])
        for spec in graph.inputs.values()
    )
    with _quiet_exporter():
        program = torch.onnx.export(
            torch.export.export(module.eval(), example, dynamic_shapes=_free_axes(module, graph)),
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
            opset_version=OPSET,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program")  # only its older form does this
    model = program.model_proto
    _strip_notes(model)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / graph.file)


def _free_axes(module: nn.Module, graph: Graph) -> dict[str, Any]:
    """Return dynamic shapes in which the axes without a length are free."""
    lengths = [
        torch.export.Dim("batch", min=1, max=MAX_BATCH),
        torch.export.Dim("time", min=1, max=MAX_BATCH),
    ]
    free = [
        {axis: lengths[axis] for axis, length in enumerate(spec.shape) if length is None}
        for spec in graph.inputs.values()
    ]
    shapes: dict[str, Any] = {}
    for index, parameter in enumerate(inspect.signature(module.forward).parameters.values()):
        rest = parameter.kind is inspect.Parameter.VAR_POSITIONAL
        shapes[parameter.name] = tuple(free[index:]) if rest else free[index]
    return shapes


def _strip_notes(model: onnx.ModelProto) -> None:
    """Drop the source lines and paths of this machine, which the exporter notes on every node."""
    for holder in (model, model.graph, *model.graph.node, *model.graph.value_info):
        del holder.metadata_props[:]
    for holder in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        del holder.metadata_props[:]


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keep the exporter from reporting what concerns neither the networks nor their users."""
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)  # lists the operators of torchvision when this is missing
    try:
        with warnings.catch_warnings():
            # torch 2.13 walks its own deprecated tree types.
            warnings.filterwarnings("ignore", ".*LeafSpec", FutureWarning)
            yield
    finally:
        registry.setLevel(level)
