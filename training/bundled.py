"""The weights of a bundle as a generator that can learn again.

A bundle holds graphs, in which every batch normalisation lies inside its convolution. The
initializers still have the parameters' names, so the network is built again around them, each
normalisation as one that changes nothing; :func:`measure_statistics` gives those the statistics of
real pictures without changing what the network paints. What is read is run against the graphs, so a
bundle that is something else is refused and never learnt from by mistake.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, IDENTITY, Bundle, load_bundle
from engine.errors import BundleError, ConfigError
from engine.mel import WindowPlacement
from training.audio_encoder import AudioEncoder
from training.blocks import ConvBlock, UpBlock, scaled
from training.generator import (
    RESOLUTIONS,
    Generator,
    GeneratorConfig,
    Head,
    mask_pose,
    without_audio,
)
from training.pairs import Batch

TOLERANCE: Final = 1e-4
"""How far the network may be from the graphs, in pictures of the range 0..1."""

_ARCHITECTURES: Final[dict[str, Head]] = {"two-encoder-warp": "warp", "two-encoder-rgb": "rgb"}
_GRAPHS: Final = (IDENTITY, GENERATOR)
_PREFIX: Final = "model."  # of the parameters' names in a graph
_REST: Final = "rest"
_AUDIO_WIDEST: Final = "audio_encoder.11.conv_block.0.weight"
_FIRST_SHORTCUT: Final = "pose_encoder.stages.1.1.conv_block.0.weight"
_CHECKED_FRAMES: Final = 3


def read_generator(bundle: Bundle) -> Generator:
    """Build the generator of a bundle, in evaluation mode on the CPU.

    Its normalisations change nothing: mean 0, variance and scale that cancel out, shift 0.

    Args:
        bundle: what ``python -m export`` made of a generator of this program, in fp32.

    Raises:
        BundleError: it is another network's, or in another precision, or its graphs paint something
            else than the weights in them would.
    """
    head = _ARCHITECTURES.get(bundle.architecture)
    if head is None or IDENTITY not in bundle.graphs or bundle.resolution not in RESOLUTIONS:
        raise BundleError(
            f"The bundle {bundle.folder} holds a {bundle.architecture}, which can't be trained on;"
            " name one that `python -m export` made of a generator trained here."
        )
    if bundle.precision != "fp32":
        raise BundleError(
            f"The weights of the bundle {bundle.folder} are rounded to {bundle.precision}: name the"
            " fp32 bundle of the same checkpoint."
        )
    graphs = [_load(bundle.graph_path(role)) for role in _GRAPHS]
    weights = {name: tensor for graph in graphs for name, tensor in _weights(graph).items()}
    try:
        config = _config(bundle, head, graphs[-1], weights)
        model = Generator(config)
        _set(model, weights)
    except (ConfigError, KeyError, RuntimeError) as error:
        raise BundleError(
            f"The graphs of the bundle {bundle.folder} do not hold the weights of a"
            f" {bundle.architecture}; name one that `python -m export` made."
        ) from error
    model.eval()
    difference = _difference(bundle, model)
    if not difference <= TOLERANCE:  # also refuses NaN
        raise BundleError(
            f"The bundle {bundle.folder} paints something else than its weights do (they differ by"
            f" {difference:.2g}, allowed: {TOLERANCE:g}); name one that `python -m export` made."
        )
    return model


def weights_for(folder: Path, run: GeneratorConfig) -> dict[str, Tensor]:
    """The weights of a bundle that a run starts from: all but the audio encoder's.

    Args:
        folder: the bundle's.
        run: what the run trains; emphasis and the audio encoder's form may differ.

    Raises:
        BundleError: the bundle can't be trained on.
        ConfigError: its generator has another form.
    """
    model = read_generator(load_bundle(folder))
    if model.config.hearing_as(run) != run:
        raise ConfigError(
            f"The generator of {folder} has not the form that this run has: start from one that was"
            " trained with the same --run."
        )
    return without_audio(model.state_dict())


def audio_weights_for(
    folder: Path, encoder: AudioEncoder, placement: WindowPlacement
) -> dict[str, Tensor]:
    """The weights of a bundle's audio encoder for one of the same width.

    Args:
        folder: the bundle's.
        encoder: which they are for.
        placement: of the run's mel windows.

    Raises:
        BundleError: the bundle can't be trained on.
        ConfigError: its audio encoder has another width, or learnt with other mel windows.
    """
    bundle = load_bundle(folder)
    weights = read_generator(bundle).audio_encoder.state_dict()
    wanted = encoder.state_dict()
    if bundle.placement != placement:
        raise ConfigError(
            f"The audio encoder of {folder} learnt with mel windows at"
            f" {bundle.placement.to_dict()},"
            f" the run wants {placement.to_dict()}."
        )
    if any(weights[name].shape != wanted[name].shape for name in wanted):
        raise ConfigError(f"The audio encoder of {folder} has not the width that the run wants.")
    return weights


@torch.no_grad()
def measure_statistics(model: Generator, batches: Iterable[Batch]) -> None:
    """Give the normalisations the statistics of real samples; what the model paints stays the same.

    The audio encoder is left as it is: where it is frozen, it never looks at a batch's statistics.

    Args:
        model: in evaluation mode or not, which it keeps.
        batches: on the model's device; every sample counts alike.
    """
    found: dict[_BatchNorm, _Moments] = {}
    mode = model.training
    model.eval()
    with _watching(model, found):
        for batch in batches:
            k = len(batch.frames) // len(batch.identity)
            maps = [m.repeat_interleave(k, dim=0) for m in model.encode_identity(batch.identity)]
            identity = batch.identity.repeat_interleave(k, dim=0)
            model(batch.mel, mask_pose(batch.frames, model.config.masked_from), identity, maps)
    model.train(mode)
    for layer, moments in found.items():
        _rebase(layer, moments.mean, moments.variance)


def _load(path: Path) -> Any:
    try:
        return onnx.load(path)
    except Exception as error:  # protobuf's own errors have no common base that it exports
        raise BundleError(f"{path} can't be read as a graph; get the bundle again.") from error


def _weights(graph: Any) -> dict[str, Tensor]:
    """The parameters of a graph, by their names in the generator."""
    return {
        tensor.name.removeprefix(_PREFIX): torch.from_numpy(numpy_helper.to_array(tensor).copy())
        for tensor in graph.graph.initializer
        if tensor.name.startswith(_PREFIX)
    }


def _config(bundle: Bundle, head: Head, graph: Any, weights: dict[str, Tensor]) -> GeneratorConfig:
    flow: dict[str, float] = {}
    if head == "warp":
        tanh = next(node.output[0] for node in graph.graph.node if node.op_type == "Tanh")
        flow["max_flow"] = _factor(graph, tanh) / bundle.resolution
    emphasis = 1.0
    if _REST in weights:  # where nothing is emphasised, it is left out of the graph
        emphasis = _factor(graph, _use(graph, _PREFIX + _REST, "Sub").output[0])
    convolved = _use(graph, _PREFIX + _FIRST_SHORTCUT, "Conv").output[0]
    return GeneratorConfig(
        width=bundle.width,
        audio_width=_audio_width(weights),
        audio_columns=bundle.placement.columns,
        resolution=bundle.resolution,
        head=head,
        rows=bundle.trained_rows or bundle.rows,
        masked_from=bundle.masked_from,
        shortcuts=any(n.op_type == "Add" and convolved in n.input for n in graph.graph.node),
        emphasis=round(emphasis, 6),  # the graph has it in float32
        **{name: round(value, 6) for name, value in flow.items()},
    )


def _use(graph: Any, tensor: str, operator: str) -> Any:
    """The node that takes a tensor."""
    for node in graph.graph.node:
        if node.op_type == operator and tensor in node.input:
            return node
    raise KeyError(tensor)


def _factor(graph: Any, tensor: str) -> float:
    """The constant that a tensor is multiplied by."""
    names = set(_use(graph, tensor, "Mul").input) - {tensor}
    found = [t for t in graph.graph.initializer if t.name in names]
    if len(found) != 1 or list(found[0].dims) not in ([], [1]):
        raise KeyError(tensor)
    return float(numpy_helper.to_array(found[0]).reshape(()))


def _audio_width(weights: dict[str, Tensor]) -> float:
    """A width that gives the audio encoder's channels; several do, since these are rounded."""
    channels = [len(weights[f"audio_encoder.{n}.conv_block.0.weight"]) for n in (0, 3, 6, 9)]
    widest = len(weights[_AUDIO_WIDEST])
    near = (round(step / 100, 2) for step in range(1, 2 * widest))
    for width in (widest / 256, *near):
        if [scaled(c, width) for c in (32, 64, 128, 256)] == channels:
            return width
    raise KeyError(_AUDIO_WIDEST)


