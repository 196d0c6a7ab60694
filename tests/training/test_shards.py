"""Pictures here say which clip and frame they are: the first pixel's red and green."""

import io
import json
import tarfile
import weakref
from collections import Counter, defaultdict
from dataclasses import asdict, replace
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError
from tests.training.drawn_clips import AUDIO_WIDTH, CONFIG, face, face_mesh
from tests.training.sync_toys import openings, tones
from training import pairs, shard_reading
from training.__main__ import main
from training.audio_encoder import AudioEncoder
from training.checkpoint import load_checkpoint, save_checkpoint
from training.clips import ClipInfo, find_clips, is_held_out, read_clip, write_clip
from training.config import Objective, TrainConfig
from training.hardware import Hardware
from training.pairs import Batch, PairSampler
from training.shard_reading import LANES, Lanes, read_shard
from training.shards import GROUP, INDEX, SPLITS, Packer, Shard, opening_of_frames, read_index
from training.train import Run

pytestmark = pytest.mark.models

SPEAKERS = {"ann": 13, "bob": 6, "eve": 5, "zoe": 2, "kim": 1}
"""How many clips there are of each."""
FRAMES, SIDE = 20, 16
SIZE = 900_000
DRAW = replace(CONFIG, objective=Objective(), clips=4, k=5, apart_s=0.4)


def write_labelled(root: Path, speaker: str, name: str, number: int) -> None:
    """A clip whose pictures are noise, which no lossy format would keep."""
    chance = np.random.default_rng(number)
    crops = chance.integers(0, 256, (FRAMES, SIDE, SIDE, 3), np.uint8)
    crops[:, 0, 0, 0], crops[:, 0, 0, 1] = number, np.arange(FRAMES)
    opening = openings(number, FRAMES)
    mesh = np.stack([face_mesh(o) for o in opening])
    info = ClipInfo(
        name=name, speaker=speaker, source=name, frames=FRAMES, resolution=SIDE, crop={"above": 0.5}
    )
    write_clip(root / speaker / name, info, crops, mesh, tones(opening))


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("prepared")
    number = 0
    for speaker, clips in SPEAKERS.items():
        for index in range(clips):
            write_labelled(root, speaker, f"{speaker}.{index}", number)
            number += 1
    return root


@pytest.fixture(scope="module")
def sharded(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sharded")
    Packer(prepared, root, size=SIZE, workers=2).pack()
    return root


def tars(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(root.glob("*.tar"))}


def labels(pictures: torch.Tensor) -> NDArray[np.int64]:
    """(n, 2): clip and frame of each picture."""
    return np.asarray(np.round(pictures[:, :2, 0, 0].numpy() * 255), np.int64)


def same(a: Batch, b: Batch) -> bool:
    found = [(getattr(a, name), getattr(b, name)) for name in Batch.__slots__]
    return all(x is y is None or torch.equal(x, y) for x, y in found)


def joined(parts: list[Batch]) -> Batch:
    changes: dict[str, Any] = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in Batch.__slots__
        if isinstance(getattr(parts[0], name), torch.Tensor)
    }
    return replace(parts[0], **changes)


# ---- packing -----------------------------------------------------------------------------------


def test_clips_come_back_bit_by_bit(prepared: Path, sharded: Path) -> None:
    expected = {folder.name: read_clip(folder) for folder in find_clips(prepared)}
    for split in SPLITS:
        for shard in read_index(sharded, split):
            for clip, opening in read_shard(sharded, shard):
                true = expected.pop(clip.info.name)
                assert is_held_out(clip.info.name) == (split == "judge")
                assert clip.info == true.info
                for name in ("mesh", "audio"):
                    found, kept = getattr(clip, name), getattr(true, name)
                    assert found.dtype == kept.dtype
                    np.testing.assert_array_equal(found, kept)
                np.testing.assert_array_equal(clip.crops[:], true.crops)
                np.testing.assert_array_equal(clip.crops[7], true.crops[7])
                np.testing.assert_array_equal(clip.crops[3:8], true.crops[3:8])
                np.testing.assert_array_equal(opening, opening_of_frames(true))
    assert not expected


