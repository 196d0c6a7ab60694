from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.errors import ConfigError
from tests.training.drawn_clips import SIDE, write_all, write_drawn
from tests.training.toys import held_out_names
from training.clips import find_clips, read_clip
from training.colour_expert import FILE, ColourConfig, ColourRun, cosine_loss
from training.config import Augment
from training.pairs import pictures_of_crops
from training.public_networks import restore
from training.wav2lip import SyncNetColour
from training.weights import load_weights

pytestmark = pytest.mark.models

TINY = ColourConfig(clips=1, windows=2, steps=2)


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three clips to learn from, of 24, 18 and 12 frames, and one that is held out."""
    root = tmp_path_factory.mktemp("drawn")
    write_all(root)
    write_drawn(root / "clips", held_out_names(1)[0], 9, 15)
    return root / "clips"


def test_the_loss_is_the_cross_entropy_of_own_and_other_sounds() -> None:
    chance = torch.Generator().manual_seed(0)
    watched, heard = (F.normalize(torch.rand(3, 4, 8, generator=chance), dim=-1) for _ in "ab")
    own: list[Tensor] = []
    other: list[Tensor] = []
    for c in range(3):
        for v in range(4):
            for w in range(4):
                cosine = (watched[c, v] * heard[c, w]).sum()
                (own if v == w else other).append(-torch.log(cosine if v == w else 1 - cosine))
    expected = (torch.stack(own).mean() + torch.stack(other).mean()) / 2
    assert torch.allclose(cosine_loss(watched, heard), expected)


def _place(window: Tensor, held: list[Tensor]) -> tuple[int, int]:
    """Number of the clip and first frame of a window (5, 3, S, S)."""
    for number, crops in enumerate(held):
        for start in range(len(crops) - 4):
            apart = crops[start] - window[0]
            if float(apart.abs().max()) < 2e-3:
                assert torch.allclose(crops[start : start + 5], window, atol=2e-3)
                return number, start
    raise AssertionError("the window is in no clip")


def test_windows_of_a_clip_do_not_overlap_and_stay_within_it(clips: Path, tmp_path: Path) -> None:
    plain = ColourConfig(clips=1, windows=2, augment=Augment(share=0.0, flip=0.0))
    run = ColourRun(clips, tmp_path, plain)
    held = [pictures_of_crops(np.array(read_clip(path).crops)) for path in find_clips(clips)]
    starts = set()
    for step in range(1, 12):
        windows = run.draw(step).frames.reshape(2, 5, 3, SIDE, SIDE)
        (clip, first), (other_clip, second) = (_place(window, held) for window in windows)
        assert clip == other_clip
        assert abs(first - second) >= 5
        starts |= {(clip, first), (clip, second)}
    assert len(starts) > 5


def test_a_run_that_goes_on_is_the_run_that_was_not_stopped(clips: Path, tmp_path: Path) -> None:
    straight = ColourRun(clips, tmp_path / "a", TINY)
    straight.train()
    broken = ColourRun(clips, tmp_path / "b", TINY)
    broken.step = 1
    broken.train_step(1)
    broken.save()
    again = ColourRun(clips, tmp_path / "b", TINY)
    assert again.step == 1
    again.train()
    first, second = straight.model.state_dict(), again.model.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(ConfigError, match="different: seed"):
        ColourRun(clips, tmp_path / "b", ColourConfig(clips=1, windows=2, steps=2, seed=1))
    weights = load_weights(tmp_path / "a" / FILE)
    assert isinstance(restore(weights), SyncNetColour)
    assert weights.training_data == "3 prepared clips of ann"


def test_it_is_judged_by_held_out_clips(clips: Path, tmp_path: Path) -> None:
    run = ColourRun(clips, tmp_path, TINY)
    assert run.clips == 3
    told_apart = run.told_apart()
    assert told_apart is not None
    assert 0 <= told_apart <= 1


def test_a_network_that_knows_the_sound_tells_all_apart(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Knows(SyncNetColour):
        """Embeds the place within the batch: what belongs together is alike."""

        def hear(self, mel: Tensor) -> Tensor:
            return torch.eye(len(mel))

        def watch(self, faces: Tensor) -> Tensor:
            return torch.eye(len(faces))

    run = ColourRun(clips, tmp_path, TINY)
    monkeypatch.setattr(run, "averaged", Knows)
    assert run.told_apart() == 1.0


def test_clips_that_are_too_short_are_one_sentence(clips: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"holds no clip of 1\.2 s or more"):
        ColourRun(clips, tmp_path, ColourConfig(windows=6))
