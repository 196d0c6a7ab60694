"""The other forms in which a bundle carries its generator: number formats and built engines."""

import dataclasses
from typing import Any, Literal, get_args

from engine.bundle_fields import Fields

Precision = Literal["fp32", "bf16", "fp16", "int8"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class PrecisionFacts:
    """What a number format changes, against fp32, on crops of clips that nothing learnt from.

    Attributes:
        psnr_db: of the painted rows, in dB; the mean over the crops. Of int8, the lower of the two
            forms that processors and TensorRT run.
        lips_lost: by how much the correlation of the mouth's opening with the real one falls.
        clips: how many clips that is the mean of.
    """

    psnr_db: float
    lips_lost: float
    clips: int

    @classmethod
    def read(cls, fields: Fields) -> "PrecisionFacts":
        """Read what :func:`dataclasses.asdict` wrote."""
        return cls(
            psnr_db=fields.number("psnr_db"),
            lips_lost=fields.number("lips_lost"),
            clips=fields.integer("clips"),
        )


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class EngineFile:
    """A TensorRT engine: it runs on one kind of GPU and with one version only.

    Attributes:
        file: path inside the bundle, with ``/``.
        role: of the graph it was built from.
        precision: number format.
        runtime: the package that built it, ``tensorrt`` or ``tensorrt_rtx``.
        version: that package's.
        architecture: the GPU's compute capability, like ``sm_89``.
        model_sha256: hash of the graph it was built from.
        batches: frames of its profiles, rising.
    """

    file: str
    role: str
    precision: str
    runtime: str
    version: str
    architecture: str
    model_sha256: str
    batches: tuple[int, ...]

    @classmethod
    def read(cls, fields: Fields) -> "EngineFile":
        """Read what :meth:`to_dict` wrote."""
        return cls(
            file=fields.text("file"),
            role=fields.text("role"),
            precision=fields.text("precision"),
            runtime=fields.text("runtime"),
            version=fields.text("version"),
            architecture=fields.text("architecture"),
            model_sha256=fields.text("model_sha256"),
            batches=fields.integers("batches"),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a manifest."""
        return dataclasses.asdict(self) | {"batches": list(self.batches)}
