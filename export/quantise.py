"""From a generator graph in fp32 to one in int8: quantize and dequantize nodes in ONNX.

Weights are symmetric int8, one scale a channel. What goes into a convolution is uint8 of one scale;
nearly all of it has passed a ReLU, so that its zero point is 0 and no level is lost. Biases and
residual sums stay in float, as run times want them.
"""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)

from export.calibration import Feed
from export.groups import CONVOLUTIONS, groups


def quantise(
    source: Path, target: Path, feeds: Sequence[Feed], *, kept: Sequence[str] = ()
) -> None:
    """Write a graph in int8.

    Args:
        source: the graph in fp32.
        target: where the other goes.
        feeds: inputs of real crops, from whose largest and smallest values the scales are taken.
        kept: groups of layers, as :func:`export.groups.groups` names them, that stay in float.
    """
    parts = groups(onnx.load(source)) if kept else {}
    names = [node for group in kept for node in parts[group]]
    with _quiet():
        quantize_static(
            source,
            target,
            _Reader(feeds),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(CONVOLUTIONS),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=names,
            extra_options={
                "ActivationSymmetric": False,
                "WeightSymmetric": True,
                "QuantizeBias": False,  # TensorRT takes none in int32
                # What a convolution gives is rounded where the next one takes it, and what the last
                # gives not at all: the ways in pixels in it do not bear 255 levels.
                "OpTypesToExcludeOutputQuantization": list(CONVOLUTIONS),
            },
        )


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands out feeds one after the other."""

    def __init__(self, feeds: Sequence[Feed]) -> None:
        self._feeds = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        feed = next(self._feeds, None)
        return None if feed is None else dict(feed)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the quantiser from recommending steps that our graphs do not need."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
