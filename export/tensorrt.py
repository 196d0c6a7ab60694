"""TensorRT engines of a bundle's generator: for the GPU that is here, or ahead of time for others.

Every network is strongly typed: the graph alone says what is computed in which number format.
"""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

import onnx

from engine.backends.interface import BATCHES
from engine.backends.tensorrt import ENGINE_PRECISIONS
from engine.backends.tensorrt_buffers import gpu_architecture
from engine.backends.tensorrt_engines import find_engine, model_hash
from engine.backends.tensorrt_library import (
    ErrorLog,
    Library,
    capabilities,
    error_log,
    load_library,
)
from engine.bundle import GENERATOR, Bundle, Graph, write_bundle
from engine.bundle_variants import EngineFile, Precision
from engine.errors import BundleError, ConfigError, EngineError
from export.symmetric import symmetric

MB: Final = 1e6


def build_engine(
    bundle: Bundle,
    precision: Precision,
    architectures: Sequence[str] | None,
    on_progress: Callable[[str], None],
) -> Bundle:
    """Build engines of a bundle's generator into its folder, unless they are there already.

    Args:
        bundle: with a graph in the number format.
        precision: ``fp32``, ``fp16`` or ``int8``.
        architectures: GPUs to build for, like ``sm_89``; the present one where it is empty.
        on_progress: takes a line.

    Returns:
        The bundle as it is now, each engine written as soon as it is built.

    Raises:
        ConfigError: TensorRT is missing, can't build for an architecture, or there is no GPU.
        BundleError: the bundle has no graph in this number format, or can't be written.
        EngineError: TensorRT can't read the graph or can't build it.
    """
    if precision not in ENGINE_PRECISIONS:
        raise ConfigError(
            f"TensorRT engines are built in {', '.join(ENGINE_PRECISIONS)}, not in {precision}."
        )
    library = load_library()
    for architecture in _targets(library, architectures or ()):
        if _is_there(bundle, precision, library, architecture):
            on_progress(f"{precision}: an engine for {architecture} is there already")
            continue
        on_progress(f"{precision}: building a TensorRT engine for {architecture}")
        start = time.monotonic()
        content = _build(bundle, precision, library, architecture)
        bundle = _add(bundle, precision, library, architecture, content)
        on_progress(
            f"{engine_name(precision, library, architecture)}: {len(content) / MB:.1f} MB in"
            f" {time.monotonic() - start:.1f} s"
        )
    return bundle


def engine_name(precision: str, library: Library, architecture: str) -> str:
    """Return the name of an engine's file."""
    return f"generator.{precision}.{architecture}.{library.package}-{library.version}.engine"


def _targets(library: Library, asked: Sequence[str]) -> list[str]:
    """Return the architectures to build for, after a check that the package can."""
    present, known = gpu_architecture(), capabilities(library)
    named = f"{library.package} {library.version}"
    if not asked and present is None:
        ways = (
            "or name another with --architecture"
            if known
            else "which it needs to build; use tensorrt_rtx to build for GPUs that are not here"
        )
        raise ConfigError(f"{named} finds no NVIDIA GPU here; build on a machine with one, {ways}.")
    targets = list(dict.fromkeys(asked or [present or ""]))
    for target in targets:
        if known and target not in known:
            raise ConfigError(
                f"{named} can't build for {target}; it knows {', '.join(known)}."
                " Use the package tensorrt on a machine with that GPU."
            )
        if not known and target != present:
            raise ConfigError(
                f"{named} builds for the GPU that is here only ({present or 'there is none'}), not"
                f" for {target}; build on that machine, or with tensorrt_rtx."
            )
    return targets


def _is_there(bundle: Bundle, precision: str, library: Library, architecture: str) -> bool:
    model_hash(bundle, GENERATOR, precision)  # a graph must be there
    try:
        found = find_engine(bundle, GENERATOR, precision, library, architecture)
    except BundleError:
        return False
    return found.batches == BATCHES


def _build(bundle: Bundle, precision: str, library: Library, architecture: str) -> bytes:
    """Return an engine's bytes."""
    trt: Any = library.module
    messages = error_log(library)
    builder = trt.Builder(messages.logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, messages.logger)
    if not parser.parse(_graph_bytes(bundle, precision)):
        problems = "; ".join(parser.get_error(i).desc() for i in range(parser.num_errors))
        raise EngineError(
            f"TensorRT can't read the generator in {precision}: {problems or messages.reason()}."
        )
    config = builder.create_builder_config()
    if precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # it rounds to the ten bits of fp16
    named = capabilities(library)
    if named:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(named[architecture], 0):
            raise _failure(precision, architecture, messages)
    for batch in BATCHES:
        _add_profile(builder, config, bundle.graphs[GENERATOR], batch)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise _failure(precision, architecture, messages)
    return bytes(plan)


def _graph_bytes(bundle: Bundle, precision: str) -> bytes:
    path = bundle.graph_path(GENERATOR, precision)
    if precision != "int8":
        return path.read_bytes()
    content: bytes = symmetric(onnx.load(path)).SerializeToString()
    return content


def _add_profile(builder: Any, config: Any, graph: Graph, batch: int) -> None:
    """Add a profile for exactly one batch: its kernels are chosen for it."""
    profile = builder.create_optimization_profile()
    for name, spec in graph.inputs.items():
        shape = tuple(batch if length is None else length for length in spec.shape)
        profile.set_shape(name, shape, shape, shape)
    config.add_optimization_profile(profile)


def _add(
    bundle: Bundle, precision: str, library: Library, architecture: str, content: bytes
) -> Bundle:
    """Write an engine's file and name it in the bundle, in place of what it makes useless."""
    model = model_hash(bundle, GENERATOR, precision)
    engine = EngineFile(
        file=engine_name(precision, library, architecture),
        role=GENERATOR,
        precision=precision,
        runtime=library.package,
        version=library.version,
        architecture=architecture,
        model_sha256=model,
        batches=BATCHES,
    )
    outdated = [
        other
        for other in bundle.engines
        if other.file == engine.file
        or ((other.role, other.precision) == (GENERATOR, precision) and other.model_sha256 != model)
    ]
    path = bundle.folder / engine.file
    partial = path.with_name(f"{path.name}.partial")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    except OSError as error:
        raise BundleError(f"{path} can't be written: {error}.") from error
    left = [other for other in bundle.engines if other not in outdated]
    gone = {other.file for other in outdated}
    written = write_bundle(
        replace(bundle, engines=(*left, engine)), [f for f in bundle.sha256 if f not in gone]
    )
    for file in gone - {engine.file}:
        (bundle.folder / file).unlink(missing_ok=True)
    return written


def _failure(precision: str, architecture: str, messages: ErrorLog) -> EngineError:
    return EngineError(
        f"TensorRT can't build the generator in {precision} for {architecture}:"
        f" {messages.reason()}."
    )
