"""Re-running an exported bundle and comparing it with the network that it came from."""

import dataclasses

import numpy as np
import openvino as ov
import torch
from numpy.typing import NDArray

from engine.bundle import GENERATOR, IDENTITY, Bundle
from engine.errors import BundleError
from engine.generator import MAX_FRAMES, Chunk
from engine.generator import Generator as Runtime
from training.generator import Generator, mask_pose

TOLERANCE = 1e-3  # of the range 0..1: a quarter of one of 255 levels
BATCHES = (1, 2, 5, MAX_FRAMES)
HALF_LEVEL = 0.5 / 255  # what rounding to 8 bits may add in the engine's own run time


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Differences:
    """Largest differences between a bundle and its network, in pictures of the range 0..1.

    Attributes:
        graphs: the graphs on plain OpenVINO, over several batch sizes.
        runtime: the engine's run time, beyond the rounding to 8 bits.
    """

    graphs: float
    runtime: float

    @property
    def largest(self) -> float:
        """The larger of both."""
        return max(self.graphs, self.runtime)


def compare(bundle: Bundle, model: Generator, *, seed: int = 0) -> Differences:
    """Run a bundle on random inputs and measure how far it is from its network.

    Args:
        bundle: what was exported.
        model: what it was exported from.
        seed: of the inputs.
    """
    model = model.eval()
    random = np.random.default_rng(seed)
    return Differences(
        graphs=_graph_difference(bundle, model, random),
        runtime=_runtime_difference(bundle, model, random),
    )


def check(bundle: Bundle, model: Generator) -> Differences:
    """Do as :func:`compare` and refuse a bundle that differs by more than ``TOLERANCE``.

    Raises:
        BundleError: it differs by more.
    """
    differences = compare(bundle, model)
    if not differences.largest <= TOLERANCE:  # also refuses NaN
        raise BundleError(
            f"The bundle in {bundle.folder} differs from its checkpoint by"
            f" {differences.largest:.2g} (allowed: {TOLERANCE:g}); do not use it."
        )
    return differences


def _graph_difference(bundle: Bundle, model: Generator, random: np.random.Generator) -> float:
    core = ov.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    encoder, generator = (
        core.compile_model(str(bundle.graph_path(role)), "CPU", settings)
        for role in (IDENTITY, GENERATOR)
    )
    worst = 0.0
    for batch in BATCHES:
        mel = _random_mel(bundle, batch, random)
        pose, identity = (_to_planes(_random_crops(bundle, batch, random)) for _ in range(2))
        maps = encoder({"identity": identity.numpy()})
        feed = {
            "mel": mel,
            "pose": mask_pose(pose, bundle.masked_from).numpy(),
            "identity": identity.numpy(),
        }
        feed |= {name: maps[name] for name in bundle.graphs[IDENTITY].outputs}
        inputs = bundle.graphs[GENERATOR].inputs
        frames = generator({name: feed[name] for name in inputs})["frames"]
        expected = _paint(model, mel, pose, identity)
        worst = max(worst, float(np.abs(frames - expected).max()))
    return worst


def _runtime_difference(bundle: Bundle, model: Generator, random: np.random.Generator) -> float:
    runtime = Runtime(bundle, threads=1, slots=2)
    identities = _random_crops(bundle, 2, random)
    chunks, expected = {}, {}
    for identity, count in zip(identities, (bundle.k, 1), strict=True):
        slot = runtime.open(identity)
        pose, mel = _random_crops(bundle, count, random), _random_mel(bundle, count, random)
        chunks[slot] = Chunk(mel=mel, pose=pose)
        reference = _to_planes(np.repeat(identity[None], count, axis=0))
        expected[slot] = _paint(model, mel, _to_planes(pose), reference)
    worst = 0.0
    for slot, frames in runtime.step(chunks).items():
        planes = frames.transpose(0, 3, 1, 2).astype(np.float32) / 255
        worst = max(worst, float(np.abs(planes - expected[slot]).max()) - HALF_LEVEL)
    return worst


def _paint(
    model: Generator, mel: NDArray[np.float32], pose: torch.Tensor, identity: torch.Tensor
) -> NDArray[np.float32]:
    with torch.no_grad():
        output = model(torch.from_numpy(mel), mask_pose(pose, model.config.masked_from), identity)
    frames: NDArray[np.float32] = output.frames.numpy()
    return frames


def _to_planes(crops: NDArray[np.uint8]) -> torch.Tensor:
    """Turn uint8 (B, S, S, 3) into float32 (B, 3, S, S) in [0, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def _random_mel(bundle: Bundle, batch: int, random: np.random.Generator) -> NDArray[np.float32]:
    bound, shape = bundle.mel.max_abs, (batch, 1, bundle.mel.bands, bundle.placement.columns)
    return random.uniform(-bound, bound, shape).astype(np.float32)


def _random_crops(bundle: Bundle, batch: int, random: np.random.Generator) -> NDArray[np.uint8]:
    side = bundle.resolution
    return random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
