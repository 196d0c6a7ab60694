import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray

import training.offsets
from engine.bundle import STARTER
from engine.bundle_weights import ExpertFacts
from engine.errors import MediaError
from engine.filterbank import ROW_SAMPLES
from engine.lip_expert import LipExpert
from tests.naming_expert import NamingExpert, names, tone
from tests.training.drawn_clips import SIDE, face_mesh
from training.clips import read_clip
from training.expert_evaluation import late
from training.layouts import find_items
from training.offsets import (
    LEAST_FRAMES,
    MOST_REPAIRED,
    Measured,
    measure,
    move_sound,
    treat,
    worker_expert,
)
from training.prepare import Settings, prepare_item

pytestmark = pytest.mark.models

FRAMES = 70
OUT_OF_SYNC = {"sbahzp": 2, "sbat7s": -2}
"""Clips that are off as recorded, by as many frames."""

Arrays = tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]


class Judge(NamingExpert, LipExpert):
    """Knows twelve sounds by the gray of the picture, so that what it says can be foretold."""

    def __init__(self) -> None:
        super().__init__()
        self.facts = cast(ExpertFacts, SimpleNamespace(confident=0.25))


def clip(shown: NDArray[np.int64], heard: NDArray[np.int64]) -> Arrays:
    crops = np.stack([np.full((SIDE, SIDE, 3), 20 * (n + 1), np.uint8) for n in shown])
    mesh = np.repeat(face_mesh(0.0)[None], len(shown), axis=0)
    return crops, mesh, np.concatenate([tone(int(n)) for n in heard])


@pytest.mark.parametrize("offset", [-7, -2, 0, 1, 7])
def test_imposed_offset_is_measured_and_moving_the_sound_undoes_it(offset: int) -> None:
    crops, mesh, samples = clip(names(FRAMES), names(FRAMES))
    off = crops, mesh, late(samples, offset * ROW_SAMPLES)
    measured = measure(Judge(), *off)
    assert measured is not None
    assert (measured.frames, measured.clear) == (offset, True)

    moved = move_sound(measured.frames, *off)
    assert len(moved[0]) == len(moved[1]) == FRAMES - max(0, -offset)
    assert len(moved[2]) == (FRAMES - max(0, offset)) * ROW_SAMPLES
    again = measure(Judge(), *moved)
    assert again is not None
    assert again.frames == 0


def test_long_clip_is_judged_by_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training.offsets, "STRETCH", 50)
    monkeypatch.setattr(training.offsets, "MOST_STRETCHES", 3)
    judge, shown = Judge(), names(400)
    crops, mesh, samples = clip(shown, shown)
    measured = measure(judge, crops, mesh, late(samples, 4 * ROW_SAMPLES))
    assert measured is not None
    assert measured.frames == 4
    assert measured.confidence > 0.7
    assert judge.embedded == 3 * 50


def test_sound_of_something_else_agrees_nowhere() -> None:
    measured = measure(Judge(), *clip(names(FRAMES), names(FRAMES, seed=1)))
    assert measured is not None
    assert not measured.clear
    assert treat("a.mp4", measured, "repair") == "unclear"
    with pytest.raises(MediaError, match=r"a\.mp4 has lips and sound that agree nowhere \("):
        treat("a.mp4", measured, "drop")


def test_clip_too_short_is_not_judged() -> None:
    short = clip(names(LEAST_FRAMES - 1), names(FRAMES))
    assert measure(Judge(), *short) is None
    assert treat("a.mp4", None, "repair") == treat("a.mp4", None, "drop") == "too short"


def test_clear_offsets_are_repaired_or_dropped_and_one_frame_is_none() -> None:
    for frames in (-1, 0, 1):
        for policy in ("repair", "drop"):
            assert treat("a", Measured(frames, 0.6, 0.5), policy) == "in sync"
    for frames in (-MOST_REPAIRED, -2, 2, MOST_REPAIRED):
        assert treat("a", Measured(frames, 0.5, 0.5), "repair") == "repaired"
        with pytest.raises(MediaError, match=re.escape(f"early or late ({frames:+d} frames, conf")):
            treat("a", Measured(frames, 0.5, 0.5), "drop")
    with pytest.raises(MediaError, match="further off than is repaired"):
        treat("a", Measured(MOST_REPAIRED + 1, 0.6, 0.5), "repair")
    assert treat("a", Measured(5, 0.49, 0.5), "repair") == "unclear"


@pytest.fixture
def recorded(data_dir: Path, tmp_path: Path) -> Iterator[Path]:
    """Two clips that are off as recorded, and one that is not."""
    folder = tmp_path / "videos" / "s1"
    folder.mkdir(parents=True)
    for name in (*OUT_OF_SYNC, "bbaf2n"):
        (folder / f"{name}.mp4").symlink_to(data_dir / "grid" / "s1" / f"{name}.mp4")
    yield folder.parent
    worker_expert.cache_clear()


@pytest.mark.data
def test_recorded_clips_out_of_sync_are_found_and_repaired(recorded: Path, tmp_path: Path) -> None:
    for item in find_items(recorded):
        offset = OUT_OF_SYNC.get(item.name, 0)
        out = tmp_path / "prepared" / item.place
        assert prepare_item(item, out, Settings(offsets="repair")) == (
            "repaired" if offset else "in sync"
        )
        made = read_clip(out)
        assert made.info.offset == offset
        assert made.info.frames == 75 - abs(offset)
        again = measure(
            worker_expert(STARTER), made.crops, made.mesh.astype(np.float32), made.samples()
        )
        assert again is not None
        assert abs(again.frames) <= 1
        assert again.clear


@pytest.mark.data
def test_offsets_imposed_on_a_recorded_clip_are_found(recorded: Path, tmp_path: Path) -> None:
    (item,) = (item for item in find_items(recorded) if item.name == "bbaf2n")
    prepare_item(item, tmp_path / "clip", Settings())
    made = read_clip(tmp_path / "clip")
    mesh, samples = made.mesh.astype(np.float32), made.samples()
    for offset in range(-7, 8):
        moved = late(samples, offset * ROW_SAMPLES)
        measured = measure(worker_expert(STARTER), made.crops, mesh, moved)
        assert measured is not None
        assert measured.clear
        assert abs(measured.frames - offset) <= 1
