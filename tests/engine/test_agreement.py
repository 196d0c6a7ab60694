from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.agreement import COVERED_AT, LEVEL_PITCH, Visibility, head_turn
from engine.bundle import Bundle, load_bundle
from engine.face_models import FaceModels
from engine.generator import Chunk, Generator
from engine.identity import make_identity, reference_cost
from engine.media import VideoReader, read_audio
from engine.mel import SAMPLE_RATE, cut_windows, log_mel
from engine.paste import disagreement
from engine.tracker import FaceTracker, TrackedFace
from tests.engine.occluders import KINDS, Covered, Kind, cover
from tests.faces import Picture, found, move, similarity

pytestmark = pytest.mark.models

FPS = 25
CALM, HIGH = 0.03, 0.3  # disagreements: in talk, before a covered mouth


# Which way a head looks


def turned(
    mesh: NDArray[np.float32], *, yaw: float = 0.0, pitch: float = 0.0
) -> NDArray[np.float32]:
    """Turn a mesh by degrees: to the right of the picture, up."""
    a, b = np.radians(yaw), np.radians(pitch)
    to_side = np.array([[np.cos(a), 0, -np.sin(a)], [0, 1, 0], [np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(b), np.sin(b)], [0, -np.sin(b), np.cos(b)]])
    middle = mesh.mean(axis=0)
    return np.asarray((mesh - middle) @ (to_side @ nod).T + middle, np.float32)


@pytest.fixture(scope="module")
def face(face_models: FaceModels, astronaut: Picture) -> TrackedFace:
    return found(FaceTracker(face_models), astronaut)


@pytest.mark.parametrize("degrees", [-50, -25, 25, 50])
def test_yaw_and_pitch_are_told_apart_and_in_radians(face: TrackedFace, degrees: float) -> None:
    yaw, pitch = head_turn(face.mesh)
    to_side = head_turn(turned(face.mesh, yaw=degrees))
    assert to_side[0] - yaw == pytest.approx(np.radians(degrees), abs=0.06)
    assert abs(to_side[1] - pitch) < 0.2
    nodded = head_turn(turned(face.mesh, pitch=degrees))
    assert nodded[1] - pitch == pytest.approx(np.radians(degrees), abs=0.06)
    assert abs(nodded[0] - yaw) < 0.06


def test_the_same_head_mirrored_looks_the_other_way_whatever_its_roll(
    face_models: FaceModels, astronaut: Picture, face: TrackedFace
) -> None:
    yaw, pitch = head_turn(face.mesh)
    mirrored = found(FaceTracker(face_models), np.ascontiguousarray(astronaut[:, ::-1]))
    assert head_turn(mirrored.mesh) == pytest.approx((-yaw, pitch), abs=0.06)
    assert abs(yaw) < 0.2  # she all but faces the camera
    assert abs(pitch - LEVEL_PITCH) < 0.2
    rolled = found(FaceTracker(face_models), move(astronaut, similarity(roll=25)))
    assert head_turn(rolled.mesh) == pytest.approx((yaw, pitch), abs=0.08)


# Hysteresis


def look(visibility: Visibility, face: TrackedFace, degrees: float, times: Sequence[float]) -> None:
    mesh = turned(face.mesh, yaw=degrees - np.degrees(head_turn(face.mesh)[0]))
    for pts in times:
        visibility.saw(TrackedFace(mesh, face.matrix, face.resolution, face.score), pts)


def pictures(start: float, end: float) -> list[float]:
    """The times of the pictures from start to before end."""
    return [i / FPS for i in range(round(start * FPS), round(end * FPS))]


@pytest.mark.parametrize("side", [-1, 1])
def test_a_head_turned_away_is_left_alone_until_it_is_well_back(
    face: TrackedFace, side: int
) -> None:
    visibility = Visibility()
    look(visibility, face, side * 34, pictures(0, 1))
    assert visibility.trouble() is None
    look(visibility, face, side * 42, pictures(1, 1.08))
    assert visibility.trouble() is None  # a single odd picture is none
    look(visibility, face, side * 42, pictures(1.08, 2))
    assert visibility.trouble() == "turned"
    look(visibility, face, side * 33, pictures(2, 3))
    assert visibility.trouble() == "turned"  # not well back
    look(visibility, face, side * 26, pictures(3, 3.28))
    assert visibility.trouble() == "turned"
    look(visibility, face, side * 26, pictures(3.28, 3.4))
    assert visibility.trouble() is None


@pytest.mark.parametrize("degrees", [-45, 45])
def test_looking_down_or_up_counts_as_turned(face: TrackedFace, degrees: float) -> None:
    level = turned(face.mesh, pitch=np.degrees(LEVEL_PITCH - head_turn(face.mesh)[1]))
    visibility = Visibility()
    for pts in pictures(0, 1):
        mesh = level if pts < 0.5 else turned(level, pitch=degrees)
        visibility.saw(TrackedFace(mesh, face.matrix, face.resolution, face.score), pts)
    assert visibility.trouble(0.4) is None
    assert visibility.trouble(0.6) == "turned"


