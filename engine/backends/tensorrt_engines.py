"""Which of a bundle's TensorRT engines runs here."""

from engine.backends.tensorrt_library import Library
from engine.bundle import Bundle
from engine.bundle_variants import EngineFile
from engine.errors import BundleError


def model_hash(bundle: Bundle, role: str, precision: str) -> str:
    """Return the hash of the graph that an engine must have been built from.

    Raises:
        BundleError: the bundle has no such graph.
    """
    path = bundle.graph_path(role, precision)
    return bundle.sha256[path.relative_to(bundle.folder).as_posix()]


def find_engine(
    bundle: Bundle, role: str, precision: str, library: Library, architecture: str
) -> EngineFile:
    """Return the engine that fits.

    Args:
        bundle: with its hashes checked.
        role: the graph's.
        precision: number format.
        library: the TensorRT that would run it.
        architecture: of the GPU that would run it, like ``sm_89``.

    Raises:
        BundleError: none does; the message says in what, and the command to run.
    """
    wanted = (library.package, library.version, architecture)
    model = model_hash(bundle, role, precision)
    candidates = [e for e in bundle.engines if (e.role, e.precision) == (role, precision)]
    for engine in candidates:
        if _key(engine) == wanted and engine.model_sha256 == model:
            return engine
    advice = f"run lipstream-export {bundle.folder} --backend tensorrt --precision {precision}"
    if not candidates:
        raise BundleError(
            f"{bundle.folder} holds no TensorRT engine in {precision}; {advice} on this machine."
        )
    nearest = min(candidates, key=lambda engine: len(_misfits(engine, wanted, model)))
    reasons = " and ".join(_misfits(nearest, wanted, model))
    raise BundleError(f"{nearest.file} in {bundle.folder} can't be used: {reasons}; {advice}.")


def _key(engine: EngineFile) -> tuple[str, str, str]:
    return engine.runtime, engine.version, engine.architecture


def _misfits(engine: EngineFile, wanted: tuple[str, str, str], model: str) -> list[str]:
    package, version, architecture = wanted
    reasons = []
    if engine.architecture != architecture:
        reasons.append(f"it is for {engine.architecture}, this GPU is {architecture}")
    if (engine.runtime, engine.version) != (package, version):
        reasons.append(
            f"it was built by {engine.runtime} {engine.version}, {package} {version} is installed"
        )
    if engine.model_sha256 != model:
        reasons.append("the model has changed since")
    return reasons
