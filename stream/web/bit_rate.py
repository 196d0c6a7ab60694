"""How many bits a picture gets: aiortc has no setting for it, it reads constants of a module."""

from __future__ import annotations

from typing import Final

import aiortc
from aiortc.codecs import vpx

from engine.errors import ConfigError

BIT_RATE: Final = 2_500_000
"""Of a picture in bits per second. aiortc begins at 500 kb/s and then follows what the browser
believes the line to hold; each change makes a new encoder and a key frame. To this computer the
line holds anything, so the rate is fixed."""


def set_bit_rate(bits_per_s: int = BIT_RATE) -> None:
    """Let every VP8 encoder that this process makes from now on have a rate.

    Args:
        bits_per_s: of one picture.

    Raises:
        ConfigError: this aiortc has no such constants.
    """
    names = ("MIN_BITRATE", "DEFAULT_BITRATE", "MAX_BITRATE")
    missing = [name for name in names if not isinstance(getattr(vpx, name, None), int)]
    if missing:
        raise ConfigError(
            f"aiortc {aiortc.__version__} has no {missing[0]}, so that pictures would be coarse;"
            " install aiortc 1.16."
        )
    for name in names:
        setattr(vpx, name, bits_per_s)