def paint(visibility: Visibility, values: float, times: Sequence[float]) -> None:
    for pts in times:
        visibility.painted(values, pts)


def test_a_covered_mouth_is_left_alone_until_it_has_been_free_for_a_while() -> None:
    visibility = Visibility()
    paint(visibility, CALM, pictures(0, 1))
    paint(visibility, HIGH, pictures(1, 1.08))
    assert visibility.trouble(1.04) is None
    paint(visibility, HIGH, pictures(1.08, 1.12))
    assert visibility.trouble(1.08) == "occluded"
    paint(visibility, CALM, pictures(1.12, 1.4))
    assert visibility.trouble(1.36) == "occluded"
    paint(visibility, CALM, pictures(1.4, 1.5))
    assert visibility.trouble(1.48) is None


def test_values_between_the_limits_change_nothing() -> None:
    visibility = Visibility()
    between = COVERED_AT - 0.02
    paint(visibility, between, pictures(0, 1))
    assert visibility.trouble(0.96) is None
    paint(visibility, HIGH, pictures(1, 2))
    paint(visibility, between, pictures(2, 3))
    assert visibility.trouble(2.96) == "occluded"


def test_pictures_from_before_it_was_sure_are_known_afterwards() -> None:
    """They wait to be shown; so not one is painted over a hand."""
    visibility = Visibility()
    paint(visibility, CALM, pictures(0, 1))
    paint(visibility, HIGH, pictures(1, 1.2))
    assert visibility.trouble(0.96) is None
    assert visibility.trouble(1.0) == "occluded"
    paint(visibility, CALM, pictures(1.2, 2))
    assert visibility.trouble(1.1) == "occluded"
    assert visibility.trouble(1.9) is None


def test_after_a_pause_the_first_painted_picture_decides() -> None:
    visibility = Visibility()
    paint(visibility, HIGH, pictures(0, 1))
    paint(visibility, CALM, [3.0])
    assert visibility.trouble(3.0) is None
    paint(visibility, HIGH, [5.0])
    assert visibility.trouble(5.0) == "occluded"


def test_turning_and_covering_are_known_at_their_own_times(face: TrackedFace) -> None:
    """A picture is tracked 0.3 s before it is painted."""
    visibility = Visibility()
    look(visibility, face, 0, pictures(0, 1))
    look(visibility, face, 45, pictures(1, 2))
    paint(visibility, HIGH, pictures(0.4, 0.8))
    assert visibility.trouble() == "turned"
    assert visibility.trouble(0.6) == "occluded"
    assert visibility.trouble(0.2) is None


def test_a_face_that_was_lost_while_turned_comes_back_turned(face: TrackedFace) -> None:
    visibility = Visibility()
    look(visibility, face, 45, pictures(0, 1))
    for pts in pictures(1, 2):
        visibility.saw(None, pts)
    assert visibility.trouble() == "turned"
    look(visibility, face, 10, pictures(2, 2.4))
    assert visibility.trouble() is None


# Real painting over real and covered mouths


@dataclass
class Verdicts:
    """What was found in a stretch of pictures.

    Attributes:
        disagreement: of each picture, 0 without a face.
        left_alone: whether its real pixels stay: no face, turned away or covered.
    """

    disagreement: NDArray[np.float64]
    left_alone: NDArray[np.bool_]


class Studio:
    """Paints pictures of one person with the starter, in chunks, as a live session does."""

    def __init__(self, models: FaceModels) -> None:
        self.bundle: Bundle = load_bundle()
        self._models = models
        self._generator = Generator(self.bundle, threads=1, slots=1)

    def track(self, shown: Sequence[Picture]) -> list[TrackedFace]:
        tracker = FaceTracker(self._models)
        return [found(tracker, picture, i / FPS) for i, picture in enumerate(shown)]

    def identity(self, shown: Sequence[Picture], faces: Sequence[TrackedFace]) -> Picture:
        crops = [face.crop(picture) for face, picture in zip(faces, shown, strict=True)]
        costs = [reference_cost(face, crop) for face, crop in zip(faces, crops, strict=True)]
        best = int(np.argmin(costs))
        return make_identity(faces[best], crops[best], best).crop

    def judge(
        self, shown: Sequence[Picture], identity: Picture, voice: NDArray[np.float32]
    ) -> Verdicts:
        tracker, visibility = FaceTracker(self._models), Visibility()
        faces = [tracker.update(picture, i / FPS) for i, picture in enumerate(shown)]
        slot = self._generator.open(identity)
        mel, placement = log_mel(voice, self.bundle.mel), self.bundle.placement
        values = np.zeros(len(shown))
        for start in range(0, len(shown), self.bundle.k):
            part = range(start, min(start + self.bundle.k, len(shown)))
            crops = {i: face.crop(shown[i]) for i in part if (face := faces[i]) is not None}
            columns = [placement.first_column(i / FPS) for i in crops]
            windows = cut_windows(mel, columns, placement.columns)
            pose = np.stack(list(crops.values()))
            rows = self._generator.step({slot: Chunk(mel=windows, pose=pose)})[slot]
            for i in part:
                visibility.saw(faces[i], i / FPS)
            for (i, crop), own in zip(crops.items(), rows, strict=True):
                values[i] = disagreement(crop, own, self.bundle.rows)
                visibility.painted(values[i], i / FPS)
        self._generator.close(slot)
        troubles = [
            "no-face" if f is None else visibility.trouble(i / FPS) for i, f in enumerate(faces)
        ]
        return Verdicts(values, np.array([trouble is not None for trouble in troubles]))


