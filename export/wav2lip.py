"""An imported Wav2Lip as a bundle: one graph that runs wherever a bundle runs.

Wav2Lip has no reference of its own: each frame, unmasked, is its own. It paints the whole crop.
"""

from pathlib import Path
from typing import cast

from torch import Tensor, nn

from engine.bundle import GENERATOR, Bundle, Graph, TensorSpec
from engine.bundle_weights import Weights as Facts
from engine.crop import BoxGeometry
from engine.errors import ConfigError
from engine.mel import BANDS, COLUMNS, MelSettings, WindowPlacement
from export.graphs import UNIT, fold_normalisations, write_graph
from export.verify import Differences, Original, write_checked
from training.blocks import concatenate
from training.public_networks import KINDS, WAV2LIP, restore
from training.wav2lip import MASKED_FROM, SIDE, WINDOW_FRAMES, Wav2Lip
from training.weights import Weights

FPS = 25.0


class Wav2LipGraph(nn.Module):
    """The network with the pose face and the reference as two inputs; export traces this."""

    def __init__(self, model: Wav2Lip) -> None:
        super().__init__()
        self.model = model

    def forward(self, mel: Tensor, pose: Tensor, identity: Tensor) -> Tensor:
        """Map (B, 1, 80, 16) and two of (B, 3, 96, 96) to frames (B, 3, 96, 96)."""
        frames: Tensor = self.model(mel, concatenate(pose, identity))
        return frames


def export_wav2lip(
    weights: Weights, folder: Path, made_from: str | None = None
) -> tuple[Bundle, Differences]:
    """Write a bundle of an imported Wav2Lip and check it against the network.

    Args:
        weights: of Wav2Lip's generator.
        folder: where the bundle goes; made where missing, its files are overwritten.
        made_from: see :class:`engine.bundle.Bundle`.

    Raises:
        ConfigError: the weights are another network's or do not fit, or the folder can't be made.
        BundleError: what was written is not what the network paints.
    """
    if weights.kind != WAV2LIP:
        title = KINDS[weights.kind].title if weights.kind in KINDS else repr(weights.kind)
        raise ConfigError(
            f"The weights are of {title}; only those of {KINDS[WAV2LIP].title} make a bundle."
        )
    model = cast("Wav2Lip", restore(weights))
    settings = MelSettings()
    picture = TensorSpec(shape=(None, 3, SIDE, SIDE), range=UNIT)
    window = TensorSpec(
        shape=(None, 1, BANDS, COLUMNS), range=(-settings.max_abs, settings.max_abs)
    )
    graph = Graph(
        file="generator.onnx",
        inputs={"mel": window, "pose": picture, "identity": picture},
        outputs={"frames": picture},
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_graph(Wav2LipGraph(fold_normalisations(model)), graph, folder)
    except OSError as error:
        raise ConfigError(f"The bundle {folder} can't be written: {error}.") from error
    return write_checked(
        Bundle(
            folder=folder,
            graphs={GENERATOR: graph},
            architecture="wav2lip",
            width=1.0,
            resolution=SIDE,
            rows=(0, SIDE),
            masked_from=MASKED_FROM,
            fps=FPS,
            k=WINDOW_FRAMES,
            mel=settings,
            placement=WindowPlacement(0.0, rounding="floor"),
            crop=BoxGeometry(),
            identity_policy="same-frame",
            colour_order="bgr",
            made_from=made_from,
            weights=Facts(licence=weights.licence, training_data=weights.training_data),
        ),
        Original(
            paint=Wav2LipGraph(model),
            rows=(0, SIDE),
            masked_from=MASKED_FROM,
            colour_order="bgr",
            identity_policy="same-frame",
        ),
    )
