"""Memory of an NVIDIA GPU, copies to and from it, and work recorded to be replayed."""

import contextlib
import ctypes
import importlib
import weakref
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.errors import EngineError

_RUNTIME: Final = "cuda.bindings.runtime"
FLOAT_BYTES: Final = 4


class Buffer:
    """Float32 memory on the device, zeroed; freed with the object.

    Attributes:
        address: where it lies.
        row_bytes: of one row.
    """

    def __init__(self, cuda: "Cuda", rows: int, row: tuple[int, ...]) -> None:
        self.row_bytes = int(np.prod(row)) * FLOAT_BYTES
        self.address, self._free = cuda.allocate(rows * self.row_bytes)
        weakref.finalize(self, self._free)

    def at(self, row: int) -> int:
        """Return a row's address."""
        return self.address + row * self.row_bytes


class Cuda:
    """The CUDA run time with one stream of its own.

    Raises:
        EngineError: there is no GPU, or it failed.
    """

    def __init__(self) -> None:
        self._api: Any = importlib.import_module(_RUNTIME)
        flags = self._api.cudaStreamNonBlocking
        self._stream: Any = self._call(self._api.cudaStreamCreateWithFlags, flags)
        weakref.finalize(self, self._api.cudaStreamDestroy, self._stream)

    @property
    def stream(self) -> int:
        """The stream's handle."""
        return int(self._stream)

    def allocate(self, size: int) -> tuple[int, Callable[[], None]]:
        """Return the address of zeroed device memory of some bytes, and what frees it."""
        api, address = self._api, int(self._call(self._api.cudaMalloc, size))
        self._call(api.cudaMemsetAsync, address, 0, size, self._stream)
        return address, lambda: api.cudaFree(address)

    def host_array(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Return float32 memory of the computer that the device copies from and to directly."""
        size = int(np.prod(shape))
        address = int(self._call(self._api.cudaMallocHost, size * FLOAT_BYTES))
        memory = (ctypes.c_float * size).from_address(address)
        weakref.finalize(memory, self._api.cudaFreeHost, address)
        return np.ctypeslib.as_array(memory).reshape(shape)

    def send(self, target: int, source: NDArray[np.float32]) -> None:
        """Queue a copy of a contiguous array of the computer to the device."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(target, source.ctypes.data, source.nbytes, kind)

    def fetch(self, target: NDArray[np.float32], source: int) -> None:
        """Queue a copy from the device to a contiguous array of the computer."""
        kind = self._api.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(target.ctypes.data, source, target.nbytes, kind)

    def move(self, target: int, source: int, size: int) -> None:
        """Queue a copy of some bytes within the device."""
        self._copy(target, source, size, self._api.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def wait(self) -> None:
        """Return when all that was queued is done."""
        self._call(self._api.cudaStreamSynchronize, self._stream)

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record what a function queues, and return what queues all of it at once.

        Args:
            work: queues work on this stream and waits for nothing.

        Raises:
            EngineError: it can't be recorded; the stream is as before.
        """
        api = self._api
        # Relaxed: memory that is freed meanwhile, here or in another thread, spoils nothing.
        mode = api.cudaStreamCaptureMode.cudaStreamCaptureModeRelaxed
        self._call(api.cudaStreamBeginCapture, self._stream, mode)
        try:
            work()
        except EngineError:
            with contextlib.suppress(EngineError):
                self._call(api.cudaStreamEndCapture, self._stream)
            api.cudaGetLastError()  # forgets it
            raise
        graph = self._call(api.cudaStreamEndCapture, self._stream)
        try:
            ready = self._call(api.cudaGraphInstantiate, graph, 0)
        finally:
            api.cudaGraphDestroy(graph)

        def replay() -> None:
            self._call(api.cudaGraphLaunch, ready, self._stream)

        weakref.finalize(replay, api.cudaGraphExecDestroy, ready)
        return replay

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        self._call(self._api.cudaMemcpyAsync, target, source, size, kind, self._stream)

    def _call(self, function: Any, *arguments: Any) -> Any:
        return _checked(self._api, function, *arguments)


def gpu_architecture() -> str | None:
    """Return the present GPU's architecture, like ``sm_89``, or None where there is none.

    None too where the CUDA run time's Python package is missing.
    """
    try:
        api: Any = importlib.import_module(_RUNTIME)
    except (ImportError, OSError):
        return None
    names = api.cudaDeviceAttr
    try:
        device = _checked(api, api.cudaGetDevice)
        major, minor = (
            _checked(api, api.cudaDeviceGetAttribute, attribute, device)
            for attribute in (
                names.cudaDevAttrComputeCapabilityMajor,
                names.cudaDevAttrComputeCapabilityMinor,
            )
        )
    except EngineError:
        return None
    return f"sm_{major}{minor}"


def _checked(api: Any, function: Any, *arguments: Any) -> Any:
    """Call the run time; return its result.

    Raises:
        EngineError: it failed.
    """
    code, *results = function(*arguments)
    if int(code) != 0:
        text = api.cudaGetErrorString(code)[1]
        reason = text.decode() if isinstance(text, bytes) else str(text)
        raise EngineError(f"The GPU failed: {reason}.", retryable=True)
    return results[0] if results else None
