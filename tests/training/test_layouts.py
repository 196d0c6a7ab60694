from pathlib import Path, PurePosixPath

import pytest

from engine.errors import ConfigError, MediaError
from training.layouts import LAYOUTS, LayoutName, choose_items, find_items, find_videos

pytestmark = pytest.mark.unit

ID, OTHER_ID = "5535415699068794046", "6330311066473698535"


def lay(root: Path, *files: str) -> Path:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return root


def test_only_videos_are_found_in_order(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match="is not a folder"):
        find_videos(tmp_path / "none")
    (tmp_path / "a.txt").touch()
    with pytest.raises(MediaError, match="holds no videos"):
        find_videos(tmp_path)
    lay(tmp_path, "z.MP4", "b/a.mkv")
    assert find_videos(tmp_path) == [tmp_path / "b/a.mkv", tmp_path / "z.MP4"]


def test_links_to_folders_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    elsewhere = lay(tmp_path / "elsewhere", "one.mp4", "deep/two.mp4")
    source = tmp_path / "videos"
    source.mkdir()
    (source / "ann").symlink_to(elsewhere)
    (elsewhere / "deep" / "up").symlink_to(source)
    assert find_videos(source) == [source / "ann/deep/two.mp4", source / "ann/one.mp4"]
    assert [item.speaker for item in find_items(source)] == ["deep", "ann"]


def test_own_videos_lie_in_a_folder_a_person(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lay(tmp_path, "ann/one.mp4", "trip/eve/two.mov", "notes.txt")
    one, two = find_items(tmp_path)
    assert (one.speaker, one.name, one.place) == ("ann", "one", PurePosixPath("ann/one"))
    assert (two.speaker, two.name, two.place) == ("eve", "two", PurePosixPath("trip/eve/two"))
    assert one.split is None
    monkeypatch.chdir(tmp_path / "ann")  # the folder itself, as a point
    assert [item.speaker for item in find_items(Path())] == ["ann"]


def test_two_videos_that_would_become_one_clip_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MediaError, match=r"one\.m.* would become one clip: rename"):
        find_items(lay(tmp_path, "ann/one.mp4", "ann/one.mkv"))


def test_lrs2_has_its_parts_and_clips_of_one_number_stay_apart(tmp_path: Path) -> None:
    files = f"main/{ID}/00001", f"main/{OTHER_ID}/00002", f"pretrain/{ID}/00001"
    lay(tmp_path, *(f"{f}.{ending}" for f in files for ending in ("mp4", "txt")), "main/more.mp4")
    items = find_items(tmp_path, "lrs2")
    assert [(i.speaker, i.name, i.split) for i in items] == [
        (ID, f"{ID}-00001", "main"),
        (OTHER_ID, f"{OTHER_ID}-00002", "main"),
        (ID, f"pretrain-{ID}-00001", "pretrain"),
    ]
    assert items[0].pictures == tmp_path / "main" / ID / "00001.mp4"
    alone = find_items(tmp_path / "main", "lrs2")
    assert [(i.name, i.place) for i in alone] == [(i.name, i.place) for i in items[:2]]


def test_each_clip_of_lrw_is_its_own_speaker(tmp_path: Path) -> None:
    words = "ABOUT/train/ABOUT_00001.mp4", "ABOUT/test/ABOUT_00001.mp4", "AFTER/val/AFTER_00007.mp4"
    lay(tmp_path / "lipread_mp4", *words)
    for source in (tmp_path, tmp_path / "lipread_mp4"):
        items = find_items(source, "lrw")
        assert [i.place.as_posix() for i in items] == [
            "test/ABOUT/test-ABOUT_00001",
            "train/ABOUT/train-ABOUT_00001",
            "val/AFTER/val-AFTER_00007",
        ]
        assert [i.speaker for i in items] == [i.name for i in items]
        assert [i.split for i in items] == ["test", "train", "val"]


