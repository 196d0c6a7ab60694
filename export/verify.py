"""Re-running an exported bundle and comparing it with the network that it came from."""

import dataclasses
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from engine.bundle import (
    GENERATOR,
    IDENTITY,
    MANIFEST,
    Bundle,
    ColourOrder,
    IdentityPolicy,
    write_bundle,
)
from engine.errors import BundleError, LipstreamError
from engine.generator import MAX_FRAMES, Chunk
from engine.generator import Generator as Runtime
from engine.openvino_cpu import core
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


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """A network that a bundle must paint like.

    Attributes:
        paint: from mel windows (B, 1, bands, columns), pose faces and references (B, 3, S, S) to
            frames (B, 3, R, S), in the network's own colours, [0, 1]; of all rows that it was
            trained to paint.
        rows: the first of these rows and the row after the last.
        masked_from: first row of the pose face that is hidden from it.
        colour_order: its own.
        identity_policy: what its reference is.
    """

    paint: Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    rows: tuple[int, int]
    masked_from: int
    colour_order: ColourOrder
    identity_policy: IdentityPolicy


def original_of(model: Generator) -> Original:
    """A generator of this program, as what a bundle must paint like."""
    model = model.eval()
    return Original(
        paint=lambda mel, pose, identity: model(mel, pose, identity).frames,
        rows=model.config.rows,
        masked_from=model.config.masked_from,
        colour_order="rgb",
        identity_policy="live",
    )


def compare(bundle: Bundle, model: Generator | Original, *, seed: int = 0) -> Differences:
    """Run a bundle on random inputs and measure how far it is from its network.

    Args:
        bundle: what was exported.
        model: what it was exported from.
        seed: of the inputs.
    """
    original = model if isinstance(model, Original) else original_of(model)
    random = np.random.default_rng(seed)
    return Differences(
        graphs=_graph_difference(bundle, original, random),
        runtime=_runtime_difference(bundle, original, random),
    )


def write_checked(bundle: Bundle, model: Generator | Original) -> tuple[Bundle, Differences]:
    """Write the description of a bundle whose graphs are there, and :func:`check` the bundle.

    Raises:
        BundleError: it differs too much, and is left without its description; or it can't be
            written.
    """
    written = write_bundle(bundle)
    try:
        return written, check(written, model)
    except LipstreamError:
        (written.folder / MANIFEST).unlink()  # a folder without its description is never run
        raise


def check(bundle: Bundle, model: Generator | Original) -> Differences:
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


def _graph_difference(bundle: Bundle, original: Original, random: np.random.Generator) -> float:
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    graphs = {
        role: core().compile_model(str(bundle.graph_path(role)), "CPU", settings)
        for role in (IDENTITY, GENERATOR)
        if role in bundle.graphs
    }
    worst = 0.0
    for batch in BATCHES:
        mel = _random_mel(bundle, batch, random)
        pose, identity = (_to_planes(_random_crops(bundle, batch, random)) for _ in range(2))
        feed = {
            "mel": mel,
            "pose": mask_pose(pose, bundle.masked_from).numpy(),
            "identity": identity.numpy(),
        }
        if IDENTITY in graphs:
            maps = graphs[IDENTITY]({"identity": identity.numpy()})
            feed |= {name: maps[name] for name in bundle.graphs[IDENTITY].outputs}
        inputs = bundle.graphs[GENERATOR].inputs
        frames = graphs[GENERATOR]({name: feed[name] for name in inputs})["frames"]
        expected = _paint(original, bundle.rows, mel, pose, identity)
        worst = max(worst, float(np.abs(frames - expected).max()))
    return worst


def _runtime_difference(bundle: Bundle, original: Original, random: np.random.Generator) -> float:
    runtime = Runtime(bundle, threads=1, slots=2)
    identities = _random_crops(bundle, 2, random)
    chunks, expected = {}, {}
    for identity, count in zip(identities, (bundle.k, 1), strict=True):
        slot = runtime.open(identity)
        pose, mel = _random_crops(bundle, count, random), _random_mel(bundle, count, random)
        chunks[slot] = Chunk(mel=mel, pose=pose)
        same = original.identity_policy == "same-frame"
        reference = pose if same else np.repeat(identity[None], count, axis=0)
        swap = slice(None, None, -1 if original.colour_order == "bgr" else 1)
        planes = [_to_planes(np.ascontiguousarray(p[..., swap])) for p in (pose, reference)]
        expected[slot] = _paint(original, bundle.rows, mel, *planes)[:, swap]
    worst = 0.0
    for slot, frames in runtime.step(chunks).items():
        painted = frames.transpose(0, 3, 1, 2).astype(np.float32) / 255
        worst = max(worst, float(np.abs(painted - expected[slot]).max()) - HALF_LEVEL)
    return worst


def _paint(
    original: Original,
    rows: tuple[int, int],
    mel: NDArray[np.float32],
    pose: torch.Tensor,
    identity: torch.Tensor,
) -> NDArray[np.float32]:
    with torch.no_grad():
        masked = mask_pose(pose, original.masked_from)
        frames: NDArray[np.float32] = original.paint(
            torch.from_numpy(mel), masked, identity
        ).numpy()
    first, end = (row - original.rows[0] for row in rows)
    return frames[:, :, first:end]


def _to_planes(crops: NDArray[np.uint8]) -> torch.Tensor:
    """Turn uint8 (B, S, S, 3) into float32 (B, 3, S, S) in [0, 1]."""
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def _random_mel(bundle: Bundle, batch: int, random: np.random.Generator) -> NDArray[np.float32]:
    bound, shape = bundle.mel.max_abs, (batch, 1, bundle.mel.bands, bundle.placement.columns)
    return random.uniform(-bound, bound, shape).astype(np.float32)


def _random_crops(bundle: Bundle, batch: int, random: np.random.Generator) -> NDArray[np.uint8]:
    side = bundle.resolution
    return random.integers(0, 256, (batch, side, side, 3), dtype=np.uint8)
