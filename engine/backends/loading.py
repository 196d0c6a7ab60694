"""Which run times there are on this machine, and loading one of them."""

import importlib
import importlib.util
from types import ModuleType
from typing import Any, Final

from engine.backends.interface import BACKENDS, Backend, Network, Variant
from engine.bundle import GENERATOR, Bundle
from engine.bundle_variants import Precision
from engine.errors import BundleError, ConfigError

# Modules are named, not imported: each waits for its own large library.
_MODULES: Final[dict[Backend, tuple[str, str]]] = {
    "openvino": ("engine.backends.openvino", "OpenVinoNetwork"),
    "onnxruntime": ("engine.backends.onnx_runtime", "OnnxRuntimeNetwork"),
    "tensorrt": ("engine.backends.tensorrt", "TensorRtNetwork"),
}
_PACKAGES: Final[dict[Backend, tuple[str, ...]]] = {
    "openvino": ("openvino",),
    "onnxruntime": ("onnxruntime",),
    "tensorrt": ("tensorrt", "tensorrt_rtx"),  # either will do
}


def missing(variant: Variant, bundle: Bundle) -> str | None:
    """Return why a run time can't run a bundle's generator here, or None where it can.

    Args:
        variant: the run time and its number format.
        bundle: what it would run; one that holds int8 or fp16 has passed the export's gate.
    """
    if not _installed(variant.backend):
        return f"the package {_PACKAGES[variant.backend][0]} is not installed"
    if variant.precision != "fp32" and variant.precision not in bundle.precisions:
        return f"the bundle was not checked in {variant.precision}"
    reason: str | None = _module(variant.backend).missing(variant.precision)
    if reason is None and variant.backend == "tensorrt":
        return _no_engine(bundle, variant.precision)
    return reason


def version(backend: Backend) -> str:
    """Return the version of a run time, and of what it runs on; empty where it is not installed."""
    if not _installed(backend):
        return ""
    try:
        found: str = _module(backend).version()
    except ConfigError:  # it is there, but can't be imported
        return ""
    return found


def usable(bundle: Bundle) -> list[Variant]:
    """Return every run time that can run a bundle's generator here."""
    precisions: list[Precision] = ["fp32", *bundle.precisions]
    variants = [Variant(backend, precision) for backend in BACKENDS for precision in precisions]
    return [variant for variant in variants if missing(variant, bundle) is None]


def load_network(bundle: Bundle, variant: Variant, *, threads: int) -> Network:
    """Load a bundle's generator graph.

    Args:
        bundle: what to run.
        variant: on which run time and in which number format.
        threads: processor threads of one call, from 1.

    Raises:
        ConfigError: the run time can't run it here.
        BundleError: the graph is not what the bundle describes.
        EngineError: the run time can't load it.
    """
    reason = missing(variant, bundle)
    if reason is not None:
        raise ConfigError(f"{variant} can't be used here: {reason}.")
    make: Any = getattr(_module(variant.backend), _MODULES[variant.backend][1])
    network: Network = make(bundle, GENERATOR, threads, variant.precision)
    return network


def _installed(backend: Backend) -> bool:
    return any(importlib.util.find_spec(package) for package in _PACKAGES[backend])


def _no_engine(bundle: Bundle, precision: Precision) -> str | None:
    """Return why none of a bundle's TensorRT engines runs here, or None where one does."""
    from engine.backends.tensorrt_buffers import gpu_architecture
    from engine.backends.tensorrt_engines import find_engine
    from engine.backends.tensorrt_library import load_library

    try:
        find_engine(bundle, GENERATOR, precision, load_library(), gpu_architecture() or "no GPU")
    except (BundleError, ConfigError) as error:
        return str(error).rstrip(".")
    return None


def _module(backend: Backend) -> ModuleType:
    return importlib.import_module(_MODULES[backend][0])
