from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.errors import ConfigError
from engine.filterbank import ROW_SAMPLES, audio_features
from engine.mel import SAMPLE_RATE
from engine.mouth_region import DEVIATION, MEAN, SIDE
from tests.training.sync_toys import write_toy
from training.clips import is_held_out
from training.regions import RegionFile, write_regions
from training.sync_augment import PLAIN, SyncAugment, change_sound, stretch_bands
from training.sync_samples import SyncBatch, SyncSampler, Windows, _pick, split

pytestmark = pytest.mark.unit

WINDOWS = Windows(clips=4, frames=16, long_clips=2, long_frames=60, long_share=0.0, shift=5)
LENGTH = 40  # frames of a clip


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> list[RegionFile]:
    """Clips whose pictures say clip and frame, and whose sound is different in each frame."""
    root, files = tmp_path_factory.mktemp("numbered"), []
    for clip in range(5):
        grey = np.arange(LENGTH) + LENGTH * clip
        lips = np.repeat(grey, SIDE * SIDE).reshape(LENGTH, SIDE, SIDE).astype(np.uint8)
        path = root / "ann" / f"{clip}.npz"
        samples = np.random.default_rng(clip).normal(0, 0.1, LENGTH * ROW_SAMPLES + 300)
        write_regions(path, lips, lips, samples.astype(np.float32))
        files.append(RegionFile(path))
    return files


def numbers(batch: SyncBatch) -> "np.ndarray[tuple[int, ...], np.dtype[np.int64]]":
    """Which clip · 40 + frame each picture is, (B, T + 4)."""
    grey = (batch.video[:, 0, :, 44, 44] * DEVIATION + MEAN) * 255
    return np.asarray(np.round(grey.numpy()), np.int64)


def test_lips_and_speech_of_a_pair_are_of_one_moment(numbered: list[RegionFile]) -> None:
    sampler = SyncSampler(numbered, WINDOWS, PLAIN)
    rows = [audio_features(file.sound(), LENGTH) for file in numbered]
    shifts = []
    for step in range(6):
        batch = sampler.draw(step)
        assert batch.video.shape == (4, 1, 20, 88, 88)
        assert batch.audio.shape == (4, 104, 16)
        for sample, shift in enumerate(batch.shift.tolist()):
            clip, start = divmod(int(numbers(batch)[sample, 2]), LENGTH)
            heard = start - shift  # the sound's window starts here
            # Inside the clip a window's rows are those of the whole clip: no borders of its own.
            np.testing.assert_allclose(
                batch.audio[sample].T.numpy(), rows[clip][heard : heard + 16], atol=1e-4
            )
            shifts.append(shift)
    assert max(shifts) > 0 > min(shifts)
    assert max(map(abs, shifts)) <= WINDOWS.shift


def test_pictures_around_a_window_are_the_clips_own_or_nothing(
    numbered: list[RegionFile],
) -> None:
    sampler = SyncSampler(numbered, replace(WINDOWS, frames=36), PLAIN)
    seen = Counter[str]()
    for step in range(8):
        batch = sampler.draw(step)
        for sample, found in enumerate(numbers(batch)):
            first = int(found[2]) % LENGTH
            for place in range(40):
                frame = first + place - 2
                if 0 <= frame < LENGTH:
                    assert found[place] == found[2] + place - 2
                    seen["own"] += 1
                else:
                    assert not batch.video[sample, 0, place].any()
                    seen["nothing"] += 1
    assert min(seen["own"], seen["nothing"]) > 0


def test_frames_of_a_picture_that_stands_still_are_marked(numbered: list[RegionFile]) -> None:
    augment = replace(PLAIN, frozen_share=1.0, long_from=6)
    batch = SyncSampler(numbered, WINDOWS, augment).draw(0)
    for found, moving in zip(numbers(batch)[:, 2:-2], batch.moving.numpy(), strict=True):
        np.testing.assert_array_equal(moving[1:], np.diff(found) > 0)
        assert moving[0]
        assert 5 <= (~moving).sum() < 16
    assert batch.audible.all()


def test_short_stutter_still_counts_as_moving(numbered: list[RegionFile]) -> None:
    batch = SyncSampler(numbered, WINDOWS, replace(PLAIN, stutter_share=1.0)).draw(0)
    still = (np.diff(numbers(batch)[:, 2:-2]) == 0).sum(axis=1)
    assert set(still) <= {1, 2, 3}
    assert batch.moving.all()


def test_muted_rows_are_marked_and_silent(numbered: list[RegionFile]) -> None:
    augment = replace(PLAIN, muted_share=1.0, long_from=6)
    batch = SyncSampler(numbered, WINDOWS, augment).draw(0)
    for rows, audible in zip(batch.audio, batch.audible, strict=True):
        assert 6 <= (~audible).sum() <= 16
        silent = rows.std(dim=0) < 0.1  # nothing in any band
        # A row hears 15 ms of the next one and a sample of the one before.
        edge = torch.tensor([False])
        inner = ~(audible | ~torch.cat([~audible[1:], edge]) | ~torch.cat([edge, ~audible[:-1]]))
        assert silent[inner].all()
        assert not silent[audible].any()
    assert batch.moving.all()


