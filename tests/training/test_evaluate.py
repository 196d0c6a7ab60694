import json
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain, islice, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from engine.bundle import Bundle, load_bundle
from engine.chain import Synced
from engine.errors import ConfigError, MediaError, NoFaceError
from engine.face_models import FaceModels
from engine.identity import Identity
from engine.lips import correlation
from engine.phonemes import save_spans
from tests.training.toys import FRAMES, opening_at, syllables, write_video
from training.bench import Bench, judge_speech, openings, pictures_of
from training.clips import FPS, is_held_out
from training.evaluate import Report, draw_pairs, evaluate
from training.evaluation_tables import show, to_json, write_json
from training.metrics import LAG_REACH, best_lag

pytestmark = pytest.mark.models

Picture = NDArray[np.uint8]


@pytest.fixture(scope="module")
def held_out(toy_videos: Path) -> list[Path]:
    """Ann's clips that are kept for judging."""
    return [p for p in sorted((toy_videos / "ann").iterdir()) if is_held_out(p.stem)]


@pytest.fixture(scope="module")
def report(toy_videos: Path, tiny_bundle: Bundle) -> Report:
    return evaluate(toy_videos / "ann", toy_videos / "eve", tiny_bundle, pairs=1, leakage=True)


class Actor:
    """Stands in for the chain: whatever the face, the pictures are those of another video."""

    def __init__(self, film: list[Picture], late: int = 0) -> None:
        self._film = list(islice(chain(repeat(film[0], late), film), len(film)))

    def choose_identity(self, pictures: Iterable[Picture], fps: Fraction) -> Identity:
        return Identity(next(iter(pictures)), 0.0, 0)

    def run(self, *_: Any) -> Iterator[Synced]:
        yield from (Synced(picture, picture, None) for picture in self._film)


def test_opening_is_that_of_what_is_seen(held_out: list[Path], face_models: FaceModels) -> None:
    seed = 3  # the fixture numbers clips in order: three to learn from, then those held out
    seen, lost = openings(pictures_of(held_out[0]), face_models)
    times = (np.arange(FRAMES) + 0.5) / FPS
    assert lost == 0
    wanted = [opening_at(syllables(seed + i), times) for i in range(2)]
    assert max(correlation(seen, w) for w in wanted) > 0.95


def test_frames_without_a_face_lie_between_their_neighbours(
    held_out: list[Path], face_models: FaceModels
) -> None:
    film = list(pictures_of(held_out[0]))
    whole, _ = openings(film, face_models)
    film[5] = film[6] = np.zeros_like(film[5])
    seen, lost = openings(film, face_models)
    assert lost == 2
    expected = np.interp([5, 6], [4, 7], [seen[4], seen[7]])
    np.testing.assert_allclose(seen[5:7], expected)
    np.testing.assert_allclose(seen[:5], whole[:5])
    never, lost = openings([np.zeros_like(film[0])] * 3, face_models)
    assert (lost, never.tolist()) == (3, [0.0, 0.0, 0.0])


@pytest.mark.parametrize("late", [0, 2])
def test_mouth_that_is_the_speakers_own_is_found_to_follow_by_its_delay(
    held_out: list[Path], tiny_bundle: Bundle, late: int
) -> None:
    bench = Bench(tiny_bundle)
    face, voice = held_out
    bench._lips = Actor(list(pictures_of(voice)), late)  # type: ignore[assignment]
    figures = bench.pair(face, voice)
    assert (figures.face, figures.voice, figures.frames) == (face.stem, voice.stem, FRAMES)
    lag, value = best_lag(np.array(figures.curve))
    assert lag == late
    assert value > 0.97
    assert figures.amplitude == pytest.approx(1.0, abs=0.05)
    assert figures.unrelated < 0.6
    assert (figures.curve[LAG_REACH] > 0.97) == (late == 0)


