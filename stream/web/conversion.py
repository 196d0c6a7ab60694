"""Pictures as encoders take them: converted and scaled once, whoever needs them."""

from __future__ import annotations

import cv2
import numpy as np
from av import VideoFrame
from numpy.typing import NDArray

from stream.core.rendition import Rendition


class Converter:
    """Makes encoders' frames of pictures, and keeps those of the last pictures. For one thread.

    Args:
        longest_side: pictures with a longer side are scaled down to it, in pixels; None for none.
    """

    def __init__(self, longest_side: int | None) -> None:
        self._longest_side = longest_side
        self._kept: list[tuple[NDArray[np.uint8], dict[Rendition, VideoFrame]]] = []

    def begin(self, *pictures: NDArray[np.uint8]) -> None:
        """Forget all frames but those of these pictures."""
        self._kept = [
            (kept, frames)
            for kept, frames in self._kept
            if any(kept is picture for picture in pictures)
        ]

    def frame(self, picture: NDArray[np.uint8], rendition: Rendition) -> VideoFrame:
        """A picture's frame.

        Args:
            picture: uint8 (H, W, 3) RGB.
            rendition: ``small`` has half the sides.

        Returns:
            yuv420p, BT.601, limited range, even sides; the same object for the same picture.
        """
        frames = next((frames for kept, frames in self._kept if kept is picture), None)
        if frames is None:
            frames = {}
            self._kept.append((picture, frames))
        if rendition not in frames:
            frames[rendition] = self._convert(picture, rendition)
        return frames[rendition]

    def _convert(self, picture: NDArray[np.uint8], rendition: Rendition) -> VideoFrame:
        height, width = picture.shape[:2]
        longest = max(height, width)
        scale = min(1.0, (self._longest_side or longest) / longest)
        if rendition == "small":
            scale /= 2
        height, width = (max(2, round(side * scale) // 2 * 2) for side in (height, width))
        if scale < 1.0:
            picture = np.asarray(
                cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        # Twenty times faster than swscale's conversion to the same numbers.
        even = np.ascontiguousarray(picture[:height, :width])
        planes = np.asarray(cv2.cvtColor(even, cv2.COLOR_RGB2YUV_I420), np.uint8)
        return VideoFrame.from_ndarray(planes, format="yuv420p")
