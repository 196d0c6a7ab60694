"""The mark stage: whoever sees a modified picture can see that it is one."""

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

TEXT: Final = "AI lip-sync"

_TEXT_SHARE = 0.032  # height of the text, from the tallest letter to the lowest, of the picture's
_LEAST_TEXT_PX = 12  # below this H.264 smears the letters
_WIDEST_SHARE = 0.8  # of the picture's width
_PAD_SHARE = 0.45  # space around the text, in text heights
_MARGIN_SHARE = 0.6  # from the picture's edges, in text heights
_BACK_LEVEL, _BACK_OPACITY, _TEXT_LEVEL = 16, 0.6, 245


class Badge:
    """A small burnt-in badge in the lower left corner, its size following the picture's.

    Args:
        width: of the pictures in pixels.
        height: of the pictures in pixels.
    """

    def __init__(self, width: int, height: int) -> None:
        letters = _letters()
        widest = _WIDEST_SHARE * width * letters.shape[0] / letters.shape[1]
        text_px = max(1.0, min(max(_LEAST_TEXT_PX, _TEXT_SHARE * height), widest))
        scale = text_px / letters.shape[0]
        size = (max(1, round(letters.shape[1] * scale)), max(1, round(text_px)))
        text = cv2.resize(letters, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        text = np.pad(text, round(_PAD_SHARE * text_px))
        bottom = max(0, height - round(_MARGIN_SHARE * text_px))
        left = min(round(_MARGIN_SHARE * text_px), width)
        self.rows = slice(max(0, bottom - text.shape[0]), bottom)
        self.columns = slice(left, min(width, left + text.shape[1]))
        text = text[: self.rows.stop - self.rows.start, : self.columns.stop - left, None]
        # What is drawn = what is there × keep + add.
        self._keep = (1 - text) * (1 - _BACK_OPACITY)
        self._add = text * _TEXT_LEVEL + (1 - text) * _BACK_OPACITY * _BACK_LEVEL + 0.5

    def on(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The picture with the badge; the given one stays as it is.

        Args:
            picture: uint8 (height, width, 3).

        Returns:
            uint8 (height, width, 3).
        """
        marked = picture.copy()
        below = marked[self.rows, self.columns]
        marked[self.rows, self.columns] = (below * self._keep + self._add).astype(np.uint8)
        return marked


def _letters() -> NDArray[np.uint8]:
    """The text, white on black, large, with no space around it; uint8 (H, W)."""
    large = np.zeros((300, 1400), np.uint8)
    font = cv2.FONT_HERSHEY_SIMPLEX
    cv2.putText(large, TEXT, (40, 190), font, 6.0, 255, 14, cv2.LINE_AA)
    rows, columns = np.flatnonzero(large.any(1)), np.flatnonzero(large.any(0))
    return large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