def _blocks(model: nn.Module) -> Iterator[tuple[str, ConvBlock | UpBlock]]:
    for name, block in model.named_modules():
        if isinstance(block, ConvBlock | UpBlock):
            yield name, block


def _set(model: Generator, weights: dict[str, Tensor]) -> None:
    """Load a graph's weights, every one of them."""
    state = model.state_dict()
    for name, block in _blocks(model):
        normalisation = block.conv_block[1]
        assert isinstance(normalisation, nn.BatchNorm2d)
        plain = {"running_mean": 0.0, "bias": 0.0, "weight": 1.0}
        plain["running_var"] = 1.0 - normalisation.eps
        for part, value in plain.items():
            state[f"{name}.conv_block.1.{part}"].fill_(value)
    learnt = {name for name in state if ".conv_block.1." not in name and name != _REST}
    if not learnt <= weights.keys() or not set(weights) - learnt <= {_REST, "_pixels"}:
        raise KeyError(sorted(learnt ^ set(weights))[0])
    model.load_state_dict({**state, **{n: t for n, t in weights.items() if n in state}})
    if _REST not in weights:
        model.eval().freeze_audio_encoder()
        model.audio_encoder.requires_grad_(True)


def _difference(bundle: Bundle, model: Generator) -> float:
    """The largest difference between the graphs' pictures and the model's, of random inputs."""
    random = np.random.default_rng(0)
    side, count, bound = bundle.resolution, _CHECKED_FRAMES, bundle.mel.max_abs
    shape = count, 1, bundle.mel.bands, bundle.placement.columns
    mel = random.uniform(-bound, bound, shape).astype(np.float32)
    pose, identity = random.uniform(0, 1, (2, count, 3, side, side)).astype(np.float32)
    pose[:, :, bundle.masked_from :] = 0
    maps = OpenVinoNetwork(bundle, IDENTITY, 1)({"identity": identity})
    feed = {"mel": mel, "pose": pose, "identity": identity, **maps}
    inputs = bundle.graphs[GENERATOR].inputs
    if not inputs.keys() <= feed.keys():
        return float("nan")
    painted = OpenVinoNetwork(bundle, GENERATOR, 1)({name: feed[name] for name in inputs})["frames"]
    with torch.no_grad():
        frames = model(*map(torch.from_numpy, (mel, pose, identity))).frames.numpy()
    first, end = (row - model.config.rows[0] for row in bundle.rows)
    frames = frames[:, :, first:end]
    return float(np.abs(painted - frames).max())


