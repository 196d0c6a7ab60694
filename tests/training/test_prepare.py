import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.errors import MediaError, NoFaceError
from engine.lips import correlation, mouth_opening
from engine.media import VideoWriter, read_audio
from tests.training.toys import FRAMES, RATE, SIDE, opening_at, pictures, syllables, tone
from training.clips import FPS, read_clip
from training.prepare import Skipped, prepare, prepare_clip, summary

pytestmark = pytest.mark.models

Faces = list[NDArray[np.uint8]]


def test_prepared_mouth_opens_with_what_is_said(toy_clips: Path) -> None:
    clip = read_clip(sorted((toy_clips / "ann").iterdir())[0])
    assert (clip.info.frames, clip.info.resolution, clip.info.speaker) == (FRAMES, 96, "ann")
    assert clip.crops.shape == (FRAMES, 96, 96, 3)
    assert clip.mesh.shape == (FRAMES, 468, 3)
    assert abs(len(clip.audio) - FRAMES * RATE / FPS) < RATE / FPS
    opening = np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])
    loudness = np.abs(clip.samples()[: FRAMES * 640].reshape(FRAMES, 640)).mean(axis=1)
    assert correlation(opening, loudness) > 0.9


def test_eyes_stay_in_place_while_the_head_sways(toy_clips: Path) -> None:
    for folder in sorted(toy_clips.rglob("clip.json")):
        eyes = read_clip(folder.parent).mesh[:, [33, 263], :2].astype(np.float32)
        assert eyes.std(axis=0).max() < 0.6  # px; the head sways by 3 px of the picture


def test_report_says_what_was_skipped_and_why_and_the_rest_is_prepared_once(
    toy_videos: Path, toy_faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "videos", tmp_path / "prepared"
    (source / "ann").mkdir(parents=True)
    good = sorted((toy_videos / "ann").glob("*.mp4"))[:2]
    for path in good:
        (source / "ann" / path.name).write_bytes(path.read_bytes())
    (source / "broken.mp4").write_bytes(b"no film")
    write(source / "wall.mp4", [np.full((SIDE, SIDE, 3), 90, np.uint8)] * FRAMES)
    (source / "notes.txt").write_text("no video")

    skipped = prepare(source, out, workers=2).skipped
    assert {Path(s.path).name for s in skipped} == {"broken.mp4", "wall.mp4"}
    assert json.loads((out / "skipped.json").read_text()) == [
        {"path": s.path, "reason": s.reason} for s in skipped
    ]
    found = sorted(out.rglob("clip.json"))
    assert [p.parent.name for p in found] == [p.stem for p in good]
    assert read_clip(found[0].parent).info.speaker == "ann"

    stamps = [p.stat().st_mtime_ns for p in found]
    found[1].unlink()  # as if the first call had been stopped there
    prepare(source, out, workers=1)
    again = sorted(out.rglob("clip.json"))
    assert again == found
    assert again[0].stat().st_mtime_ns == stamps[0]
    capsys.readouterr()


def write(path: Path, film: list[NDArray[np.uint8]], seed: int = 0) -> Path:
    with VideoWriter(
        path, width=SIDE, height=SIDE, fps=Fraction(FPS), audio_rate=RATE, preset="ultrafast"
    ) as writer:
        for picture in film:
            writer.write_frame(picture)
        writer.write_audio(tone(syllables(seed)))
    return path


def test_clip_whose_first_picture_has_no_face_starts_with_its_second(
    toy_faces: Faces, tmp_path: Path
) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))
    film[0] = np.full_like(film[0], 90)
    path = write(tmp_path / "late.mp4", film, seed=3)
    prepare_clip(path, tmp_path / "late", "ann", 96)
    clip = read_clip(tmp_path / "late")
    assert len(clip.crops) == FRAMES - 1
    whole = read_audio(path, RATE)
    np.testing.assert_allclose(clip.samples(), whole[RATE // FPS :], atol=1e-4)
    opening = np.array([mouth_opening(m) for m in clip.mesh.astype(np.float32)])
    times = (np.arange(1, FRAMES) + 0.5) / FPS
    assert correlation(opening, opening_at(syllables(3), times)) > 0.95


def test_short_gap_repeats_the_last_picture(toy_faces: Faces, tmp_path: Path) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))
    film[30] = np.full_like(film[30], 90)
    prepare_clip(write(tmp_path / "gap.mp4", film), tmp_path / "gap", "ann", 96)
    clip = read_clip(tmp_path / "gap")
    assert len(clip.crops) == FRAMES
    np.testing.assert_array_equal(clip.crops[30], clip.crops[29])
    assert (clip.crops[31] != clip.crops[30]).any()


def test_clip_that_often_shows_no_face_is_refused(toy_faces: Faces, tmp_path: Path) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))
    for index in (10, 11):
        film[index] = np.full_like(film[index], 90)
    with pytest.raises(NoFaceError, match="shows no face in 2 frames"):
        prepare_clip(write(tmp_path / "gaps.mp4", film), tmp_path / "gaps", "ann", 96)
    assert not (tmp_path / "gaps").exists()


def test_short_clip_is_refused(toy_faces: Faces, tmp_path: Path) -> None:
    film = list(pictures(toy_faces, syllables(3), 3))[:40]
    with pytest.raises(MediaError, match="shorter than 2 s"):
        prepare_clip(write(tmp_path / "short.mp4", film), tmp_path / "short", "ann", 96)


def test_summary_counts_reasons() -> None:
    skipped = [Skipped(f"{n}.mp4", f"{n}.mp4 is shorter than 2 s.") for n in "ab"]
    skipped.append(Skipped("c.mp4", "c.mp4 has no sound."))
    offsets = "has its sound early or late ({} frames, confidence 0.70)."
    skipped += [Skipped(f"{n}.mp4", f"{n}.mp4 {offsets.format(n)}") for n in range(3)]
    lines = summary(skipped).splitlines()
    assert lines[0].startswith("skipped 6")
    assert lines[1:] == [
        "  3 x has its sound early or late.",
        "  2 x is shorter than 2 s.",
        "  1 x has no sound.",
    ]


def test_clip_of_an_older_release_is_read(toy_clips: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    shutil.copytree(sorted((toy_clips / "ann").iterdir())[0], old)
    facts = json.loads((old / "clip.json").read_text())
    for later in ("split", "offset", "offset_confidence", "offset_treatment"):
        assert facts.pop(later) is None  # nothing was asked for
    (old / "clip.json").write_text(json.dumps(facts))
    assert read_clip(old).info.offset_treatment is None
