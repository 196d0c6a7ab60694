from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.bundle import load_bundle
from engine.crop import cut
from engine.face_models import FaceModels
from engine.lip_expert import LipExpert
from engine.media import VideoWriter, read_audio
from engine.mouth_region import mouth_regions
from engine.tracker import FaceTracker
from tests.training.scoring.conftest import join
from tests.training.toys import SIDE
from training.bench import pictures_of
from training.metrics import psnr, ssim
from training.scoring.film import CROP, Film, Moved, sound_of, watch
from training.scoring.judges import Judges
from training.scoring.pair import METRICS, PAPER, compare, landmark_distances, look, matrices_of
from training.syncnet import SyncNet, measure

pytestmark = pytest.mark.models


@pytest.fixture(scope="module")
def one(truth: Path) -> Film:
    return watch(truth / "one.mp4")


def test_columns_are_the_papers() -> None:
    titles = [METRICS[name].title for name in PAPER]
    assert titles == ["SSIM", "PSNR", "FID", "LMD", "LSE-C", "LSE-D", "AVSu", "AVSm", "AVSv"]
    better = [METRICS[name].better[0] for name in PAPER]
    assert "".join(better) == "hhllhlhhh"


def test_landmark_distance_by_hand() -> None:
    zero = np.zeros((2, 2))
    three_four = np.array([[3.0, 4.0], [0.0, 1.0]])  # 5 and 1 pixels away
    found = landmark_distances([zero, zero, None], [three_four, zero, zero], [30.0, 10.0, 10.0])
    assert found["lmd"] == pytest.approx((3 + 0) / 2)
    assert found["lmd_relative"] == pytest.approx((3 / 30 + 0) / 2)
    assert landmark_distances([None], [zero], [1.0]) == {}


def test_scores_are_those_of_the_papers_equations(
    truth: Path, swapped: Path, judges: Judges, face_models: FaceModels
) -> None:
    """Each modality through the three graphs by hand, and cosines by the book."""
    expert = LipExpert(load_bundle())
    paths = swapped / "one.mp4", truth / "one.mp4"
    regions = []
    for path in paths:
        tracker, pictures = FaceTracker(face_models), list(pictures_of(path))
        faces = [tracker.update(picture, i / 25) for i, picture in enumerate(pictures)]
        regions.append(mouth_regions(pictures, [face.mesh for face in faces if face is not None]))
    sounds = [read_audio(path, 16_000) for path in paths]

    def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
        top = np.einsum("td,td->t", a.astype(np.float64), b.astype(np.float64))
        each = top / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
        return float(each.mean())

    lips = [expert.embed_regions(region) for region in regions]
    heard = [expert.embed_sound(sound, len(regions[0])) for sound in sounds]
    made, true = (expert.alone(heard[n], lips[n]) for n in (0, 1))
    both = [expert.fuse(heard[1][None], own[None])[0] for own in lips]
    found = compare(*(look(path, judges) for path in paths)).figures
    assert found["avs_u"] == pytest.approx(cosine(made.lips, made.sound), abs=2e-4)
    assert found["avs_v"] == pytest.approx(cosine(made.lips, true.lips), abs=2e-4)
    assert found["avs_m"] == pytest.approx(cosine(*both), abs=2e-4)
    flat = made.lips.ravel(), true.lips.ravel()
    expected = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert found["avs_v_flat"] == pytest.approx(float(expected), abs=2e-4)
    assert found["fid"] is found["lse_c"] is found["lse_d"] is None


def test_pictures_are_compared_in_the_true_faces_crop(
    truth: Path, swapped: Path, one: Film
) -> None:
    other = watch(swapped / "one.mp4")
    nobody = Judges(names={})
    found = compare(look(other.path, nobody), look(one.path, nobody))
    pairs = [
        (cut(a, matrix, CROP), cut(b, matrix, CROP))
        for a, b, matrix in zip(other.pictures(), one.pictures(), one.matrices, strict=True)
        if matrix is not None
    ]
    assert found.figures["ssim"] == pytest.approx(np.mean([ssim(a, b) for a, b in pairs]))
    assert found.figures["psnr"] == pytest.approx(np.mean([psnr(a, b) for a, b in pairs]))
    assert (found.frames, found.lost) == (len(one), 0)
    assert found.figures["avs_u"] is None


