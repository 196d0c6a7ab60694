"""What a pickle may hold: plain values, where tensors lie, and stubs for all else.

Names that a pickle mentions are text here. A few stand for what every file of tensors holds; those
of the programs whose objects lie beside the weights of public checkpoints become :class:`Stub`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

import torch

STORAGES: Final = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Float": torch.float32,
        "Half": torch.float16,
        "Double": torch.float64,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}

DICT: Final = "collections.OrderedDict"
TENSORS: Final = {"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"}
FIRST_ARGUMENT: Final = {  # functions whose result is what they are given, for our ends
    "torch._utils._rebuild_parameter",
    "torch._utils._rebuild_parameter_with_state",
    "torch.jit._pickle.build_boollist",
    "torch.jit._pickle.build_doublelist",
    "torch.jit._pickle.build_intlist",
    "torch.jit._pickle.build_tensorlist",
    "torch.jit._pickle.restore_type_tag",
}
INERT_NAMES: Final = {
    "_codecs.encode",
    "argparse.Namespace",
    "collections.defaultdict",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "torch.Size",
    "torch.device",
    "typing.Any",
    *(
        f"{module}.{name}"
        for module in ("builtins", "__builtin__")  # the second is Python 2's, and has its types
        for name in ("bool", "bytes", "dict", "float", "int", "list", "set", "str", "tuple")
    ),
    "__builtin__.long",
    "__builtin__.unicode",
    *(str(dtype) for dtype in STORAGES.values()),
}
TEXT_LIMIT: Final = 1_000  # characters of a name or key
_INT_LIMIT: Final = 1 << 63
_MOST_AXES: Final = 64  # that torch can have
_MOST_PARTS: Final = 8  # of a key
INERT_PACKAGES: Final = ("__torch__", "fairseq", "omegaconf", "sentencepiece")


class DamagedError(Exception):
    """A pickle's instructions make no sense."""


@dataclass(frozen=True, slots=True)
class Storage:
    """A run of numbers in the file.

    Attributes:
        key: its name there.
        dtype: of the numbers.
        count: how many.
    """

    key: str
    dtype: torch.dtype
    count: int


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies.

    Attributes:
        storage: that holds its numbers.
        offset: of its first number there.
        shape: lengths of its axes.
        stride: numbers from one step to the next on each axis.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(eq=False, slots=True)
class Stub:
    """What stands for an object of another program: its parts, none of its doing.

    Attributes:
        name: of its class or of the function that would have made it, with its module.
        arguments: that it would have been made with.
        state: that it would have been given.
        items: of one that is a dict as well.
        members: of one that is a list as well.
    """

    name: str
    arguments: tuple[Any, ...] = ()
    state: object = None
    items: dict[Any, Any] = field(default_factory=dict)
    members: list[Any] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names."""

    text: str


def is_known(name: str) -> bool:
    """Whether known checkpoints hold an object of this class, or one made by this function."""
    if name.partition(".")[0] in INERT_PACKAGES:
        return True
    return any(name in names for names in (INERT_NAMES, STORAGES, TENSORS, FIRST_ARGUMENT, {DICT}))


def checked_key(value: Any) -> Any:
    """A key of a dict, unless it is one that could take ages to compare or to find.

    Nested and long ones could; so could numbers, which hash as a file's author can foresee: within
    64 bits only a few hash alike, but tuples of them as many as one likes.
    """
    if isinstance(value, tuple):
        plain = len(value) <= _MOST_PARTS and all(map(_is_key_of_no_number, value))
    else:
        plain = _is_key_of_no_number(value) or isinstance(value, float) or is_plain_int(value)
    if not plain:
        raise DamagedError("a key that is no plain value")
    return value


def _is_key_of_no_number(value: Any) -> bool:
    if isinstance(value, str | bytes):
        return len(value) <= TEXT_LIMIT
    return isinstance(value, bool | Name | None)


def is_plain_int(value: Any) -> bool:
    """Whether this is a whole number within 64 bits."""
    return type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT


def fill(target: dict[Any, Any], values: list[Any]) -> None:
    """Put keys and values, which lie one after the other, into a dict."""
    for key, value in zip(values[::2], values[1::2], strict=True):
        target[checked_key(key)] = value


def checked_tensor(storage: Any, offset: Any, shape: Any, stride: Any) -> StoredTensor:
    """Check that a tensor lies within its storage and is not larger."""
    if not isinstance(storage, Storage) or not isinstance(shape, tuple | list):
        raise DamagedError("a tensor of no storage")
    if not isinstance(stride, tuple | list) or not len(shape) == len(stride) <= _MOST_AXES:
        raise DamagedError("a tensor of no shape")
    if any(not is_plain_int(number) or number < 0 for number in (offset, *shape, *stride)):
        raise DamagedError("a tensor of no shape")
    size, last = 1, offset
    for length, step in zip(shape, stride, strict=True):
        size *= length
        last += (length - 1) * step
    if size and (last >= storage.count or size > storage.count):
        raise DamagedError("a tensor beyond its storage")
    return StoredTensor(storage, offset, tuple(shape), tuple(stride))
