from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.errors import MediaError
from engine.mfcc import mfcc
from tests.training.public_files import digest
from training.public_networks import SYNCNET, empty_network, public_shapes
from training.syncnet import FEATURES, SyncNet, distances, features, measure, scores

pytestmark = pytest.mark.models

# The SHA-256 of the lines "name<TAB>shape", sorted, of the public weights.
PUBLIC = "61d60ab002e32699e64343286010ad51d342dd02da008a9a229d399a8f130db5"
FRAMES = 8


@pytest.fixture(scope="module")
def model() -> SyncNet:
    torch.manual_seed(0)
    return SyncNet().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def clip() -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    chance = np.random.default_rng(0)
    frames = chance.integers(0, 256, (FRAMES, 224, 224, 3), dtype=np.uint8)
    return frames, chance.normal(0, 0.1, 640 * FRAMES).astype(np.float32)


def test_names_and_shapes_are_those_of_the_public_weights() -> None:
    shapes = public_shapes(SYNCNET, {})
    assert sum(p.numel() for p in empty_network(SYNCNET, {}).parameters()) == 13_631_616
    assert (len(shapes), digest(shapes)) == (102, PUBLIC)


def test_windows_see_and_hear_what_they_should(
    model: SyncNet, clip: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    frames, samples = clip
    lips, sounds = features(model, frames, samples)
    assert lips.shape == sounds.shape == (FRAMES - 5, FEATURES)
    cepstra = torch.from_numpy(mfcc(samples)).float()
    pictures = torch.from_numpy(frames).float()
    for i in (0, 2):
        seen = pictures[i : i + 5].permute(3, 0, 1, 2)[None]
        heard = cepstra[4 * i : 4 * i + 20].T[None, None]
        np.testing.assert_allclose(lips[i : i + 1], model.watch(seen), atol=1e-4)
        np.testing.assert_allclose(sounds[i : i + 1], model.hear(heard), atol=1e-4)
    assert np.abs(lips[0] - lips[2]).max() > 0.01
    assert np.abs(sounds[0] - sounds[2]).max() > 0.01


def test_figures_of_a_clip_are_those_of_its_distances(
    model: SyncNet, clip: tuple[NDArray[np.uint8], NDArray[np.float32]]
) -> None:
    found = measure(model, *clip)
    assert found == scores(distances(*features(model, *clip)))
    assert found.lse_d > 0
    assert found.lse_c >= 0
    assert -15 <= found.offset <= 15


def test_distances_are_torchs_own() -> None:
    chance = np.random.default_rng(0)
    lips, sounds = chance.normal(size=(2, 9, FEATURES)).astype(np.float32)
    padded = torch.nn.functional.pad(torch.from_numpy(sounds), (0, 0, 15, 15))
    found = distances(lips, sounds)
    assert found.shape == (9, 31)
    for i in range(9):
        repeated = torch.from_numpy(lips[i]).repeat(31, 1)
        expected = torch.nn.functional.pairwise_distance(repeated, padded[i : i + 31])
        np.testing.assert_allclose(found[i], expected.numpy(), rtol=1e-5)


@pytest.mark.parametrize("late", [-4, 0, 7])
def test_offset_is_positive_where_sound_is_late(late: int) -> None:
    sounds = np.random.default_rng(0).normal(size=(60, FEATURES)).astype(np.float32)
    found = scores(distances(np.roll(sounds, -late, axis=0)[20:40], sounds[20:40]))
    assert found.offset == late
    assert found.lse_c > 1


def test_figures_follow_from_the_means_of_the_shifts() -> None:
    between = np.tile(np.arange(31, dtype=np.float32)[::-1] + 5, (4, 1))
    found = scores(between)
    assert (found.lse_d, found.lse_c, found.offset) == (5.0, 15.0, 15)


@pytest.mark.parametrize(
    "shortened",
    [
        pytest.param(lambda frames, samples: (frames[:5], samples), id="pictures"),
        pytest.param(lambda frames, samples: (frames, samples[: 6 * 640 - 1]), id="sound"),
    ],
)
def test_clip_that_is_too_short_is_refused(
    model: SyncNet,
    clip: tuple[NDArray[np.uint8], NDArray[np.float32]],
    shortened: Callable[..., tuple[NDArray[np.uint8], NDArray[np.float32]]],
) -> None:
    with pytest.raises(MediaError, match="too short for SyncNet; it needs 6 frames"):
        measure(model, *shortened(*clip))
