"""Which network a public checkpoint holds, by the names of its tensors, and where in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import ConfigError
from training.avhubert import AvHubertConfig, public_name
from training.public_networks import (
    AVHUBERT,
    INCEPTION,
    KINDS,
    SYNCNET,
    SYNCNET_COLOUR,
    TALKLIP_DATA,
    TALKLIP_LICENCE,
    WAV2LIP,
    public_shapes,
)
from training.stored_values import StoredTensor, Stub

Tensors = dict[str, StoredTensor]

_COUNTER = ".num_batches_tracked"  # of batch normalisations; old files lack it, and no one needs it
_PARALLEL = "module."  # before every name where several GPUs trained
_PRETRAINING = ("mask_emb", "label_embs_concat", "final_proj.")  # AV-HuBERT's own, unused here
_MOST_PARTS = 100_000  # modules, tensors and settings of a TorchScript network; real ones: < 10,000
_LONGEST_NAME = 1_000  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """One form of public checkpoint.

    Attributes:
        title: for messages.
        kind: the network that is taken.
        marks: starts of names that every one has.
        prefix: before the names of that network's tensors; all else is left out.
        licence: where it differs from the kind's.
        training_data: likewise.
    """

    title: str
    kind: str
    marks: tuple[str, ...]
    prefix: str = ""
    licence: str | None = None
    training_data: str | None = None


LAYOUTS: Final = (
    Layout(
        title="AV-HuBERT fine-tuned for reading lips",
        kind=AVHUBERT,
        marks=("encoder.w2v_model.",),
        prefix="encoder.w2v_model.",
    ),
    Layout(
        title="TalkLip, of which only the AV-HuBERT within fits",
        kind=AVHUBERT,
        marks=("audio_encoder.w2v_model.",),
        prefix="audio_encoder.w2v_model.",
        licence=TALKLIP_LICENCE,
        training_data=TALKLIP_DATA,
    ),
    Layout(title="pretrained AV-HuBERT", kind=AVHUBERT, marks=("feature_extractor_video.",)),
    Layout(
        title="Wav2Lip's generator",
        kind=WAV2LIP,
        marks=("face_encoder_blocks.", "face_decoder_blocks."),
    ),
    Layout(
        title="Wav2Lip's lip expert",
        kind=SYNCNET_COLOUR,
        marks=("face_encoder.", "audio_encoder."),
    ),
    Layout(title="SyncNet v2", kind=SYNCNET, marks=("netcnnaud.", "netcnnlip.")),
    Layout(
        title="the Inception of FID (2015-12-05)",
        kind=INCEPTION,
        marks=("Conv2d_1a_3x3.", "Mixed_7c."),
    ),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """What a checkpoint holds.

    Attributes:
        layout: its form.
        config: the network's sizes.
        tensors: of the network, by their public names; counters of old files may be missing.
        counters: names of those.
        left_out: groups of tensors that are not used: the first parts of their names, in order.
    """

    layout: Layout
    config: Mapping[str, Any]
    tensors: Tensors
    counters: tuple[str, ...]
    left_out: tuple[str, ...]


def find_network(content: Any, file: str) -> Found:
    """Recognise a checkpoint.

    Args:
        content: what the file holds.
        file: its name, for messages.

    Raises:
        ConfigError: it holds no network that is known here, or one of another form than it should.
    """
    tensors = _state_dict(content, file)
    layout = next((lay for lay in LAYOUTS if all(_any(tensors, mark) for mark in lay.marks)), None)
    if layout is None:
        first = f"its first tensor is {next(iter(tensors))!r}" if tensors else "it holds no tensors"
        known = "; ".join(layout.title for layout in LAYOUTS)
        raise ConfigError(f"{file} is none of the known checkpoints ({first}); known are: {known}.")
    own = {
        name.removeprefix(layout.prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(layout.prefix)
    }
    left_out = [name for name in tensors if not name.startswith(layout.prefix)]
    config: Mapping[str, Any] = {}
    if layout.kind == AVHUBERT:
        left_out += [name for name in own if name.startswith(_PRETRAINING)]
        own = {
            public_name(name): tensor
            for name, tensor in own.items()
            if not name.startswith(_PRETRAINING)
        }
        config = _sizes(own, file)
    wanted = public_shapes(layout.kind, config)
    counters = tuple(name for name in wanted if name.endswith(_COUNTER) and name not in own)
    _check_shapes(own, wanted, f"{file} is not {KINDS[layout.kind].title} of the public form")
    return Found(
        layout=layout,
        config=config,
        tensors=own,
        counters=counters,
        left_out=tuple(dict.fromkeys(name.partition(".")[0] for name in left_out)),
    )


def _any(names: Iterable[str], start: str) -> bool:
    return any(name.startswith(start) for name in names)


def _state_dict(content: Any, file: str) -> Tensors:
    """The tensors of a checkpoint by name: its own, or those of the dict that holds them."""
    found: Tensors = {}
    if isinstance(content, Stub):
        found = _attributes(content, file)
    elif isinstance(content, dict):
        for inner in (content.get("state_dict"), content.get("model"), content):
            if isinstance(inner, dict):
                found = {
                    name: value
                    for name, value in inner.items()
                    if isinstance(name, str) and isinstance(value, StoredTensor)
                }
            if found:
                break
    if found and all(name.startswith(_PARALLEL) for name in found):
        found = {name.removeprefix(_PARALLEL): tensor for name, tensor in found.items()}
    return found


def _attributes(network: Stub, file: str) -> Tensors:
    """The tensors of a TorchScript network, named by the way to them."""
    found: Tensors = {}
    waiting, seen = [("", network)], 0
    while waiting:
        prefix, module = waiting.pop()
        for part, value in module.state.items() if isinstance(module.state, dict) else ():
            name = f"{prefix}{part}"
            seen += 1
            if seen > _MOST_PARTS or len(name) > _LONGEST_NAME:
                raise ConfigError(
                    f"{file} holds more modules than any network known here; get the file from its"
                    " publishers."
                )
            if isinstance(value, StoredTensor):
                found[name] = value
            elif isinstance(value, Stub):
                waiting.append((f"{name}.", value))
    return found


def _sizes(tensors: Tensors, file: str) -> Mapping[str, Any]:
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    try:
        return AvHubertConfig.from_shapes(shapes).to_dict()
    except KeyError as error:
        raise ConfigError(
            f"{file} is not an AV-HuBERT of the public form: it lacks {error.args[0]!r}; name"
            " another checkpoint."
        ) from error
    except (ConfigError, IndexError) as error:
        raise ConfigError(
            f"{file} is not an AV-HuBERT of the public form: no network has the sizes of its"
            " tensors; name another checkpoint."
        ) from error


def _check_shapes(tensors: Tensors, wanted: Mapping[str, tuple[int, ...]], what: str) -> None:
    """Refuse the first tensor that is missing, of another shape, or not known.

    Raises:
        ConfigError: naming it.
    """
    for name, shape in wanted.items():
        if name not in tensors:
            if name.endswith(_COUNTER):
                continue
            raise ConfigError(
                f"{what}: it lacks {name!r} of the shape {shape}; name another checkpoint."
            )
        if tensors[name].shape != shape:
            raise ConfigError(
                f"{what}: its {name!r} has the shape {tensors[name].shape} instead of {shape};"
                " name another checkpoint."
            )
    for name, tensor in tensors.items():
        if name not in wanted:
            raise ConfigError(
                f"{what}: it has {name!r} of the shape {tensor.shape} too many; name another"
                " checkpoint."
            )
