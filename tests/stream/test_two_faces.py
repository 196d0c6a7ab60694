"""The user chooses another face: the session learns it anew and leaves the first one alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.face_models import FaceModels
from engine.tracker import FaceTracker

pytestmark = pytest.mark.models


def test_choosing_another_face_says_that_it_is_somebody_else(
    astronaut: NDArray[np.uint8], face_models: FaceModels
) -> None:
    two = np.concatenate([astronaut[:300, 80:380], astronaut[:300, 80:380]], axis=1)
    tracker = FaceTracker(face_models, live=True)
    first = tracker.update(two, 0.0)
    assert first is not None
    side = float(first.mesh[:, 0].mean())
    other = 450.0 if side < 300 else 150.0
    tracker.choose(other, 100.0)
    second = tracker.update(two, 0.04)
    assert second is not None
    assert second.person != first.person
    assert abs(float(second.mesh[:, 0].mean()) - other) < 60
    third = tracker.update(two, 0.08)
    assert third is not None
    assert third.person == second.person
