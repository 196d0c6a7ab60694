"""Pictures here say which clip and frame they are: the first pixel's red and green."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.lips import mouth_opening
from engine.mel import SILENCE, cut_windows, log_mel
from tests.training.toys import held_out_names
from training.clips import FPS, ClipInfo, read_clip, write_clip
from training.config import TrainConfig
from training.generator import GeneratorConfig
from training.pairs import Batch, PairSampler

pytestmark = pytest.mark.models

CONFIG = TrainConfig(
    generator=GeneratorConfig(width=0.02, audio_width=0.02),
    speakers={"ann": 0.75, "*": 0.25},
    clips=8,
    silent_share=0.0,
)
FRAMES = 100
SPEAKERS = ("ann", "eve", "zoe")


def mesh_with_openings(openings: NDArray[np.float32]) -> NDArray[np.float32]:
    mesh = np.zeros((len(openings), 468, 3), np.float32)
    for eye, x in ((33, 20.0), (133, 30.0), (362, 60.0), (263, 70.0)):
        mesh[:, eye, 0] = x
    mesh[:, 14, 1] = 40 * openings
    return mesh


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips to learn from and one held out of each speaker; shut in frames 0 to 9."""
    root = tmp_path_factory.mktemp("pairs")
    names = [*held_out_names(2, held_out=False), *held_out_names(1)]
    chance = np.random.default_rng(0)
    openings = np.linspace(0.0, 0.5, FRAMES, dtype=np.float32)
    for number, (speaker, name) in enumerate((s, n) for s in SPEAKERS for n in names):
        crops = np.zeros((FRAMES, 96, 96, 3), np.uint8)
        crops[:, 0, 0, 0] = number
        crops[:, 0, 0, 1] = np.arange(FRAMES)
        info = ClipInfo(
            name=name, speaker=speaker, source=name, frames=FRAMES, resolution=96, crop={}
        )
        samples = chance.normal(0, 0.1, FRAMES * 640).astype(np.float32)
        write_clip(root / speaker / name, info, crops, mesh_with_openings(openings), samples)
    return root


def labels(pictures: torch.Tensor) -> NDArray[np.int64]:
    """(n, 2): clip and frame of each picture."""
    return np.asarray(np.round(pictures[:, :2, 0, 0].numpy() * 255), np.int64)


def test_batch_has_the_shapes_it_promises(clips: Path) -> None:
    batch = PairSampler(clips, CONFIG).draw(1)
    assert batch.mel.shape == (40, 1, 80, 16)
    assert batch.frames.shape == (40, 3, 96, 96)
    assert batch.identity.shape == (8, 3, 96, 96)
    assert batch.mesh.shape == (40, 468, 2)
    assert batch.identity_mesh.shape == (8, 468, 2)
    assert batch.frames.dtype == batch.mel.dtype == batch.mesh.dtype == torch.float32
    assert 0 <= batch.frames.min() <= batch.frames.max() <= 1


def same(a: Batch, b: Batch) -> bool:
    pairs = [(getattr(a, name), getattr(b, name)) for name in Batch.__slots__]
    return all(x is y is None or torch.equal(x, y) for x, y in pairs)


def test_step_and_seed_alone_decide_what_is_drawn(clips: Path) -> None:
    sampler, other = PairSampler(clips, CONFIG), PairSampler(clips, CONFIG)
    fifth = sampler.draw(5)
    assert same(fifth, other.draw(5))
    assert not same(fifth, sampler.draw(6))
    assert not same(fifth, PairSampler(clips, replace(CONFIG, seed=1)).draw(5))
    assert same(fifth, sampler.draw(5))


