"""The way back: painted rows into the picture, with no visible edge."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.crop import Matrix

# The region of an upright crop that is replaced, in shares of its side: the jaw in front of the
# neck, from the nose's base to below an open chin. It is fixed in the crop, so the speaker's own
# chin never shows beneath it.
_TOP: Final = 0.46
_SHOULDER: Final = 0.60
_HALF_WIDTH_TOP: Final = 0.30
_HALF_WIDTH: Final = 0.34
_CHIN_Y: Final = 0.68
_BOTTOM: Final = 0.985
_SHOWN: Final = 0.1  # share of a painted pixel from which a row counts as pasted
_SOFT: Final = 0.035  # standard deviation of the edge's softness
# An open chin comes close to the crop's edge, so the mask ends there faster than elsewhere.
_FADE: Final = (0.905, 0.985)

# Colours, in levels of 255. A rim pixel that differs this much from the common difference counts
# half: a hand or hair there is no matter of light. Where too few pixels tell, the common one holds.
_STRAY_LEVELS: Final = 20.0
_COMMON_WEIGHT: Final = 0.02
# Where the painted crop differs from the live one by less than about this, the picture's own
# texture, finer than the crop's pixels, is kept.
_ALIKE_LEVELS: Final = 8.0

# Painted and live face are compared in a coarse crop: its side, the share of it below which an
# open chin may be anywhere, and how far (rows, columns) speech moves what is seen there.
_JUDGED_SIDE: Final = 48
_JUDGED_END: Final = 0.917
_NEARBY: Final = np.ones((5, 3), np.uint8)


@lru_cache(maxsize=4)
def paste_mask(side: int) -> NDArray[np.float32]:
    """How much of each pixel of an upright crop is replaced.

    Args:
        side: pixels a side of the crop.

    Returns:
        float32 (side, side) in 0..1, read-only; exactly 0 on and near the crop's border.
    """
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side
    x = np.abs(x - 0.5)
    # Half the width at each height: a trapezium below the nose that ends in half an ellipse.
    opening = np.interp(y, [_TOP, _SHOULDER], [_HALF_WIDTH_TOP, _HALF_WIDTH])
    below = np.clip((y - _CHIN_Y) / (_BOTTOM - _CHIN_Y), 0, 1)
    half = opening * np.sqrt(1 - below**2)
    inside = ((x < half) & (y > _TOP) & (y < _BOTTOM)).astype(np.float32)
    soft = cv2.GaussianBlur(inside, (0, 0), _SOFT * side, borderType=cv2.BORDER_REPLICATE)
    # A Gaussian never ends; what is below 2 % is cut so that the border is left alone.
    soft = np.clip((soft - 0.02) / 0.96, 0, 1)
    fade = np.clip((_FADE[1] - y) / (_FADE[1] - _FADE[0]), 0, 1)
    mask: NDArray[np.float32] = (soft * fade * fade * (3 - 2 * fade)).astype(np.float32)
    mask.flags.writeable = False
    return mask


@lru_cache(maxsize=4)
def pasted_rows(side: int) -> tuple[int, int]:
    """Return the rows of an upright crop that a picture takes: painting others is in vain.

    Above them the mask lets less than a tenth of the painted pixels through.

    Args:
        side: pixels a side of the crop.

    Returns:
        The first row and the row after the last, which is the crop's end.
    """
    shown = paste_mask(side).max(axis=1) >= _SHOWN
    return int(np.argmax(shown)), side


def colour_match(
    painted: NDArray[np.uint8], real: NDArray[np.uint8], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Bring the painted rows to the light of the real ones.

    The difference is taken where the paste fades out, which both show; the chin's side is left
    out by the caller's weight since the real chin may be elsewhere. It is carried inwards
    smoothly. What covers the real face there (a hand, hair) hardly counts.

    Args:
        painted: uint8 (R, S, 3).
        real: uint8 (R, S, 3), the same rows of the live crop.
        weight: float32 (R, S), how much each pixel tells.

    Returns:
        float32 (R, S, 3), not yet clipped.
    """
    sigma = painted.shape[1] / 8
    difference = real.astype(np.float32) - painted
    telling = difference[weight > weight.max() / 2]
    common = np.median(telling, axis=0) if len(telling) else np.zeros(3, np.float32)
    stray = np.abs(difference - common).mean(axis=-1) / _STRAY_LEVELS
    weight = (weight / (1 + stray * stray)).astype(np.float32)
    total = cv2.GaussianBlur(weight, (0, 0), sigma)[..., None] + _COMMON_WEIGHT
    carried = cv2.GaussianBlur(difference * weight[..., None], (0, 0), sigma)
    light = (carried + _COMMON_WEIGHT * common) / total
    return np.asarray(painted + light, dtype=np.float32)


