"""One graph of a bundle as a TensorRT engine on an NVIDIA GPU.

The engine has one profile per batch of ``BATCHES``. All of them share one set of buffers on the
device; each has a context of its own, whose work is recorded once and then replayed.
"""

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from engine.backends.interface import Arrays, Kept
from engine.backends.tensorrt_buffers import Buffer, Cuda, gpu_architecture
from engine.backends.tensorrt_engines import find_engine
from engine.backends.tensorrt_library import error_log, find_library, load_library
from engine.bundle import Bundle
from engine.bundle_variants import Precision
from engine.errors import BundleError, ConfigError, EngineError

ENGINE_PRECISIONS: Final = ("fp32", "fp16", "int8")
_NO_GPU: Final = "no NVIDIA GPU with a driver was found through cuda-python"
_log = logging.getLogger(__name__)


def version() -> str:
    """Return TensorRT's package, its version and the GPU.

    Raises:
        ConfigError: TensorRT is not installed.
    """
    library = load_library()
    return f"{library.package} {library.version} ({gpu_architecture() or 'no GPU'})"


def missing(precision: Precision) -> str | None:
    """Return why a number format can't be had on this machine, or None where it can."""
    if precision not in ENGINE_PRECISIONS:
        return f"TensorRT engines are built in {', '.join(ENGINE_PRECISIONS)}"
    if find_library() is None:
        return "TensorRT can't be imported"
    if gpu_architecture() is None:
        return _NO_GPU
    return None


class KeptOnDevice(NamedTuple):
    """Inputs of one session, on the device.

    Attributes:
        buffers: one row each, by name.
        number: which session's.
    """

    buffers: Mapping[str, Buffer]
    number: int


class Piece(NamedTuple):
    """Frames that go through the network in one call.

    Attributes:
        start: the first of them.
        frames: how many there are.
        profile: number of the profile that they go through.
    """

    start: int
    frames: int
    profile: int


def cut(frames: int, batches: Sequence[int]) -> Iterator[Piece]:
    """Cut frames into pieces, each with the smallest profile that holds it.

    Args:
        frames: how many, from 1.
        batches: frames of the profiles, rising.
    """
    for start in range(0, frames, batches[-1]):
        count = min(batches[-1], frames - start)
        yield Piece(start, count, next(i for i, batch in enumerate(batches) if batch >= count))


