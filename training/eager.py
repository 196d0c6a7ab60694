"""A generator as plain PyTorch runs it: the peer that ``run_stream.py bench`` measures against.

``python -m training.eager NAME=PATH …`` loads the networks and answers requests, one JSON a line:

    out  {"torch": "2.13.0", "threads": 2, "refused": {},
          "networks": {"paper": {"parameters": 55961219, "gflop_frame": 8.97, "k": 5}}}
    in   {"network": "paper", "keeps_identity": false}
    out  {"seconds": 0.49}

It ends with its standard input. ``python -m training.eager --make-checkpoint FILE`` writes an
untrained generator of the paper's size: what speed is measured with needs no training.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from engine.bundle import load_bundle
from engine.crop import UprightGeometry, geometry_to_dict
from engine.errors import ConfigError, LipstreamError
from engine.mel import BANDS, MelSettings, WindowPlacement
from training.bundled import read_generator
from training.checkpoint import load_checkpoint, save_checkpoint
from training.generator import Generator, GeneratorConfig, mask_pose
from training.painter import build_model

SEED: Final = 0
_FRAMES: Final = 8  # that an untrained network's statistics come from
_START_S: Final = -0.1  # of a frame's mel window
WRONG_USE: Final = 2


class EagerPeer:
    """A generator that paints one chunk at a time in float32, from bytes to bytes.

    Args:
        model: in use, not in training.
        k: frames of a chunk.
    """

    def __init__(self, model: Generator, k: int) -> None:
        self._model = model
        self.k = k
        side = model.config.resolution
        random = torch.Generator().manual_seed(SEED)
        window = k, 1, BANDS, model.config.audio_columns
        self._mel = torch.rand(window, generator=random) * 8 - 4
        pictures = torch.randint(0, 256, (2, k, side, side, 3), generator=random)
        self._crops, self._identity = pictures.to(torch.uint8)
        self._kept = self._encoded()

    def chunk(self, *, keeps_identity: bool, clock: Callable[[], float]) -> float:
        """Paint a chunk.

        Args:
            keeps_identity: take the identity's features as they were computed beforehand; else
                they are computed with every frame, as the published code of this family does.
            clock: seconds.

        Returns:
            The seconds that it took.
        """
        start = clock()
        with torch.inference_mode():
            identity, maps = self._kept if keeps_identity else self._encoded()
            pose = mask_pose(_to_network(self._crops), self._model.config.masked_from)
            frames = self._model(self._mel, pose, identity, maps).frames
            levels = (frames * 255 + 0.5).clamp(0, 255).byte()
            levels.permute(0, 2, 3, 1).contiguous().numpy()
        return clock() - start

    def facts(self) -> dict[str, float]:
        """Return the numbers that are learnt, and the operations of one frame before any pass.

        2 for a multiplication with its addition; the identity encoder counts, and so do all rows
        that were trained.
        """
        return {
            "parameters": sum(p.numel() for p in self._model.parameters()),
            "gflop_frame": round(frame_flops(self._model.config) / 1e9, 3),
            "k": self.k,
        }

    def _encoded(self) -> tuple[Tensor, list[Tensor]]:
        with torch.inference_mode():
            identity = _to_network(self._identity)
            return identity, self._model.encode_identity(identity)


def frame_flops(config: GeneratorConfig) -> int:
    """Count the operations of one frame, 2 for a multiplication with its addition."""
    with torch.device("meta"):  # shapes without values: nothing is computed
        model = Generator(config).eval()
        picture = torch.zeros(1, 3, config.resolution, config.resolution)
        mel = torch.zeros(1, 1, BANDS, config.audio_columns)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        model(mel, picture, picture)
    return int(counter.get_total_flops())


def load_peer(path: Path) -> EagerPeer:
    """Load a network from a bundle's folder or a checkpoint's file.

    Raises:
        ConfigError: the checkpoint can't be read.
        BundleError: the bundle can't, or holds another kind of network.
    """
    if path.is_dir():
        bundle = load_bundle(path)
        return EagerPeer(read_generator(bundle), bundle.k)
    checkpoint = load_checkpoint(path)
    return EagerPeer(build_model(checkpoint), checkpoint.training.get("k", 5))


@torch.no_grad()
def make_checkpoint(path: Path, config: GeneratorConfig | None = None) -> None:
    """Write an untrained generator; the same weights every time.

    Its normalisations hold the statistics of noise, so that values are as large as in a trained
    one: those of a fresh network die away from layer to layer.

    Args:
        path: the checkpoint.
        config: size and form; the paper's by default.

    Raises:
        ConfigError: the file can't be written.
    """
    torch.manual_seed(SEED)
    model = Generator(config or GeneratorConfig())
    side = model.config.resolution
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None  # a plain mean over what was seen
    model.train()
    mel = torch.rand(_FRAMES, 1, BANDS, model.config.audio_columns) * 8 - 4
    pose, identity = torch.rand(2, _FRAMES, 3, side, side)
    model(mel, mask_pose(pose, model.config.masked_from), identity)
    save_checkpoint(
        path,
        config=model.config.to_dict(),
        model=model.state_dict(),
        mel=MelSettings().to_dict(),
        placement=WindowPlacement(_START_S).to_dict(),
        crop=geometry_to_dict(UprightGeometry()),
        training={
            "licence": "Apache-2.0",
            "training_data": "none: untrained, for measuring speed only",
        },
    )


def answer(
    peers: dict[str, EagerPeer],
    requests: Iterable[str],
    say: Callable[[dict[str, Any]], None],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Answer requests until there are no more.

    Args:
        peers: the networks by name.
        requests: one JSON each: ``network``, and ``keeps_identity``.
        say: takes each answer, ``seconds`` or ``error``.
        clock: seconds.
    """
    for line in requests:
        request = json.loads(line)
        try:
            peer = peers[request["network"]]
            seconds = peer.chunk(keeps_identity=request["keeps_identity"], clock=clock)
        except (KeyError, RuntimeError) as error:
            say({"error": f"{type(error).__name__}: {error}"})
        else:
            say({"seconds": seconds})


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m training.eager",
        description="Run generators in plain PyTorch, for `run_stream.py bench`.",
    )
    parser.add_argument("networks", nargs="*", metavar="NAME=PATH", help="a bundle or a checkpoint")
    parser.add_argument("--threads", type=int, default=2, help="processor threads (default: 2)")
    parser.add_argument(
        "--make-checkpoint", type=Path, metavar="FILE", help="write an untrained one, and end"
    )
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    if arguments.make_checkpoint is not None:
        try:
            make_checkpoint(arguments.make_checkpoint)
        except ConfigError as error:
            print(f"training.eager: {error}", file=sys.stderr)  # noqa: T201
            return WRONG_USE
        return 0
    peers: dict[str, EagerPeer] = {}
    refused: dict[str, str] = {}
    for word in arguments.networks:
        name, _, path = word.partition("=")
        try:
            peers[name] = load_peer(Path(path))
        except LipstreamError as error:
            refused[name] = str(error)
    _say(
        {
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "networks": {name: peer.facts() for name, peer in peers.items()},
            "refused": refused,
        }
    )
    answer(peers, sys.stdin, _say)
    return 0


def _say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def _to_network(pictures: Tensor) -> Tensor:
    """uint8 (n, S, S, 3) to float32 (n, 3, S, S) in 0..1."""
    return pictures.permute(0, 3, 1, 2).float() / 255


if __name__ == "__main__":
    sys.exit(main())
