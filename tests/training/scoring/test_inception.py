from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.public_files import random_state, write
from training.importing import import_checkpoint
from training.public_networks import INCEPTION, public_shapes, restore
from training.scoring.inception import FEATURES, Inception, picture_features
from training.weights import load_weights

pytestmark = pytest.mark.models


def test_sizes_are_those_of_the_public_network() -> None:
    # Keras counts 21,768,352 trainable numbers without the classes and without 17,216 gammas.
    shapes = public_shapes(INCEPTION, {})
    numbers = [
        np.prod(shape, dtype=int)
        for name, shape in shapes.items()
        if "running" not in name and shape
    ]
    assert sum(numbers) == 21_768_352 + 17_216 + 2049 * 1008
    assert shapes["Mixed_7c.branch3x3dbl_3b.conv.weight"] == (384, 384, 3, 1)
    assert shapes["fc.weight"] == (1008, 2048)


def test_features_do_not_depend_on_the_batch_and_see_the_picture() -> None:
    torch.manual_seed(0)
    model = Inception().eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):  # torch's own start would let the signal die away
            nn.init.kaiming_normal_(layer.weight)
    pictures = np.random.default_rng(0).integers(0, 256, (2, 96, 96, 3), dtype=np.uint8)
    both = picture_features(model, pictures)
    assert both.shape == (2, FEATURES)
    np.testing.assert_allclose(both[1:], picture_features(model, pictures[1:]), rtol=1e-3)
    assert np.abs(both[0] - both[1]).max() > 1e-2
    assert picture_features(model, pictures[:0]).shape == (0, FEATURES)


def test_public_weights_are_imported(tmp_path: Path) -> None:
    state = random_state(INCEPTION)
    imported = import_checkpoint(write(tmp_path / "pt.pth", state), tmp_path / "own.safetensors")
    assert imported.weights.kind == INCEPTION
    assert imported.parameters == 23_850_960
    assert isinstance(restore(load_weights(tmp_path / "own.safetensors")), Inception)
