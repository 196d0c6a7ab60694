"""The mean face of the mouth region as a mesh: a face whose place is known exactly."""

import numpy as np
from numpy.typing import NDArray

from engine.face_models import MESH_POINTS
from engine.mouth_region import LIPS, POINTS_68

# Places of the stable five in the mean face, and its lips' middle, as the reference gives them.
MEAN_FACE = {33: (128.87, 137.30), 36: (92.52, 94.37), 39: (112.77, 94.94)} | {
    42: (145.53, 94.53),
    45: (166.68, 93.57),
}
LIPS_MIDDLE = np.array([129.31, 157.82])


def mesh_of(points: NDArray[np.float64]) -> NDArray[np.float32]:
    """A mesh whose 68 points lie there."""
    mesh = np.zeros((MESH_POINTS, 3), np.float32)
    for place, index in zip(points, POINTS_68, strict=True):
        mesh[index, :2] = place
    return mesh


def mean_points() -> NDArray[np.float64]:
    points = np.tile([128.0, 110.0], (68, 1))
    for index, place in MEAN_FACE.items():
        points[index] = place
    points[LIPS] = LIPS_MIDDLE + 10 * np.random.default_rng(0).standard_normal((20, 2)) * [1, 0.5]
    points[LIPS] += LIPS_MIDDLE - points[LIPS].mean(axis=0)
    return points


def moved(points: NDArray[np.float64], turn: float, scale: float) -> NDArray[np.float64]:
    matrix = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return points @ matrix.T + [40, 25]
