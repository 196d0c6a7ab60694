"""A sheet of sampled frames: each clip's true face above what every system made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.crop import Matrix
from engine.errors import ConfigError, MediaError
from training.scoring.film import Film, watch
from training.scoring.pair import matrices_of
from training.scoring.systems import named_videos

CLIPS: Final = 6
FRAMES: Final = 8  # of a clip
CELL: Final = 128  # px
_MARGIN: Final = 4
_LABEL: Final = 150
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX
_LONGEST: Final = 20  # characters of a label

Picture = NDArray[np.uint8]


def picture_sheet(generated: Mapping[str, Path], truth: Path) -> Picture:
    """Lay out frames of some clips, evenly drawn, side by side in time.

    Args:
        generated: folder of each system's videos.
        truth: folder of the true ones.

    Returns:
        uint8 (H, W, 3) RGB.

    Raises:
        MediaError: a folder holds no videos.
        ConfigError: no clip has a true video and generated ones that show a face.
    """
    true_videos = named_videos(truth)
    folders = {system: named_videos(folder) for system, folder in generated.items()}
    names = [name for name in true_videos if any(name in videos for videos in folders.values())]
    chosen = np.unique(np.linspace(0, len(names) - 1, min(CLIPS, len(names))).round().astype(int))
    rows: list[Picture] = []
    for name in (names[i] for i in chosen) if names else ():
        try:
            true = watch(true_videos[name])
        except MediaError:
            continue  # the tables name it
        at = _shown(true)
        rows.append(_row(f"true {name}", true, true.matrices, at))
        for system, videos in folders.items():
            try:
                made = watch(videos[name]) if name in videos else None
            except MediaError:
                made = None
            if made is not None:
                rows.append(_row(system, made, matrices_of(made, true), at))
        rows.append(np.full((2 * _MARGIN, rows[-1].shape[1], 3), 255, np.uint8))
    if not rows:
        raise ConfigError(f"No clip of {truth} could be shown; name videos with faces.")
    return np.concatenate(rows[:-1])


def _shown(film: Film) -> list[int]:
    """Frames with a face, evenly over the clip."""
    seen = [i for i, matrix in enumerate(film.matrices) if matrix is not None]
    places = np.linspace(0, len(seen) - 1, FRAMES + 2)[1:-1].round().astype(int)
    return [seen[place] for place in places]


def _row(label: str, film: Film, places: Sequence[Matrix | None], at: list[int]) -> Picture:
    cells = {i: crop for i, crop in enumerate(film.crops(places, CELL)) if i in at}
    row = np.full((CELL + _MARGIN, _LABEL + FRAMES * (CELL + _MARGIN), 3), 255, np.uint8)
    text = label if len(label) <= _LONGEST else f"{label[: _LONGEST - 2]}.."
    cv2.putText(row, text, (4, CELL // 2), _FONT, 0.4, (0, 0, 0), 1, cv2.LINE_AA)
    for place, index in enumerate(at):
        crop = cells.get(index)
        if crop is not None:
            left = _LABEL + place * (CELL + _MARGIN)
            row[:CELL, left : left + CELL] = crop
    return row


def check_sheet(path: Path) -> None:
    """Refuse a name that is no PNG's.

    Raises:
        ConfigError: it is none.
    """
    if path.suffix.lower() != ".png":
        raise ConfigError(f"The sheet is a PNG: give a name that ends with .png, not {path.name}.")


def write_sheet(sheet: Picture, path: Path) -> None:
    """Write a picture as PNG.

    Raises:
        ConfigError: the name is no PNG's, or the file can't be written.
    """
    check_sheet(path)
    _, encoded = cv2.imencode(".png", np.ascontiguousarray(sheet[..., ::-1]))
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        raise ConfigError(
            f"The sheet can't be written to {path} ({error.strerror}); check its folder."
        ) from error
