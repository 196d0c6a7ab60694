import pytest
import torch

from tests.networks import fill
from tests.training.public_files import digest
from training.public_networks import SYNCNET_COLOUR, WAV2LIP, empty_network, public_shapes
from training.wav2lip import SyncNetColour, Wav2Lip, mouth_window

pytestmark = pytest.mark.models

# Tensors, parameters, and the SHA-256 of the lines "name<TAB>shape", sorted, of the public
# checkpoints.
PUBLIC = {
    WAV2LIP: (352, 36_298_035, "6005e447c0f81e1d83fa212ebca1017e0328bad8a9e40f25a95f314e42872e4d"),
    SYNCNET_COLOUR: (
        217,
        16_435_072,
        "be6e6f65802dc86ae83c6d6693066f8bb556b8bd5b29e62d8f198cd2a5b26c1e",
    ),
}


@pytest.fixture(scope="module")
def generator() -> Wav2Lip:
    model = Wav2Lip()
    fill(model, 0)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def expert() -> SyncNetColour:
    model = SyncNetColour()
    fill(model, 0)
    return model.eval().requires_grad_(False)


@pytest.mark.parametrize("kind", PUBLIC)
def test_names_and_shapes_are_those_of_the_public_checkpoints(kind: str) -> None:
    tensors, parameters, expected = PUBLIC[kind]
    shapes = public_shapes(kind, {})
    assert sum(p.numel() for p in empty_network(kind, {}).parameters()) == parameters
    assert (len(shapes), digest(shapes)) == (tensors, expected)


def test_generator_paints_by_sound_pose_and_reference(generator: Wav2Lip) -> None:
    torch.manual_seed(0)
    mel, faces = torch.rand(1, 1, 80, 16) * 8 - 4, torch.rand(1, 6, 96, 96)
    other_pose, other_reference = faces.clone(), faces.clone()
    other_pose[:, :3] *= 0.5
    other_reference[:, 3:] *= 0.5
    mels = torch.cat([mel, -mel, mel, mel])
    painted = generator(mels, torch.cat([faces, faces, other_pose, other_reference]))
    assert painted.shape == (4, 3, 96, 96)
    assert 0 <= painted.min() < painted.max() <= 1
    for changed in painted[1:]:
        assert (changed - painted[0]).abs().max() > 1e-3


def test_expert_gives_a_cosine_for_each_pair(expert: SyncNetColour) -> None:
    torch.manual_seed(0)
    mel, frames = torch.rand(3, 1, 80, 16) * 8 - 4, torch.rand(3, 5, 3, 96, 96)
    faces = mouth_window(frames)
    cosine = expert(mel, faces)
    assert cosine.shape == (3,)
    assert ((cosine >= 0) & (cosine <= 1 + 1e-6)).all()
    heard, watched = expert.hear(mel), expert.watch(faces)
    torch.testing.assert_close(cosine, torch.cosine_similarity(heard, watched), atol=1e-6, rtol=0)
    torch.testing.assert_close(heard.norm(dim=1), torch.ones(3))
    assert watched.shape == (3, 512)


def test_expert_sees_the_lower_half_frame_after_frame() -> None:
    frames = torch.arange(5 * 3).reshape(1, 5, 3, 1, 1).repeat(1, 1, 1, 96, 96).float()
    frames[..., :48, :] = -1
    window = mouth_window(frames)
    assert window.shape == (1, 15, 48, 96)
    assert (window == torch.arange(15.0).reshape(1, 15, 1, 1)).all()
