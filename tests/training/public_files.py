"""Files in the forms of public checkpoints, with random numbers in them."""

import argparse
import collections
import hashlib
import sys
import typing
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from training.public_networks import public_shapes

State = collections.OrderedDict[str, Tensor]


def digest(shapes: Mapping[str, Sequence[int]]) -> str:
    """The SHA-256 of the lines ``name<TAB>shape``, sorted."""
    lines = [f"{name}\t{tuple(shape)}" for name, shape in sorted(shapes.items())]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def random_state(
    kind: str,
    config: Mapping[str, Any] | None = None,
    *,
    prefix: str = "",
    dtype: torch.dtype = torch.float16,
) -> State:
    """A state dict by public names; half precision keeps the files small."""
    generator = torch.Generator().manual_seed(0)
    state: State = collections.OrderedDict()
    for name, shape in public_shapes(kind, config or {}).items():
        if name.endswith("num_batches_tracked"):
            state[prefix + name] = torch.tensor(7)
        else:
            tensor = torch.empty(shape).uniform_(0.01, 0.09, generator=generator)
            state[prefix + name] = tensor.to(dtype)
    return state


def write(path: Path, content: Any, *, old: bool = False) -> Path:
    """Save as torch does: a zip archive, or the form before torch 1.6."""
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    return path


@contextmanager
def pretended(*names: str) -> Iterator[dict[str, type]]:
    """Classes by full names, whose modules exist while they are written, and no longer."""
    before = set(sys.modules)
    made = {}
    try:
        for full in names:
            module, _, name = full.rpartition(".")
            made[full] = type(name, (), {"__module__": module})
            parts = module.split(".")
            for end in range(1, len(parts) + 1):
                part = ".".join(parts[:end])
                sys.modules.setdefault(part, ModuleType(part))
            setattr(sys.modules[module], name, made[full])
        yield made
    finally:
        for added in set(sys.modules) - before:
            del sys.modules[added]


DICTIONARY = "fairseq.data.dictionary.Dictionary"
BPE = "fairseq.data.encoders.sentencepiece_bpe.SentencepieceBPE"
PROCESSOR = "sentencepiece.SentencePieceProcessor"
DICT_CONFIG = "omegaconf.dictconfig.DictConfig"
NODE = "omegaconf.nodes.AnyNode"
METADATA = "omegaconf.base.ContainerMetadata"


def fairseq_objects(classes: Mapping[str, type]) -> dict[str, Any]:
    """What fairseq's checkpoints hold besides tensors."""

    def made(name: str, **attributes: Any) -> Any:
        thing = classes[name]()
        thing.__dict__.update(attributes)
        return thing

    dictionary = made(DICTIONARY, symbols=["<s>", "<pad>"], indices={"<s>": 0}, pad_index=1)
    processor = made(PROCESSOR, proto=b"\x00\xff\x80 model")
    metadata = made(METADATA, ref_type=typing.Any, element_type=int, key=None, optional=True)
    config = made(
        DICT_CONFIG,
        _content={"label_rate": made(NODE, _val=25, _metadata=metadata)},
        _metadata=metadata,
    )
    counts = collections.defaultdict(int, {"loss": 3})
    return {
        "args": argparse.Namespace(arch="av_hubert", lr=[0.002], tags={"a", "b"}),
        "cfg": config,
        "criterion": None,
        "optimizer_history": [{"num_updates": 4, "best_loss": np.float64(0.25), "n": counts}],
        "task_state": {"dictionaries": [dictionary], "s2s_tokenizer": made(BPE, sp=processor)},
        "extra_state": {"epoch": 3, "kind": np.dtype("float32"), "big": 2**70, "ok": True},
    }
