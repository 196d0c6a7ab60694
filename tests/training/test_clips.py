import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.errors import ConfigError
from training.clips import ClipInfo, find_clips, is_held_out, read_clip, write_clip

pytestmark = pytest.mark.unit

CROPS = np.arange(4 * 8 * 8 * 3, dtype=np.uint8).reshape(4, 8, 8, 3)
MESH = np.linspace(0, 7, 4 * 468 * 3, dtype=np.float32).reshape(4, 468, 3)


def write(folder: Path, **changes: Any) -> Path:
    fields: dict[str, Any] = {
        "name": folder.name,
        "speaker": "ann",
        "source": "ann.mp4",
        "frames": 4,
        "resolution": 8,
        "crop": {"kind": "upright-landmarks", "above": 0.5},
    }
    samples = np.array([0.0, 0.5, -1.0, 1.5], np.float32)
    write_clip(folder, ClipInfo(**{**fields, **changes}), CROPS, MESH, samples)
    return folder


def test_clip_comes_back_as_it_was_written(tmp_path: Path) -> None:
    clip = read_clip(write(tmp_path / "a"))
    assert clip.info.speaker == "ann"
    assert clip.info.crop == {"kind": "upright-landmarks", "above": 0.5}
    np.testing.assert_array_equal(clip.crops, CROPS)
    np.testing.assert_allclose(clip.mesh, MESH, atol=4e-3)
    assert isinstance(clip.crops, np.memmap)


def test_sound_is_clipped_to_its_range(tmp_path: Path) -> None:
    samples = read_clip(write(tmp_path / "a")).samples()
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, [0.0, 0.5, -1.0, 1.0], atol=1e-4)


def test_unfinished_clip_is_neither_found_nor_read(tmp_path: Path) -> None:
    write(tmp_path / "b" / "two")
    write(tmp_path / "a" / "one")
    half = write(tmp_path / "a" / "half")
    (half / "clip.json").unlink()
    assert list(find_clips(tmp_path)) == [tmp_path / "a" / "one", tmp_path / "b" / "two"]
    with pytest.raises(ConfigError, match="holds no prepared clip"):
        read_clip(half)


def test_description_with_an_unknown_field_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    content = json.loads((folder / "clip.json").read_text())
    (folder / "clip.json").write_text(json.dumps({**content, "age": 3}))
    with pytest.raises(ConfigError, match="run `python -m training prepare` again"):
        read_clip(folder)


def test_folder_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no prepared clips"):
        list(find_clips(tmp_path))


def test_held_out_clips_are_those_whose_hash_ends_a_decade() -> None:
    names = [f"clip{i}" for i in range(500)]
    held_out = [name for name in names if is_held_out(name)]
    assert all(int(hashlib.sha1(n.encode()).hexdigest(), 16) % 10 == 0 for n in held_out)
    assert 30 <= len(held_out) <= 70
    assert is_held_out("bbaf2n") == (int(hashlib.sha1(b"bbaf2n").hexdigest(), 16) % 10 == 0)
