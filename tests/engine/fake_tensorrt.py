"""A TensorRT and a CUDA run time without a GPU: work waits on the stream until it is waited for.

An engine is JSON with its tensors and batches. It computes, for every frame of its batch,
``frames = pose + identity_0 + the mel window's mean``.
"""

import ctypes
import dataclasses
import enum
import json
import math
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

FLOAT_BYTES = 4
GARBAGE = b"\xff"  # as float32: not a number


class Status(enum.IntEnum):
    SUCCESS = 0
    INVALID = 1
    NO_DRIVER = 35


class Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


Work = Callable[[], None]


@dataclasses.dataclass
class FakeCuda:
    """The functions of ``cuda.bindings.runtime`` that are used, on the computer's memory."""

    architecture: tuple[int, int] | None = (8, 9)
    captures: bool = True
    memory: dict[int, Any] = dataclasses.field(default_factory=dict)
    queue: list[Work] = dataclasses.field(default_factory=list)
    captured: list[Work] | None = None
    copies: list[tuple[str, int]] = dataclasses.field(default_factory=list)

    cudaStreamNonBlocking = 1
    cudaMemcpyKind = Kind
    cudaStreamCaptureMode = SimpleNamespace(cudaStreamCaptureModeRelaxed=2)
    cudaDeviceAttr = SimpleNamespace(
        cudaDevAttrComputeCapabilityMajor=0, cudaDevAttrComputeCapabilityMinor=1
    )

    def enqueue(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def cudaGetErrorString(self, status: Status) -> tuple[Status, bytes]:
        return Status.SUCCESS, status.name.lower().encode()

    def cudaGetLastError(self) -> tuple[Status]:
        return (Status.SUCCESS,)

    def cudaGetDevice(self) -> tuple[Status, int | None]:
        return (Status.NO_DRIVER, None) if self.architecture is None else (Status.SUCCESS, 0)

    def cudaDeviceGetAttribute(self, attribute: int, device: int) -> tuple[Status, int]:
        assert self.architecture is not None
        return Status.SUCCESS, self.architecture[attribute]

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Status, int]:
        return Status.SUCCESS, 77

    def cudaStreamDestroy(self, stream: int) -> tuple[Status]:
        return (Status.SUCCESS,)

    def cudaMalloc(self, size: int) -> tuple[Status, int]:
        block = ctypes.create_string_buffer(GARBAGE * size, size)
        self.memory[ctypes.addressof(block)] = block
        return Status.SUCCESS, ctypes.addressof(block)

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address: int) -> tuple[Status]:
        del self.memory[address]
        return (Status.SUCCESS,)

    cudaFreeHost = cudaFree

    def cudaMemsetAsync(self, address: int, value: int, size: int, stream: int) -> tuple[Status]:
        self.enqueue(lambda: _discard(ctypes.memset(address, value, size)))
        return (Status.SUCCESS,)

    def cudaMemcpyAsync(
        self, target: int, source: int, size: int, kind: Kind, stream: int
    ) -> tuple[Status]:
        self.copies.append((kind.name.removeprefix("cudaMemcpy"), size))
        self.enqueue(lambda: _discard(ctypes.memmove(target, source, size)))
        return (Status.SUCCESS,)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Status]:
        waiting, self.queue = self.queue, []
        for work in waiting:
            work()
        return (Status.SUCCESS,)

    def cudaStreamBeginCapture(self, stream: int, mode: int) -> tuple[Status]:
        assert not self.queue, "what waits already would be lost to the capture"
        self.captured = []
        return (Status.SUCCESS,)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Status, list[Work] | None]:
        graph, self.captured = self.captured, None
        return (Status.SUCCESS, graph) if self.captures else (Status.INVALID, None)

    def cudaGraphInstantiate(self, graph: list[Work], flags: int) -> tuple[Status, list[Work]]:
        return Status.SUCCESS, list(graph)

    def cudaGraphDestroy(self, graph: list[Work]) -> tuple[Status]:
        return (Status.SUCCESS,)

    cudaGraphExecDestroy = cudaGraphDestroy

    def cudaGraphLaunch(self, graph: list[Work], stream: int) -> tuple[Status]:
        self.queue += graph
        return (Status.SUCCESS,)


class FakeContext:
    def __init__(self, engine: "FakeEngine", cuda: FakeCuda) -> None:
        self._engine, self._cuda = engine, cuda
        self._profile = 0
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self._profile = profile
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        return shape[0] == self._engine.batches[self._profile]

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        self._engine.executions += 1
        self._cuda.enqueue(self._run)
        return True

    def _run(self) -> None:
        mel, pose, colour = (
            array_at(self._addresses[name], self._shapes[name])
            for name in ("mel", "pose", "identity_0")
        )
        frames = array_at(self._addresses["frames"], pose.shape)
        frames[:] = pose + colour + mel.mean((1, 2, 3), keepdims=True)


class FakeEngine:
    def __init__(self, plan: bytes, cuda: FakeCuda) -> None:
        content = json.loads(plan)
        self.batches: list[int] = content["batches"]
        self.executions = 0
        self._tensors: dict[str, list[int]] = content["tensors"]
        self._cuda = cuda
        self.num_io_tensors = len(self._tensors)
        self.num_optimization_profiles = len(self.batches)

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._tensors[name])

    def get_tensor_dtype(self, name: str) -> str:
        return "float32"

    def create_execution_context(self) -> FakeContext:
        return FakeContext(self, self._cuda)


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2


class FakeLogger:
    Severity = Severity


class FakeRuntime:
    def __init__(self, cuda: FakeCuda, made: list[FakeEngine], logger: Any) -> None:
        self._cuda, self._made, self._logger = cuda, made, logger

    def deserialize_cuda_engine(self, plan: bytes) -> FakeEngine | None:
        try:
            self._made.append(FakeEngine(plan, self._cuda))
        except ValueError:
            self._logger.log(Severity.WARNING, "a warning")
            self._logger.log(Severity.ERROR, "the plan\nis broken")
            return None
        return self._made[-1]


@dataclasses.dataclass
class FakeGpu:
    """What is installed.

    Attributes:
        cuda: the run time.
        engines: all that were loaded.
    """

    cuda: FakeCuda
    engines: list[FakeEngine]


def plan(tensors: Mapping[str, tuple[int | None, ...]], batches: tuple[int, ...]) -> bytes:
    """Return an engine's bytes."""
    shapes = {n: [-1 if s is None else s for s in shape] for n, shape in tensors.items()}
    return json.dumps({"tensors": shapes, "batches": batches}).encode()


def array_at(address: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    memory = (ctypes.c_float * math.prod(shape)).from_address(address)
    return np.ctypeslib.as_array(memory).reshape(shape)


def install(
    monkeypatch: pytest.MonkeyPatch, *, package: str = "tensorrt", version: str = "10.13.0.35"
) -> FakeGpu:
    """Put the fakes where the engine imports them from."""
    gpu = FakeGpu(FakeCuda(), [])
    module: Any = ModuleType(package)
    module.__version__ = version
    module.ILogger = FakeLogger
    module.float32 = "float32"
    module.Runtime = lambda logger: FakeRuntime(gpu.cuda, gpu.engines, logger)
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)  # as if not installed
    monkeypatch.setitem(sys.modules, package, module)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", gpu.cuda)
    return gpu


def _discard(value: object) -> None:
    del value
