"""The still card: what is shown where the camera gives no picture."""

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

_DIM: Final = 0.3  # share of the picture's light that stays behind the text
_PLAIN_LEVEL: Final = 28  # grey, where there is no picture
_SMALL_PX: Final = 48  # the picture is blurred by going through this height
_TEXT_SHARE: Final = 0.06  # height of the first line's capitals, of the card's height
_NEXT_LINES: Final = 0.65  # height of the other lines, of the first one's
_WIDEST: Final = 0.88  # of the card's width
_LINE_STEP: Final = 2.1  # from line to line, in capitals' heights
_TEXT_LEVEL: Final = 240
_FONT: Final = cv2.FONT_HERSHEY_DUPLEX


def still_card(
    picture: NDArray[np.uint8] | None, width: int, height: int, lines: Sequence[str]
) -> NDArray[np.uint8]:
    """A card that says why there is no live picture.

    It takes up to tens of milliseconds: make it once, off the event loop.

    Args:
        picture: uint8 (H, W, 3), the last one there was, shown dimmed and blurred; a plain dark
            card where there is none.
        width: of the card in pixels.
        height: of the card in pixels.
        lines: one or two lines of ASCII, the first one larger.

    Returns:
        uint8 (height, width, 3).
    """
    card = _backdrop(picture, width, height)
    text = _text(width, height, lines)
    rows = np.flatnonzero(text.any(axis=1))
    if len(rows):
        band = slice(rows[0], rows[-1] + 1)
        opacity = text[band, :, None].astype(np.float32) / 255
        card[band] = (card[band] * (1 - opacity) + _TEXT_LEVEL * opacity + 0.5).astype(np.uint8)
    return card


def _backdrop(picture: NDArray[np.uint8] | None, width: int, height: int) -> NDArray[np.uint8]:
    if picture is None:
        return np.full((height, width, 3), _PLAIN_LEVEL, np.uint8)
    small_size = (max(1, round(_SMALL_PX * width / height)), _SMALL_PX)
    small = cv2.resize(_cut(picture, width / height), small_size, interpolation=cv2.INTER_AREA)
    dim = cv2.GaussianBlur(small, (0, 0), 1.0).astype(np.float32) * _DIM
    blurred = cv2.resize(dim.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(blurred, np.uint8)


def _cut(picture: NDArray[np.uint8], aspect: float) -> NDArray[np.uint8]:
    """The middle of a picture, of this width by height."""
    height, width = picture.shape[:2]
    kept_width = min(width, max(1, round(height * aspect)))
    kept_height = min(height, max(1, round(width / aspect)))
    top, left = (height - kept_height) // 2, (width - kept_width) // 2
    return picture[top : top + kept_height, left : left + kept_width]


def _text(width: int, height: int, lines: Sequence[str]) -> NDArray[np.uint8]:
    """How much of each pixel is text; uint8 (height, width)."""
    drawn = np.zeros((height, width), np.uint8)
    large_px = _TEXT_SHARE * height
    sizes = [large_px if n == 0 else large_px * _NEXT_LINES for n in range(len(lines))]
    steps = [0.0 if n == 0 else _LINE_STEP * size for n, size in enumerate(sizes)]
    baseline = (height + large_px - sum(steps)) / 2
    for line, size, step in zip(lines, sizes, steps, strict=True):
        baseline += step
        thickness = max(1, round(size / 14))
        scale = cv2.getFontScaleFromHeight(_FONT, max(1, round(size)), thickness)
        line_width = cv2.getTextSize(line, _FONT, scale, thickness)[0][0]
        if line_width > _WIDEST * width:
            scale *= _WIDEST * width / line_width
            line_width = round(_WIDEST * width)
        place = (round((width - line_width) / 2), round(baseline))
        cv2.putText(drawn, line, place, _FONT, scale, 255, thickness, cv2.LINE_AA)
    return drawn
