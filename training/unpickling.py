"""Reading a pickle without running anything in it.

The pickle is a list of instructions for a small machine; this module is such a machine, which
builds plain values, notes where tensors lie, and calls nothing. What the pickle names is never
imported; a name that no known checkpoint holds ends the reading.
"""

from __future__ import annotations

import pickletools
import struct
from collections.abc import Callable
from functools import partial
from typing import IO, Any, Final

from engine.errors import ConfigError
from training.stored_values import (
    DICT,
    FIRST_ARGUMENT,
    STORAGES,
    TENSORS,
    TEXT_LIMIT,
    DamagedError,
    Name,
    Storage,
    Stub,
    checked_key,
    checked_tensor,
    fill,
    is_known,
    is_plain_int,
)

# Of one file. The largest public checkpoints have 10^5 instructions. The costliest one makes an
# empty set, of 216 bytes.
INSTRUCTION_LIMIT: Final = 4_000_000
COPY_LIMIT: Final = 4_000_000  # items that calls copy, which costs no instruction for each
_PLACES: Final = 1 << 32  # in the memory of a pickle


class _Mark:
    """Stands on the stack where a container begins."""


class Unpickler:
    """Reads pickles of one file.

    Args:
        file: its name, for messages.

    Attributes:
        storages: every storage that was mentioned, by key.
    """

    def __init__(self, file: str) -> None:
        self._file = file
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._instructions = self._copies = 0
        self.storages: dict[str, Storage] = {}

    def load(self, data: IO[bytes]) -> Any:
        """Read one pickle; ``data`` then stands behind it.

        Returns:
            Numbers, texts, bytes, None; tuples, lists, sets and dicts of them;
            :class:`StoredTensor` and :class:`Stub`.

        Raises:
            ConfigError: the pickle names what no known checkpoint holds, or is damaged.
        """
        self._stack, self._memo = [], {}
        try:
            for opcode, argument, _ in pickletools.genops(data):
                if opcode.name == "STOP":
                    return self._pop()
                self._instructions += 1
                if self._instructions > INSTRUCTION_LIMIT:
                    raise DamagedError("instructions without end")
                self._step(opcode.name, argument)
        except (
            DamagedError,
            ValueError,
            TypeError,
            KeyError,
            IndexError,
            OverflowError,
            MemoryError,
            struct.error,
        ) as error:
            raise ConfigError(
                f"{self._file} can't be read as a checkpoint; get the file again, whole."
            ) from error
        raise AssertionError("genops ends with STOP or raises")

    def _step(self, name: str, argument: Any) -> None:
        if name in _PUSHED:
            self._stack.append(argument)
        elif name in _CONSTANTS:
            self._stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            self._stack.append(_EMPTY[name]())
        elif name in _STEPS:
            _STEPS[name](self, argument)
        elif name not in ("PROTO", "FRAME"):
            raise DamagedError(name)

    # The stack. A mark is the class _Mark itself, which no pickle can put there otherwise.

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _Mark:
            raise DamagedError("empty stack")
        return self._stack.pop()

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _Mark:
            raise DamagedError("empty stack")
        return self._stack[-1]

    def _marked(self) -> list[Any]:
        """Take off all down to the last mark, and the mark."""
        for place in range(len(self._stack) - 1, -1, -1):
            if self._stack[place] is _Mark:
                values = self._stack[place + 1 :]
                del self._stack[place:]
                return values
        raise DamagedError("no mark")

    def _mark(self, _: Any) -> None:
        self._stack.append(_Mark)

    def _drop(self, _: Any) -> None:
        if not self._stack:
            raise DamagedError("empty stack")
        self._stack.pop()

    def _drop_marked(self, _: Any) -> None:
        self._marked()

    def _again(self, _: Any) -> None:
        self._stack.append(self._top())

    def _get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def _put(self, index: int) -> None:
        if not 0 <= index < _PLACES:
            raise DamagedError("no such place")
        self._memo[index] = self._top()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    # Containers.

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._marked()))

    def _tuple_of(self, _: Any, count: int) -> None:
        values = [self._pop() for _ in range(count)]
        self._stack.append(tuple(reversed(values)))

    def _list(self, _: Any) -> None:
        self._stack.append(self._marked())

    def _frozen_set(self, _: Any) -> None:
        self._stack.append(frozenset(map(checked_key, self._marked())))

    def _dict(self, _: Any) -> None:
        made: dict[Any, Any] = {}
        fill(made, self._marked())
        self._stack.append(made)

    def _append(self, _: Any) -> None:
        value = self._pop()
        self._extend([value])

    def _appends(self, _: Any) -> None:
        self._extend(self._marked())

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Stub):
            target = target.members
        if not isinstance(target, list):
            raise DamagedError("no list")
        target.extend(values)

    def _add_items(self, _: Any) -> None:
        values, target = self._marked(), self._top()
        if not isinstance(target, set):
            raise DamagedError("no set")
        target.update(map(checked_key, values))

    def _set_item(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _set_items(self, _: Any) -> None:
        self._set(self._marked())

    def _set(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, Stub):
            target = target.items
        if not isinstance(target, dict):
            raise DamagedError("no dict")
        fill(target, values)

    # Names, and what the pickle would have them do.

    def _global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self._stack.append(self._named(module, name))

    def _stack_global(self, _: Any) -> None:
        name, module = self._pop(), self._pop()
        if not isinstance(module, str) or not isinstance(name, str):
            raise DamagedError("a name that is no text")
        self._stack.append(self._named(module, name))

    def _named(self, module: str, name: str) -> Name:
        if len(module) + len(name) > TEXT_LIMIT:
            raise DamagedError("an endless name")
        text = f"{module}.{name}"
        if not is_known(text):
            raise ConfigError(
                f"{self._file} asks for {text!r}, which no known checkpoint holds, and was"
                " refused; nothing in it was run: get the file from its publishers, or save its"
                " state dict alone."
            )
        return Name(text)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        self._stack.append(self._made(function, arguments))

    def _made(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise DamagedError("a call of nothing that has a name")
        if function.text == DICT:
            made: dict[Any, Any] = {}
            items = arguments[0] if arguments else ()
            self._count_copies(len(items))
            for key, value in items:
                made[checked_key(key)] = value
            return made
        if function.text in TENSORS:
            tensor = checked_tensor(*arguments[:4])
            self._count_copies(2 * len(tensor.shape))
            return tensor
        if function.text in FIRST_ARGUMENT:
            return arguments[0]
        return Stub(function.text, arguments)

    def _count_copies(self, count: int) -> None:
        self._copies += count
        if self._copies > COPY_LIMIT:
            raise DamagedError("copies without end")

    def _new_object(self, _: Any) -> None:
        self._reduce(None)

    def _new_object_with_words(self, _: Any) -> None:
        self._pop()
        self._reduce(None)

    def _object(self, _: Any) -> None:
        function, *arguments = self._marked()
        self._stack.append(self._made(function, tuple(arguments)))

    def _instance(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        arguments = tuple(self._marked())
        self._stack.append(self._made(self._named(module, name), arguments))

    def _build(self, _: Any) -> None:
        state, target = self._pop(), self._top()
        if isinstance(target, Stub):
            target.state = state
        elif not isinstance(target, dict):  # a state dict's own notes are of no use here
            raise DamagedError("a state for what has none")

    def _persistent(self, _: Any) -> None:
        identity = self._pop()
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise DamagedError("a storage that is none")
        tag, kind, key, _place, count, *view = identity
        if tag != "storage" or not isinstance(kind, Name) or view not in ([], [None]):
            raise DamagedError("a storage that is none")
        if not isinstance(key, str) or len(key) > TEXT_LIMIT:
            raise DamagedError("a storage that is none")
        if not is_plain_int(count) or count < 0:
            raise DamagedError("a storage that is none")
        storage = Storage(key, STORAGES[kind.text], count)
        if self.storages.setdefault(key, storage) != storage:
            raise DamagedError("a storage of two kinds")
        self._stack.append(storage)


_PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE"),
    *("BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
}
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": set}
_STEPS: dict[str, Callable[[Unpickler, Any], None]] = {
    "MARK": Unpickler._mark,
    "POP": Unpickler._drop,
    "POP_MARK": Unpickler._drop_marked,
    "DUP": Unpickler._again,
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), Unpickler._get),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), Unpickler._put),
    "MEMOIZE": Unpickler._memoize,
    "TUPLE": Unpickler._tuple,
    **{f"TUPLE{count}": partial(Unpickler._tuple_of, count=count) for count in (1, 2, 3)},
    "LIST": Unpickler._list,
    "FROZENSET": Unpickler._frozen_set,
    "DICT": Unpickler._dict,
    "APPEND": Unpickler._append,
    "APPENDS": Unpickler._appends,
    "ADDITEMS": Unpickler._add_items,
    "SETITEM": Unpickler._set_item,
    "SETITEMS": Unpickler._set_items,
    "GLOBAL": Unpickler._global,
    "STACK_GLOBAL": Unpickler._stack_global,
    "REDUCE": Unpickler._reduce,
    "NEWOBJ": Unpickler._new_object,
    "NEWOBJ_EX": Unpickler._new_object_with_words,
    "OBJ": Unpickler._object,
    "INST": Unpickler._instance,
    "BUILD": Unpickler._build,
    "BINPERSID": Unpickler._persistent,
}
