"""Every form of public checkpoint loads, and the wrong ones say what is wrong with them."""

import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from engine.errors import ConfigError
from tests.training.public_files import (
    BPE,
    DICT_CONFIG,
    DICTIONARY,
    METADATA,
    NODE,
    PROCESSOR,
    State,
    fairseq_objects,
    pretended,
    random_state,
    write,
)
from training.avhubert import AvHubert, AvHubertConfig
from training.importing import Imported, import_checkpoint
from training.public_networks import AVHUBERT, SYNCNET, SYNCNET_COLOUR, WAV2LIP, restore
from training.wav2lip import Wav2Lip
from training.weights import load_weights

pytestmark = pytest.mark.models

NARROW = AvHubertConfig(layers=2, dim=128, ffn=192, heads=2, trunk=(8, 8, 16, 24)).to_dict()
PRETRAINING: dict[str, Tensor] = {
    "mask_emb": torch.zeros(104),
    "label_embs_concat": torch.zeros(2004, 8),
}
HEADS: dict[str, Tensor] = {
    "final_proj.weight": torch.zeros(8, 128),
    "final_proj.bias": torch.zeros(8),
}


def take(content: Any, folder: Path, *, old: bool = False, **facts: str) -> Imported:
    path = write(folder / "public.pt", content, old=old)
    return import_checkpoint(path, folder / "own" / "weights.safetensors", **facts)


def assert_holds(imported: Imported, folder: Path, state: State, prefix: str = "") -> None:
    """The file of weights, its network and the checkpoint have the same numbers."""
    weights = load_weights(folder / "own" / "weights.safetensors")
    assert dict(weights.tensors).keys() == imported.weights.tensors.keys()
    own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
    assert weights.tensors.keys() == own.keys()
    for name, tensor in weights.tensors.items():
        assert tensor.dtype == (torch.int64 if name.endswith("tracked") else torch.float32)
        assert torch.equal(tensor, own[name].to(tensor.dtype)), name
    restored = restore(weights)
    assert not restored.training
    assert sum(p.numel() for p in restored.parameters()) == imported.parameters


def with_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in state.items()}


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_wav2lip_generator_of_several_gpus_loads(tmp_path: Path, old: bool) -> None:
    state = random_state(WAV2LIP)
    moments = {"state": {0: {"exp_avg": torch.ones(9), "step": 3}}, "param_groups": [{"lr": 1e-4}]}
    content = {
        "state_dict": OrderedDict(with_prefix(state, "module.")),
        "optimizer": moments,
        "global_step": 3,
        "global_epoch": 1,
    }
    imported = take(content, tmp_path, old=old)
    assert_holds(imported, tmp_path, state)
    assert imported.what == "Wav2Lip's generator"
    assert imported.parameters == 36_298_035
    assert imported.left_out == ()