def test_frames_follow_each_other_in_one_clip_of_the_references_speaker(clips: Path) -> None:
    sampler = PairSampler(clips, CONFIG)
    for step in range(20):
        batch = sampler.draw(step)
        frames, references = labels(batch.frames).reshape(8, 5, 2), labels(batch.identity)
        assert (frames[:, :, 0] == frames[:, :1, 0]).all()
        assert (np.diff(frames[:, :, 1], axis=1) == 1).all()
        assert (frames[:, 0, 0] // 3 == references[:, 0] // 3).all()  # three clips a speaker


def test_short_clip_without_another_gives_a_reference_beside_the_painted_frames(
    tmp_path: Path,
) -> None:
    frames, name = 29, held_out_names(1, held_out=False)[0]
    crops = np.zeros((frames, 96, 96, 3), np.uint8)
    crops[:, 0, 0, 1] = np.arange(frames)
    openings = np.abs(np.arange(frames, dtype=np.float32) - 14)  # shut in the middle
    info = ClipInfo(name=name, speaker="zoe", source=name, frames=frames, resolution=96, crop={})
    samples = np.zeros(frames * 640, np.float32)
    write_clip(tmp_path / name, info, crops, mesh_with_openings(openings), samples)
    sampler = PairSampler(tmp_path, replace(CONFIG, speakers={"*": 1.0}))
    for step in range(10):
        batch = sampler.draw(step)
        middle = labels(batch.frames).reshape(8, 5, 2)[:, 2, 1]
        assert np.abs(labels(batch.identity)[:, 1] - middle).min() >= 7


def test_reference_has_a_shut_mouth_and_is_a_second_away_or_of_another_clip(clips: Path) -> None:
    sampler = PairSampler(clips, CONFIG)
    same_clip = 0
    for step in range(40):
        batch = sampler.draw(step)
        middle = labels(batch.frames).reshape(8, 5, 2)[:, 2]
        reference = labels(batch.identity)
        assert (reference[:, 1] < 0.1 * FRAMES).all()
        near = np.abs(reference[:, 1] - middle[:, 1]) < FPS - 1
        within = reference[:, 0] == middle[:, 0]
        same_clip += int(within.sum())
        assert not (near & within).any()
    assert same_clip > 20


def test_mel_windows_and_meshes_are_those_of_the_frames(clips: Path) -> None:
    batch = PairSampler(clips, CONFIG).draw(2)
    folders = sorted(p.parent for p in clips.rglob("clip.json"))
    by_number = {int(read_clip(f).crops[0, 0, 0, 0]): read_clip(f) for f in folders}
    for index, (number, frame) in enumerate(labels(batch.frames)):
        clip = by_number[int(number)]
        column = CONFIG.placement.first_column(int(frame) / FPS)
        window = cut_windows(log_mel(clip.samples()), [column], 16)[0]
        np.testing.assert_array_equal(batch.mel[index], window)
        np.testing.assert_array_equal(batch.mesh[index], clip.mesh[frame, :, :2].astype(np.float32))


def test_digital_silence_goes_with_the_most_shut_frames(clips: Path) -> None:
    batch = PairSampler(clips, replace(CONFIG, silent_share=1.0)).draw(0)
    assert (batch.mel == SILENCE).all()
    folders = sorted(p.parent for p in clips.rglob("clip.json"))
    by_number = {int(read_clip(f).crops[0, 0, 0, 0]): read_clip(f) for f in folders}
    for number, frame in labels(batch.frames).reshape(8, 5, 2)[:, 0]:
        mesh = by_number[int(number)].mesh.astype(np.float32)
        opening = np.array([mouth_opening(m) for m in mesh])
        sums = [opening[i : i + 5].sum() for i in range(FRAMES - 4)]
        assert sums[int(frame)] == pytest.approx(min(sums))


@pytest.mark.parametrize("held_out", [False, True])
def test_clips_kept_for_judging_are_drawn_only_when_asked_for(clips: Path, held_out: bool) -> None:
    sampler = PairSampler(clips, CONFIG, held_out=held_out)
    drawn = {int(n) % 3 for s in range(30) for n in labels(sampler.draw(s).frames)[:, 0]}
    assert drawn == ({2} if held_out else {0, 1})  # the third clip of each speaker is held out


def test_speakers_are_drawn_by_their_shares(clips: Path) -> None:
    sampler = PairSampler(clips, CONFIG)
    speakers = np.concatenate([labels(sampler.draw(s).identity)[:, 0] // 3 for s in range(60)])
    counts = np.bincount(speakers, minlength=3) / len(speakers)
    np.testing.assert_allclose(counts, [0.75, 0.125, 0.125], atol=0.06)


@pytest.mark.parametrize("speakers", [{"bob": 1.0}, {"ann": 0.4, "bob": 0.6}])
def test_speaker_without_clips_is_refused(clips: Path, speakers: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="no clips of the speaker 'bob'"):
        PairSampler(clips, replace(CONFIG, speakers=speakers))


def test_nobody_else_is_refused(clips: Path) -> None:
    with pytest.raises(ConfigError, match=r"no clips of the speaker '\*'"):
        PairSampler(clips / "ann", CONFIG)


def test_widely_open_mouths_are_drawn_more_often_where_the_run_asks(toy_clips: Path) -> None:
    def mean_gap(share: float) -> float:
        sampler = PairSampler(toy_clips, replace(CONFIG, open_share=share, silent_share=0.0))
        gaps = [
            mouth_opening(np.pad(mesh.numpy(), ((0, 0), (0, 1))))
            for step in range(1, 11)
            for mesh in sampler.draw(step).mesh
        ]
        return float(np.mean(gaps))

    assert mean_gap(1.0) > 1.2 * mean_gap(0.0)