class TensorRtNetwork:
    """One graph of a bundle. For one thread.

    Args:
        bundle: what to run, its hashes checked.
        role: the graph's.
        threads: not used: the work is done on the GPU.
        precision: the number format; there must be an engine of it.
        replay: whether to record the work of each profile and replay it.

    Raises:
        ConfigError: TensorRT or the GPU is missing.
        BundleError: no engine fits, or one is not what the bundle describes.
        EngineError: TensorRT can't load it, or the GPU failed.
    """

    def __init__(
        self,
        bundle: Bundle,
        role: str,
        threads: int,
        precision: Precision = "fp32",
        *,
        replay: bool = True,
    ) -> None:
        del threads
        library, architecture = load_library(), gpu_architecture()
        if architecture is None:
            raise ConfigError(f"TensorRT can't be used here: {_NO_GPU}.")
        found = find_engine(bundle, role, precision, library, architecture)
        self._role = role
        self._graph = bundle.graphs[role]
        self._batches = found.batches
        self._messages = error_log(library)
        self._runtime: Any = library.module.Runtime(self._messages.logger)
        self._engine: Any = self._runtime.deserialize_cuda_engine(_read(bundle, found.file))
        if self._engine is None:
            raise EngineError(
                f"TensorRT can't load {bundle.folder / found.file}: {self._messages.reason()}"
            )
        self._check_engine(found.file, bundle)
        self._cuda = Cuda()
        rows = {name: _row(shape.shape) for name, shape in self._ports().items()}
        self._rows = rows
        self._buffers = {n: Buffer(self._cuda, self._batches[-1], row) for n, row in rows.items()}
        self._staging: dict[str, NDArray[np.float32]] = {}
        self._sessions = 0
        self._placed = [0] * self._batches[-1]  # whose kept inputs lie in each row; 0: nobody's
        self._contexts = [self._context(profile) for profile in range(len(self._batches))]
        self._replay = replay
        self._runs = [self._prepare(profile) for profile in range(len(self._batches))]

    def keep(self, arrays: Arrays) -> Kept:
        """Take inputs of the length 1 that later calls repeat for every frame.

        They are copied to the device once.

        Raises:
            EngineError: a name or shape is not the graph's, or the GPU failed.
        """
        for name, array in arrays.items():
            self._check_input(name, array, 1)
        buffers = {name: Buffer(self._cuda, 1, self._rows[name]) for name in arrays}
        sources = {n: np.ascontiguousarray(array, np.float32) for n, array in arrays.items()}
        for name, source in sources.items():
            self._cuda.send(buffers[name].address, source)
        self._cuda.wait()  # until here the sources must live
        self._sessions += 1
        return KeptOnDevice(buffers, self._sessions)

    def __call__(
        self, feed: Arrays, kept: Sequence[tuple[Kept, int]] = ()
    ) -> dict[str, NDArray[np.float32]]:
        """Run it; see :class:`engine.backends.interface.Network`.

        Raises:
            EngineError: an input is missing or has a wrong shape, or the GPU failed.
        """
        owners = [holder for holder, count in kept for _ in range(count)]
        frames = len(owners) if kept else len(next(iter(feed.values()), ()))
        self._check_call(feed, kept, frames)
        if not kept:
            self._placed = [0] * len(self._placed)  # what is fed lies there now
        results = {
            name: np.empty((frames, *self._rows[name]), np.float32) for name in self._graph.outputs
        }
        for piece in cut(frames, self._batches):
            end = piece.start + piece.frames
            self._place(cast("Sequence[KeptOnDevice]", owners[piece.start : end]))
            for name, array in feed.items():
                self._stage(name, array[piece.start : end])
            self._runs[piece.profile]()
            staged = {name: self._staged(name)[: piece.frames] for name in results}
            for name, array in staged.items():
                self._cuda.fetch(array, self._buffers[name].address)
            self._cuda.wait()
            for name, array in staged.items():
                results[name][piece.start : end] = array
        return results

    def _place(self, owners: Sequence[KeptOnDevice]) -> None:
        """Copy kept inputs, within the device, into the rows where another session's lie."""
        for row, owner in enumerate(owners):
            if self._placed[row] == owner.number:
                continue
            for name, source in owner.buffers.items():
                self._cuda.move(self._buffers[name].at(row), source.address, source.row_bytes)
            self._placed[row] = owner.number

    def _stage(self, name: str, array: NDArray[np.float32]) -> None:
        target = self._staged(name)[: len(array)]
        np.copyto(target, array)
        self._cuda.send(self._buffers[name].address, target)

    def _staged(self, name: str) -> NDArray[np.float32]:
        """Return the computer's own end of an input or output, made when it is first used."""
        if name not in self._staging:
            self._staging[name] = self._cuda.host_array((self._batches[-1], *self._rows[name]))
        return self._staging[name]

    def _context(self, profile: int) -> Any:
        context = self._engine.create_execution_context()
        if context is None:
            raise self._failure("can't make room for")
        done = [bool(context.set_optimization_profile_async(profile, self._cuda.stream))]
        self._cuda.wait()
        for name in self._graph.inputs:
            shape = (self._batches[profile], *self._rows[name])
            done.append(bool(context.set_input_shape(name, shape)))
        done += [bool(context.set_tensor_address(n, b.address)) for n, b in self._buffers.items()]
        if not all(done):
            raise self._failure("can't set up")
        return context

    def _prepare(self, profile: int) -> Callable[[], None]:
        """Return what queues a profile's work: its replay, where that can be recorded."""

        def enqueue() -> None:
            if not self._contexts[profile].execute_async_v3(self._cuda.stream):
                raise self._failure("failed in")

        enqueue()  # what TensorRT does at the first run only can't be recorded
        self._cuda.wait()
        if not self._replay:
            return enqueue
        try:
            return self._cuda.record(enqueue)
        except EngineError as error:
            _log.warning("TensorRT's work is queued anew each time, not replayed: %s", error)
            self._replay = False
            return enqueue

    def _check_engine(self, file: str, bundle: Bundle) -> None:
        engine, api = self._engine, load_library().module
        names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
        floats = all(engine.get_tensor_dtype(name) == api.float32 for name in names)
        found = {n: tuple(None if s < 0 else s for s in engine.get_tensor_shape(n)) for n in names}
        expected = {name: spec.shape for name, spec in self._ports().items()}
        if (
            not floats
            or found != expected
            or engine.num_optimization_profiles != len(self._batches)
        ):
            raise BundleError(
                f"{file} in {bundle.folder} does not have the inputs and outputs that the bundle"
                " describes; delete it and build it again."
            )

    def _check_call(self, feed: Arrays, kept: Sequence[tuple[Kept, int]], frames: int) -> None:
        if frames < 1:
            raise EngineError(f"The {self._role} graph was called without a frame.")
        for name, array in feed.items():
            self._check_input(name, array, frames)
        for names in [cast("KeptOnDevice", holder).buffers for holder, _ in kept] or [{}]:
            given = sorted([*feed, *names])  # a list: what is both fed and kept shows twice
            if given != sorted(self._graph.inputs):
                raise EngineError(
                    f"The {self._role} graph takes {', '.join(sorted(self._graph.inputs))},"
                    f" not {', '.join(given)}."
                )

    def _check_input(self, name: str, array: NDArray[np.float32], frames: int) -> None:
        wanted = self._rows.get(name) if name in self._graph.inputs else None
        if wanted is None or array.shape != (frames, *wanted):
            raise EngineError(
                f"The {self._role} graph takes no {name!r} of the shape {array.shape}"
                f" for {frames} frames."
            )

    def _ports(self) -> dict[str, Any]:
        return {**self._graph.inputs, **self._graph.outputs}

    def _failure(self, what: str) -> EngineError:
        return EngineError(
            f"TensorRT {what} the {self._role} graph: {self._messages.reason()}.", retryable=True
        )


def _row(shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple(cast("int", length) for length in shape[1:])


def _read(bundle: Bundle, file: str) -> bytes:
    """Return an engine's bytes, after a check that they are still those of the bundle."""
    path = bundle.folder / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} can't be read; get the bundle again.") from error
    if hashlib.sha256(content).hexdigest() != bundle.sha256.get(file):
        raise BundleError(f"{path} has changed since the bundle was read; start again.")
    return content
