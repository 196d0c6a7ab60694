import dataclasses
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.chain import LipSync, Synced
from engine.crop import BoxGeometry, cut
from engine.errors import EngineFullError, NoFaceError
from engine.face_models import FaceModels
from engine.identity import SHUT_OPENING, Identity, reference_cost
from engine.lips import mouth_opening
from engine.media import VideoReader
from engine.mesh_warp import close_mouth
from engine.paste import paste, paste_mask
from engine.tracker import FaceTracker
from tests.faces import HEAD, Picture, carry, found, inverted, move, similarity
from tests.painter import paint_bundle

pytestmark = pytest.mark.models

FPS = Fraction(25)
RATE = 16_000
GREY = np.full((256, 256, 3), 90, np.uint8)


@pytest.fixture(scope="module")
def lips(tiny_bundle: Bundle) -> LipSync:
    return LipSync(tiny_bundle, threads=1)


@pytest.fixture(scope="module")
def painter(tmp_path_factory: pytest.TempPathFactory) -> LipSync:
    """A chain whose painted mouth is as bright as the sound of its frame is loud."""
    return LipSync(paint_bundle(tmp_path_factory.mktemp("painter") / "bundle"), threads=1)


@pytest.fixture(scope="module")
def small(astronaut: Picture) -> Picture:
    return move(astronaut, similarity(scale=0.7, to=(128.0, 90.0)), (256, 256))


@pytest.fixture(scope="module")
def identity(lips: LipSync, small: Picture) -> Identity:
    return lips.choose_identity([small], FPS)


def nodding(astronaut: Picture, count: int) -> list[Picture]:
    shown = (similarity(scale=0.7, roll=i / 2, to=(128.0 + i, 90.0)) for i in range(count))
    return [move(astronaut, matrix, (256, 256)) for matrix in shown]


def noise(seconds: float, seed: int = 0) -> NDArray[np.float32]:
    random = np.random.default_rng(seed)
    return random.normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def test_every_picture_with_a_face_gets_a_mouth_and_the_rest_stays(
    lips: LipSync, identity: Identity, astronaut: Picture
) -> None:
    pictures = nodding(astronaut, 7)
    synced = list(lips.run(pictures, noise(0.3), FPS, identity))
    assert len(synced) == 7
    for picture, result in zip(pictures, synced, strict=True):
        assert result.modified
        assert result.face is not None
        np.testing.assert_array_equal(result.original, picture)
        changed = (result.picture != picture).any(axis=-1)
        assert changed.sum() > 500
        back = inverted(result.face.matrix)
        reach = (paste_mask(96) > 0).astype(np.float32)
        touched = cv2.warpAffine(reach, back, picture.shape[1::-1]) > 0
        assert not (changed & ~touched).any()


def test_frames_without_a_face_pass_bit_identical(
    lips: LipSync, identity: Identity, small: Picture
) -> None:
    chance = np.random.default_rng(0)
    blank = [chance.integers(0, 256, (256, 256, 3), dtype=np.uint8) for _ in range(9)]
    pictures = [*blank[:2], small, blank[2], small, *blank[3:9], small]
    copies = [picture.copy() for picture in pictures]
    synced = list(lips.run(pictures, noise(1.0), FPS, identity))
    assert [result.modified for result in synced] == [p is small for p in pictures]
    for picture, copy, result in zip(pictures, copies, synced, strict=True):
        np.testing.assert_array_equal(picture, copy)
        if not result.modified:
            np.testing.assert_array_equal(result.picture, copy)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 6, 11])
@pytest.mark.parametrize("fps", [Fraction(5), Fraction(24000, 1001), Fraction(60)])
def test_as_many_pictures_come_out_as_went_in(
    lips: LipSync, identity: Identity, small: Picture, count: int, fps: Fraction
) -> None:
    shown = [GREY if i % 4 == 1 else small for i in range(count)]
    synced = list(lips.run(shown, noise(0.1), fps, identity))
    assert [result.modified for result in synced] == [i % 4 != 1 for i in range(count)]