@pytest.fixture(scope="module")
def studio(face_models: FaceModels) -> Studio:
    return Studio(face_models)


def loud(seconds: float) -> NDArray[np.float32]:
    """Noise in syllables: it opens and shuts a mouth."""
    chance = np.random.default_rng(0)
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    beat = np.maximum(0, np.sin(2 * np.pi * 3 * time))
    return np.asarray(0.2 * beat * chance.normal(0, 1, time.size), np.float32)


@pytest.fixture(scope="module")
def nodding(astronaut: Picture) -> list[Picture]:
    """The portrait in slow motion: 1.6 s."""
    ways = ((similarity(roll=2 * np.sin(i / 6), to=(128 + np.sin(i / 9), 90))) for i in range(40))
    return [move(astronaut, way, (256, 256)) for way in ways]


@pytest.fixture(scope="module")
def person(studio: Studio, nodding: list[Picture]) -> Picture:
    return studio.identity(nodding[:1], studio.track(nodding[:1]))


def lit(picture: Picture, index: int) -> Picture:
    """The light goes up and down by a quarter, more on one side; it never burns the skin out."""
    side = np.linspace(0.7, 1.3, picture.shape[1])[:, None]
    gain = 0.75 + 0.19 * np.sin(index / 6) * side
    return np.asarray(np.clip(picture * gain, 0, 255), np.uint8)


@pytest.mark.parametrize("other_light", [False, True])
def test_a_broad_smile_in_any_light_is_no_covered_mouth(
    studio: Studio, nodding: list[Picture], person: Picture, other_light: bool
) -> None:
    """The reference's lips are shut, those of the portrait are not, and the painted ones speak."""
    shown = [lit(p, i) for i, p in enumerate(nodding)] if other_light else nodding
    verdicts = studio.judge(shown, person, loud(1.6))
    assert not verdicts.left_alone.any()
    assert verdicts.disagreement.max() < COVERED_AT


def assert_found(covered: Sequence[Covered], verdicts: Verdicts) -> None:
    """Nine in ten pictures with more than a third of the mouth hidden, within 0.2 s."""
    hidden = np.array([one.share > 1 / 3 for one in covered])
    first = int(np.argmax(hidden))
    assert hidden.sum() >= 15
    assert verdicts.left_alone[hidden].mean() >= 0.9
    assert verdicts.left_alone[first : first + round(0.2 * FPS) + 1].any()
    assert not verdicts.left_alone[: first - 5].any()


@pytest.mark.parametrize("kind", KINDS)
def test_something_before_the_mouth_is_found(
    studio: Studio, nodding: list[Picture], person: Picture, kind: Kind
) -> None:
    meshes = [face.mesh for face in studio.track(nodding)]
    covered = cover(kind, nodding, meshes, come=4, go=40)
    assert_found(covered, studio.judge([one.picture for one in covered], person, loud(1.6)))


def clip(path: Path, count: int) -> list[Picture]:
    def shown() -> Iterator[Picture]:
        with VideoReader(path) as video:
            yield from (picture for _, picture in video)

    return list(islice(shown(), count))


SPEAKERS = ("s1/bbaf2n", "others/brbk7n", "others/lwbsza", "others/sbwe5n")


@pytest.mark.data
@pytest.mark.parametrize("name", SPEAKERS)
def test_people_who_talk_are_painted_and_hands_are_not(
    studio: Studio, data_dir: Path, name: str
) -> None:
    shown = clip(data_dir / "grid" / f"{name}.mp4", 70)
    voice = read_audio(data_dir / "grid" / "s1" / "lbby5a.mp4", SAMPLE_RATE)
    samples = np.asarray(voice, np.float32).reshape(len(voice), -1).mean(axis=1)
    faces = studio.track(shown)
    person = studio.identity(shown, faces)
    assert not studio.judge(shown, person, samples).left_alone.any()
    shown, faces = shown[25:65], faces[25:65]
    for kind in KINDS:
        covered = cover(kind, shown, [face.mesh for face in faces], come=4, go=40)
        assert_found(covered, studio.judge([one.picture for one in covered], person, samples))