def test_face_that_is_displaced_has_its_landmarks_so_far_away(truth: Path, tmp_path: Path) -> None:
    join(truth / "one.mp4", truth / "one.mp4", tmp_path / "right.mp4", right=8)
    nobody = Judges(names={})
    made, true = look(tmp_path / "right.mp4", nobody), look(truth / "one.mp4", nobody)
    found = compare(made, true).figures
    scale = np.mean([np.hypot(*m[0, :2]) for m in true.film.matrices if m is not None])
    lmd, relative = found["lmd"], found["lmd_relative"]
    assert lmd == pytest.approx(8 * scale, rel=0.1)
    assert lmd is not None
    assert relative == pytest.approx(lmd / (CROP / 2.85), rel=0.1)


def test_pictures_of_another_size_are_cut_by_their_own_face(one: Film) -> None:
    larger = Film(one.path, (300, 300), one.meshes, (None,) * len(one))
    assert matrices_of(larger, one) is larger.matrices
    evened = Film(one.path, (one.shape[0] - 1, one.shape[1]), one.meshes, (None,) * len(one))
    assert matrices_of(evened, one) is one.matrices


@pytest.mark.parametrize("moved", [Moved(right=6), Moved(turn=10), Moved(scale=1.2)])
def test_displaced_face_comes_out_displaced_for_every_judge(one: Film, moved: Moved) -> None:
    """What is cut around a displaced face is what a displaced face shows."""
    still, away = one.boxes_bgr(), one.boxes_bgr(moved)
    assert np.abs(still.astype(int) - away).mean() > 2
    assert np.abs(one.regions().astype(int) - one.regions(moved)).mean() > 1
    assert (
        np.abs(one.syncnet_frames()[::20].astype(int) - one.syncnet_frames(moved)[::20]).mean() > 2
    )
    assert (one.syncnet_frames(Moved())[0] == one.syncnet_frames()[0]).all()


def test_shift_moves_the_crop_by_its_pixels(one: Film) -> None:
    still, right = one.boxes_bgr()[0].astype(float), one.boxes_bgr(Moved(right=4))[0].astype(float)
    errors = {
        by: np.abs(right[:, 20:76] - still[:, 20 - by : 76 - by]).mean() for by in range(-9, 10)
    }
    # The box is wider or narrower than the upright crop, whose pixels are counted.
    assert 3 <= min(errors, key=lambda by: errors[by]) <= 7


def test_displacements_are_about_the_crops_middle() -> None:
    middle = np.array([48.0, 48.0, 1.0])
    assert Moved(turn=30, scale=1.5).matrix @ middle == pytest.approx([48, 48])
    assert Moved(right=5).matrix @ middle == pytest.approx([53, 48])
    # Clockwise as seen: what is to the right of the middle goes down.
    assert Moved(turn=90).matrix @ np.array([58.0, 48.0, 1.0]) == pytest.approx([48, 58])


def test_video_without_sound_is_heard_with_the_true_one(truth: Path, judges: Judges) -> None:
    true = look(truth / "one.mp4", judges)
    silent = look(truth / "one.mp4", judges)
    object.__setattr__(silent, "sound", None)
    assert compare(silent, true).figures == compare(true, true).figures
    assert sound_of(truth / "one.mp4") is not None


def test_lse_is_syncnets_of_the_crop_and_the_sound(truth: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = SyncNet().eval()
    short = tmp_path / "short.mp4"
    with VideoWriter(
        short, width=SIDE, height=SIDE, fps=Fraction(25), audio_rate=16_000, crf=10
    ) as writer:
        for picture in islice(pictures_of(truth / "one.mp4"), 25):
            writer.write_frame(picture)
        writer.write_audio(read_audio(truth / "one.mp4", 16_000)[:16_000])
    side = look(short, Judges(names={}, syncnet=network))
    assert side.sound is not None
    expected = measure(network, side.film.syncnet_frames(), side.sound)
    found = compare(side, side).figures
    assert found["lse_c"] == pytest.approx(expected.lse_c, rel=1e-4)
    assert found["lse_d"] == pytest.approx(expected.lse_d, rel=1e-4)
    assert found["lse_offset"] == expected.offset
