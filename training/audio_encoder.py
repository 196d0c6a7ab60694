"""The audio side of the SyncNet lip expert, which conditions the generator.

At width 1 the names and shapes of its parameters are those of ``audio_encoder.*`` in the public
lip-expert checkpoint, so that this loads. Narrower ones are pretrained here. The generator's own
audio encoder in Wav2Lip has one block less and does not fit.
"""

from torch import Tensor, nn

from engine.errors import ConfigError
from training.blocks import ConvBlock, scaled

EMBEDDING = 512  # length of the audio embedding, whatever the width


class AudioEncoder(nn.Sequential):
    """Fourteen convolution blocks from a mel window to a 1×1×512 embedding.

    Args:
        width: factor on the channels of all blocks but the last two; above 0.

    Raises:
        ConfigError: ``width`` is not above 0.
    """

    def __init__(self, width: float = 1.0) -> None:
        if not width > 0:
            raise ConfigError(f"audio_width must be above 0, not {width}.")
        c32, c64, c128, c256 = (scaled(channels, width) for channels in (32, 64, 128, 256))
        # Rows are mel bands, columns are time: 80×16 → 27×16 → 9×6 → 3×3 → 1×1.
        super().__init__(
            ConvBlock(1, c32),
            ConvBlock(c32, c32, shortcut=True),
            ConvBlock(c32, c32, shortcut=True),
            ConvBlock(c32, c64, stride=(3, 1)),
            ConvBlock(c64, c64, shortcut=True),
            ConvBlock(c64, c64, shortcut=True),
            ConvBlock(c64, c128, stride=3),
            ConvBlock(c128, c128, shortcut=True),
            ConvBlock(c128, c128, shortcut=True),
            ConvBlock(c128, c256, stride=(3, 2)),
            ConvBlock(c256, c256, shortcut=True),
            ConvBlock(c256, c256, shortcut=True),
            ConvBlock(c256, EMBEDDING, padding=0),
            ConvBlock(EMBEDDING, EMBEDDING, kernel=1, padding=0),
        )

    def forward(self, mel: Tensor) -> Tensor:
        """Embed mel windows.

        Args:
            mel: (B, 1, 80, 16), values in [-4, 4].

        Returns:
            Embeddings (B, 512), all values >= 0, not normalised.
        """
        x = mel
        for block in self:
            x = block(x)
        return x.flatten(1)