def test_wav2lip_as_a_torchscript_program_gives_its_tensors_alone(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Wav2Lip().eval()
    example = torch.zeros(1, 1, 80, 16), torch.zeros(1, 6, 96, 96)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # torch would drop TorchScript
        jit: Any = torch.jit
        jit.save(jit.trace(model, example, check_trace=False), tmp_path / "program.pt")
    imported = import_checkpoint(tmp_path / "program.pt", tmp_path / "own" / "weights.safetensors")
    assert_holds(imported, tmp_path, OrderedDict(model.state_dict()))


@pytest.mark.parametrize("kind", [SYNCNET_COLOUR, SYNCNET])
@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_plain_state_dicts_load(tmp_path: Path, kind: str, old: bool) -> None:
    state = random_state(kind)
    imported = take(state, tmp_path, old=old)
    assert imported.weights.kind == kind
    assert_holds(imported, tmp_path, state)


def test_counters_that_old_files_lack_become_zero(tmp_path: Path) -> None:
    state = random_state(SYNCNET)
    take({n: t for n, t in state.items() if not n.endswith("tracked")}, tmp_path)
    tensors = load_weights(tmp_path / "own" / "weights.safetensors").tensors
    assert tensors.keys() == state.keys()
    assert all(t == 0 for n, t in tensors.items() if n.endswith("tracked"))


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_pretrained_av_hubert_loads(tmp_path: Path, old: bool, dtype: torch.dtype) -> None:
    state = random_state(AVHUBERT, NARROW, dtype=dtype)
    with pretended(DICTIONARY, BPE, PROCESSOR, DICT_CONFIG, NODE, METADATA) as classes:
        content = {
            **fairseq_objects(classes),
            "model": OrderedDict({**PRETRAINING, **state, **HEADS}),
        }
        path = write(tmp_path / "base.pt", content, old=old)
    imported = import_checkpoint(path, tmp_path / "own" / "weights.safetensors")
    assert imported.weights.config == NARROW
    assert imported.left_out == ("mask_emb", "label_embs_concat", "final_proj")
    assert_holds(imported, tmp_path, state)


@pytest.mark.parametrize("old", [False, True], ids=["zip", "old"])
def test_fine_tuned_av_hubert_loads_without_its_decoder(tmp_path: Path, old: bool) -> None:
    prefix = "encoder.w2v_model."
    state = random_state(AVHUBERT, NARROW, prefix=prefix)
    decoder = {"decoder.embed_tokens.weight": torch.zeros(1000, 4)}
    model = OrderedDict({**with_prefix(PRETRAINING, prefix), **state, **decoder})
    with pretended(DICTIONARY, BPE, PROCESSOR, DICT_CONFIG, NODE, METADATA) as classes:
        content = {**fairseq_objects(classes), "model": model}
        path = write(tmp_path / "tuned.pt", content, old=old)
    imported = import_checkpoint(path, tmp_path / "own" / "weights.safetensors")
    assert imported.what == "AV-HuBERT fine-tuned for reading lips"
    assert imported.left_out == ("decoder", "mask_emb", "label_embs_concat")
    assert_holds(imported, tmp_path, state, prefix)


def test_talklip_gives_its_av_hubert_and_says_what_does_not_fit(tmp_path: Path) -> None:
    prefix = "audio_encoder.w2v_model."
    state = random_state(AVHUBERT, NARROW, prefix=prefix)
    others = {
        f"{group}.0.weight": torch.zeros(2)
        for group in ("face_encoder_blocks", "audio_map", "face_decoder_blocks", "sync_net")
    }
    content = {"state_dict": {**others, **with_prefix(PRETRAINING, prefix), **state}}
    imported = take(content, tmp_path)
    assert_holds(imported, tmp_path, state, prefix)
    assert "rights reserved" in imported.weights.licence
    summary = imported.summary(tmp_path / "out")
    assert "TalkLip, of which only the AV-HuBERT within fits" in summary
    assert "left out: face_encoder_blocks, audio_map, face_decoder_blocks, sync_net" in summary


def test_what_was_imported_hears_and_sees(tmp_path: Path) -> None:
    model = AvHubert(AvHubertConfig.from_dict(NARROW)).eval().requires_grad_(False)
    take({"model": model.state_dict()}, tmp_path)  # torch's own names of the position weight
    restored = restore(load_weights(tmp_path / "own" / "weights.safetensors"))
    audio, video = torch.randn(1, 104, 6), torch.randn(1, 1, 6, 88, 88)
    torch.testing.assert_close(
        restored(audio=audio, video=video), model(audio=audio, video=video), rtol=0, atol=1e-6
    )


def test_tensors_that_are_views_of_others_load(tmp_path: Path) -> None:
    state = random_state(AVHUBERT, NARROW)
    name, wide = "feature_extractor_audio.proj.weight", torch.randn(104, 256)
    state[name] = wide.T[100:228]  # neither the first numbers of its storage nor in their order
    state["feature_extractor_audio.proj.bias"] = wide.flatten()[5 : 5 + 128]
    imported = take({"model": state}, tmp_path)
    assert imported.weights.tensors[name].is_contiguous()
    assert_holds(imported, tmp_path, state)


def test_facts_of_the_source_go_with_the_weights(tmp_path: Path) -> None:
    state = random_state(AVHUBERT, NARROW)
    take({"model": state}, tmp_path)
    weights = load_weights(tmp_path / "own" / "weights.safetensors")
    assert weights.source == "public.pt"
    assert len(weights.source_sha256) == 64
    assert "non-commercial" in weights.licence
    take({"model": state}, tmp_path, licence="mine", training_data="my own")
    weights = load_weights(tmp_path / "own" / "weights.safetensors")
    assert (weights.licence, weights.training_data) == ("mine", "my own")


Change = Callable[[dict[str, Any]], object]
NORM = "layer_norm.weight"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(
            lambda s: s.update({NORM: torch.zeros(200)}),
            r"'layer_norm.weight' has the shape \(200,\) instead of \(256,\)",
            id="shape",
        ),
        pytest.param(
            lambda s: s.pop(NORM), r"lacks 'layer_norm.weight' of the shape \(256,\)", id="missing"
        ),
        pytest.param(
            lambda s: s.update({"extra.weight": torch.zeros(3)}),
            r"has 'extra.weight' of the shape \(3,\) too many",
            id="too many",
        ),
        pytest.param(
            lambda s: s.pop("post_extract_proj.weight"), "lacks 'post_extract_proj", id="no size"
        ),
        pytest.param(
            lambda s: s.update({"post_extract_proj.weight": torch.zeros(100, 256)}),
            "no network has the sizes",
            id="odd size",
        ),
    ],
)
def test_another_architecture_is_refused(tmp_path: Path, change: Change, message: str) -> None:
    state = random_state(AVHUBERT, NARROW)
    change(state)
    with pytest.raises(ConfigError, match=message):
        take({"model": state}, tmp_path)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"face_encoder_blocks.0.weight": torch.zeros(1)}, "first tensor is 'face_encoder_blocks"),
        ({"step": 3}, "it holds no tensors"),
        ([1, 2], "it holds no tensors"),
    ],
)
def test_unknown_checkpoint_names_the_known_ones(
    tmp_path: Path, content: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=f"{message}.*known are: AV-HuBERT fine-tuned"):
        take(content, tmp_path)
