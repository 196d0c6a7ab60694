import pytest
import torch

from engine.errors import ConfigError
from tests.networks import fill
from training.audio_encoder import AudioEncoder

pytestmark = pytest.mark.models

# The fourteen convolutions of the public lip expert's audio side: out, in, kernel.
PUBLIC_CONVOLUTIONS = [
    (32, 1, 3),
    (32, 32, 3),
    (32, 32, 3),
    (64, 32, 3),
    (64, 64, 3),
    (64, 64, 3),
    (128, 64, 3),
    (128, 128, 3),
    (128, 128, 3),
    (256, 128, 3),
    (256, 256, 3),
    (256, 256, 3),
    (512, 256, 3),
    (512, 512, 1),
]
PUBLIC_PARAMETERS = 3_403_264


def public_shapes() -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for index, (outs, ins, kernel) in enumerate(PUBLIC_CONVOLUTIONS):
        convolution, normalisation = f"{index}.conv_block.0", f"{index}.conv_block.1"
        shapes[f"{convolution}.weight"] = (outs, ins, kernel, kernel)
        shapes[f"{convolution}.bias"] = (outs,)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{normalisation}.{name}"] = (outs,)
        shapes[f"{normalisation}.num_batches_tracked"] = ()
    return shapes


def test_public_lip_expert_loads_by_name_and_shape() -> None:
    encoder = AudioEncoder(1.0)
    found = {name: tuple(value.shape) for name, value in encoder.state_dict().items()}
    assert found == public_shapes()
    assert sum(p.numel() for p in encoder.parameters()) == PUBLIC_PARAMETERS


@pytest.mark.parametrize("width", [0.02, 0.45, 1.0])
def test_embedding_has_512_values_at_every_width(width: float) -> None:
    encoder = AudioEncoder(width).eval()
    with torch.no_grad():
        embedding = encoder(torch.zeros(2, 1, 80, 16))
    assert embedding.shape == (2, 512)


@pytest.mark.parametrize("columns", [16, 34])
def test_embedding_depends_on_every_column_of_the_window(columns: int) -> None:
    encoder = AudioEncoder(0.02, columns).eval()
    fill(encoder, 1)
    silence = torch.full((1, 1, 80, columns), -4.0)
    clicks = silence.repeat(columns, 1, 1, 1)
    clicks[range(columns), 0, :, range(columns)] = 4.0
    with torch.no_grad():
        change = (encoder(clicks) - encoder(silence)).abs().amax(dim=1)
    assert (change > 1e-3).all()


def test_branch_for_the_past_says_nothing_until_it_has_learnt() -> None:
    encoder = AudioEncoder(0.02, 34).eval()
    assert encoder.past is not None
    with torch.no_grad():
        assert not encoder.past(torch.rand(1, 8, 3, 6)).any()


@pytest.mark.parametrize("columns", [10, 17, 33])
def test_window_that_no_map_fits_is_refused(columns: int) -> None:
    with pytest.raises(ConfigError, match="audio_columns must be 16, or more by a multiple of 6"):
        AudioEncoder(0.5, columns)


def test_no_width_is_refused() -> None:
    with pytest.raises(ConfigError, match="audio_width must be above 0"):
        AudioEncoder(0.0)
