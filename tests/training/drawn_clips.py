"""Prepared clips of drawn faces, whose geometry is known, and small networks that judge them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from engine.face_models import MESH_POINTS
from engine.mouth_region import LIPS, POINTS_68
from tests.mean_face import mean_points
from tests.networks import fill
from tests.training.sync_toys import openings, tones
from tests.training.toys import held_out_names
from training.audio_encoder import AudioEncoder
from training.avhubert import AvHubert, AvHubertConfig
from training.checkpoint import EXPERT, save_checkpoint
from training.clips import ClipInfo, write_clip
from training.config import LossWeights, Objective, TrainConfig
from training.generator import GeneratorConfig

SIDE = 96
TINY_EXPERT = AvHubertConfig(layers=1, dim=16, ffn=16, heads=2, trunk=(2, 2, 2, 2))
CONFIG = TrainConfig(
    generator=GeneratorConfig(width=0.02, audio_width=0.02),
    weights=LossWeights(pixel=10.0, gradient=0.0, mouth=1.0, outside=1.0),
    objective=Objective(
        adversarial=1.0,
        perceptual="expert",
        perceptual_weight=0.01,  # an untrained network's maps are large
        sync="unsupervised",
        sync_frames=12,
        discriminator_width=0.01,
        discriminator_rate=1e-3,
    ),
    clips=2,
    k=2,
    steps=20,
    learning_rate=3e-4,
    warmup_steps=3,
    silent_share=0.0,
)
"""The paper's objective with all its terms, in small."""
SHARED = replace(CONFIG, clips=4, learning_rate=1e-5)
"""The same for two processes, with a batch that can be shared."""
AUDIO_WIDTH = CONFIG.generator.audio_width
SMALL_SCALE = 96 / 2.85 / 54.29  # of the mean face, as wide as an upright crop has it


def face_mesh(opening: float, sway: float = 0.0) -> NDArray[np.float32]:
    """A mesh (468, 3) in pixels of a 96 crop; the lips are as far apart as the mouth is open."""
    turns = np.arange(MESH_POINTS) * 2.4
    mesh = np.zeros((MESH_POINTS, 3), np.float32)
    mesh[:, 0], mesh[:, 1] = 48 + 27 * np.cos(turns), 46 + 42 * np.sin(turns)
    points = mean_points()
    lips = points[LIPS]
    lips[:, 1] += 14 * opening * np.sign(lips[:, 1] - lips[:, 1].mean())
    points = (points - [128.7, 94.4]) * SMALL_SCALE + [48 + sway, 18.5]
    for place, index in zip(points, POINTS_68, strict=True):
        mesh[index, :2] = place
    return mesh


def face(opening: float, seed: int, sway: float = 0.0) -> NDArray[np.uint8]:
    """A crop uint8 (96, 96, 3): smooth skin and a dark mouth, as high as it is open."""
    waves = np.random.default_rng(seed).uniform(0.05, 0.12, (3, 2))
    y, x = np.mgrid[0:SIDE, 0:SIDE].astype(np.float64)
    skin = [130 + 50 * np.sin(a * (x - sway) + b * y) for a, b in waves]
    shape = ((x - 48 - sway) / 12) ** 2 + ((y - 58) / (2 + 9 * opening)) ** 2
    inside = np.clip(1.5 - shape, 0, 1)[..., None]
    drawn = np.stack(skin, -1) * (1 - inside) + np.array([90, 30, 40]) * inside
    return np.asarray(drawn, np.uint8)


def write_drawn(root: Path, name: str, seed: int, frames: int = 24) -> Path:
    """Write one prepared clip, ``root/ann/name``; its tone is as high as the mouth is open."""
    opening = openings(seed, frames)
    sways = 2 * np.sin(np.arange(frames) / 5 + seed)
    pairs = list(zip(opening, sways, strict=True))
    info = ClipInfo(name=name, speaker="ann", source=name, frames=frames, resolution=SIDE, crop={})
    crops = np.stack([face(o, seed, s) for o, s in pairs])
    mesh = np.stack([face_mesh(o, s) for o, s in pairs])
    write_clip(root / "ann" / name, info, crops, mesh, tones(opening))
    return root / "ann" / name


def write_all(root: Path) -> None:
    """Three clips of unlike length, an untrained audio encoder and an untrained lip expert."""
    for seed, name in enumerate(held_out_names(3, held_out=False)):
        write_drawn(root / "clips", name, seed, 24 - 6 * seed)
    audio, expert = AudioEncoder(AUDIO_WIDTH), tiny_expert()
    fill(audio, 1)
    save_checkpoint(
        root / "audio.pt",
        kind="audio",
        config={"width": AUDIO_WIDTH},
        model=audio.state_dict(),
        placement=CONFIG.placement.to_dict(),
    )
    save_checkpoint(
        root / "expert.pt", kind=EXPERT, config=TINY_EXPERT.to_dict(), model=expert.state_dict()
    )


def tiny_expert(dtype: torch.dtype = torch.float32) -> AvHubert:
    """An untrained lip expert for use, frozen."""
    expert = AvHubert(TINY_EXPERT)
    fill(expert, 2)
    with torch.no_grad():  # a convolution over time sums up many more pixels than the others
        for module in expert.modules():
            if isinstance(module, nn.Conv3d):
                module.weight.mul_(0.2)
    return expert.to(dtype).eval().requires_grad_(False)


def without(**changes: object) -> TrainConfig:
    """:data:`CONFIG` with another objective."""
    return replace(CONFIG, objective=replace(CONFIG.objective, **changes))  # type: ignore[arg-type]
