"""Two processes that learn together, for a test: ``python -m tests.training.shared_run ROOT``.

Both are forks of one process, so that torch is loaded once; what ``torchrun`` would put into the
environment is put there by hand. The first writes ``ROOT/shared.pt``.
"""

import multiprocessing
import os
import socket
import sys
from pathlib import Path

import torch
from torch import Tensor

from tests.training.drawn_clips import SHARED
from training.hardware import Hardware, hardware
from training.objective import NetworkFiles
from training.train import Run

STEPS = 2


def learn(root: Path, folder: Path, place: Hardware) -> tuple[list[dict[str, float]], list[Tensor]]:
    """The losses of some steps, and the last step's gradients of both networks.

    Batch normalisation keeps its first statistics: those of a process's own samples would be
    others than those of all.
    """
    files = NetworkFiles(expert=root / "expert.pt")
    run = Run(root / "clips", root / "audio.pt", folder, SHARED, files=files, hardware=place)
    run.model.eval()
    losses = []
    for step in range(1, STEPS + 1):
        run.step = step
        losses.append(place.mean(run.train_step(step)))
    assert run.adversary is not None
    networks = run.model, run.adversary.network
    gradients = [p.grad for network in networks for p in network.parameters()]
    return losses, [gradient for gradient in gradients if gradient is not None]


def _process(rank: int, port: int, root: Path) -> None:
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with hardware() as place:
        found = learn(root, root / "none", place)
        if place.writes:
            torch.save(found, root / "shared.pt")


def main(root: Path) -> int:
    """Start both; returns 0 if both went well."""
    torch.set_num_threads(1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=_process, args=(rank, port, root)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return int(any(process.exitcode for process in processes))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
