"""Paint gets the contrast of real mouths: in figures made by hand, and with the starter's."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from engine.bundle import load_bundle
from engine.errors import ConfigError
from tests.training.test_train import CONFIG as TRAIN
from tests.training.toys import held_out_names
from training.__main__ import main
from training.bundled import read_generator
from training.checkpoint import load_checkpoint, save_checkpoint
from training.clips import read_clip
from training.contrast import Inside, contrast, look, sharpen
from training.generator import HEAD_CHANNELS, Generator

pytestmark = pytest.mark.models

DEPTH, FACE, NOISE = 0, 1, 2
"""Maps that tell how deep in the mouth a pixel lies, whose face it is, and nothing."""


def face(seed: int, *, spread: float = 0.5) -> Inside:
    """A mouth whose brightness spreads by so much around a mean of its own."""
    chance = torch.Generator().manual_seed(seed)
    depth, noise = torch.randn(2, 400, generator=chance, dtype=torch.float64)
    depth = (depth - depth.mean()) / depth.std()
    own = torch.randn(1, generator=chance, dtype=torch.float64)
    maps = torch.zeros(400, HEAD_CHANNELS, dtype=torch.float64)
    maps[:, DEPTH], maps[:, FACE], maps[:, NOISE] = depth, own, noise
    return Inside(maps, own + spread * depth)


def flat_head(spread: float = 0.2) -> nn.Conv2d:
    """A head that paints each face's own mean, and little of the depth."""
    head = nn.Conv2d(HEAD_CHANNELS, 6, 1)
    with torch.no_grad():
        head.weight[3:] = 0
        head.weight[3:, DEPTH] = spread
        head.weight[3:, FACE] = 1
        head.bias.copy_(torch.arange(6) / 10)  # type: ignore[union-attr]
    return head


def painted(head: nn.Conv2d, inside: Inside) -> Tensor:
    """Logits of the painted RGB, (n, 3)."""
    maps = inside.maps.float().T[None, :, :, None]
    logits: Tensor = head(maps)[0, 3:, :, 0]
    return logits.T.detach()


def test_brightness_spreads_as_it_does_in_real_mouths_on_faces_not_fitted_to() -> None:
    head, unseen = flat_head(), face(9)
    before = painted(head, unseen)
    sharpen(head, [face(seed) for seed in range(8)])
    after = painted(head, unseen)
    assert after.mean(dim=1).std() == pytest.approx(0.5, rel=0.1)
    assert after.mean(dim=0) == pytest.approx(before.mean(dim=0), abs=0.05)


def test_hue_flow_and_mask_stay() -> None:
    head, inside = flat_head(), face(9)
    others, before = head.weight[:3].clone(), painted(head, inside)
    sharpen(head, [face(seed) for seed in range(8)])
    after = painted(head, inside)
    assert torch.equal(head.weight[:3], others)
    assert (after - after.mean(dim=1, keepdim=True)).numpy() == pytest.approx(
        (before - before.mean(dim=1, keepdim=True)).numpy(), abs=1e-5
    )


def test_paint_of_one_brightness_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"all one brightness yet.*train the generator longer"):
        sharpen(flat_head(spread=0.001), [face(seed) for seed in range(3)])


def test_what_is_seen_lies_between_the_painted_lips(toy_clips: Path) -> None:
    bundle = load_bundle()
    model = read_generator(bundle).eval()
    clip = read_clip(toy_clips / "ann" / held_out_names(1, held_out=False)[0])
    inside = look(model, clip, bundle.placement)
    assert inside.maps.shape == (len(inside.brightness), HEAD_CHANNELS)
    assert len(inside.brightness) > 500
    dark = np.log(60 / 195) + 2 * np.log(20 / 235)  # the toy's mouth: 60, 20, 20
    assert inside.brightness.median().item() == pytest.approx(dark / 3, abs=0.1)


def test_command_changes_the_paint_and_nothing_else(
    starter_generator: Path, toy_clips: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sharpened.pt"
    assert main(["contrast", str(starter_generator), str(toy_clips), "-o", str(out)]) == 0
    made, given = load_checkpoint(out), load_checkpoint(starter_generator)
    found = made.training["contrast"]
    assert (found["clips"], found["control"]) == (4, 1)
    assert abs(np.log(found["after"])) < abs(np.log(found["before"]))
    said = capsys.readouterr().out
    assert f"{found['after']:.2f} times as far" in said
    assert "on 1 clips" in said
    changed = {n for n in given.model if not torch.equal(made.model[n], given.model[n])}
    assert changed == {"head.weight", "head.bias"}
    assert torch.equal(made.model["head.weight"][:3], given.model["head.weight"][:3])
    assert made.training["licence"] == "CC0"
    assert not made.resume


def test_a_generator_without_a_warp_head_is_refused(tmp_path: Path, toy_clips: Path) -> None:
    config = replace(TRAIN.generator, head="rgb")
    model = Generator(config)
    save_checkpoint(tmp_path / "rgb.pt", config=config.to_dict(), model=model.state_dict())
    with pytest.raises(ConfigError, match="only a generator with a warp head"):
        contrast(tmp_path / "rgb.pt", toy_clips, tmp_path / "out.pt", clips_each=1)


def test_too_few_clips_are_one_sentence(
    starter_generator: Path, toy_clips: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"holds 2 clips with an open mouth.*prepare more"):
        contrast(starter_generator, toy_clips / "eve", tmp_path / "out.pt", clips_each=3)
