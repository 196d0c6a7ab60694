"""AV-HuBERT's names, shapes and numbers, against other people's."""

import importlib
import warnings
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError
from tests.networks import fill
from tests.training.public_files import digest
from training.avhubert import BASE, LARGE, AvHubert, AvHubertConfig
from training.public_networks import AVHUBERT, public_shapes, public_state

pytestmark = pytest.mark.models

CLOSE = 1e-4
NARROW = AvHubertConfig(layers=2, dim=128, ffn=256, heads=2, trunk=(8, 8, 16, 24))
T = 30

# Tensors and the SHA-256 of the lines "name<TAB>shape", sorted, of the public checkpoints' part
# that is used here: without mask_emb, label_embs_concat and final_proj.
PUBLIC = {
    "base": (BASE, 342, "284d5a97d3615f9b1eec61c2988ddee213a2d8eaf4a2cd49dd81b9ab8698bc71"),
    "large": (LARGE, 534, "392d060002ed20c2f702f795b920a88993cbb882cd7de13e048487b9ec7dc5d7"),
}


@pytest.mark.parametrize("size", PUBLIC)
def test_names_and_shapes_are_those_of_the_public_checkpoints(size: str) -> None:
    config, tensors, expected = PUBLIC[size]
    shapes = public_shapes(AVHUBERT, config.to_dict())
    assert (len(shapes), digest(shapes)) == (tensors, expected)


@pytest.mark.parametrize("config", [BASE, LARGE, NARROW], ids=["base", "large", "narrow"])
def test_sizes_are_read_off_the_shapes(config: AvHubertConfig) -> None:
    assert AvHubertConfig.from_shapes(public_shapes(AVHUBERT, config.to_dict())) == config


def test_sizes_of_no_network_are_refused() -> None:
    shapes = public_shapes(AVHUBERT, NARROW.to_dict())
    with pytest.raises(ConfigError, match="must be a multiple"):
        AvHubertConfig.from_shapes({**shapes, "post_extract_proj.weight": (100, 200)})
    with pytest.raises(KeyError):
        AvHubertConfig.from_shapes({})


def test_public_names_load() -> None:
    model, other = AvHubert(NARROW), AvHubert(NARROW)
    fill(model, 1)
    public = public_state(model)
    assert {"encoder.pos_conv.0.weight_g", "encoder.pos_conv.0.weight_v"} <= public.keys()
    assert not any("parametrizations" in name for name in public)
    other.load_state_dict(public)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


@pytest.fixture(scope="module")
def base() -> AvHubert:
    """The public base's transformer of three layers, with numbers of usual sizes."""
    model = AvHubert(AvHubertConfig(layers=3, trunk=(8, 8, 8, 8))).eval()
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if name.endswith("original0"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        elif parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.03)
        else:
            torch.nn.init.normal_(parameter, 1.0 if "norm.weight" in name else 0.0, 0.1)
    return model.requires_grad_(False)


def sequences(padded: bool) -> tuple[Tensor, Tensor | None]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(2, T, 768, generator=generator)
    padding = torch.zeros(2, T, dtype=torch.bool)
    padding[1, T - 9 :] = True
    return x, padding if padded else None


def worst(found: Tensor, expected: Tensor, padding: Tensor | None) -> float:
    difference = (found - expected).abs().amax(dim=-1)
    return float(difference.max() if padding is None else difference[~padding].max())


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_transformer_is_that_of_transformers(base: AvHubert, padded: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of packages that they find or miss
        wav2vec2: Any = importlib.import_module("transformers.models.wav2vec2.modeling_wav2vec2")
        theirs = wav2vec2.Wav2Vec2EncoderStableLayerNorm(
            wav2vec2.Wav2Vec2Config(
                hidden_size=768,
                num_hidden_layers=3,
                num_attention_heads=12,
                intermediate_size=3072,
                num_conv_pos_embeddings=128,
                num_conv_pos_embedding_groups=16,
                do_stable_layer_norm=True,
                attn_implementation="eager",
            )
        ).eval()
    renamed = {}
    for name, tensor in base.encoder.state_dict().items():
        for ours, other in (
            ("pos_conv.0.", "pos_conv_embed.conv."),
            ("self_attn_layer_norm", "LAYER_NORM"),
            ("self_attn.", "attention."),
            ("LAYER_NORM", "layer_norm"),
            ("fc1", "feed_forward.intermediate_dense"),
            ("fc2", "feed_forward.output_dense"),
        ):
            name = name.replace(ours, other)
        renamed[name] = tensor
    theirs.load_state_dict(renamed)
    x, padding = sequences(padded)
    with torch.no_grad():
        found = base.encoder(x, padding)
        mask = None if padding is None else ~padding
        expected = theirs(x.clone(), attention_mask=mask).last_hidden_state
    assert expected.std() > 0.5
    assert worst(found, expected, padding) <= CLOSE


@pytest.mark.parametrize("padded", [False, True], ids=["whole", "padded"])
def test_transformer_is_that_of_fairseq(base: AvHubert, padded: bool) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs, of what torch has deprecated since
        pytest.importorskip("fairseq")
        from fairseq.models.wav2vec import wav2vec2

        theirs = wav2vec2.TransformerEncoder(
            SimpleNamespace(
                activation_dropout=0.0,
                activation_fn="gelu",
                attention_dropout=0.0,
                checkpoint_activations=False,
                conv_pos=128,
                conv_pos_groups=16,
                dropout=0.0,
                encoder_attention_heads=12,
                encoder_embed_dim=768,
                encoder_ffn_embed_dim=3072,
                encoder_layerdrop=0.0,
                encoder_layers=3,
                layer_norm_first=True,
                layer_type="transformer",
                pos_conv_depth=1,
                required_seq_len_multiple=1,
            )
        ).eval()
    public = {
        name.removeprefix("encoder."): tensor
        for name, tensor in public_state(base).items()
        if name.startswith("encoder.")
    }
    theirs.load_state_dict(public)
    x, padding = sequences(padded)
    with torch.no_grad():
        found = base.encoder(x, padding)
        expected, _ = theirs(x.clone(), padding_mask=padding)
    assert expected.std() > 0.5
    assert worst(found, expected, padding) <= CLOSE


def test_padding_counts(base: AvHubert) -> None:
    """The comparisons above would not notice a mask that is left out of both."""
    x, padding = sequences(True)
    with torch.no_grad():
        assert (base.encoder(x, padding) - base.encoder(x))[1, : T - 9].abs().max() > 0.01
