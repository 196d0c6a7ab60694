"""A dot is painted at a mesh point; wherever the picture goes, the mesh has to go with it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from training.augment import augment_batch
from training.config import Augment
from training.pairs import Batch

pytestmark = pytest.mark.models

STILL = Augment(share=0.0, flip=0.0, misplace=0.0)
PLACES = torch.tensor(
    [[20.0, 20.0], [48.0, 30.0], [70.0, 60.0], [30.0, 75.0], [60.0, 80.0], [40.0, 50.0]]
)
K = 2


def dots(place: Tensor, side: int = 96) -> Tensor:
    """A soft white dot of 2 px at (x, y) on dark grey, (3, S, S)."""
    ticks = torch.arange(side, dtype=torch.float32)
    distance = (ticks[None, :] - place[0]) ** 2 + (ticks[:, None] - place[1]) ** 2
    return (0.2 + 0.7 * torch.exp(-distance / 8)).expand(3, -1, -1)


def batch_of(place: Tensor, samples: int = 6) -> Batch:
    """All pictures show one dot; mesh point 0 is there, the others are elsewhere."""
    mesh = torch.full((468, 2), 48.0)
    mesh[0] = place
    return Batch(
        mel=torch.zeros(samples * K, 1, 80, 16),
        frames=dots(place).repeat(samples * K, 1, 1, 1),
        identity=dots(place).repeat(samples, 1, 1, 1),
        mesh=mesh.repeat(samples * K, 1, 1),
        identity_mesh=mesh.repeat(samples, 1, 1),
    )


def centre(picture: Tensor) -> Tensor:
    """Where the dot is: the centre of what is brighter than the ground, (x, y)."""
    light = picture.mean(dim=0)
    light = (light - light.median() - 0.15 * (light.max() - light.median())).clamp(min=0)
    ticks = torch.arange(light.shape[0], dtype=torch.float32)
    total = light.sum()
    return torch.stack(
        ((light * ticks[None]).sum() / total, (light * ticks[:, None]).sum() / total)
    )


def chance(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    "settings",
    [
        replace(STILL, flip=1.0),
        replace(STILL, misplace=0.03),
        replace(STILL, share=1.0, colour=0.0, gamma=0.0, elastic=0.05),
        Augment(share=1.0, flip=0.5, misplace=0.02),
    ],
    ids=["flip", "misplace", "elastic", "all"],
)
@pytest.mark.parametrize("place", PLACES, ids=lambda p: f"{p[0]:.0f}-{p[1]:.0f}")
def test_mesh_follows_the_picture(settings: Augment, place: Tensor) -> None:
    changed = augment_batch(batch_of(place), settings, chance(int(place.sum())))
    for pictures, meshes in (
        (changed.frames, changed.mesh),
        (changed.identity, changed.identity_mesh),
    ):
        for picture, mesh in zip(pictures, meshes, strict=True):
            assert (centre(picture) - mesh[0]).norm() < 1.0


def test_pictures_do_move() -> None:
    place = PLACES[0]
    elastic = replace(STILL, share=1.0, colour=0.0, gamma=0.0, elastic=0.05)
    changed = augment_batch(batch_of(place), elastic, chance(0))
    assert (changed.mesh[::K, 0] - place).norm(dim=1).max() > 1.0
    stray = augment_batch(batch_of(place), replace(STILL, misplace=0.03), chance(0))
    assert (stray.identity_mesh[:, 0] - place).norm(dim=1).max() > 1.0
    assert (stray.mesh[:, 0] - place).norm(dim=1).max() < 1e-3  # only the reference strays


def test_nothing_asked_for_changes_nothing_but_rounding() -> None:
    before = batch_of(PLACES[1])
    after = augment_batch(before, STILL, chance(0))
    torch.testing.assert_close(after.frames, before.frames, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.identity, before.identity, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.mesh, before.mesh, atol=1e-4, rtol=0)
    torch.testing.assert_close(after.identity_mesh, before.identity_mesh, atol=1e-4, rtol=0)


def test_flip_mirrors_pixel_by_pixel() -> None:
    random = torch.rand(1, 3, 96, 96, generator=chance(1))
    before = replace(
        batch_of(PLACES[0], samples=1), frames=random.repeat(K, 1, 1, 1), identity=random
    )
    after = augment_batch(before, replace(STILL, flip=1.0), chance(0))
    torch.testing.assert_close(after.frames, before.frames.flip(-1), atol=1e-4, rtol=0)
    torch.testing.assert_close(after.identity, random.flip(-1), atol=1e-4, rtol=0)
    assert after.mesh[0, 0].tolist() == pytest.approx([75.0, 20.0], abs=1e-3)


def test_identity_and_targets_share_colour_and_form_and_samples_differ() -> None:
    whole = replace(Augment(share=1.0, colour=0.2, gamma=0.4, elastic=0.04), misplace=0.0)
    before = batch_of(PLACES[2])
    after = augment_batch(before, whole, chance(4))
    frames = after.frames.reshape(6, K, 3, 96, 96)
    for k in range(K):
        torch.testing.assert_close(frames[:, k], after.identity)
    assert (after.identity[0] - after.identity[1]).abs().mean() > 0.01
    assert (after.identity - before.identity).abs().mean(dim=(1, 2, 3)).min() > 0.005


def test_share_leaves_the_others_as_they_are() -> None:
    before = batch_of(PLACES[2], samples=40)
    some = replace(STILL, share=0.5, colour=0.2)
    after = augment_batch(before, some, chance(2))
    changed = (after.identity - before.identity).abs().amax(dim=(1, 2, 3)) > 1e-3
    assert 10 <= int(changed.sum()) <= 30


def test_pictures_stay_in_range_and_sound_stays_as_it_is() -> None:
    wild = Augment(share=1.0, colour=0.5, gamma=1.0, elastic=0.1)
    before = batch_of(PLACES[3])
    after = augment_batch(before, wild, chance(3))
    for pictures in (after.frames, after.identity):
        assert pictures.min() >= 0
        assert pictures.max() <= 1
        assert bool(torch.isfinite(pictures).all())
    assert after.mel is before.mel


def test_chance_alone_decides() -> None:
    settings = Augment()
    once = augment_batch(batch_of(PLACES[3]), settings, chance(3))
    again = augment_batch(batch_of(PLACES[3]), settings, chance(3))
    other = augment_batch(batch_of(PLACES[3]), settings, chance(4))
    assert torch.equal(once.frames, again.frames)
    assert not torch.equal(once.frames, other.frames)
    assert np.array_equal(once.mesh.numpy(), again.mesh.numpy())