@pytest.mark.parametrize("samples", [0, 1, 200, 800])
def test_hardly_any_sound_is_enough(
    lips: LipSync, identity: Identity, small: Picture, samples: int
) -> None:
    synced = list(lips.run([small] * 3, noise(1.0)[:samples], FPS, identity))
    assert len(synced) == 3


def mouth_light(result: Synced) -> float:
    assert result.face is not None
    return float(result.face.crop(result.picture)[54:68, 40:56].mean())


@pytest.mark.parametrize(
    "fps", [Fraction(10), Fraction(25), Fraction(30000, 1001), Fraction(50), Fraction(60)]
)
def test_each_picture_shows_the_sound_of_its_own_time(
    painter: LipSync, small: Picture, fps: Fraction
) -> None:
    onset_s, end_s = 0.6, 1.2
    sound = np.concatenate([np.zeros(int(onset_s * RATE), np.float32), noise(end_s - onset_s)])
    person = painter.choose_identity([small], fps)
    count = int(end_s * fps)
    light = np.array([mouth_light(r) for r in painter.run([small] * count, sound, fps, person)])
    quiet, loud = light[: max(1, count // 4)].mean(), light[-max(1, count // 4) :].mean()
    assert loud > quiet + 40
    times = np.arange(count) / float(fps)
    half = float(times[np.argmax(light > (quiet + loud) / 2)])
    # The window of 0.2 s lies from 75 ms before the frame on, so half of it is loud 25 ms earlier.
    assert half == pytest.approx(onset_s - 0.025, abs=0.03 + 1 / float(fps))


def test_pictures_are_taken_in_as_they_are_given_out(
    lips: LipSync, identity: Identity, small: Picture
) -> None:
    """A long film must never be held in memory."""
    taken = 0

    def film() -> Iterator[Picture]:
        nonlocal taken
        for _ in range(40):
            taken += 1
            yield small

    for given, _ in enumerate(lips.run(film(), noise(0.1), FPS, identity), 1):
        assert taken <= given + lips.bundle.k


def test_chunk_longer_than_the_run_time_takes_is_split(
    tiny_bundle: Bundle, identity: Identity, small: Picture
) -> None:
    long = LipSync(dataclasses.replace(tiny_bundle, k=40), threads=1)
    assert len(list(long.run([small] * 20, noise(0.1), FPS, identity))) == 20


def test_slot_is_free_again_when_the_consumer_stops_early(
    lips: LipSync, identity: Identity, small: Picture
) -> None:
    first = lips.run([small] * 20, noise(0.1), FPS, identity)
    next(first)
    with pytest.raises(EngineFullError):  # there is one slot, and it is taken
        next(iter(lips.run([small], noise(0.1), FPS, identity)))
    del first
    assert len(list(lips.run([small], noise(0.1), FPS, identity))) == 1


def test_slot_is_free_again_after_a_failure(
    lips: LipSync, identity: Identity, small: Picture
) -> None:
    def broken() -> Iterator[Picture]:
        yield small
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="gone"):
        list(lips.run(broken(), noise(0.1), FPS, identity))
    assert len(list(lips.run([small], noise(0.1), FPS, identity))) == 1


def test_only_the_largest_face_is_touched(
    lips: LipSync, identity: Identity, astronaut: Picture
) -> None:
    picture = np.hstack([astronaut, move(astronaut, similarity(scale=0.6))])
    (result,) = lips.run([picture], noise(0.1), FPS, identity)
    assert result.modified
    np.testing.assert_array_equal(result.picture[:, 512:], picture[:, 512:])
    assert (result.picture[:, :512] != picture[:, :512]).any()


def test_box_crop_runs_too(tiny_bundle: Bundle, small: Picture) -> None:
    boxed = LipSync(dataclasses.replace(tiny_bundle, crop=BoxGeometry()), threads=1)
    person = boxed.choose_identity([small], FPS)
    (result,) = boxed.run([small], noise(0.1), FPS, person)
    assert result.modified
    assert (result.picture != small).any()


@pytest.mark.parametrize("pictures", [[], [GREY], [GREY, GREY[:8, :8], GREY[:1, :1]]])
def test_no_face_anywhere_is_one_sentence(lips: LipSync, pictures: list[Picture]) -> None:
    with pytest.raises(NoFaceError) as caught:
        lips.choose_identity(pictures, FPS)
    message = str(caught.value)
    assert message.startswith("No face was found: use ")
    assert message.endswith(".")
    assert message.count(".") == 1


def shut_picture(face_models: FaceModels, picture: Picture) -> Picture:
    face = found(FaceTracker(face_models), picture)
    crop = face.crop(picture)
    shut, _ = close_mouth(crop, face.crop_mesh())
    return paste(picture, crop, shut[40:], (40, 96), face.matrix)


def test_identity_is_the_picture_with_the_mouth_shut(
    lips: LipSync, face_models: FaceModels, astronaut: Picture
) -> None:
    pictures = nodding(astronaut, 4)
    pictures[2] = shut_picture(face_models, pictures[2])
    person = lips.choose_identity([GREY, *pictures], FPS)
    assert person.index == 3
    assert person.crop.shape == (96, 96, 3)
    assert person.opening < 0.1


def test_blurred_crop_costs_more_than_a_sharp_one(
    face_models: FaceModels, astronaut: Picture
) -> None:
    face = found(FaceTracker(face_models), astronaut)
    crop = face.crop(astronaut)
    costs = [reference_cost(face, crop)]
    for sigma in (0.7, 1.5, 4.0):
        blurred = np.asarray(cv2.GaussianBlur(crop, (0, 0), sigma), dtype=np.uint8)
        costs.append(reference_cost(face, blurred))
    assert costs == sorted(costs)
    assert costs[-1] > costs[0] + 0.03


def test_open_mouth_is_shut_in_the_identity(
    lips: LipSync, face_models: FaceModels, astronaut: Picture
) -> None:
    person = lips.choose_identity([astronaut], FPS)
    assert person.opening > SHUT_OPENING
    face = found(FaceTracker(face_models), astronaut)
    own = face.crop(astronaut)
    assert np.abs(person.crop.astype(int) - own).max() > 50
    eyes = face.crop_mesh()[[33, 263], :2]
    seen, _ = face_models.mesh(person.crop, eyes)
    assert mouth_opening(seen) < mouth_opening(face.mesh) / 2


def test_shut_mouth_is_left_as_it_is(
    lips: LipSync, face_models: FaceModels, astronaut: Picture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.identity.SHUT_OPENING", 0.5)
    person = lips.choose_identity([astronaut], FPS)
    face = found(FaceTracker(face_models), astronaut)
    np.testing.assert_array_equal(person.crop, cut(astronaut, face.matrix, 96))


def test_turned_head_costs_more_than_a_frontal_one(
    face_models: FaceModels, astronaut: Picture
) -> None:
    face = found(FaceTracker(face_models), astronaut)
    crop = face.crop(astronaut)
    costs = []
    for degrees in (0, 15, 30, 45):
        angle = np.radians(degrees)
        turned = face.mesh.copy()
        x = face.mesh[:, 0] - HEAD.x
        turned[:, 0] = HEAD.x + np.cos(angle) * x - np.sin(angle) * face.mesh[:, 2]
        turned[:, 2] = np.sin(angle) * x + np.cos(angle) * face.mesh[:, 2]
        costs.append(reference_cost(dataclasses.replace(face, mesh=turned), crop))
    assert costs == sorted(costs)
    assert costs[-1] > costs[0] + 0.05


@pytest.mark.data
def test_identity_of_a_real_clip_has_a_shut_mouth(lips: LipSync, data_dir: Path) -> None:
    with VideoReader(data_dir / "grid" / "s1" / "bbaf2n.mp4") as video:
        pictures = [picture for _, picture in video][::3]
    person = lips.choose_identity(pictures, FPS / 3)
    assert person.opening < SHUT_OPENING
    eyes = carry(np.array([[-0.7, 0.0], [0.7, 0.0]]) * 33.7, np.eye(2, 3)) + np.array([48.0, 18.5])
    seen, score = FaceModels().mesh(person.crop, eyes.astype(np.float32))
    assert score > 0.5
    assert mouth_opening(seen) < 0.08
