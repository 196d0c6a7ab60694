"""Things before a mouth: drawn into pictures, on their way up from below and down again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.mesh_warp import LOWER_OUTER_LIP, UPPER_OUTER_LIP

Picture = NDArray[np.uint8]
Kind = Literal["hand", "cup", "microphone", "card"]
KINDS: tuple[Kind, ...] = ("hand", "cup", "microphone", "card")

OUTER_EYES = (263, 33)
CHEEK = 50
FINER = 4  # sub-pixels of edges


@dataclass(frozen=True)
class Covered:
    """A picture with something in it.

    Attributes:
        picture: uint8 (H, W, 3).
        share: of the mouth that is hidden, 0..1.
    """

    picture: Picture
    share: float


def span(mesh: NDArray[np.float32]) -> float:
    """Distance of the outer eye corners, the unit of all sizes here."""
    right, left = mesh[list(OUTER_EYES), :2]
    return float(np.linalg.norm(right - left))


def skin(picture: Picture, mesh: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """The speaker's own skin, as large as a hand: a patch of the cheek, mirrored on and on."""
    x, y = mesh[CHEEK, :2].round().astype(int)
    reach = max(2, int(0.16 * span(mesh)))
    patch = picture[max(y - reach, 0) : y + reach, max(x - reach, 0) : x + reach]
    tile = np.vstack([np.hstack([patch, patch[:, ::-1]]), np.hstack([patch, patch[:, ::-1]])[::-1]])
    rows, columns = np.arange(side) % len(tile), np.arange(side) % tile.shape[1]
    whole = tile[rows][:, columns].astype(np.float32)
    return np.asarray(0.6 * cv2.GaussianBlur(whole, (0, 0), 2 * reach) + 0.4 * whole, np.float32)


def draw(
    kind: Kind, picture: Picture, mesh: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Colours (S, S, 3) and opacity (S, S) of a thing with its middle where the mouth will be."""
    unit = span(mesh)
    side, k = int(3.2 * unit), FINER * unit
    shape = np.zeros((side * FINER, side * FINER), np.uint8)
    shade = np.ones(shape.shape, np.float32)
    middle = FINER * side // 2
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) - side / 2

    def box(left: float, top: float, right: float, bottom: float) -> None:
        low = (int(middle + left * k), int(middle + top * k))
        cv2.rectangle(shape, low, (int(middle + right * k), int(middle + bottom * k)), 255, -1)

    match kind:
        case "hand":
            place, axes = (middle, int(middle + 0.45 * k)), (int(0.5 * k), int(0.55 * k))
            cv2.ellipse(shape, place, axes, 0, 0, 360, 255, -1)
            for finger in range(4):
                at = int(middle + (0.24 * finger - 0.36) * k)
                top = (at, int(middle - (0.55 + 0.1 * np.sin(1.1 * finger)) * k))
                cv2.line(shape, (at, int(middle + 0.3 * k)), top, 255, int(0.22 * k))
                gap = at + int(0.12 * k)
                ends = (gap, int(middle + 0.15 * k)), (gap, int(middle - 0.6 * k))
                if finger < 3:
                    cv2.line(shade, *ends, 0.7, max(2, int(0.03 * k)))
            colours = skin(picture, mesh, side)
        case "cup":
            box(-0.42, -0.55, 0.42, 0.77)
            colours = np.multiply.outer(1 - 0.4 * (x / unit) ** 2, np.array([60.0, 90.0, 160.0]))
        case "microphone":
            cv2.circle(shape, (middle, middle), int(0.3 * k), 255, -1)
            box(-0.12, 0.0, 0.12, 1.6)
            shine = 60 * np.exp(
                -((x + 0.1 * unit) ** 2 + (y + 0.1 * unit) ** 2) / (0.17 * unit) ** 2
            )
            colours = np.multiply.outer(55 + 20 * ((x // 2 + y // 2) % 2) + shine, np.ones(3))
        case "card":
            box(-0.6, -0.4, 0.6, 1.5)
            colours = np.full((side, side, 3), 128)
    small = (side, side)
    colours = colours * cv2.resize(shade, small, interpolation=cv2.INTER_AREA)[..., None]
    opacity = cv2.resize(shape, small, interpolation=cv2.INTER_AREA) / np.float32(255)
    return colours.astype(np.float32), np.asarray(opacity, np.float32)


def cover(
    kind: Kind,
    pictures: Sequence[Picture],
    meshes: Sequence[NDArray[np.float32]],
    *,
    come: int,
    go: int,
) -> list[Covered]:
    """Move a thing before the mouth and away.

    Args:
        kind: what.
        pictures: uint8 (H, W, 3) each.
        meshes: float32 (468, 3) each, of the faces in them.
        come: the picture in which it sets out; it is there ten pictures later.
        go: the picture in which it leaves, in ten pictures too.
    """
    colours, opacity = draw(kind, pictures[0], meshes[0])
    result = []
    for index, (picture, mesh) in enumerate(zip(pictures, meshes, strict=True)):
        size = picture.shape[1::-1]
        mouth = mesh[[13, 14], :2].mean(axis=0)
        away = 1 - float(np.clip(min((index - come) / 10, (go + 10 - index) / 10), 0, 1))
        sway = np.array([0.06 * np.sin(0.5 * index), 0.05 * np.cos(0.37 * index)])
        at = mouth + span(mesh) * (sway + away * np.array([0.9, 2.2])) - len(opacity) / 2
        matrix = np.array([[1.0, 0.0, at[0]], [0.0, 1.0, at[1]]])
        thing = cv2.warpAffine(colours, matrix, size, borderMode=cv2.BORDER_REPLICATE)
        share = cv2.warpAffine(opacity, matrix, size)
        mixed = picture * (1 - share[..., None]) + thing * share[..., None]
        lips = [*UPPER_OUTER_LIP, *reversed(LOWER_OUTER_LIP)]
        inside = np.zeros(size[::-1], np.uint8)
        cv2.fillPoly(inside, [mesh[lips, :2].round().astype(np.int32)], 1)
        hidden = float((share > 0.5)[inside > 0].mean())
        result.append(Covered(np.clip(mixed.round(), 0, 255).astype(np.uint8), hidden))
    return result