class _Moments:
    """Mean and variance of each channel of all that was seen."""

    def __init__(self) -> None:
        self.count = 0
        self._sum: Tensor | float = 0.0
        self._squares: Tensor | float = 0.0

    def add(self, values: Tensor) -> None:
        """Take values (B, C, H, W)."""
        found = values.detach().double()
        self.count += found.numel() // found.shape[1]
        self._sum = self._sum + found.sum(dim=(0, 2, 3))
        self._squares = self._squares + found.square().sum(dim=(0, 2, 3))

    @property
    def mean(self) -> Tensor:
        return torch.as_tensor(self._sum / self.count)

    @property
    def variance(self) -> Tensor:
        return torch.as_tensor(self._squares / self.count - self.mean.square()).clamp_min(0)


@contextmanager
def _watching(model: Generator, found: dict[_BatchNorm, _Moments]) -> Iterator[None]:
    """Gather what goes into every normalisation but the audio encoder's."""

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, _BatchNorm)
        found.setdefault(layer, _Moments()).add(inputs[0])

    layers = set(model.modules()) - set(model.audio_encoder.modules())
    hooks = [m.register_forward_pre_hook(hook) for m in layers if isinstance(m, _BatchNorm)]
    try:
        yield
    finally:
        for handle in hooks:
            handle.remove()


def _rebase(layer: _BatchNorm, mean: Tensor, variance: Tensor) -> None:
    """Give a normalisation other statistics, and the scale and shift that make up for them."""
    old_mean, old_variance = _statistics(layer)
    scale = layer.weight.double() / (old_variance.double() + layer.eps).sqrt()
    shift = layer.bias.double() - old_mean.double() * scale
    old_mean.copy_(mean)
    old_variance.copy_(variance)
    layer.weight.copy_(scale * (old_variance.double() + layer.eps).sqrt())
    layer.bias.copy_(shift + old_mean.double() * scale)


def _statistics(layer: _BatchNorm) -> tuple[Tensor, Tensor]:
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None
    assert variance is not None
    return mean, variance
