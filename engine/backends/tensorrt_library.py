"""Which TensorRT is installed: ``tensorrt``, or ``tensorrt_rtx``, which has the same API."""

import importlib
from collections import deque
from types import ModuleType
from typing import Any, Final, NamedTuple

from engine.errors import ConfigError

PACKAGES: Final = ("tensorrt", "tensorrt_rtx")
"""The first that can be imported is taken."""
_KEPT_ERRORS: Final = 3


class Library(NamedTuple):
    """An installed TensorRT.

    Attributes:
        module: its API.
        package: what it is imported as, one of ``PACKAGES``.
        version: like ``1.7.1.116``.
    """

    module: ModuleType
    package: str
    version: str


def find_library() -> Library | None:
    """Return the TensorRT that is installed, or None; one that can't be imported is none."""
    for package in PACKAGES:
        try:
            module = importlib.import_module(package)
        except (ImportError, OSError):  # OSError: its shared libraries are missing
            continue
        return Library(module, package, str(module.__version__))
    return None


def load_library() -> Library:
    """Return the TensorRT that is installed.

    Raises:
        ConfigError: none is.
    """
    library = find_library()
    if library is None:
        raise ConfigError(
            "TensorRT is not installed or can't be imported; install it with"
            " pip install 'lipstream[tensorrt]' or 'lipstream[tensorrt-rtx]'."
        )
    return library


def capabilities(library: Library) -> dict[str, Any]:
    """Return the GPU architectures that can be named for a build: like ``sm_89``, to its API value.

    Empty where the package builds for the present GPU only.
    """
    named = getattr(library.module, "ComputeCapability", None)
    if named is None:
        return {}
    members = named.__members__
    return {f"sm_{n.removeprefix('SM')}": members[n] for n in members if n.startswith("SM")}


class ErrorLog(NamedTuple):
    """TensorRT's logger and what it has said.

    Attributes:
        logger: to hand to TensorRT, which keeps no reference of its own: hold it.
        errors: the last errors, the newest at the end.
    """

    logger: Any
    errors: "deque[str]"

    def reason(self) -> str:
        """Return the last errors as one line."""
        return "; ".join(self.errors)[:400] or "it gave no reason"


def error_log(library: Library) -> ErrorLog:
    """Return a logger that keeps errors and drops the rest."""
    trt: Any = library.module
    errors: deque[str] = deque(maxlen=_KEPT_ERRORS)

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # its binding refuses super()

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                errors.append(" ".join(message.split()))

    return ErrorLog(Logger(), errors)
