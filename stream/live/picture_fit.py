"""Pictures of any size in the one size that a device has."""

from functools import lru_cache
from typing import TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray

_Place: TypeAlias = tuple[int, int, int, int]
"""Left, top, width, height in pixels."""


def fit(picture: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """A picture as large as it goes, in the middle of a black one of the size asked for.

    Args:
        picture: uint8 (H, W, 3).
        width: wanted, in pixels.
        height: wanted, in pixels.

    Returns:
        uint8 (height, width, 3): the picture itself where it has that size, else a new array.
    """
    own_height, own_width = picture.shape[:2]
    if (own_width, own_height) == (width, height):
        return picture
    left, top, inner_width, inner_height = _place(own_width, own_height, width, height)
    fitted = np.zeros((height, width, 3), np.uint8)
    inside = fitted[top : top + inner_height, left : left + inner_width]
    smaller = inner_width * inner_height < own_width * own_height
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    cv2.resize(picture, (inner_width, inner_height), dst=inside, interpolation=how)
    return fitted


@lru_cache(maxsize=16)
def _place(own_width: int, own_height: int, width: int, height: int) -> _Place:
    """Where the picture lies: edges on even pixels, as chroma has one sample for 2 × 2 of them."""
    scale = min(width / own_width, height / own_height)
    inner_width, inner_height = _even(own_width * scale, width), _even(own_height * scale, height)
    left, top = (width - inner_width) // 4 * 2, (height - inner_height) // 4 * 2
    return left, top, inner_width, inner_height


def _even(size: float, most: int) -> int:
    """The even number nearest to a size; ``most``, odd or not, where that is as near."""
    even = max(2, round(size / 2) * 2)
    return most if even + 1 >= most else even
