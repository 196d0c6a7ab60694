import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import training.regions
from engine.errors import ConfigError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.lips import correlation
from engine.media import VideoReader, VideoWriter, read_audio, retime
from engine.mouth_region import MouthStream, mouth_regions
from engine.tracker import FaceTracker
from tests.training.toys import FRAMES, RATE, SIDE, opening_at, pictures, syllables, tone
from training.clips import FPS
from training.regions import RegionFile, find_regions, prepare_regions, prepare_regions_of

pytestmark = pytest.mark.models

Faces = list[NDArray[np.uint8]]


@pytest.fixture(scope="module")
def video(toy_videos: Path) -> Path:
    return sorted((toy_videos / "ann").glob("*.mp4"))[0]


@pytest.fixture(scope="module")
def prepared(video: Path, tmp_path_factory: pytest.TempPathFactory) -> RegionFile:
    path = tmp_path_factory.mktemp("regions") / "ann" / f"{video.stem}.npz"
    prepare_regions_of(video, path)
    return RegionFile(path)


def write(path: Path, film: Faces, seed: int = 3) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        path, width=SIDE, height=SIDE, fps=Fraction(FPS), audio_rate=RATE, preset="ultrafast"
    ) as writer:
        for picture in film:
            writer.write_frame(picture)
        writer.write_audio(tone(syllables(seed)))
    return path


def test_both_forms_are_those_of_the_engine(
    video: Path, prepared: RegionFile, face_models: FaceModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker, stream = FaceTracker(face_models), MouthStream()
    film, meshes, causal = [], [], []
    with VideoReader(video) as reader:
        for index, picture in enumerate(retime(reader, Fraction(FPS))):
            face = tracker.update(picture, index / FPS)
            assert face is not None
            film.append(picture)
            meshes.append(face.mesh)
            causal.append(stream.push(picture, face.mesh))
    reference = mouth_regions(film, meshes)
    assert prepared.lips("reference").shape == (FRAMES, 96, 96)
    np.testing.assert_array_equal(prepared.lips("reference"), reference)
    np.testing.assert_array_equal(prepared.lips("causal"), np.stack(causal))
    assert (prepared.lips("reference") != prepared.lips("causal")).any()

    # A long film is worked through in blocks, which must not show.
    monkeypatch.setattr(training.regions, "BLOCK", 17)
    blocks = training.regions.ReferenceForm()
    for picture, mesh in zip(film, meshes, strict=True):
        blocks.push(picture, mesh, found=True)
    np.testing.assert_array_equal(blocks.finish(), reference)


def test_lips_and_sound_belong_together(prepared: RegionFile) -> None:
    assert (prepared.speaker, prepared.path.parent.name) == ("ann", "ann")
    lips, sound = prepared.lips("reference").astype(np.float64), prepared.sound()
    assert len(sound) >= FRAMES * RATE // FPS
    loudness = np.abs(sound[: FRAMES * 640].reshape(FRAMES, 640)).mean(axis=1)
    darkness = -lips[:, 40:64, 36:60].mean(axis=(1, 2))  # an open mouth is dark
    assert correlation(darkness, loudness) > 0.8


def test_clip_whose_first_picture_has_no_face_starts_with_its_second(
    toy_faces: Faces, tmp_path: Path
) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))
    film[0] = np.full_like(film[0], 90)
    path = write(tmp_path / "late.mp4", film)
    prepare_regions_of(path, tmp_path / "ann" / "late.npz")
    clip = RegionFile(tmp_path / "ann" / "late.npz")
    assert len(clip.lips("causal")) == len(clip.lips("reference")) == FRAMES - 1
    np.testing.assert_array_equal(clip.sound(), read_audio(path, RATE)[RATE // FPS :])
    darkness = -clip.lips("reference")[:, 40:64, 36:60].mean(axis=(1, 2))
    times = (np.arange(1, FRAMES) + 0.5) / FPS
    assert correlation(darkness, opening_at(syllables(3), times)) > 0.9


def test_picture_without_a_face_between_others_is_filled_in(
    toy_faces: Faces, tmp_path: Path
) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))
    film[30] = np.full_like(film[30], 90)
    prepare_regions_of(write(tmp_path / "gap.mp4", film), tmp_path / "gap.npz")
    clip = RegionFile(tmp_path / "gap.npz")
    for form in training.regions.FORMS:
        assert len(clip.lips(form)) == FRAMES
        assert clip.lips(form)[30].std() < 10 < clip.lips(form)[29].std()


@pytest.mark.parametrize(
    ("hidden", "frames", "error", "message"),
    [
        ((10, 11), FRAMES, NoFaceError, "shows no face in 2 frames"),
        ((), 40, MediaError, "shorter than 2 s"),
    ],
)
def test_clip_with_too_little_is_refused(
    toy_faces: Faces,
    tmp_path: Path,
    hidden: tuple[int, ...],
    frames: int,
    error: type[Exception],
    message: str,
) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))[:frames]
    for index in hidden:
        film[index] = np.full_like(film[index], 90)
    with pytest.raises(error, match=message):
        prepare_regions_of(write(tmp_path / "short.mp4", film), tmp_path / "short.npz")
    assert not (tmp_path / "short.npz").exists()


def test_report_says_what_was_skipped_and_what_is_there_is_kept(
    video: Path, prepared: RegionFile, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "videos", tmp_path / "regions"
    for name in ("old", "new"):
        (source / "ann").mkdir(parents=True, exist_ok=True)
        (source / "ann" / f"{name}.mp4").write_bytes(video.read_bytes())
    (source / "ann" / "broken.mp4").write_bytes(b"no film")
    (out / "ann").mkdir(parents=True)
    (out / "ann" / "old.npz").write_bytes(b"as it was")

    skipped = prepare_regions(source, out, workers=1)
    capsys.readouterr()
    assert [Path(s.path).name for s in skipped] == ["broken.mp4"]
    assert json.loads((out / "skipped.json").read_text())[0]["path"].endswith("broken.mp4")
    assert (out / "ann" / "old.npz").read_bytes() == b"as it was"
    new = RegionFile(out / "ann" / "new.npz")
    np.testing.assert_array_equal(new.lips("causal"), prepared.lips("causal"))
    assert [(f.speaker, f.name) for f in find_regions(out)] == [("ann", "new"), ("ann", "old")]


def test_file_that_is_no_region_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="run `python -m training regions`"):
        find_regions(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"no archive")
    np.savez(tmp_path / "b.npz", other=np.zeros(3))
    (tmp_path / ".c.npz").touch()  # half written
    assert [file.name for file in find_regions(tmp_path)] == ["a", "b"]
    for file in find_regions(tmp_path):
        with pytest.raises(ConfigError, match="delete it and run"):
            file.lips("causal")
