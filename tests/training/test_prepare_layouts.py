"""``prepare`` with one real clip of each layout, and with offsets."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

import training.prepare
from engine.bundle import Bundle
from engine.crop import mesh_box
from engine.errors import BundleError, ConfigError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.lips import correlation, mouth_opening
from engine.media import VideoReader, VideoWriter, read_audio, read_image
from engine.tracker import FaceTracker
from tests.training.drawn_clips import CONFIG
from tests.training.toys import FRAMES, RATE, SIDE, opening_at, pictures, syllables, tone, write_wav
from training.__main__ import main
from training.clips import FPS, Clip, find_clips, is_held_out, read_clip
from training.layouts import LayoutName, find_items
from training.offsets import TREATMENTS, Measured
from training.pairs import PairSampler
from training.prepare import Settings, prepare, prepare_item

pytestmark = pytest.mark.models

ID = "5535415699068794046"
SEED = 3
WORD_FRAMES = 29  # of a clip of LRW

Faces = list[NDArray[np.uint8]]


def write(path: Path, faces: Faces, *, frames: int = FRAMES, rate: int = FPS) -> Path:
    """A film at 25 frames a second, or at a multiple of that with each picture repeated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        path, width=SIDE, height=SIDE, fps=Fraction(rate), audio_rate=RATE, preset="ultrafast"
    ) as writer:
        for picture in list(pictures(faces, syllables(SEED), SEED))[:frames]:
            for _ in range(rate // FPS):
                writer.write_frame(picture)
        writer.write_audio(tone(syllables(SEED))[: frames * RATE // FPS])
    return path


def write_boxes(folder: Path, video: Path, models: FaceModels, *, wide_px: int = 0) -> None:
    """What Wav2Lip's preparation makes of a video: boxed faces, their sizes as they come."""
    folder.mkdir(parents=True)
    tracker, chance = FaceTracker(models), np.random.default_rng(0)
    with VideoReader(video) as reader:
        for index, (now, picture) in enumerate(reader):
            face = tracker.update(picture, now)
            assert face is not None
            box = mesh_box(face.mesh) + chance.integers(-3, 4, 4)
            x0, y0, x1, y1 = np.clip(box, 0, SIDE).astype(int)
            boxed = picture[y0:y1, x0:x1]
            if wide_px:
                size = wide_px, round(wide_px * boxed.shape[0] / boxed.shape[1])
                boxed = np.asarray(cv2.resize(boxed, size, interpolation=cv2.INTER_AREA), np.uint8)
            cv2.imwrite(str(folder / f"{index}.jpg"), boxed[..., ::-1])
    write_wav(folder / "audio.wav", read_audio(video, 44_100), 44_100)


def prepared(source: Path, layout: LayoutName, out: Path, settings: Settings) -> Clip:
    (item,) = find_items(source, layout)
    prepare_item(item, out / item.place, settings)
    return read_clip(out / item.place)


def follows(clip: Clip) -> float:
    """How well the mouth of the clip opens with what is said."""
    opening = np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])
    times = (np.arange(clip.info.frames) + 0.5) / FPS
    return correlation(opening, opening_at(syllables(SEED), times))


def test_lrs2(toy_faces: Faces, tmp_path: Path) -> None:
    write(tmp_path / "pretrain" / ID / "00001.mp4", toy_faces)
    clip = prepared(tmp_path, "lrs2", tmp_path / "out", Settings())
    assert (clip.info.speaker, clip.info.name) == (ID, f"pretrain-{ID}-00001")
    assert (clip.info.split, clip.info.frames) == ("pretrain", FRAMES)
    assert follows(clip) > 0.95


def test_hdtf_at_its_own_rate(toy_faces: Faces, tmp_path: Path) -> None:
    write(tmp_path / "RD_Radio1_000_2.mp4", toy_faces, rate=2 * FPS)
    clip = prepared(tmp_path, "hdtf", tmp_path / "out", Settings())
    assert (clip.info.speaker, clip.info.name) == ("RD_Radio1_000", "RD_Radio1_000_2")
    assert clip.info.frames == FRAMES
    assert follows(clip) > 0.95


def test_talklip_takes_the_sound_that_lies_apart(toy_faces: Faces, tmp_path: Path) -> None:
    write(tmp_path / "video" / ID / "00001.mp4", toy_faces)
    sound = np.linspace(-0.5, 0.5, FRAMES * RATE // FPS, dtype=np.float32)
    write_wav(tmp_path / "audio" / ID / "00001.wav", sound, RATE)
    clip = prepared(tmp_path, "talklip", tmp_path / "out", Settings())
    assert (clip.info.speaker, clip.info.name) == (ID, f"{ID}-00001")
    np.testing.assert_allclose(clip.samples(), sound, atol=1e-3)
    assert follows(clip) > 0.95

    (tmp_path / "audio" / ID / "00001.wav").unlink()
    (item,) = find_items(tmp_path, "talklip")
    with pytest.raises(MediaError, match=r"00001\.wav"):
        prepare_item(item, tmp_path / "again", Settings())


@pytest.mark.parametrize("wide_px", [0, 48])
def test_wav2lip_pictures_of_any_size_give_the_clip_of_the_video(
    toy_faces: Faces, face_models: FaceModels, tmp_path: Path, wide_px: int
) -> None:
    video = write(tmp_path / "videos" / "ann" / "one.mp4", toy_faces)
    folder = tmp_path / "boxes" / ID / "00001"
    write_boxes(folder, video, face_models, wide_px=wide_px)
    assert len({read_image(path).shape for path in folder.glob("*.jpg")}) > 5
    (folder / "12.jpg").unlink()  # a face that was not found
    clip = prepared(tmp_path / "boxes", "wav2lip", tmp_path / "out", Settings())
    whole = prepared(tmp_path / "videos", "own", tmp_path / "out", Settings())
    assert (clip.info.speaker, clip.info.frames) == (ID, FRAMES)
    np.testing.assert_array_equal(clip.crops[12], clip.crops[11])
    assert follows(clip) > 0.93
    assert np.abs(clip.mesh[..., :2].astype(float) - whole.mesh[..., :2]).mean() < 1.0
    heard = [c.samples()[: RATE * 2] for c in (clip, whole)]
    assert correlation(*heard) > 0.99

    (folder / "40.jpg").unlink()
    (item,) = find_items(tmp_path / "boxes", "wav2lip")
    with pytest.raises(NoFaceError, match=f"{ID}/00001 shows no face in 2 frames"):
        prepare_item(item, tmp_path / "again", Settings())
    for path in folder.glob("*.jpg"):
        path.unlink()
    with pytest.raises(MediaError, match=r"holds no pictures named 0\.jpg"):
        prepare_item(item, tmp_path / "again", Settings())


def test_lrw_is_prepared_by_a_list_and_can_be_learnt_from(
    toy_faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stems = (f"ABOUT_{n:05}" for n in range(1, 100))
    one, other = [s for s in stems if not is_held_out(f"train-{s}")][:2]
    video = write(tmp_path / "lrw/ABOUT/train" / f"{one}.mp4", toy_faces, frames=WORD_FRAMES)
    shutil.copy(video, video.with_name(f"{other}.mp4"))
    listed = tmp_path / "train.txt"
    listed.write_text(f"ABOUT/train/{one}\nABOUT/train/ABOUT_99999\n")
    out = tmp_path / "out"
    words = ["prepare", tmp_path / "lrw", "-o", out, "--layout", "lrw", "--list", listed]
    assert main([*map(str, words), "--workers", "1"]) == 0
    assert "  1 x is in the list" in capsys.readouterr().out
    (row,) = json.loads((out / "skipped.json").read_text())
    assert row["path"] == "ABOUT/train/ABOUT_99999"
    (folder,) = find_clips(out)
    info = read_clip(folder).info
    assert (info.speaker, info.split) == (f"train-{one}", "train")
    assert WORD_FRAMES - 1 <= info.frames <= WORD_FRAMES
    assert folder == out / "train" / "ABOUT" / f"train-{one}"

    batch = PairSampler(out, replace(CONFIG, k=5)).draw(1)
    assert batch.frames.shape == (CONFIG.clips * 5, 3, 96, 96)

    with pytest.raises(ConfigError, match="LRW are too short for a lip expert"):
        prepare(tmp_path / "lrw", out, layout="lrw", offsets="repair")


@pytest.fixture
def film(toy_faces: Faces, tmp_path: Path) -> Path:
    return write(tmp_path / "videos" / "ann" / "one.mp4", toy_faces).parent.parent


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch) -> Callable[[Measured | None], None]:
    """Sets what is measured."""

    def set_to(measured: Measured | None) -> None:
        monkeypatch.setattr(training.prepare, "measure", lambda *_: measured)

    return set_to


@pytest.mark.parametrize("frames", [3, -3])
def test_repair_cuts_the_start_of_what_is_late_and_says_so(
    film: Path, tmp_path: Path, finds: Callable[[Measured | None], None], frames: int
) -> None:
    as_it_was = prepared(film, "own", tmp_path / "kept", Settings())
    assert as_it_was.info.offset_treatment is None
    finds(Measured(frames, 0.71349, 0.5))
    clip = prepared(film, "own", tmp_path / "moved", Settings(offsets="repair"))
    assert (clip.info.offset, clip.info.offset_confidence) == (frames, 0.713)
    assert clip.info.offset_treatment == "repaired"
    lips, sound = max(0, -frames), max(0, frames) * RATE // FPS
    np.testing.assert_array_equal(clip.audio, as_it_was.audio[sound:])
    count = FRAMES - 3
    assert clip.info.frames == len(clip.crops) == len(clip.mesh) == count
    np.testing.assert_array_equal(clip.crops, as_it_was.crops[lips : lips + count])


def test_clip_that_is_dropped_does_not_stay_from_before(
    film: Path, tmp_path: Path, finds: Callable[[Measured | None], None]
) -> None:
    prepared(film, "own", tmp_path / "out", Settings())
    finds(Measured(-4, 0.6, 0.5))
    with pytest.raises(MediaError, match=r"^one\.mp4 has its sound early or late \(-4 frames"):
        prepared(film, "own", tmp_path / "out", Settings(offsets="drop"))
    with pytest.raises(ConfigError, match="holds no prepared clips"):
        list(find_clips(tmp_path / "out"))


def test_clip_that_was_never_measured_is_prepared_again_once(
    film: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    prepared(film, "own", out, Settings())
    words = ["prepare", str(film), "-o", str(out), "--offsets", "repair", "--workers", "1"]
    assert main(words) == 0
    (folder,) = find_clips(out)
    treatment = read_clip(folder).info.offset_treatment
    assert treatment in TREATMENTS
    assert f"lips and sound: 1 {treatment}" in capsys.readouterr().out
    written = (folder / "clip.json").stat().st_mtime_ns
    for again in (words, words[:4]):  # with offsets and without
        assert main(again) == 0
        assert "lips and sound" not in capsys.readouterr().out
    assert (folder / "clip.json").stat().st_mtime_ns == written


def test_bundle_without_a_lip_expert_is_refused_before_any_work(
    film: Path, tiny_bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BundleError, match="carries no lip expert"):
        prepare(film, tmp_path / "out", offsets="repair", expert=tiny_bundle.folder)
    assert not (tmp_path / "out").exists()
    words = ["prepare", film, "-o", tmp_path / "out", "--expert", tiny_bundle.folder]
    assert main([str(word) for word in words]) == 2
    assert "add --offsets repair or drop" in capsys.readouterr().err
