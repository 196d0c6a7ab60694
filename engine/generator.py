"""Running a bundle's generator: many sessions, one network, one call per tick.

A session opens a slot with its identity reference, whose features are computed once; each
``step`` paints the chunks of all slots together.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Kept, Network, Variant
from engine.backends.loading import load_network
from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import GENERATOR, IDENTITY, Bundle, TensorSpec
from engine.errors import BundleError, ConfigError, EngineError, EngineFullError

FP32 = Variant("openvino", "fp32")

MAX_FRAMES = 16  # of one chunk


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Chunk:
    """k frames of one session, 1 <= k <= 16.

    Attributes:
        mel: float32 (k, 1, bands, columns), the mel window of each frame.
        pose: uint8 (k, S, S, 3) RGB, the live crops, whole: they are masked here.
    """

    mel: NDArray[np.float32]
    pose: NDArray[np.uint8]


class Generator:
    """A bundle's generator, ready to run.

    Not thread-safe: one thread owns it.

    Args:
        bundle: what to run.
        network: the bundle's generator graph on some run time; OpenVINO in float32 where it is
            left out. The identity encoder, which runs once per reference, is always that.
        threads: processor threads of one call, from 1.
        slots: sessions open at the same time, from 1.

    Raises:
        ConfigError: an argument has an illegal value.
        BundleError: the bundle's graphs do not fit together.
        EngineError: the run time can't load a graph.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        network: Network | None = None,
        threads: int = 2,
        slots: int = 8,
    ) -> None:
        for name, value in (("threads", threads), ("slots", slots)):
            if value < 1:
                raise ConfigError(f"{name} must be at least 1, not {value}.")
        self.bundle = bundle
        self._capacity = slots
        self._identities: dict[int, Kept | None] = {}
        graph = bundle.graphs[GENERATOR]
        self._features = [name for name in graph.inputs if name not in _CHUNK_INPUTS]
        _check_graphs(bundle, self._features)
        self._generator = network or load_network(bundle, FP32, threads=threads)
        self._encoder = OpenVinoNetwork(bundle, IDENTITY, threads) if self._features else None

    @property
    def free_slots(self) -> int:
        """How many more sessions can be opened."""
        return self._capacity - len(self._identities)

    def open(self, identity: NDArray[np.uint8]) -> int:
        """Take a slot for a session.

        Args:
            identity: uint8 (S, S, 3) RGB, the identity reference; a bundle of the policy
                ``same-frame`` takes each frame itself instead.

        Returns:
            The slot's number.

        Raises:
            EngineFullError: every slot is taken.
            EngineError: the picture has a wrong shape or type, or the run time failed.
        """
        slot = next((i for i in range(self._capacity) if i not in self._identities), None)
        if slot is None:
            raise EngineFullError(
                f"All {self._capacity} slots of the generator are taken; close a session first."
            )
        self._identities[slot] = self._encode_reference(identity)
        return slot

    def replace_identity(self, slot: int, identity: NDArray[np.uint8]) -> None:
        """Give a slot another identity reference, from its next step on.

        Args:
            slot: an open slot.
            identity: as for :meth:`open`.

        Raises:
            EngineError: the slot is not open, the picture does not fit, or the run time failed;
                the old reference stays.
        """
        self._check_open(slot)
        self._identities[slot] = self._encode_reference(identity)

    def close(self, slot: int) -> None:
        """Free a slot.

        Raises:
            EngineError: the slot is not open.
        """
        self._check_open(slot)
        del self._identities[slot]

    def step(self, chunks: Mapping[int, Chunk]) -> dict[int, NDArray[np.uint8]]:
        """Paint the chunks of any open slots, all in one call of the network.

        Args:
            chunks: slot to chunk; lengths may differ from slot to slot.

        Returns:
            Slot to uint8 (k, R, S, 3) RGB: the output rows of the bundle, whole width.

        Raises:
            EngineError: a slot is not open, an array has a wrong shape or type, or the run time
                failed; so does a network that paints values that are not finite.
        """
        for slot, chunk in chunks.items():
            self._check_open(slot)
            self._check_chunk(chunk)
        if not chunks:
            return {}
        crops = np.concatenate([chunk.pose for chunk in chunks.values()])
        masked = crops.copy()
        masked[:, self.bundle.masked_from :] = 0
        feed = {
            "mel": np.concatenate([chunk.mel for chunk in chunks.values()]),
            "pose": self._to_network(masked, "pose"),
        }
        if self.bundle.identity_policy == "same-frame":
            feed |= self._encode(crops)
        kept = [
            (reference, len(chunk.pose))
            for slot, chunk in chunks.items()
            if (reference := self._identities[slot]) is not None
        ]
        painted = self._generator(feed, kept)["frames"]
        self._check_painted(painted, len(crops))
        frames = self._from_network(painted)
        ends = np.cumsum([len(chunk.pose) for chunk in chunks.values()])
        return dict(zip(chunks, np.split(frames, ends[:-1]), strict=True))

    def _check_painted(self, painted: NDArray[np.float32], count: int) -> None:
        """Refuse what would show as a black or torn mouth."""
        first, end = self.bundle.rows
        shape = (count, 3, end - first, self.bundle.resolution)
        if painted.shape != shape:
            raise EngineError(
                f"The generator painted frames of the shape {painted.shape} instead of {shape};"
                " use another bundle.",
                retryable=True,
            )
        if not np.isfinite(painted).all():
            raise EngineError(
                "The generator painted values that are no numbers; use another bundle if it"
                " happens again.",
                retryable=True,
            )

    def _encode_reference(self, identity: NDArray[np.uint8]) -> Kept | None:
        side = self.bundle.resolution
        if identity.shape != (side, side, 3) or identity.dtype != np.uint8:
            raise EngineError(
                f"An identity reference must be uint8 ({side}, {side}, 3),"
                f" not {identity.dtype} {identity.shape}."
            )
        if self.bundle.identity_policy == "same-frame":
            return None
        return self._generator.keep(self._encode(identity[None]))

    def _encode(self, pictures: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Return what the generator takes of references: their pixels, their features or both."""
        reference = self._to_network(pictures, "identity")
        features = self._encoder({"identity": reference}) if self._encoder else {}
        inputs = self.bundle.graphs[GENERATOR].inputs
        return {n: a for n, a in {"identity": reference, **features}.items() if n in inputs}

    def _to_network(self, pictures: NDArray[np.uint8], name: str) -> NDArray[np.float32]:
        """Turn uint8 (N, S, S, 3) RGB into float32 (N, 3, S, S) as the graph wants it."""
        spec = self.bundle.graphs[GENERATOR].inputs.get(name)
        low, high = (spec.range if spec else None) or (0.0, 1.0)
        if self.bundle.colour_order == "bgr":
            pictures = pictures[..., ::-1]
        planes = np.ascontiguousarray(pictures.transpose(0, 3, 1, 2), dtype=np.float32)
        planes *= (high - low) / 255
        planes += low
        return planes

    def _from_network(self, frames: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Turn the graph's float32 (N, 3, R, S) into uint8 (N, R, S, 3) RGB."""
        low, high = self.bundle.graphs[GENERATOR].outputs["frames"].range or (0.0, 1.0)
        levels = np.clip((frames - low) * (255 / (high - low)) + 0.5, 0, 255).astype(np.uint8)
        if self.bundle.colour_order == "bgr":
            levels = levels[:, ::-1]
        return np.ascontiguousarray(levels.transpose(0, 2, 3, 1))

    def _check_open(self, slot: int) -> None:
        if slot not in self._identities:
            taken = ", ".join(map(str, sorted(self._identities))) or "none"
            raise EngineError(f"Slot {slot} is not open; open slots: {taken}.")

    def _check_chunk(self, chunk: Chunk) -> None:
        count, side = len(chunk.pose), self.bundle.resolution
        if not 1 <= count <= MAX_FRAMES:
            raise EngineError(f"A chunk must hold 1 to {MAX_FRAMES} frames, not {count}.")
        if chunk.pose.shape[1:] != (side, side, 3) or chunk.pose.dtype != np.uint8:
            raise EngineError(
                f"The pose crops of a chunk must be uint8 (k, {side}, {side}, 3),"
                f" not {chunk.pose.dtype} {chunk.pose.shape}."
            )
        window = (1, self.bundle.mel.bands, self.bundle.placement.columns)
        if chunk.mel.shape != (count, *window) or chunk.mel.dtype != np.float32:
            raise EngineError(
                f"The mel windows of this chunk must be float32 {(count, *window)},"
                f" not {chunk.mel.dtype} {chunk.mel.shape}."
            )


_CHUNK_INPUTS = ("mel", "pose", "identity")  # the rest of a generator's inputs are features


def _check_graphs(bundle: Bundle, features: list[str]) -> None:
    """Refuse a bundle whose generator this run time can't feed.

    Raises:
        BundleError: naming what does not fit.
    """
    generator, side = bundle.graphs[GENERATOR], bundle.resolution
    height = bundle.rows[1] - bundle.rows[0]
    picture = (None, 3, side, side)
    expected = {
        "mel": (None, 1, bundle.mel.bands, bundle.placement.columns),
        "pose": picture,
        "identity": picture,
    }
    made: Mapping[str, TensorSpec] = {}
    if features:
        if IDENTITY not in bundle.graphs:
            raise BundleError(
                f"The generator in {bundle.folder} asks for {features[0]!r}, but the bundle holds"
                " no identity graph; export it again."
            )
        encoder = bundle.graphs[IDENTITY]
        _check_shape(bundle, encoder.inputs, "identity", picture)
        made = encoder.outputs
    for name in ("mel", "pose"):
        _check_shape(bundle, generator.inputs, name, expected[name])
    if "identity" in generator.inputs:
        _check_shape(bundle, generator.inputs, "identity", picture)
    for name in features:
        _check_shape(bundle, made, name, generator.inputs[name].shape)
    _check_shape(bundle, generator.outputs, "frames", (None, 3, height, side))


def _check_shape(
    bundle: Bundle, specs: Mapping[str, TensorSpec], name: str, shape: tuple[int | None, ...]
) -> None:
    found = specs[name].shape if name in specs else None
    if found != shape:
        raise BundleError(
            f"The graphs in {bundle.folder} do not fit: {name!r} must have the shape"
            f" {list(shape)}, not {found and list(found)}; export it again."
        )
