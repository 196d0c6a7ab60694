"""A checkpoint in the offline chain paints what its bundle paints."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.bundle import Bundle
from engine.generator import Chunk, Generator
from training.checkpoint import load_checkpoint
from training.painter import TorchPainter

pytestmark = pytest.mark.models


def picture(seed: int, *shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (*shape, 96, 96, 3)).astype(np.uint8)


def test_it_paints_what_the_bundle_paints(tiny_bundle: Bundle) -> None:
    checkpoint = load_checkpoint(tiny_bundle.folder.parent / "model.pt")
    painter = TorchPainter(checkpoint, torch.device("cpu"))
    bundle = Generator(tiny_bundle, threads=1, slots=2)
    for name in ("crop", "resolution", "rows", "k", "mel", "placement"):
        assert getattr(painter, name) == getattr(tiny_bundle, name)
    mel = np.random.default_rng(1).uniform(-4, 4, (3, 1, 80, 16)).astype(np.float32)
    chunk = Chunk(mel=mel, pose=picture(2, 3))
    painted = []
    for generator in (painter, bundle):
        slots = [generator.open(picture(seed)) for seed in (3, 4)]
        assert slots == [0, 1]
        generator.close(0)
        assert generator.open(picture(5)) == 0
        painted.append(generator.step({0: chunk, 1: chunk}))
    ours, theirs = painted
    assert not np.array_equal(ours[0], ours[1])
    for slot in (0, 1):
        assert ours[slot].dtype == np.uint8
        assert ours[slot].shape == theirs[slot].shape == (3, 56, 96, 3)
        assert np.abs(ours[slot].astype(int) - theirs[slot]).max() <= 1
