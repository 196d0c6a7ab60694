"""A bundle: the folder that holds a trained generator and every fact needed to run it.

``bundle.json`` names the graphs beside it, their inputs and outputs, what the pictures and the
sound must look like, and the SHA-256 of every file. A bundle is refused as a whole when one byte
differs; nothing in it is run or unpickled to find that out.
"""

import dataclasses
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, Literal, get_args

from engine.bundle_fields import Fields
from engine.bundle_variants import PRECISIONS, EngineFile, Precision, PrecisionFacts
from engine.bundle_weights import ExpertFacts, Weights
from engine.crop import CropGeometry, geometry_from_dict, geometry_to_dict
from engine.errors import BundleError
from engine.files import sha256_of
from engine.mel import MelSettings, WindowPlacement

FORMAT_VERSION = 1
MANIFEST = "bundle.json"
STARTER = Path(__file__).parent / "starter"

IDENTITY = "identity"  # roles of the graphs
GENERATOR = "generator"
EXPERT_LIPS = "expert-lips"  # the lip expert's parts
EXPERT_SOUND = "expert-sound"
EXPERT_FUSION = "expert-fusion"
EXPERT_PARTS = (EXPERT_LIPS, EXPERT_SOUND, EXPERT_FUSION)

IdentityPolicy = Literal["live", "same-frame"]
ColourOrder = Literal["rgb", "bgr"]
IDENTITY_POLICIES: tuple[IdentityPolicy, ...] = get_args(IdentityPolicy)
COLOUR_ORDERS: tuple[ColourOrder, ...] = get_args(ColourOrder)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class TensorSpec:
    """One input or output of a graph.

    Attributes:
        shape: length of each axis; None is the batch, any length from 1.
        dtype: numpy's name of the type; ``float32``.
        range: lowest and highest value, or None where the values have no fixed bounds.
    """

    shape: tuple[int | None, ...]
    dtype: str = "float32"
    range: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Graph:
    """One network file.

    Attributes:
        file: path inside the bundle, with ``/``.
        inputs: the inputs by name, in the graph's order.
        outputs: the outputs by name, in the graph's order.
        variants: number format to the file that holds the graph in it, where there is one.
    """

    file: str
    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    variants: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def files(self) -> tuple[str, ...]:
        """Every file of the graph."""
        return self.file, *self.variants.values()


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Bundle:
    """A bundle's description.

    Attributes:
        folder: where the files lie.
        graphs: role to graph; ``generator`` always, ``identity`` where the generator takes
            features of the identity reference, the three parts of the lip expert or none.
        architecture: name of the network's form.
        width: factor on its channels.
        resolution: side of the crop in px.
        rows: first output row of the crop and the row after the last.
        trained_rows: the rows that the network was trained to paint, where the graph leaves some
            of them out.
        masked_from: first row of the pose face that is hidden from the generator.
        fps: frames a second in training.
        k: frames of a chunk.
        mel: audio feature settings.
        placement: where a frame's mel window lies.
        crop: how the crop lies on the face.
        identity_policy: ``live``: a reference chosen beforehand; ``same-frame``: each frame is
            its own reference.
        colour_order: order of the colours inside the graphs; outside it is always RGB.
        precision: number format of the weights.
        precisions: number formats besides fp32 in which the generator may run, as they were
            judged; bf16 needs no file of its own.
        engines: TensorRT engines of the generator.
        weights: where the weights come from.
        expert: the lip expert, if the bundle carries one.
        made_from: hash of what it was exported from and of how, for an export that goes on.
        sha256: hash of every file, by path inside the bundle.
    """

    folder: Path
    graphs: Mapping[str, Graph]
    architecture: str
    width: float
    resolution: int
    rows: tuple[int, int]
    trained_rows: tuple[int, int] | None = None
    masked_from: int
    fps: float
    k: int
    mel: MelSettings
    placement: WindowPlacement
    crop: CropGeometry
    identity_policy: IdentityPolicy = "live"
    colour_order: ColourOrder = "rgb"
    precision: str = "fp32"
    precisions: Mapping[Precision, PrecisionFacts] = dataclasses.field(default_factory=dict)
    engines: tuple[EngineFile, ...] = ()
    weights: Weights
    expert: ExpertFacts | None = None
    made_from: str | None = None
    sha256: Mapping[str, str] = dataclasses.field(default_factory=dict)

    def graph_path(self, role: str, precision: str = "fp32") -> Path:
        """Return where the graph of a role lies.

        Args:
            role: the graph's.
            precision: the number format that its file holds.

        Raises:
            BundleError: the bundle has no such graph.
        """
        if role not in self.graphs:
            roles = ", ".join(self.graphs)
            raise BundleError(f"{self.folder} has no {role!r} graph; it has: {roles}.")
        graph = self.graphs[role]
        if precision == "fp32":
            return self.folder / graph.file
        if precision not in graph.variants:
            raise BundleError(
                f"{self.folder} has no {role!r} graph in {precision}; export it again with"
                f" --precision {precision}."
            )
        return self.folder / graph.variants[precision]


