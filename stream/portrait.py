"""The demo's speaker: a public-domain portrait that moves its head a little and blinks.

The picture is NASA's official portrait of the astronaut Eileen Collins, which scikit-image ships
as ``skimage.data.astronaut()``. A still photo would hide what the product has to cope with, so the
head sways: slowly, smoothly, and the same in every run.
"""

import math
from typing import Final

import cv2
import numpy as np
import skimage.data
from numpy.typing import NDArray

# Measured on that picture, in its 512 × 512 pixels (x right, y down).
_LEFT, _TOP, _SIDE = 82, 0, 288  # the square that is shown: head and shoulders
_HEAD = (226.0, 100.0)  # centre of head and hair
_STILL_HEAD = (82.0, 96.0)  # half axes of the part that moves as one piece
_PIVOT = (222.0, 185.0)  # where the neck enters the suit
_FADE = 0.85  # from the moving part's edge on, in half axes, the motion fades out over this
_BORDER = 26.0  # pixels along the picture's border over which all motion is faded out

# An eye: the edges of its upper and lower lid from corner to corner, the highest row of the upper
# lid's skin, and the height of the lashes above the edge, which move without being stretched.
_EYES = (
    (
        ((191.5, 101.0), (195.0, 99.4), (202.0, 98.4), (208.0, 98.9), (214.5, 103.0)),
        ((191.5, 101.5), (196.0, 103.2), (203.0, 105.2), (209.0, 105.0), (214.5, 103.8)),
        92.0,
        3.6,
    ),
    (
        ((235.5, 104.6), (240.0, 101.8), (246.0, 100.1), (252.0, 100.6), (259.5, 104.4)),
        ((235.5, 105.2), (240.0, 106.0), (246.0, 107.4), (252.0, 107.0), (259.5, 104.9)),
        95.0,
        2.6,
    ),
)

_ZOOM: Final = 2
SIDE: Final = _ZOOM * _SIDE

# Sums of sines that never line up: (amplitude, frequency in Hz, phase in radians).
_TURN_DEG = ((0.8, 0.113, 0.3), (0.45, 0.271, 1.9), (0.2, 0.467, 4.0))
_SHIFT_X = ((2.0, 0.087, 1.1), (0.9, 0.231, 0.2), (0.4, 0.419, 2.6))
_SHIFT_Y = ((1.1, 0.139, 2.2), (0.7, 0.307, 5.1), (0.3, 0.523, 0.7))

_BLINK_EVERY_S = 4.0
_BLINK_JITTER_S = 1.1
_CLOSING_S, _CLOSED_S, _OPENING_S = 0.08, 0.04, 0.16
_BLINK_STEPS = 10


def portrait_photo() -> NDArray[np.uint8]:
    """The portrait as it was taken, uint8 RGB (512, 512, 3)."""
    return np.asarray(skimage.data.astronaut(), np.uint8)  # type: ignore[no-untyped-call]


class Portrait:
    """A talking head's picture source for the demo; a pure function of time.

    Attributes:
        width: of the pictures in pixels, 576.
        height: of the pictures in pixels, 576.
    """

    width: int = SIDE
    height: int = SIDE

    def __init__(self, photo: NDArray[np.uint8] | None = None) -> None:
        """Prepare the pictures.

        Args:
            photo: uint8 (512, 512, 3), the portrait with other lips; as it was taken by default.
        """
        photo = portrait_photo() if photo is None else photo
        shown = photo[_TOP : _TOP + _SIDE, _LEFT : _LEFT + _SIDE]
        still = np.asarray(
            cv2.resize(shown, (SIDE, SIDE), interpolation=cv2.INTER_LANCZOS4), np.uint8
        )
        # Four channels: remap moves them more than twice as fast as three.
        self._stages = [
            np.asarray(cv2.cvtColor(_blink(still, i / _BLINK_STEPS), cv2.COLOR_RGB2RGBA))
            for i in range(_BLINK_STEPS + 1)
        ]

        rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
        weight = _motion_weight(rows, columns)
        moving_rows, moving_columns = np.flatnonzero(weight.any(1)), np.flatnonzero(weight.any(0))
        self._moving = (
            slice(int(moving_rows[0]), int(moving_rows[-1]) + 1),
            slice(int(moving_columns[0]), int(moving_columns[-1]) + 1),
        )
        pivot_x, pivot_y = _shown(_PIVOT)
        self._x, self._y, self._weight, self._weighted_x, self._weighted_y = (
            plane[self._moving].astype(np.float32)
            for plane in (
                columns,
                rows,
                weight,
                weight * (columns - pivot_x),
                weight * (rows - pivot_y),
            )
        )

    def frame(self, time_s: float) -> NDArray[np.uint8]:
        """The picture at a time.

        Args:
            time_s: seconds since the start, any finite number.

        Returns:
            (576, 576, 3) RGB uint8, the caller's to keep; the same time gives the same picture.
        """
        stage = self._stages[round(_lids_closed(time_s) * _BLINK_STEPS)]
        turn = math.radians(_sway(_TURN_DEG, time_s))
        shift_x, shift_y = _sway(_SHIFT_X, time_s), _sway(_SHIFT_Y, time_s)
        # remap asks where each pixel comes from: the motion backwards.
        along, across = math.cos(turn) - 1.0, math.sin(turn)
        map_x = self._x + along * self._weighted_x + across * self._weighted_y
        map_y = self._y - across * self._weighted_x + along * self._weighted_y
        map_x -= shift_x * self._weight
        map_y -= shift_y * self._weight
        picture = np.asarray(cv2.cvtColor(stage, cv2.COLOR_RGBA2RGB), np.uint8)
        moved = cv2.remap(stage, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        picture[self._moving] = cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB)
        return picture