def test_members_of_a_clip_lie_together_under_one_key(sharded: Path) -> None:
    keys = []
    for name, content in tars(sharded).items():
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            names = [member.name.split(".", 1) for member in tar]
        assert [suffix for _, suffix in names] == [
            *("json", "crops.zip", "mesh.npy", "audio.npy")
        ] * (len(names) // 4)
        assert all(len({key for key, _ in names[i : i + 4]}) == 1 for i in range(0, len(names), 4))
        keys += [(name.split("-")[0], key) for key, _ in names[::4]]
    assert len(set(keys)) == len(keys) == sum(SPEAKERS.values())


def test_shards_are_of_bounded_size_and_hold_several_speakers(sharded: Path) -> None:
    shards = read_index(sharded, "train")
    assert len(shards) >= 3
    assert all(len(shard.speakers) >= 2 for shard in shards[:-1])  # the last has what is left
    for name, content in tars(sharded).items():
        assert len(content) <= SIZE, name


def test_speaker_is_never_alone_in_a_shard_and_is_spread_over_all(sharded: Path) -> None:
    shards = read_index(sharded, "train")
    total = sum((Counter(shard.speakers) for shard in shards), Counter[str]())
    for shard in shards:
        assert all(clips >= 2 or total[name] == 1 for name, clips in shard.speakers.items())
    with_ann = [shard.speakers.get("ann", 0) for shard in shards]
    assert max(with_ann) <= 2 * GROUP


def test_packing_is_repeated_byte_by_byte_and_another_seed_is_another_order(
    prepared: Path, sharded: Path, tmp_path: Path
) -> None:
    Packer(prepared, tmp_path / "again", size=SIZE).pack()
    assert tars(tmp_path / "again") == tars(sharded)
    assert (tmp_path / "again" / INDEX).read_text() == (sharded / INDEX).read_text()
    Packer(prepared, tmp_path / "other", size=SIZE, seed=1).pack()
    assert tars(tmp_path / "other") != tars(sharded)


def test_stopped_packing_goes_on_after_its_last_whole_shard(
    prepared: Path, sharded: Path, tmp_path: Path
) -> None:
    said: list[str] = []

    def stop(line: str) -> None:
        said.append(line)
        if len(said) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Packer(prepared, tmp_path, size=SIZE, say=stop).pack()
    (tmp_path / "train-000002.tar.partial").write_bytes(b"half a shard")
    with pytest.raises(ConfigError, match=r"holds shards without index\.json"):
        PairSampler(tmp_path, DRAW)

    said.clear()
    Packer(prepared, tmp_path, size=SIZE, say=said.append).pack()
    assert [line.split()[0] for line in said[:3]] == ["kept", "kept", "wrote"]
    assert tars(tmp_path) == tars(sharded)
    assert not list(tmp_path.glob("*.partial"))


def test_shard_that_was_removed_is_written_again(
    prepared: Path, sharded: Path, tmp_path: Path
) -> None:
    Packer(prepared, tmp_path, size=SIZE).pack()
    (tmp_path / "train-000001.tar").unlink()
    Packer(prepared, tmp_path, size=SIZE).pack()
    assert tars(tmp_path) == tars(sharded)


def test_shards_of_other_clips_are_refused(prepared: Path, tmp_path: Path) -> None:
    Packer(prepared, tmp_path, size=SIZE).pack()
    with pytest.raises(ConfigError, match=r"train-000000\.tar holds other clips than .*ann would"):
        Packer(prepared / "ann", tmp_path, size=SIZE).pack()
    with pytest.raises(ConfigError, match=r"name another folder with -o, or the --seed"):
        Packer(prepared, tmp_path, size=SIZE, seed=1).pack()
    (tmp_path / "train-000099.tar").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"shards of other clips \(train-000099\.tar\)"):
        Packer(prepared, tmp_path, size=SIZE).pack()


@pytest.mark.parametrize("indexed", [True, False])
def test_damaged_shard_is_not_taken_for_a_whole_one(
    prepared: Path, tmp_path: Path, indexed: bool
) -> None:
    Packer(prepared, tmp_path, size=SIZE).pack()
    shard = tmp_path / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-200_000])
    if not indexed:
        (tmp_path / INDEX).unlink()
    with pytest.raises(ConfigError, match=r"train-000001\.tar is damaged .*: remove it"):
        Packer(prepared, tmp_path, size=SIZE).pack()


