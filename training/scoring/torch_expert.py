"""A lip expert as training holds it, judging clips as a bundle's does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from engine.errors import ConfigError
from engine.lip_expert import AROUND, Expert
from training.avhubert import AvHubert
from training.objective import open_expert


class TorchExpert(Expert):
    """The AV-HuBERT of a file, whose name is the file's.

    Args:
        path: what ``python -m training expert`` or ``import`` has made.

    Raises:
        ConfigError: the file can't be read, or holds another network.
    """

    def __init__(self, path: Path) -> None:
        model = open_expert(path)
        if not isinstance(model, AvHubert):
            raise ConfigError(
                f"{path} is no AV-HuBERT, whose features AVSu, AVSm and AVSv compare: name what"
                " `python -m training expert` has made, or an imported one."
            )
        self.name = path.stem
        self._model = model

    @torch.inference_mode()
    def watch(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`engine.lip_expert.Expert.watch`."""
        watched = self._model.watch(torch.from_numpy(frames)[None, None])
        return np.asarray(watched[0, AROUND:-AROUND].numpy(), np.float32)

    @torch.inference_mode()
    def hear(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`engine.lip_expert.Expert.hear`."""
        heard = self._model.hear(torch.from_numpy(rows).T[None])
        return np.asarray(heard[0].numpy(), np.float32)

    @torch.inference_mode()
    def fuse(self, heard: NDArray[np.float32], watched: NDArray[np.float32]) -> NDArray[np.float32]:
        """See :meth:`engine.lip_expert.Expert.fuse`."""
        fused = self._model.fuse(torch.from_numpy(heard), torch.from_numpy(watched))
        return np.asarray(fused.numpy(), np.float32)
