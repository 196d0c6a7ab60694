import pytest
import torch
from torch import Tensor

from engine.mel import SILENCE
from training.mel_augment import MEL_PER_DB, MelAugment

pytestmark = pytest.mark.models

NOTHING = MelAugment(tract=0.0, level_db=0.0, colour_db=0.0, noise_db=-100.0)


def chance(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def voice() -> Tensor:
    """A hundred windows with a formant at band 40, in [-3, 2]."""
    bands = torch.arange(80.0)
    formant = -3 + 5 * torch.exp(-((bands - 40) ** 2) / 50)
    return formant[None, None, :, None].repeat(100, 1, 1, 16)


def test_shape_and_range_stay(voice: Tensor) -> None:
    wild = MelAugment(tract=0.4, level_db=40.0, colour_db=40.0, noise_db=-10.0)
    changed = wild(voice, chance())
    assert changed.shape == voice.shape
    assert changed.min() >= -4
    assert changed.max() <= 4
    assert (changed - voice).abs().mean() > 0.5


def test_nothing_asked_for_changes_almost_nothing(voice: Tensor) -> None:
    # The floor of silence still adds to what is heard: by 10·log10(2) dB where both are equal.
    assert (NOTHING(voice, chance()) - voice).abs().max() < 10 * 0.302 * MEL_PER_DB


def test_chance_alone_decides(voice: Tensor) -> None:
    augment = MelAugment()
    assert torch.equal(augment(voice, chance(1)), augment(voice, chance(1)))
    assert not torch.equal(augment(voice, chance(1)), augment(voice, chance(2)))


def test_longer_and_shorter_tracts_move_the_formant_both_ways(voice: Tensor) -> None:
    changed = MelAugment(tract=0.2, level_db=0, colour_db=0, noise_db=-100)(voice, chance())
    peaks = changed[:, 0, :, 0].argmax(dim=1).float()
    assert peaks.min() < 36
    assert peaks.max() > 45
    assert peaks.min() >= 40 / 1.2 - 1
    assert peaks.max() <= 40 / 0.8 + 1


def test_level_changes_all_bands_alike_within_its_bound(voice: Tensor) -> None:
    changed = MelAugment(tract=0, level_db=6.0, colour_db=0, noise_db=-100)(voice, chance())
    loud = changed[:, 0, 35:45, 0] - voice[:, 0, 35:45, 0]  # far above the floor
    assert (loud - loud[:, :1]).abs().max() < 0.02
    assert loud.abs().max() <= 6.0 * MEL_PER_DB + 0.02
    assert loud.max() > 4.0 * MEL_PER_DB
    assert loud.min() < -4.0 * MEL_PER_DB


def test_half_of_the_silences_get_a_noise_floor() -> None:
    silence = torch.full((400, 1, 80, 16), SILENCE)
    noisy = MelAugment(tract=0, level_db=0, colour_db=0, noise_db=-45)(silence, chance())
    heard = noisy.mean(dim=(1, 2, 3)) > SILENCE + 0.4
    assert 120 < int(heard.sum()) < 240
    loudest = noisy.mean(dim=(1, 2, 3)).max()
    assert loudest < SILENCE + 55 * MEL_PER_DB + 1.0


def test_loud_speech_drowns_the_noise(voice: Tensor) -> None:
    noisy = MelAugment(tract=0, level_db=0, colour_db=0, noise_db=-60)(voice, chance())
    assert (noisy[:, 0, 40] - voice[:, 0, 40]).abs().max() < 0.1