# ---- which shards are open ---------------------------------------------------------------------


def drawn_shards(count: int, frames: int = 500) -> list[Shard]:
    return [
        Shard(file=str(n), bytes=0, sha256="", frames=frames + n, speakers={}) for n in range(count)
    ]


def test_each_shard_has_one_turn_a_round() -> None:
    lanes = Lanes(drawn_shards(12), seed=3, samples=4)
    turns: dict[int, list[int]] = defaultdict(list)
    for step in range(1, 1000):
        for lane, shard in enumerate(lanes.open_at(step)):
            if turns[lane][-1:] != [shard]:
                turns[lane].append(shard)
    first_round = [shard for lane in range(4) for shard in turns[lane][:3]]
    assert sorted(first_round) == list(range(12))
    second_round = [shard for lane in range(4) for shard in turns[lane][3:6]]
    assert sorted(second_round) == list(range(12))
    assert first_round != second_round


def test_lane_keeps_a_shard_for_one_sample_a_second_of_it() -> None:
    lanes = Lanes(drawn_shards(1, 500), seed=0, samples=2)
    assert lanes.open_at(1) == lanes.open_at(1000) == [0, 0]
    lanes = Lanes(drawn_shards(40, 500), seed=0, samples=16)  # two samples of a step a lane
    last = [lanes.open_at(step)[-1] for step in range(1, 300)]
    turns = [len(list(steps)) for _, steps in groupby(last)]
    assert set(turns[:-1]) == {10, 11}  # 500 to 539 frames


def test_lanes_do_not_change_all_at_once() -> None:
    lanes = Lanes(drawn_shards(100, 2000), seed=0, samples=LANES)
    opened = [lanes.open_at(step) for step in range(1, 200)]
    changes = [sum(a != b for a, b in zip(old, new, strict=True)) for old, new in pairwise(opened)]
    assert max(changes) == 1
    assert sum(changes) > LANES


def test_open_shards_follow_from_the_step_alone() -> None:
    lanes = Lanes(drawn_shards(30), seed=5, samples=6)
    forward = [lanes.open_at(step) for step in range(1, 400)]
    backward = [lanes.open_at(step) for step in range(399, 0, -1)]
    assert forward == backward[::-1]
    assert Lanes(drawn_shards(30), seed=5, samples=6).open_at(250) == forward[249]
    other = Lanes(drawn_shards(30), seed=6, samples=6)
    assert forward != [other.open_at(step) for step in range(1, 400)]


# ---- drawing -----------------------------------------------------------------------------------


def test_samples_are_those_of_the_prepared_clips(prepared: Path, sharded: Path) -> None:
    by_number = {int(c.crops[0, 0, 0, 0]): c for c in map(read_clip, find_clips(prepared))}
    config = replace(DRAW, objective=Objective(sync="unsupervised", sync_frames=20))
    seen = set()
    sampler = PairSampler(sharded, config)
    for step in range(1, 60):
        batch = sampler.draw(step)
        frames, references = labels(batch.frames).reshape(4, 5, 2), labels(batch.identity)
        for index, (number, first) in enumerate(frames[:, 0]):
            clip, start = by_number[number], int(first)
            seen.add(number)
            crops = clip.crops[start : start + 5].transpose(0, 3, 1, 2).astype(np.float32) / 255
            np.testing.assert_array_equal(batch.frames[5 * index : 5 * index + 5], crops)
            reference = by_number[references[index, 0]]
            assert reference.info.speaker == clip.info.speaker
            assert batch.context is not None
            around = int(batch.context.starts[index])
            own = batch.context.frames[index, around : around + 5]
            np.testing.assert_array_equal(own, crops)
    learnt = {n for n, clip in by_number.items() if not is_held_out(clip.info.name)}
    assert seen == learnt


def test_reference_is_of_another_clip_where_there_is_one(sharded: Path, prepared: Path) -> None:
    by_number = {int(c.crops[0, 0, 0, 0]): c for c in map(read_clip, find_clips(prepared))}
    sampler = PairSampler(sharded, replace(DRAW, apart_s=10.0))
    for step in range(1, 30):
        batch = sampler.draw(step)
        targets, references = labels(batch.frames)[::5, 0], labels(batch.identity)[:, 0]
        for target, reference in zip(targets, references, strict=True):
            assert target != reference or by_number[target].info.speaker == "kim"


