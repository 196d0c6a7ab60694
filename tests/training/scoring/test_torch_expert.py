from pathlib import Path

import numpy as np
import pytest

from engine.errors import ConfigError
from tests.training.drawn_clips import TINY_EXPERT, tiny_expert, write_all
from tests.training.sync_toys import mouths, openings, tones
from training.checkpoint import EXPERT, save_checkpoint
from training.expert_features import clip_alone
from training.public_networks import SYNCNET_COLOUR
from training.scoring.torch_expert import TorchExpert
from training.wav2lip import SyncNetColour
from training.weights import Weights, save_weights

pytestmark = pytest.mark.models


def test_it_gives_the_features_that_training_gives(tmp_path: Path) -> None:
    model = tiny_expert()
    save_checkpoint(
        tmp_path / "own.pt", kind=EXPERT, config=TINY_EXPERT.to_dict(), model=model.state_dict()
    )
    expert = TorchExpert(tmp_path / "own.pt")
    assert expert.name == "own"
    opening = openings(0)
    regions, sound = mouths(opening), tones(opening)
    heard = expert.embed_sound(sound, len(regions))
    found = expert.alone(heard, expert.embed_regions(regions))
    expected = clip_alone(model, regions, sound)
    np.testing.assert_allclose(found.lips, expected.lips, atol=1e-5)
    np.testing.assert_allclose(found.sound, expected.sound, atol=1e-5)


def test_other_networks_are_refused_in_one_sentence(tmp_path: Path) -> None:
    write_all(tmp_path)
    with pytest.raises(ConfigError, match="not a lip expert"):
        TorchExpert(tmp_path / "audio.pt")
    save_weights(
        tmp_path / "colour.safetensors",
        Weights(
            kind=SYNCNET_COLOUR,
            config={},
            source="none",
            source_sha256="",
            licence="none",
            training_data="none",
            tensors=SyncNetColour().state_dict(),
        ),
    )
    with pytest.raises(ConfigError, match="is no AV-HuBERT"):
        TorchExpert(tmp_path / "colour.safetensors")
