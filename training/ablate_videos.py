"""Videos of an ablation: held-out clips whose lips each generator has made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from itertools import chain as joined
from pathlib import Path
from typing import Final

import torch

from engine.chain import Chain
from engine.errors import MediaError
from engine.identity import Identity
from engine.media import read_audio
from engine.mel import SAMPLE_RATE
from engine.video_writer import VideoWriter
from training.bench import pictures_of
from training.checkpoint import load_checkpoint
from training.clips import FPS
from training.painter import TorchPainter
from training.prepare import worker_models

CRF: Final = 6
"""Close to lossless, and of a profile that browsers play, as a page for rankings asks for."""

_FPS: Final = Fraction(FPS)
_SAMPLES: Final = SAMPLE_RATE // FPS  # of a picture


def write_videos(
    videos: Mapping[str, Path],
    generators: Mapping[Path, Path],
    device: torch.device,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, str]:
    """Give clips their own sound by each generator; a video that is there is kept.

    All generators take the same identity reference of a clip, one of its own pictures.

    Args:
        videos: true videos by name.
        generators: checkpoint by the folder of its videos, which are named as the true ones.
        device: that the generators compute on.
        progress: called with the clips done and all clips.

    Returns:
        The clips that could not be made, and why.

    Raises:
        ConfigError: a checkpoint is no generator's, or the face models are missing.
    """
    chains: dict[Path, Chain] = {}
    for folder, path in generators.items():
        painter = TorchPainter(load_checkpoint(path), device)
        chains[folder] = Chain(painter, painter, worker_models())
    left_out = {}
    for done, (name, true) in enumerate(videos.items(), 1):
        outs = {folder: folder / f"{name}.mp4" for folder in chains}
        missing = {folder: out for folder, out in outs.items() if not out.is_file()}
        try:
            identity: Identity | None = None
            for folder, out in missing.items():
                chain = chains[folder]
                identity = identity or chain.choose_identity(pictures_of(true), _FPS)
                _write(chain, true, identity, out)
        except MediaError as error:
            left_out[name] = str(error)
        if progress is not None:
            progress(done, len(videos))
    return left_out


def _write(chain: Chain, true: Path, identity: Identity, out: Path) -> None:
    """Write one video with the clip's own sound."""
    samples = read_audio(true, SAMPLE_RATE)
    pictures = chain.run(pictures_of(true), samples, _FPS, identity)
    first = next(pictures, None)
    if first is None:
        raise MediaError(f"{true.name} holds no pictures.")
    height, width = first.picture.shape[:2]
    out.parent.mkdir(parents=True, exist_ok=True)
    with VideoWriter(
        out, width=width, height=height, fps=_FPS, audio_rate=SAMPLE_RATE, crf=CRF
    ) as writer:
        for index, synced in enumerate(joined([first], pictures)):
            writer.write_frame(synced.picture)
            writer.write_audio(samples[index * _SAMPLES : (index + 1) * _SAMPLES])
