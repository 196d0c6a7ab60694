"""Silero's voice activity network (MIT), run by OpenVINO: how probably 32 ms hold speech."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.mel import SAMPLE_RATE
from engine.model_files import model_folder
from engine.openvino_cpu import compile_model

HOP_SAMPLES: Final = 512
"""What the network looks at once: 32 ms."""
HOP_S: Final = HOP_SAMPLES / SAMPLE_RATE

_CONTEXT: Final = 64  # samples of the hop before, which it sees as well
_FILE: Final = "silero_vad_openvino_16k.onnx"


class VoiceNetwork:
    """One sound's network: it remembers what it heard. For one thread.

    A hop takes 0.1 ms of one core.

    Raises:
        ConfigError: silero-vad is not installed.
    """

    def __init__(self) -> None:
        self._request = _compiled().create_infer_request()
        self.reset()

    def reset(self) -> None:
        """Another sound follows."""
        self._state: NDArray[np.float32] = np.zeros((2, 1, 128), np.float32)
        self._input: NDArray[np.float32] = np.zeros((1, _CONTEXT + HOP_SAMPLES), np.float32)

    def probability(self, hop: NDArray[np.float32]) -> float:
        """Hear the next hop, float32 (512,) in [−1, 1] at 16 kHz; how probably it is speech."""
        self._input[0, :_CONTEXT] = self._input[0, -_CONTEXT:]
        self._input[0, _CONTEXT:] = hop
        found = self._request.infer({"input": self._input, "state": self._state})
        self._state = np.array(found["stateN"])
        return float(found["output"].item())


@cache
def _compiled() -> Any:
    """The network, which all sounds of the process share."""
    path = model_folder("silero_vad", "data", _FILE, "voice models") / _FILE
    return compile_model(str(path), threads=1)