def test_speaker_of_hdtf_is_the_video_that_a_clip_was_cut_from(tmp_path: Path) -> None:
    lay(
        tmp_path, "WDA/WDA_Some_One_000_0.mp4", "WDA/WDA_Some_One_000_12.mp4", "RD_Radio1_000_3.mp4"
    )
    assert [(i.speaker, i.name) for i in find_items(tmp_path, "hdtf")] == [
        ("RD_Radio1_000", "RD_Radio1_000_3"),
        ("WDA_Some_One_000", "WDA_Some_One_000_0"),
        ("WDA_Some_One_000", "WDA_Some_One_000_12"),
    ]


def test_preparations_of_others_have_their_sound_apart(tmp_path: Path) -> None:
    lay(tmp_path / "w", f"{ID}/00001/0.jpg", f"{ID}/00001/audio.wav", f"{ID}/00002/0.jpg", "x.txt")
    (item,) = find_items(tmp_path / "w", "wav2lip")
    assert item.pictures == tmp_path / "w" / ID / "00001"
    assert item.sound == item.pictures / "audio.wav"
    assert (item.speaker, item.name) == (ID, f"{ID}-00001")

    lay(tmp_path / "t", f"video/{ID}/00001.mp4", f"audio/{ID}/00001.wav", f"bbx/{ID}/00001.npy")
    (item,) = find_items(tmp_path / "t", "talklip")
    assert item.pictures == tmp_path / "t" / "video" / ID / "00001.mp4"
    assert item.sound == tmp_path / "t" / "audio" / ID / "00001.wav"
    assert (item.speaker, item.name) == (ID, f"{ID}-00001")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_folder_of_another_layout_is_refused_with_what_was_expected(
    tmp_path: Path, layout: LayoutName
) -> None:
    lay(tmp_path, "readme.txt", *([] if layout == "own" else ["ann/one.mp4"]))
    with pytest.raises(MediaError, match=f"does not look like --layout {layout}: it should hold"):
        find_items(tmp_path, layout)
    with pytest.raises(MediaError, match="is not a folder"):
        find_items(tmp_path / "none", layout)


def test_list_chooses_by_the_first_word_of_its_lines(tmp_path: Path) -> None:
    part = "main", "pretrain"
    lay(tmp_path, *(f"{p}/{ID}/0000{n}.mp4" for p in part for n in (1, 2)))
    items = find_items(tmp_path, "lrs2")
    listed = tmp_path / "test.txt"
    listed.write_text(f"{ID}/00002 NF0001\n\n{ID}/00009\n")
    chosen, missing = choose_items(items, listed)
    assert [(i.name, i.split) for i in chosen] == [(f"{ID}-00002", "test")]
    assert missing == [f"{ID}/00009"]

    listed = tmp_path / "pretrain.txt"  # its lines are of the other part
    listed.write_text(f"{ID}/00002\nmain/{ID}/00001.mp4\n")
    chosen, missing = choose_items(items, listed)
    assert [i.name for i in chosen] == [f"{ID}-00001", f"pretrain-{ID}-00002"]
    assert not missing


def test_list_of_other_layouts_names_clips_by_their_paths(tmp_path: Path) -> None:
    listed = tmp_path / "train.txt"
    listed.write_text("AFTER/test/AFTER_00008 1\n./ann/one.v2\nann/two.mp4\n")
    lay(tmp_path / "lrw", *(f"AFTER/test/AFTER_0000{n}.mp4" for n in (7, 8)))
    chosen, _ = choose_items(find_items(tmp_path / "lrw", "lrw"), listed)
    assert [i.name for i in chosen] == ["test-AFTER_00008"]
    lay(tmp_path / "own", "ann/one.v2.mp4", "ann/two.mp4", "ann/three.mp4")
    chosen, _ = choose_items(find_items(tmp_path / "own"), listed)
    assert [i.name for i in chosen] == ["one.v2", "two"]


def test_list_that_names_nothing_here_is_refused(tmp_path: Path) -> None:
    items = find_items(lay(tmp_path / "videos", "ann/one.mp4"))
    listed = tmp_path / "train.txt"
    with pytest.raises(ConfigError, match="can't be read"):
        choose_items(items, listed)
    listed.write_text("eve/one\n")
    with pytest.raises(ConfigError, match=r"its first line: eve/one; .* for instance, ann/one"):
        choose_items(items, listed)
    listed.write_text("\n")
    with pytest.raises(ConfigError, match="its first line: empty"):
        choose_items(items, listed)
