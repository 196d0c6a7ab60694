"""The files that ``torch.save`` and ``torch.jit.save`` write, read without torch's own loader.

Three forms: a zip archive of a pickle and of storages; the same with a network's program beside
them (TorchScript), which is left alone; and the form before torch 1.6, five pickles and then the
storages. No form is unpacked as a whole: a tensor is read when it is asked for.
"""

from __future__ import annotations

import struct
import zipfile
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Protocol, Self

import torch
from torch import Tensor

from engine.errors import ConfigError
from training.stored_values import Storage, StoredTensor
from training.unpickling import Unpickler

PICKLE_LIMIT: Final = 16 << 20  # bytes; the pickles of the largest public checkpoints have 5 MB

_ZIP: Final = b"PK\x03\x04"
_PICKLE: Final = b"\x80"
_MAGIC: Final = 0x1950A86A20F9469CFC6C  # the first pickle of the old form
_OLD_VERSION: Final = 1001
_COUNT: Final = 8  # bytes before each storage of the old form
# RuntimeError is for encrypted members and unknown versions, ValueError for names that are no text.
_DAMAGED: Final = (
    *(OSError, EOFError, KeyError, OverflowError, RuntimeError, ValueError),
    *(struct.error, zipfile.BadZipFile),
)


class _Source(Protocol):
    """Where the storages of a file are."""

    content: Any

    def read(self, storage: Storage) -> bytes:
        """The bytes of a storage, as many as the file has of it."""


class TorchFile:
    """An open file of tensors; to be used in a ``with``.

    Args:
        path: of the file.

    Attributes:
        content: what was saved: plain values, :class:`~training.stored_values.StoredTensor` and
            :class:`~training.stored_values.Stub`.

    Raises:
        ConfigError: the file can't be read, is no such file, or names what no known checkpoint
            holds.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last: tuple[str, Tensor] | None = None
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise ConfigError(f"{path} can't be read: {error.strerror}.") from error
        try:
            start = self._file.read(len(_ZIP))
            self._file.seek(0)
            if start == _ZIP:
                self._source: _Source = _ZipSource(self._file, path)
            elif start[:1] == _PICKLE:
                self._source = _OldSource(self._file, path)
            else:
                raise ConfigError(
                    f"{path} is no file of torch; name a .pt, .pth or .model file of one of the"
                    " public checkpoints."
                )
        except ConfigError:
            self._file.close()
            raise
        except _DAMAGED as error:
            self._file.close()
            raise _not_whole(path) from error
        self.content = self._source.content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def tensor(self, stored: StoredTensor) -> Tensor:
        """Read a tensor into memory of its own.

        Raises:
            ConfigError: the file lacks its numbers.
        """
        numbers = self._numbers(stored.storage)
        return torch.as_strided(numbers, stored.shape, stored.stride, stored.offset).clone(
            memory_format=torch.contiguous_format
        )

    def _numbers(self, storage: Storage) -> Tensor:
        if self._last is not None and self._last[0] == storage.key:
            return self._last[1]
        try:
            data = self._source.read(storage)
        except _DAMAGED as error:
            raise _not_whole(self._path) from error
        if len(data) != storage.count * storage.dtype.itemsize:
            raise _not_whole(self._path)
        empty = torch.empty(0, dtype=storage.dtype)
        numbers = torch.frombuffer(bytearray(data), dtype=storage.dtype) if data else empty
        self._last = storage.key, numbers
        return numbers


class _ZipSource:
    """A zip archive; its program, if it has one, is not even read."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._zip = zipfile.ZipFile(file)
        self._path = path
        self._size = path.stat().st_size
        pickles = [
            name
            for name in self._zip.namelist()
            if name.endswith("/data.pkl") and name.count("/") == 1
        ]
        if len(pickles) != 1:
            raise ConfigError(
                f"{path} is a zip archive, but not one of torch; name the checkpoint itself."
            )
        self._folder = pickles[0].removesuffix("data.pkl")
        order = f"{self._folder}byteorder"
        if order in self._zip.namelist() and self._member(order, 16) != b"little":
            raise ConfigError(
                f"{path} was written on a big-endian machine; save it again on another one."
            )
        data = self._member(pickles[0], PICKLE_LIMIT)
        self.content = Unpickler(path.name).load(BytesIO(data))

    def read(self, storage: Storage) -> bytes:
        size = storage.count * storage.dtype.itemsize
        return self._member(f"{self._folder}data/{storage.key}", size)

    def _member(self, name: str, limit: int) -> bytes:
        """Read a member that torch wrote: as it is, so never larger than the archive."""
        member = self._zip.getinfo(name)
        if member.compress_type != zipfile.ZIP_STORED or member.file_size > min(limit, self._size):
            raise ConfigError(
                f"{self._path} holds {name!r} packed or larger than torch writes it, and was"
                " refused; get the file from its publishers."
            )
        return self._zip.read(member)


class _OldSource:
    """Five pickles, then each storage behind the count of its numbers."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        size = path.stat().st_size
        # Its read() asks for no more memory than there is file, whatever a pickle states.
        bounded: Any = _Bounded(file, min(size, PICKLE_LIMIT))
        unpickler = Unpickler(path.name)
        magic, version, system = (unpickler.load(bounded) for _ in range(3))
        if magic != _MAGIC or version != _OLD_VERSION or not isinstance(system, dict):
            raise ConfigError(
                f"{path} is a pickle, but no file of torch; name one of the public checkpoints."
            )
        if system.get("little_endian") is not True:
            raise ConfigError(
                f"{path} was written on a big-endian machine; save it again on another one."
            )
        self.content = unpickler.load(bounded)
        keys = unpickler.load(bounded)
        self._places: dict[str, int] = {}
        place = file.tell()
        for key in keys if isinstance(keys, list) else []:
            storage = unpickler.storages.get(key) if isinstance(key, str) else None
            if storage is None:
                raise _not_whole(path)
            self._places[storage.key] = place
            place += _COUNT + storage.count * storage.dtype.itemsize
        if place > size:
            raise _not_whole(path)

    def read(self, storage: Storage) -> bytes:
        self._file.seek(self._places[storage.key])
        if int.from_bytes(self._file.read(_COUNT), "little") != storage.count:
            return b""
        return self._file.read(storage.count * storage.dtype.itemsize)


class _Bounded:
    """A file that gives no more than so many bytes in all."""

    def __init__(self, file: IO[bytes], size: int) -> None:
        self._file, self._left = file, size
        self.tell = file.tell

    def read(self, count: int) -> bytes:
        return self._given(self._file.read(min(count, self._left)))

    def readline(self) -> bytes:
        return self._given(self._file.readline(self._left))

    def _given(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


def _not_whole(path: Path) -> ConfigError:
    return ConfigError(f"{path} is damaged or not whole; get the file again.")