@lru_cache(maxsize=4)
def _rim(side: int) -> NDArray[np.float32]:
    """Where painted and real pixels ought to agree: the faded edge of the mask, not its bottom."""
    mask = paste_mask(side)
    y = (np.arange(side)[:, None] + 0.5) / side
    upper = np.clip((0.80 - y) / 0.1, 0, 1)
    rim = (4 * mask * (1 - mask) * upper).astype(np.float32)
    rim.flags.writeable = False
    return rim


@lru_cache(maxsize=4)
def _mask_corners(side: int) -> NDArray[np.float64]:
    """Corners (4, 2), x and y, of the part of the crop that the mask touches."""
    y, x = np.nonzero(paste_mask(side))
    low_x, high_x, low_y, high_y = x.min() - 1, x.max() + 1, y.min() - 1, y.max() + 1
    return np.array(
        [[low_x, low_y], [high_x, low_y], [low_x, high_y], [high_x, high_y]], dtype=np.float64
    )


def blend(
    crop: NDArray[np.uint8], painted: NDArray[np.uint8], rows: tuple[int, int]
) -> NDArray[np.float32]:
    """The painted rows in the light of the crop, the whole crop's size.

    Args:
        crop: uint8 (S, S, 3), the live crop.
        painted: uint8 (R, S, 3), the generator's rows.
        rows: first row and the row after the last that ``painted`` stands for.

    Returns:
        float32 (S, S, 3): matched rows, and the crop's own pixels above and below them.
    """
    first, end = rows
    whole = crop.astype(np.float32)
    rim = _rim(len(crop))[first:end]
    whole[first:end] = colour_match(painted, crop[first:end], rim)
    return whole


@lru_cache(maxsize=4)
def _judged(side: int) -> NDArray[np.bool_]:
    """The part of a crop in which painted and live face are compared, (side, side)."""
    y = (np.arange(side)[:, None] + 0.5) / side
    return np.asarray((paste_mask(side) > 0.5) & (y < _JUDGED_END))


def disagreement(
    crop: NDArray[np.uint8], painted: NDArray[np.uint8], rows: tuple[int, int]
) -> float:
    """How badly the painted rows fit the live ones, whatever the light.

    A pixel is stray if no painted one nearby has its colour: other words move the lips, but not
    so far. A hand, a cup or a microphone before the mouth makes many, even where it does not reach
    the paste's rim; so does a cheek that has turned away.

    Args:
        crop: uint8 (S, S, 3), the live crop.
        painted: uint8 (R, S, 3), the generator's rows.
        rows: first row and the row after the last that ``painted`` stands for.

    Returns:
        Share of stray pixels in the lower face, 0..1: below 0.04 in talk, 0.1 for a broad smile
        or a head turned by 15 degrees, mostly above 0.15 for a covered mouth.
    """
    first, end = (round(row * _JUDGED_SIDE / len(crop)) for row in rows)
    size = (_JUDGED_SIDE, _JUDGED_SIDE)
    live = np.asarray(cv2.resize(crop, size, interpolation=cv2.INTER_AREA)[first:end], np.uint8)
    size = (_JUDGED_SIDE, end - first)
    new = np.asarray(cv2.resize(painted, size, interpolation=cv2.INTER_AREA), np.uint8)
    matched = colour_match(new, live, _rim(_JUDGED_SIDE)[first:end])
    beyond = np.maximum(live - cv2.dilate(matched, _NEARBY), cv2.erode(matched, _NEARBY) - live)
    judged = _judged(_JUDGED_SIDE)[first:end]
    stray = beyond.max(axis=-1) > _STRAY_LEVELS
    return float(np.count_nonzero(stray & judged)) / max(int(np.count_nonzero(judged)), 1)