def test_mouth_of_the_face_clip_itself_scores_as_unrelated(
    held_out: list[Path], tiny_bundle: Bundle
) -> None:
    bench = Bench(tiny_bundle)
    face, voice = held_out
    bench._lips = Actor(list(pictures_of(face)))  # type: ignore[assignment]
    figures = bench.pair(face, voice)
    assert figures.curve[LAG_REACH] == pytest.approx(figures.unrelated, abs=1e-6)


def test_self_reconstruction_leaves_out_what_is_near_the_reference(
    held_out: list[Path], tiny_bundle: Bundle
) -> None:
    bench = Bench(tiny_bundle)
    figures = bench.clip(held_out[0])
    at = bench._identity(held_out[0]).index
    assert figures.frames == sum(abs(i - at) >= FPS for i in range(FRAMES))
    # The noise that an untrained generator paints is far from the face, a copy is near.
    assert figures.made.psnr < figures.copied.psnr - 5
    assert figures.made.psnr_lower < figures.made.psnr
    assert figures.made.ssim_lower < figures.made.ssim < figures.copied.ssim
    assert figures.copied.psnr > 27


def test_copy_of_a_face_that_never_moves_is_the_face(
    toy_faces: list[Picture], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "still.mp4"
    write_video(path, [toy_faces[0]] * len(toy_faces), 3)
    copied = Bench(tiny_bundle).clip(path).copied
    assert copied.psnr > 35
    assert copied.ssim > 0.97


def test_mouth_that_moves_in_silence_as_the_real_one_does_has_leaked(
    held_out: list[Path], tiny_bundle: Bundle
) -> None:
    bench = Bench(tiny_bundle)
    face, other = held_out
    bench._lips = Actor(list(pictures_of(face)))  # type: ignore[assignment]
    leaked = bench.silent(face, other)
    assert (leaked.face, leaked.reference, leaked.frames) == (face.stem, other.stem, FRAMES)
    assert leaked.following == pytest.approx(1)
    assert leaked.moving_share == leaked.real_moving_share > 0.3
    bench._lips = Actor([next(pictures_of(face))] * FRAMES)  # type: ignore[assignment]
    still = bench.silent(face, face)
    assert still.moving_share == 0
    assert still.real_open_share == leaked.open_share > 0.1


def paths(count: int, kind: str) -> list[Path]:
    return [Path(f"{kind}{i}.mp4") for i in range(count)]


def test_pairs_are_drawn_evenly_and_never_a_clip_with_itself() -> None:
    own, others = paths(40, "own"), paths(6, "other")
    pairs = draw_pairs(own, own, 30, 0)
    assert len(set(pairs)) == 30
    assert all(face != voice for face, voice in pairs)
    mixed = draw_pairs(others, own, 30, 0)
    assert sorted(sum(face == o for face, _ in mixed) for o in others) == [5] * 6
    assert len({voice for _, voice in mixed}) == 30


def test_seed_alone_decides_which_pairs_are_drawn() -> None:
    own = paths(40, "own")
    assert draw_pairs(own, own, 30, 1) == draw_pairs(own, own, 30, 1)
    assert draw_pairs(own, own, 30, 1) != draw_pairs(own, own, 30, 2)


def test_fewer_pairs_come_where_there_are_not_so_many() -> None:
    three = paths(3, "x")
    assert len(draw_pairs(three, three, 30, 0)) == 6
    assert draw_pairs(three[:1], three[:1], 30, 0) == []
    assert draw_pairs([], three, 30, 0) == []


def test_report_has_a_row_for_each_kind_of_pair_and_uses_only_held_out_clips(
    report: Report, held_out: list[Path]
) -> None:
    assert list(report.pairs) == [
        "ann's face, ann's voice",
        "other face, ann's voice",
        "ann's face, other voice",
        "other face, other voice",
    ]
    names = {p.stem for p in held_out}
    first, face, voice, both = report.pairs.values()
    assert all(len(row) == 1 for row in report.pairs.values())
    assert {p.face for p in first} | {p.voice for p in first} == names
    assert {p.voice for p in face} | {p.face for p in voice} <= names
    assert not names & ({p.face for p in face} | {p.voice for p in voice})
    assert not names & {p.face for p in both}
    assert {c.clip for c in report.clips["ann, held-out clips"]} < names
    assert len(report.clips["others"]) == 1
    assert report.failed == []


def test_faces_are_driven_by_silence_with_their_own_reference_and_a_strangers(
    report: Report, held_out: list[Path]
) -> None:
    assert list(report.leaks) == [
        "ann, own reference",
        "ann, reference of another person",
        "others, own reference",
        "others, reference of ann",
    ]
    names = {p.stem for p in held_out}
    own, stranger, others, anns = report.leaks.values()
    assert [f.face for f in own] == [f.reference for f in own] == [f.face for f in stranger]
    assert not names & {f.reference for f in stranger}
    assert not names & {f.face for f in others}
    assert {f.reference for f in anns} <= names
    row = to_json(report)["leakage"]["ann, own reference"]
    assert (row["faces"], row["moving_share"]) == (1, own[0].moving_share)
    assert "Driven by silence" in printed(report, terminal=False)


def test_without_strangers_the_reference_is_of_another_clip(
    toy_videos: Path, tiny_bundle: Bundle
) -> None:
    leaks = evaluate(toy_videos / "ann", None, tiny_bundle, pairs=1, leakage=True).leaks
    assert list(leaks) == ["ann, own reference", "ann, reference of another clip"]
    assert all(f.face != f.reference for f in leaks["ann, reference of another clip"])


def test_processes_give_the_same_figures_and_without_others_there_are_no_rows_of_them(
    report: Report, toy_videos: Path, tiny_bundle: Bundle
) -> None:
    done: list[tuple[int, int]] = []
    again = evaluate(
        toy_videos / "ann",
        None,
        tiny_bundle,
        pairs=1,
        workers=2,
        progress=lambda n, count: done.append((n, count)),
    )
    assert again.pairs == {name: report.pairs[name] for name in ["ann's face, ann's voice"]}
    assert again.clips == {name: report.clips[name] for name in ["ann, held-out clips"]}
    assert done == [(1, 2), (2, 2)]


def test_json_holds_every_figure_with_settings_and_hash(report: Report, tmp_path: Path) -> None:
    write_json(report, tmp_path / "figures.json")
    found = json.loads((tmp_path / "figures.json").read_text())
    assert len(found["bundle_sha256"]) == 64
    assert found["settings"]["closed"] == 0.05
    assert "sigma=1.5" in found["settings"]["ssim"]
    row = found["lip_sync"]["ann's face, ann's voice"]
    at_zero = [pair["curve"][LAG_REACH] for pair in row["each"]]
    assert row["correlation"] == pytest.approx(np.mean(at_zero))
    curve = np.mean([pair["curve"] for pair in row["each"]], axis=0)
    assert row["best_lag_correlation"] == pytest.approx(curve.max())
    assert row["best_lag_frames"] == int(curve.argmax()) - LAG_REACH
    ratios = [pair["made_spread"] / pair["real_spread"] for pair in row["each"]]
    assert row["amplitude"] == pytest.approx(np.mean(ratios))
    clips = found["self_reconstruction"]["others"]
    frames = [clip["frames"] for clip in clips["each"]]
    expected = np.average([clip["made"]["psnr"] for clip in clips["each"]], weights=frames)
    assert clips["made"]["psnr"] == pytest.approx(expected)
    assert found["speech"] is None
    assert found["leakage"]["others, own reference"]["each"][0]["frames"] == FRAMES


def printed(report: Report, *, terminal: bool) -> str:
    console = Console(force_terminal=terminal, width=120, color_system=None, record=True)
    with console.capture() as capture:
        show(report, console)
    return capture.get()


def test_table_is_plain_text_unless_it_is_drawn_on_a_terminal(report: Report) -> None:
    plain, drawn = printed(report, terminal=False), printed(report, terminal=True)
    assert plain.isascii()
    assert not drawn.isascii()
    for text in (plain, drawn):
        assert "other face, other voice" in text
        assert "floor: unrelated clip of ann" in text
        assert "floor: the reference copied" in text
        assert "codec: none" in text
        assert report.bundle_sha256 in text
    row = to_json(report)["lip_sync"]["ann's face, ann's voice"]
    figure = f"{row['correlation']:.3f}"
    assert figure in plain
    assert figure in drawn


def test_clip_that_can_not_be_read_is_named_and_left_out(
    toy_videos: Path, held_out: list[Path], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    ann = tmp_path / "ann"
    ann.mkdir()
    for path in held_out:
        (ann / path.name).write_bytes(path.read_bytes())
    (ann / held_out[0].name).write_bytes(b"no film")
    report = evaluate(ann, None, tiny_bundle, pairs=2)
    assert report.pairs["ann's face, ann's voice"] == []
    assert [c.clip for c in report.clips["ann, held-out clips"]] == [held_out[1].stem]
    assert len(report.failed) == 3
    assert "left out" in printed(report, terminal=False)
    assert to_json(report)["lip_sync"]["ann's face, ann's voice"]["pairs"] == 0


def test_too_few_held_out_clips_are_refused(toy_videos: Path, tiny_bundle: Bundle) -> None:
    with pytest.raises(ConfigError, match="holds 0 held-out clips"):
        evaluate(toy_videos / "eve", None, tiny_bundle)


def test_speech_is_judged_by_its_phoneme_times(
    toy_faces: list[Picture], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spans = write_video(tmp_path / "demo.mp4", toy_faces, 3)
    save_spans(tmp_path / "demo.json", spans)
    figures = judge_speech(tmp_path / "demo.mp4", tmp_path / "demo.json")
    assert figures.frames == FRAMES
    assert figures.curve[LAG_REACH] > 0.8
    assert abs(best_lag(np.array(figures.curve))[0]) <= 1
    times = (np.arange(FRAMES) + 0.5) / FPS
    pauses = [s for s in spans if s.silent and s.end_s - s.start_s >= 0.2]
    assert pauses
    quiet = [any(s.start_s + 0.08 <= t <= s.end_s - 0.08 for s in pauses) for t in times]
    assert figures.pause_frames == sum(quiet)
    # The toy's lips, nearly shut, stay 0.02 to 0.08 apart.
    assert 0.02 < figures.pause_median <= figures.pause_max < 0.1
    shares = {}
    for closed in (0.01, 0.1):
        monkeypatch.setattr("training.bench.CLOSED", closed)
        shares[closed] = judge_speech(tmp_path / "demo.mp4", tmp_path / "demo.json").closed_share
    assert shares == {0.01: 0.0, 0.1: 1.0}


def test_speech_without_a_face_or_too_short_is_refused(
    toy_faces: list[Picture], tmp_path: Path
) -> None:
    spans = write_video(tmp_path / "wall.mp4", [np.zeros_like(f) for f in toy_faces], 3)
    save_spans(tmp_path / "all.json", spans)
    with pytest.raises(NoFaceError, match="No face was found"):
        judge_speech(tmp_path / "wall.mp4", tmp_path / "all.json")
    save_spans(tmp_path / "short.json", spans[:2])
    with pytest.raises(MediaError, match="less than 1 s in common"):
        judge_speech(tmp_path / "wall.mp4", tmp_path / "short.json")


@pytest.mark.data
def test_real_clips_of_one_man_are_hardly_related(data_dir: Path, tiny_bundle: Bundle) -> None:
    """The floor that every figure is read against."""
    clips = sorted((data_dir / "grid" / "s1").glob("*.mp4"))
    own = [path for path in clips if is_held_out(path.stem)]
    bench = Bench(load_bundle(tiny_bundle.folder))
    related = []
    for one, other in draw_pairs(own, own, 4, 0):
        a, b = bench.real(one), bench.real(other)
        assert len(a) == len(b) == 75
        assert 0.02 < a.std() < 0.2
        related.append(correlation(a, b))
    assert -0.3 < float(np.mean(related)) < 0.6
