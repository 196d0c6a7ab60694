"""Where the weights of a bundle's networks come from."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from engine.bundle_fields import Fields


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Weights:
    """Where the weights come from.

    Attributes:
        licence: terms under which the weights may be used.
        training_data: what they were trained on.
        metrics: figures by name, as measured when they were exported.
    """

    licence: str
    training_data: str
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @classmethod
    def read(cls, fields: Fields) -> "Weights":
        """Read what :meth:`to_dict` wrote."""
        return cls(
            licence=fields.text("licence"),
            training_data=fields.text("training_data"),
            metrics=MappingProxyType(fields.numbers("metrics")),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a manifest."""
        return {
            "licence": self.licence,
            "training_data": self.training_data,
            "metrics": dict(self.metrics),
        }


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class ExpertFacts:
    """Which lip expert a bundle carries, and how what it says is to be read.

    Attributes:
        name: of the expert; every figure that it gives is reported under this name.
        weights: where its weights come from.
        confident: confidence at which an offset counts (:class:`engine.lip_sync.Offset`).
    """

    name: str
    weights: Weights
    confident: float

    @classmethod
    def read(cls, fields: Fields) -> "ExpertFacts":
        """Read what :meth:`to_dict` wrote."""
        return cls(
            name=fields.text("name"),
            weights=Weights.read(fields.section("weights")),
            confident=fields.number("confident", above=0),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for a manifest."""
        return {
            "name": self.name,
            "weights": self.weights.to_dict(),
            "confident": self.confident,
        }
