"""Landmarks of FAN (Bulat and Tzimiropoulos 2017), which papers measure LMD by.

The library ``face-alignment`` brings the network and fetches its weights the first time.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import ConfigError, one_line
from engine.mouth_region import LIPS

_POINTS: Final = 68
_SURE: Final = 1.0  # score of a box; the library passes it on and does not look at it


class Fan:
    """2DFAN-4 on the processor.

    Attributes:
        name: library and network.

    Raises:
        ConfigError: the library is not installed, or can't load its weights.
    """

    def __init__(self) -> None:
        try:
            library: Any = importlib.import_module("face_alignment")
        except ImportError as error:
            raise ConfigError(
                f"FAN's landmarks need the library face-alignment ({one_line(error)}): install it"
                ' with `pip install "lipstream[fan]"`, or leave --fan out.'
            ) from error
        try:
            self._network: Any = library.FaceAlignment(library.LandmarksType.TWO_D, device="cpu")
        except (OSError, RuntimeError) as error:  # URLError is an OSError
            raise ConfigError(
                f"face-alignment can't load its weights ({one_line(error)}): it fetches them once,"
                " so connect to the internet for that, or leave --fan out."
            ) from error
        self.name = f"face-alignment {version('face-alignment')}, 2DFAN-4"

    def mouth(
        self, picture: NDArray[np.uint8], box: NDArray[np.floating]
    ) -> NDArray[np.float64] | None:
        """Find the mouth.

        Args:
            picture: uint8 (H, W, 3), RGB.
            box: of the face: left, top, right, bottom, in pixels. The face mesh's stands in for
                that of S3FD, which the library would look for itself.

        Returns:
            float64 (20, 2), in pixels; None where the network finds nothing.
        """
        found = self._network.get_landmarks_from_image(
            picture, detected_faces=[np.append(np.asarray(box, np.float64), _SURE)]
        )
        if not found:
            return None
        points = np.asarray(found[0], np.float64)[:, :2]
        if points.shape != (_POINTS, 2):
            raise ConfigError(
                f"face-alignment gave {len(points)} landmarks instead of {_POINTS}: install another"
                " version of it, or leave --fan out."
            )
        return points[LIPS]
