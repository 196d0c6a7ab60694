"""The audio side of the SyncNet lip expert, which conditions the generator.

At width 1 and 16 columns the names and shapes of its parameters are those of ``audio_encoder.*``
in the public lip-expert checkpoint, so that this loads. Others are pretrained here. The generator's
own audio encoder in Wav2Lip has one block less and does not fit.
"""

from torch import Tensor, nn

from engine.errors import ConfigError
from engine.mel import COLUMNS
from training.blocks import ConvBlock, scaled

EMBEDDING = 512  # length of the audio embedding, whatever the width
COLUMNS_A_STEP = 6  # mel columns that one column of the last map stands for: strides 3 and 2
_PAST_CHANNELS = 64  # few: the past says less than the moment itself, and the last map is large


class AudioEncoder(nn.Sequential):
    """Fourteen convolution blocks from a mel window to a 1×1×512 embedding.

    The thirteenth sees the last 16 columns, as in SyncNet. Where the window is wider, a branch adds
    to its maps what it hears in the whole window; it starts at nothing, so weights that learnt with
    16 columns can go on with more.

    Args:
        width: factor on the channels of all blocks but the last two; above 0.
        columns: of a mel window; 16, or more by a multiple of 6.

    Raises:
        ConfigError: ``width`` is not above 0, or a window can't have so many columns.
    """

    def __init__(self, width: float = 1.0, columns: int = COLUMNS) -> None:
        if not width > 0:
            raise ConfigError(f"audio_width must be above 0, not {width}.")
        more, rest = divmod(columns - COLUMNS, COLUMNS_A_STEP)
        if more < 0 or rest:
            raise ConfigError(
                f"audio_columns must be {COLUMNS}, or more by a multiple of {COLUMNS_A_STEP},"
                f" not {columns}."
            )
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
        self.past = _past(c256, more) if more else None

    def forward(self, mel: Tensor) -> Tensor:
        """Embed mel windows.

        Args:
            mel: (B, 1, 80, columns), values in [-4, 4].

        Returns:
            Embeddings (B, 512), all values >= 0, not normalised.
        """
        *blocks, joined, last = list(self)[:14]
        x = mel
        for block in blocks:
            x = block(x)
        x = joined(x) if self.past is None else joined(x[..., -3:]) + self.past(x)
        embedding: Tensor = last(x)
        return embedding.flatten(1)


def _past(channels: int, more: int) -> nn.Sequential:
    """The branch for maps (B, channels, 3, 3 + more), to (B, 512, 1, 1)."""
    to_embedding = nn.Conv2d(_PAST_CHANNELS, EMBEDDING, 1)
    for parameter in to_embedding.parameters():
        nn.init.zeros_(parameter)
    heard = ConvBlock(channels, _PAST_CHANNELS, kernel=(3, 3 + more), padding=0)
    return nn.Sequential(heard, to_embedding)