def _likeness(whole: NDArray[np.float32], crop: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Where the mouth's motion leaves the crop as it is: float32 (S, S), 1 there, 0 elsewhere."""
    error = np.abs(whole - crop).mean(axis=-1)
    error = cv2.GaussianBlur(error, (0, 0), len(crop) / 64)
    return np.asarray(np.exp(-np.square(error / _ALIKE_LEVELS)), dtype=np.float32)


def paste(
    picture: NDArray[np.uint8],
    crop: NDArray[np.uint8],
    painted: NDArray[np.uint8],
    rows: tuple[int, int],
    matrix: Matrix,
    amount: float = 1.0,
) -> NDArray[np.uint8]:
    """Put the painted mouth into the picture.

    Where painted and live crop agree, as on cheeks and neck, only their difference is added, so
    the picture keeps texture that the crop is too coarse to show.

    Args:
        picture: uint8 (H, W, 3).
        crop: uint8 (S, S, 3), its crop.
        painted: uint8 (R, S, 3), the generator's rows.
        rows: first row and the row after the last that ``painted`` stands for.
        matrix: picture → crop.
        amount: share of the painted mouth, 0..1, for fades; 0 leaves the picture as it is.

    Returns:
        uint8 (H, W, 3), a new picture; pixels outside the mask are those of ``picture``.
    """
    result = picture.copy()
    if amount <= 0:
        return result
    side = len(crop)
    height, width = picture.shape[:2]
    back = cv2.invertAffineTransform(matrix)
    places = _mask_corners(side) @ back[:, :2].T + back[:, 2]
    x0, y0 = np.maximum(np.floor(places.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(places.max(axis=0)).astype(int) + 1, (width, height))
    if x0 >= x1 or y0 >= y1:
        return result
    # Crop coordinates of the pixels of the picture's part around the mask.
    part = matrix.copy()
    part[:, 2] += matrix[:, :2] @ np.array([x0, y0])
    size = (int(x1 - x0), int(y1 - y0))
    grow = 1 / math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    smooth = cv2.INTER_CUBIC if grow > 1 else cv2.INTER_LINEAR
    inverse = cv2.invertAffineTransform(part)

    def enlarge(
        image: NDArray[np.float32], how: int, beyond: int = cv2.BORDER_REPLICATE
    ) -> NDArray[np.float32]:
        return np.asarray(cv2.warpAffine(image, inverse, size, flags=how, borderMode=beyond))

    def spread(plane: NDArray[np.float32]) -> NDArray[np.float32]:
        # numpy multiplies three whole planes several times faster than one over a last axis of 3.
        return np.asarray(cv2.merge([plane, plane, plane]))

    whole = blend(crop, painted, rows)
    share = enlarge(paste_mask(side), cv2.INTER_LINEAR, cv2.BORDER_CONSTANT)
    share *= np.float32(min(amount, 1.0))
    alike = enlarge(_likeness(whole, crop), cv2.INTER_LINEAR)
    change = enlarge(whole, smooth)
    grain = enlarge(crop.astype(np.float32), smooth)  # becomes what the crop is too coarse to show
    region = result[y0:y1, x0:x1]
    live = region.astype(np.float32)
    np.subtract(live, grain, out=grain)
    grain *= spread(alike)
    change -= live
    change += grain
    change *= spread(share)
    change += live
    np.rint(change, out=change)
    region[...] = np.clip(change, 0, 255, out=change)
    return result