def load_bundle(path: Path = STARTER) -> Bundle:
    """Read a bundle and check every file in it.

    Args:
        path: the folder; the starter that comes with the program where it is left out.

    Raises:
        BundleError: the folder or a file is missing or changed, or the description is of another
            version or does not fit.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise BundleError(f"There is no bundle at {folder}; name a folder that holds {MANIFEST}.")
    try:
        text = (folder / MANIFEST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{folder} is no bundle: its {MANIFEST} can't be read; export it again."
        ) from error
    try:
        # Python's reader takes NaN and Infinity, which are no JSON and no usable setting.
        content = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"{folder / MANIFEST} is not valid JSON ({error}); export it again."
        ) from error
    root = Fields(content, folder / MANIFEST)
    version = root.integer("format")
    if version != FORMAT_VERSION:
        raise BundleError(
            f"{folder} is a bundle of format {version}, this program runs format"
            f" {FORMAT_VERSION}; export it again with this version."
        )
    bundle = _read(root, folder)
    for file, expected in bundle.sha256.items():
        if _sha256(_inside(folder, file)) != expected:
            raise BundleError(
                f"{file} in {folder} has changed since it was exported; get the bundle again."
            )
    return bundle


def write_bundle(bundle: Bundle, extra_files: Iterable[str] = ()) -> Bundle:
    """Write ``bundle.json`` beside the files, and read the bundle back.

    Args:
        bundle: the description; its files lie in ``bundle.folder`` already, and its ``sha256`` is
            computed here.
        extra_files: paths inside the bundle to hash besides the graphs.

    Returns:
        The bundle as :func:`load_bundle` gives it.

    Raises:
        BundleError: a file is missing, a description does not fit, or nothing can be written.
    """
    files = sorted(
        {file for graph in bundle.graphs.values() for file in graph.files}
        | {engine.file for engine in bundle.engines}
        | set(extra_files)
    )
    content = {
        "format": FORMAT_VERSION,
        "architecture": bundle.architecture,
        "width": bundle.width,
        "resolution": bundle.resolution,
        "rows": list(bundle.rows),
        "trained_rows": bundle.trained_rows and list(bundle.trained_rows),
        "masked_from": bundle.masked_from,
        "fps": bundle.fps,
        "k": bundle.k,
        "mel": bundle.mel.to_dict(),
        "placement": bundle.placement.to_dict(),
        "crop": geometry_to_dict(bundle.crop),
        "identity_policy": bundle.identity_policy,
        "colour_order": bundle.colour_order,
        "precision": bundle.precision,
        "precisions": {n: dataclasses.asdict(facts) for n, facts in bundle.precisions.items()},
        "engines": [engine.to_dict() for engine in bundle.engines],
        "graphs": {role: _graph_to_dict(graph) for role, graph in bundle.graphs.items()},
        "weights": bundle.weights.to_dict(),
        "made_from": bundle.made_from,
        **({} if bundle.expert is None else {"expert": bundle.expert.to_dict()}),
        "sha256": {file: _sha256(_inside(bundle.folder, file)) for file in files},
    }
    target = bundle.folder / MANIFEST
    partial = target.with_name(f"{MANIFEST}.partial")
    try:
        partial.write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        os.replace(partial, target)
    except (OSError, ValueError, TypeError) as error:
        raise BundleError(f"{target} can't be written: {error}.") from error
    return load_bundle(bundle.folder)


def _read(root: Fields, folder: Path) -> Bundle:
    graphs = {role: _read_graph(fields) for role, fields in root.sections("graphs").items()}
    if GENERATOR not in graphs:
        raise BundleError(f"{folder} holds no generator graph; export it again.")
    sha256 = root.texts("sha256")
    # What came later than the format: bundles without them run as they always did.
    known = root.values
    precisions = root.sections("precisions") if "precisions" in known else {}
    engines = root.list_of_sections("engines") if "engines" in known else []
    built = tuple(EngineFile.read(fields) for fields in engines)
    named = [file for graph in graphs.values() for file in graph.files]
    for file in (*named, *(engine.file for engine in built)):
        if file not in sha256:
            raise BundleError(f"{folder} has no hash of {file}; export it again.")
    resolution, rows = root.integer("resolution", least=1), root.integer_pair("rows")
    if not 0 <= rows[0] < rows[1] <= resolution:
        raise BundleError(
            f"The output rows {list(rows)} of {folder} do not lie within its {resolution} rows;"
            " export it again."
        )
    masked_from = root.integer("masked_from", least=1)
    if masked_from > resolution:
        raise BundleError(
            f"The pose mask of {folder} starts at row {masked_from} of {resolution}; export it"
            " again."
        )
    return Bundle(
        folder=folder,
        graphs=MappingProxyType(graphs),
        architecture=root.text("architecture"),
        width=root.number("width", above=0),
        resolution=resolution,
        rows=rows,
        trained_rows=root.integer_pair("trained_rows") if known.get("trained_rows") else None,
        masked_from=masked_from,
        fps=root.number("fps", above=0),
        k=root.integer("k", least=1),
        mel=MelSettings.from_dict(root.section("mel").values),
        placement=WindowPlacement.from_dict(root.section("placement").values),
        crop=geometry_from_dict(dict(root.section("crop").values)),
        identity_policy=root.choice("identity_policy", IDENTITY_POLICIES),
        colour_order=root.choice("colour_order", COLOUR_ORDERS),
        precision=root.text("precision"),
        precisions=MappingProxyType(
            {n: PrecisionFacts.read(precisions[n]) for n in PRECISIONS if n in precisions}
        ),
        engines=built,
        weights=Weights.read(root.section("weights")),
        expert=_read_expert(root, graphs),
        made_from=root.text("made_from") if known.get("made_from") else None,
        sha256=MappingProxyType(sha256),
    )


def _read_expert(root: Fields, graphs: Mapping[str, Graph]) -> ExpertFacts | None:
    parts = [part for part in EXPERT_PARTS if part in graphs]
    if not parts and "expert" not in root.values:
        return None
    fields = root.section("expert")
    if len(parts) < len(EXPERT_PARTS):
        missing = next(part for part in EXPERT_PARTS if part not in parts)
        raise BundleError(
            f"The lip expert of this bundle lacks its {missing!r} graph; export it again."
        )
    return ExpertFacts.read(fields)


def _read_graph(fields: Fields) -> Graph:
    return Graph(
        file=fields.text("file"),
        inputs=_read_tensors(fields, "inputs"),
        outputs=_read_tensors(fields, "outputs"),
        variants=MappingProxyType(fields.texts("variants") if "variants" in fields.values else {}),
    )


def _read_tensors(fields: Fields, name: str) -> Mapping[str, TensorSpec]:
    return MappingProxyType(
        {
            tensor: TensorSpec(
                shape=spec.shape("shape"),
                dtype=spec.choice("dtype", ("float32",)),
                range=spec.range("range"),
            )
            for tensor, spec in fields.sections(name).items()
        }
    )


def _graph_to_dict(graph: Graph) -> dict[str, Any]:
    def tensors(specs: Mapping[str, TensorSpec]) -> dict[str, Any]:
        return {
            name: {
                "shape": list(spec.shape),
                "dtype": spec.dtype,
                "range": None if spec.range is None else list(spec.range),
            }
            for name, spec in specs.items()
        }

    return {
        "file": graph.file,
        "inputs": tensors(graph.inputs),
        "outputs": tensors(graph.outputs),
        "variants": dict(graph.variants),
    }


def _inside(folder: Path, file: str) -> Path:
    """Return the path of a bundle's file, after a check that it stays in the folder."""
    parts = PurePosixPath(file)
    path = folder / parts
    if (
        parts.is_absolute()
        or ".." in parts.parts
        or not path.resolve().is_relative_to(folder.resolve())
    ):
        raise BundleError(f"{folder} names the file {file!r} outside its folder; do not use it.")
    return path


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise BundleError(
            f"{path} of the bundle is missing or can't be read; get the bundle again."
        ) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")