def test_long_windows_cross_two_clips_of_one_speaker(numbered: list[RegionFile]) -> None:
    sampler = SyncSampler(numbered, replace(WINDOWS, long_share=1.0), PLAIN)
    batch = sampler.draw(0)
    assert batch.audio.shape == (2, 104, 60)
    for sample, shift in enumerate(batch.shift.tolist()):
        found = numbers(batch)[sample, 2:-2]
        clips = found // LENGTH
        assert len(set(clips)) == 2
        # The rows of the second clip go with its pictures as those of the first do.
        last = int(found[-1])
        row = audio_features(numbered[last // LENGTH].sound(), LENGTH)[last % LENGTH]
        at = 59 + shift
        if 0 <= at < 60:
            np.testing.assert_allclose(batch.audio[sample, :, at].numpy(), row, atol=1e-4)


def test_batch_follows_from_seed_and_step(numbered: list[RegionFile]) -> None:
    draws = [
        SyncSampler(numbered, WINDOWS, SyncAugment(), seed).draw(step)
        for seed, step in ((0, 3), (0, 3), (1, 3), (0, 4))
    ]
    for name in ("video", "audio", "shift", "moving", "audible"):
        assert torch.equal(getattr(draws[0], name), getattr(draws[1], name)), name
    assert not torch.equal(draws[0].video, draws[2].video)
    assert not torch.equal(draws[0].video, draws[3].video)


def test_both_forms_are_drawn(tmp_path: Path) -> None:
    files = [write_toy(tmp_path, "ann", str(n), n) for n in range(4)]
    sampler = SyncSampler(files, WINDOWS, PLAIN)
    parity = set()
    for step in range(3):
        grey = numbers(sampler.draw(step))
        own = [int(file.lips("reference")[0, 4 + 40, 4 + 40]) for file in files]
        assert len(own) == 4
        parity |= {int(v) for row in grey for v in row}
    every = {int(v) for file in files for v in file.lips("reference")[:, 48, 48]}
    assert parity & every
    assert parity - every  # a grey level more: the causal form


def test_speaker_with_few_clips_is_seen_more_often_than_one_in_all() -> None:
    clips = {"ann": 100, "eve": 1}
    own = {
        name: [RegionFile(Path(name) / f"{n}.npz") for n in range(count)]
        for name, count in clips.items()
    }
    chance = np.random.default_rng(0)
    picked = [_pick(own, 4, chance) for _ in range(2000)]
    assert all(len(set(files)) == 4 for files in picked)
    share = np.mean([file.speaker == "eve" for files in picked for file in files])
    assert 0.07 < share < 0.1  # 1 part in 11, against 1 in 101 by clips


def test_tenth_of_each_large_speaker_and_what_is_named_is_kept() -> None:
    ann = [RegionFile(Path("ann") / f"clip{n}.npz") for n in range(60)]
    held = next(file.name for file in ann if is_held_out(file.name))
    eve = [RegionFile(Path("eve") / f"{name}.npz") for name in (held, "one", "two")]
    learnt, kept = split([*ann, *eve], ("two",))
    assert {f.name for f in kept if f.speaker == "ann"} == {
        f.name for f in ann if is_held_out(f.name)
    }
    assert [f.name for f in kept if f.speaker == "eve"] == ["two"]
    assert sorted([*learnt, *kept], key=str) == sorted([*ann, *eve], key=str)
    with pytest.raises(ConfigError, match="No clip is named nobody"):
        split(ann, ("nobody",))


def test_too_few_clips_and_senseless_windows_are_refused(numbered: list[RegionFile]) -> None:
    with pytest.raises(ConfigError, match="3 clips to learn from, but a batch takes 4"):
        SyncSampler(numbered[:3], WINDOWS, PLAIN)
    with pytest.raises(ConfigError, match="at least 2 clips"):
        replace(WINDOWS, clips=1)
    with pytest.raises(ConfigError, match="longer than the shift"):
        replace(WINDOWS, shift=16)
    with pytest.raises(ConfigError, match="at least 1 frame"):
        replace(PLAIN, long_from=0)


def test_changes_of_the_sound_keep_its_length_and_range() -> None:
    chance = np.random.default_rng(0)
    times = np.arange(4000) / SAMPLE_RATE
    sound = (0.9 * np.sin(2 * np.pi * 300 * times)).astype(np.float32)
    other = chance.normal(0, 0.2, 4000).astype(np.float32)
    strong = replace(SyncAugment(), noise_share=1.0, speech_share=1.0)
    changed = [change_sound(sound, other, strong, chance) for _ in range(20)]
    assert all(c.shape == sound.shape and c.dtype == np.float32 for c in changed)
    assert max(float(np.abs(c).max()) for c in changed) <= 1
    assert len({float(np.abs(c).mean()) for c in changed}) == 20
    assert (change_sound(sound, other, PLAIN, chance) == sound).all()
    silence = np.zeros_like(sound)
    assert np.isfinite(change_sound(silence, silence, strong, chance)).all()


def test_stretched_bands_move_formants() -> None:
    energies = np.zeros((3, 26), np.float32)
    energies[:, 10] = 1
    np.testing.assert_array_equal(stretch_bands(energies, 1.0), energies)
    assert stretch_bands(energies, 1.25)[0].argmax() == 8
    assert stretch_bands(energies, 0.8)[0].argmax() in (12, 13)