def test_step_and_seed_alone_decide_what_is_drawn(sharded: Path) -> None:
    sampler = PairSampler(sharded, DRAW)
    drawn = {step: sampler.draw(step) for step in (9, 2, 30)}
    assert not same(drawn[9], drawn[2])
    assert all(same(PairSampler(sharded, DRAW).draw(s), batch) for s, batch in drawn.items())
    assert not same(PairSampler(sharded, replace(DRAW, seed=1)).draw(9), drawn[9])


def test_clips_kept_for_judging_are_drawn_only_when_asked_for(
    sharded: Path, prepared: Path
) -> None:
    clips = [read_clip(folder) for folder in find_clips(prepared)]
    judged = {int(c.crops[0, 0, 0, 0]) for c in clips if is_held_out(c.info.name)}
    assert judged
    sampler = PairSampler(sharded, DRAW, held_out=True)
    drawn = {int(n) for step in range(1, 20) for n in labels(sampler.draw(step).frames)[:, 0]}
    assert drawn == judged


def test_no_more_clips_are_held_than_those_of_the_open_shards(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = weakref.WeakSet[shard_reading.Pictures]()

    class Counted(shard_reading.Pictures):
        def __init__(self, packed: memoryview, frames: int) -> None:
            super().__init__(packed, frames)
            held.add(self)

    monkeypatch.setattr(shard_reading, "Pictures", Counted)
    shards = read_index(sharded, "train")
    sizes = sorted(sum(shard.speakers.values()) for shard in shards)
    config = replace(DRAW, clips=2)
    sampler = PairSampler(sharded, config)
    counts = []
    for step in range(1, 100):
        sampler.draw(step)
        counts.append(len(held))
    assert max(counts) <= sum(sizes[-2:]) < sum(sizes)
    assert len(set(counts)) > 1  # shards came and went


def test_processes_draw_together_what_one_would_and_read_only_their_own_shards(
    sharded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[int, list[str]] = defaultdict(list)
    rank = -1

    def noted(root: Path, shard: Shard) -> object:
        read[rank].append(shard.file)
        return read_shard(root, shard)

    monkeypatch.setattr(pairs, "read_shard", noted)
    one = PairSampler(sharded, DRAW)
    wholes = [one.draw(step) for step in range(1, 9)]
    parts: list[list[Batch]] = [[] for _ in wholes]
    for rank in (0, 1):
        sampler = PairSampler(sharded, DRAW)
        for step, found in enumerate(parts, 1):
            for own in Hardware(torch.device("cpu"), rank, 2).own(DRAW.clips, 1):
                found.append(sampler.draw(step, own))
    assert all(same(joined(found), whole) for found, whole in zip(parts, wholes, strict=True))
    assert len(read[0]) + len(read[1]) <= len(read[-1]) + 2
    assert max(len(read[0]), len(read[1])) < len(read[-1])


def test_shares_of_absent_speakers_go_to_the_others(sharded: Path, prepared: Path) -> None:
    by_number = {int(c.crops[0, 0, 0, 0]): c for c in map(read_clip, find_clips(prepared))}
    config = replace(DRAW, speakers={"zoe": 0.5, "ann": 0.3, "*": 0.2})
    sampler = PairSampler(sharded, config)
    drawn = Counter(
        by_number[int(n)].info.speaker
        for step in range(1, 60)
        for n in labels(sampler.draw(step).identity)[:, 0]
    )
    assert drawn["zoe"] > 0
    assert drawn["ann"] > 0
    shards = read_index(sharded, "train")
    assert any("zoe" not in shard.speakers for shard in shards)
    alone = PairSampler(sharded, replace(DRAW, speakers={"zoe": 1.0}))
    assert {
        by_number[int(n)].info.speaker
        for step in range(1, 20)
        for n in labels(alone.draw(step).identity)[:, 0]
    } == {"zoe"}
    with pytest.raises(ConfigError, match="no clips of the speaker 'max'"):
        PairSampler(sharded, replace(DRAW, speakers={"max": 1.0}))


# ---- damage ------------------------------------------------------------------------------------


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut_short, r"it has \d+ bytes of \d+"),
        (flip, "its bytes have changed"),
        (Path.unlink, "No such file"),
    ],
)
def test_damaged_shard_is_named_with_the_next_step(
    sharded: Path, tmp_path: Path, damage: object, reason: str
) -> None:
    for name, content in tars(sharded).items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / INDEX).write_text((sharded / INDEX).read_text())
    for path in tmp_path.glob("train-*.tar"):
        assert callable(damage)
        damage(path)
    with pytest.raises(ConfigError) as failure:
        PairSampler(tmp_path, DRAW).draw(1)
    assert failure.match(rf"train-\d+\.tar is not the shard that was written \(.*{reason}")
    assert failure.match("copy it again from where it is whole")