def _shown(point: tuple[float, float]) -> tuple[float, float]:
    """A point of the photo in the shown picture's pixels."""
    x, y = point
    return (x - _LEFT + 0.5) * _ZOOM - 0.5, (y - _TOP + 0.5) * _ZOOM - 0.5


def _smooth_step(value: NDArray[np.float64]) -> NDArray[np.float64]:
    inside = np.asarray(np.clip(value, 0.0, 1.0), np.float64)
    return np.asarray(inside**3 * (inside * (6.0 * inside - 15.0) + 10.0), np.float64)


def _motion_weight(rows: NDArray[np.float64], columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the head is, falling smoothly to 0 around it and at the picture's border."""
    centre_x, centre_y = _shown(_HEAD)
    across = (columns - centre_x) / (_ZOOM * _STILL_HEAD[0])
    down = (rows - centre_y) / (_ZOOM * _STILL_HEAD[1])
    beyond = np.sqrt(across**2 + down**2) - 1.0
    around = _smooth_step(1.0 - beyond / _FADE)
    border = np.minimum(np.minimum(rows, columns), np.minimum(SIDE - 1 - rows, SIDE - 1 - columns))
    return np.asarray(around * _smooth_step(border / _BORDER), np.float64)


def _sway(waves: tuple[tuple[float, float, float], ...], time_s: float) -> float:
    return sum(size * math.sin(math.tau * rate * time_s + phase) for size, rate, phase in waves)


def _lids_closed(time_s: float) -> float:
    """How far the lids are closed, 0..1: one blink in every four seconds, at an uneven moment."""
    turn = math.floor(time_s / _BLINK_EVERY_S)
    start = (turn + 0.5) * _BLINK_EVERY_S + _BLINK_JITTER_S * math.sin(2.4 * turn + 0.6)
    since = time_s - start
    if since < 0:
        return 0.0
    if since < _CLOSING_S:
        return 0.5 - 0.5 * math.cos(math.pi * since / _CLOSING_S)
    since -= _CLOSING_S + _CLOSED_S
    if since < 0:
        return 1.0
    if since < _OPENING_S:
        return 0.5 + 0.5 * math.cos(math.pi * since / _OPENING_S)
    return 0.0


def _blink(still: NDArray[np.uint8], closed: float) -> NDArray[np.uint8]:
    """The picture with both upper lids drawn down.

    The lid's skin is stretched down over the eye, its lashes are moved; nothing is painted.
    """
    picture = still.copy()
    for upper, lower, skin_top, lash_height in _EYES:
        upper_points = np.array([_shown(point) for point in upper], np.float32)
        lower_points = np.array([_shown(point) for point in lower], np.float32)
        top = _shown((0.0, skin_top))[1]
        left, right = math.ceil(upper_points[0, 0]), math.floor(upper_points[-1, 0])
        y_first, y_last = math.floor(top), math.ceil(lower_points[:, 1].max()) + 2
        x = np.arange(left, right + 1, dtype=np.float32)[None, :]
        y = np.arange(y_first, y_last + 1, dtype=np.float32)[:, None]
        open_edge = np.interp(x, upper_points[:, 0], upper_points[:, 1])
        shut_edge = np.interp(x, lower_points[:, 0], lower_points[:, 1])
        edge = open_edge + closed * (shut_edge - open_edge)
        lashes = _ZOOM * lash_height
        stretch = (open_edge - lashes - top) / (edge - lashes - top)
        source_y = np.where(
            y > edge,
            y,
            np.where(y > edge - lashes, y - (edge - open_edge), top + (y - top) * stretch),
        )
        source_x = np.broadcast_to(x, source_y.shape)
        lid = cv2.remap(
            still,
            np.ascontiguousarray(source_x, np.float32),
            np.ascontiguousarray(source_y, np.float32),
            cv2.INTER_LINEAR,
        )
        # A soft edge of the lid, so that no jagged step shows where skin meets the eye.
        cover = np.clip((edge - y) / 2.0 + 0.5, 0.0, 1.0)[..., None]
        below = still[y_first : y_last + 1, left : right + 1]
        picture[y_first : y_last + 1, left : right + 1] = np.rint(
            cover * lid + (1.0 - cover) * below
        ).astype(np.uint8)
    return picture
