"""A bundle's lip expert, ready to run: AV-HuBERT or one of its form.

It has three parts, so that nothing is computed twice while a window rolls: the picture's network
and the sound's projection work frame by frame, the transformer on the whole window.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from engine.backends.openvino import OpenVinoNetwork
from engine.bundle import EXPERT_FUSION, EXPERT_LIPS, EXPERT_SOUND, Bundle, TensorSpec
from engine.bundle_weights import ExpertFacts
from engine.errors import BundleError
from engine.filterbank import VALUES, audio_features
from engine.mouth_region import INNER, network_input

CONFIDENT: Final = 0.25
"""Of an offset: what the starter expert reaches where lips and speech belong together, and hardly
elsewhere."""

AROUND: Final = 2
"""Frames on either side of one that its features see: the first convolution spans five."""


class Alone(NamedTuple):
    """What the expert makes of each modality by itself, after its last normalisation.

    Attributes:
        sound: float32 (T, D).
        lips: float32 (T, D).
    """

    sound: NDArray[np.float32]
    lips: NDArray[np.float32]


class Expert(ABC):
    """A lip expert, whatever runs its three parts.

    Attributes:
        name: which expert it is; every figure that it gives is reported under this name.
    """

    name: str

    @abstractmethod
    def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Lips into the width of the transformer.

        Args:
            frames: float32 (T + 4, 88, 88), of :func:`engine.mouth_region.network_input`: the T
                that are asked for and two more on either side.

        Returns:
            float32 (T, D).
        """

    @abstractmethod
    def hear(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Speech into the width of the transformer: (T, 104) to (T, D)."""

    @abstractmethod
    def fuse(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> NDArray[np.float32]:
        """The transformer over whole sequences; a modality that is missing is zeros.

        Args:
            heard: float32 (B, T, D), of :meth:`hear`.
            watched: float32 (B, T, D), of :meth:`watch`.

        Returns:
            float32 (B, T, D), after the last normalisation.
        """

    def alone(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> Alone:
        """Sound without lips and lips without sound, of (T, D) each, in one call."""
        nothing = np.zeros_like(heard)
        both = self.fuse(np.stack([heard, nothing]), np.stack([nothing, watched]))
        return Alone(both[0], both[1])

    def embed_regions(self, regions: NDArray[np.uint8]) -> NDArray[np.float32]:
        """A whole clip's lips into the width of the transformer: uint8 (T, 96, 96) to (T, D).

        Before the clip and after it there is nothing: zeros, as in training.
        """
        frames = np.pad(network_input(regions), ((AROUND, AROUND), (0, 0), (0, 0)))
        return self.watch(frames)

    def embed_sound(self, samples: NDArray[np.float32], frames: int) -> NDArray[np.float32]:
        """A whole clip's sound, float32 (n,) at 16 kHz in [−1, 1], likewise: to (frames, D)."""
        return self.hear(audio_features(samples, frames))


class LipExpert(Expert):
    """The lip expert of a bundle. For one thread.

    Args:
        bundle: what to run.
        threads: processor threads of one call, from 1.

    Attributes:
        facts: which expert it is.
        dim: D, the length of its features.

    Raises:
        BundleError: the bundle carries no lip expert, or its parts do not fit together.
        EngineError: the run time can't load it.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        if bundle.expert is None:
            raise BundleError(
                f"The bundle {bundle.folder} carries no lip expert; add one with"
                " `python -m export EXPERT -o BUNDLE`."
            )
        self.facts: ExpertFacts = bundle.expert
        self.name = bundle.expert.name
        self.dim = _fitting_dim(bundle)
        self._lips = OpenVinoNetwork(bundle, EXPERT_LIPS, threads)
        self._sound = OpenVinoNetwork(bundle, EXPERT_SOUND, threads)
        self._fusion = OpenVinoNetwork(bundle, EXPERT_FUSION, threads)

    def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Expert.watch`."""
        windows = np.lib.stride_tricks.sliding_window_view(frames, 2 * AROUND + 1, axis=0)
        stacked = np.ascontiguousarray(windows.transpose(0, 3, 1, 2))
        return self._lips({"frames": stacked})["watched"]

    def hear(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Expert.hear`."""
        return self._sound({"rows": rows})["heard"]

    def fuse(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`Expert.fuse`."""
        return self._fusion({"heard": heard, "watched": watched})["features"]


def _fitting_dim(bundle: Bundle) -> int:
    """The length of the features, if the three parts have the shapes of a lip expert's."""
    graphs = bundle.graphs
    outputs = graphs[EXPERT_FUSION].outputs
    dim = outputs["features"].shape[-1] if "features" in outputs else None
    row, sequence = (None, dim), (None, None, dim)
    expected: Mapping[str, tuple[Mapping[str, TensorSpec], Mapping[str, tuple[int | None, ...]]]]
    expected = {
        "lips": (graphs[EXPERT_LIPS].inputs, {"frames": (None, 2 * AROUND + 1, INNER, INNER)}),
        "watched": (graphs[EXPERT_LIPS].outputs, {"watched": row}),
        "sound": (graphs[EXPERT_SOUND].inputs, {"rows": (None, VALUES)}),
        "heard": (graphs[EXPERT_SOUND].outputs, {"heard": row}),
        "fusion": (graphs[EXPERT_FUSION].inputs, {"heard": sequence, "watched": sequence}),
        "features": (outputs, {"features": sequence}),
    }
    for specs, shapes in expected.values():
        for name, shape in shapes.items():
            found = specs[name].shape if name in specs else None
            if dim is None or found != shape:
                raise BundleError(
                    f"The lip expert in {bundle.folder} does not fit: {name!r} must have the shape"
                    f" {list(shape)}, not {found and list(found)}; export it again."
                )
    assert dim is not None
    return dim