@pytest.mark.parametrize("text", ["", "[]", '{"format": 9}', '{"format": 1}'])
def test_index_that_can_not_be_read_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(ConfigError, match=r"is no index of shards \(.+\): run `python -m training"):
        PairSampler(tmp_path, DRAW)


# ---- a run, and the command line ---------------------------------------------------------------


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of drawn faces, one speaker's two clips in each, and an untrained audio encoder."""
    root = tmp_path_factory.mktemp("faces")
    for seed in range(8):
        opening = openings(seed, 24)
        speaker = f"s{seed // 2}"
        info = ClipInfo(
            name=f"v{seed}", speaker=speaker, source="", frames=24, resolution=96, crop={}
        )
        crops = np.stack([face(o, seed) for o in opening])
        mesh = np.stack([face_mesh(o) for o in opening])
        write_clip(root / "clips" / speaker / info.name, info, crops, mesh, tones(opening))
    Packer(root / "clips", root / "shards", size=1).pack()
    torch.manual_seed(0)
    save_checkpoint(
        root / "audio.pt",
        kind="audio",
        config={"width": AUDIO_WIDTH},
        model=AudioEncoder(AUDIO_WIDTH).state_dict(),
        placement=CONFIG.placement.to_dict(),
    )
    return root


RUN: TrainConfig = replace(CONFIG, objective=Objective(), steps=6, save_every=6)


def test_stopped_run_goes_on_as_if_it_had_not_been(
    faces: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(read_index(faces / "shards", "train")) == 4

    def start(folder: str) -> Run:
        return Run(faces / "shards", faces / "audio.pt", tmp_path / folder, RUN)

    whole = load_checkpoint(start("whole").train())
    first = start("halves")
    first.model.train()
    for first.step in range(1, 4):
        first.train_step(first.step)
    first.save()
    second = start("halves")
    assert second.step == 3
    halves = load_checkpoint(second.train())
    capsys.readouterr()
    for name, value in whole.resume["weights"].items():
        assert torch.equal(halves.resume["weights"][name], value), name
    for name, value in whole.model.items():
        assert torch.equal(halves.model[name], value), name


def test_command_packs_says_what_it_did_and_goes_on(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["shards", str(prepared), "-o", str(tmp_path / "out"), "--size", "1", "--workers", "1"]
    assert main(words) == 0
    output = capsys.readouterr().out
    assert "wrote train-000000.tar: " in output
    assert f"{sum(SPEAKERS.values())} clips in " in output
    assert main(words) == 0
    assert "wrote" not in capsys.readouterr().out
    assert main(["shards", str(tmp_path / "none"), "-o", str(tmp_path / "out2")]) == 2
    assert "holds no prepared clips" in capsys.readouterr().err


def test_folder_that_can_not_be_written_is_said(
    prepared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert main(["shards", str(prepared), "-o", str(tmp_path / "file")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("lipstream-train: The shards can't be written (")
    assert error.count("\n") == 1


def test_index_says_what_the_shards_hold(sharded: Path) -> None:
    stored = json.loads((sharded / INDEX).read_text())
    for split in SPLITS:
        for shard in read_index(sharded, split):
            assert shard.bytes == (sharded / shard.file).stat().st_size
            assert shard.frames == FRAMES * sum(shard.speakers.values())
            assert asdict(shard) in stored[split]
