"""What a run computes on: one device, or one a process where ``torchrun`` starts several.

    torchrun --standalone --nproc-per-node 8 -m -- training train … --device cuda

Each process takes its share of every step's samples; gradients are averaged over all of them
(DistributedDataParallel), and batch normalisation counts all samples on GPUs. The first process
writes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Final, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from engine.errors import ConfigError
from training.config import Precision

Network = TypeVar("Network", bound=nn.Module)

_DTYPES: Final = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True)
class Hardware:
    """The place of one process.

    Attributes:
        device: that it computes on.
        rank: its number among all, from 0.
        processes: how many there are.
    """

    device: torch.device
    rank: int = 0
    processes: int = 1

    @property
    def writes(self) -> bool:
        """Whether this process writes checkpoints and reports."""
        return self.rank == 0

    def own(self, samples: int, parts: int) -> list[slice]:
        """This process's samples of a step, in parts.

        Args:
            samples: of a step, over all processes.
            parts: how many are computed one after the other.

        Raises:
            ConfigError: they can't be shared equally, two samples a part at least.
        """
        shares = self.processes * parts
        size = samples // shares
        if samples % shares or size < 2:
            raise ConfigError(
                f"The {samples} clips of a step do not make {shares} equal parts of at least 2:"
                " start another number of processes, or change clips."
            )
        first = self.rank * parts
        return [slice(n * size, (n + 1) * size) for n in range(first, first + parts)]

    def shared(self, module: nn.Module) -> nn.Module:
        """The module as it is to be called, so that gradients are those of all processes."""
        return module if self.processes == 1 else DistributedDataParallel(module)

    def normalised(self, module: Network) -> Network:
        """The module with batch normalisation over all processes, where these are GPUs."""
        if self.processes == 1 or self.device.type != "cuda":
            return module
        return nn.SyncBatchNorm.convert_sync_batchnorm(module)  # type: ignore[no-any-return,no-untyped-call]

    def gathering(self, module: nn.Module, last: bool) -> AbstractContextManager[None]:
        """Context of one part of a step; gradients travel between processes in the last one."""
        if last or not isinstance(module, DistributedDataParallel):
            return nullcontext()
        return module.no_sync()

    def mean(self, values: Mapping[str, Tensor]) -> dict[str, float]:
        """Scalars by name, averaged over all processes, each of which must ask."""
        every = torch.stack([value.detach().float() for value in values.values()])
        if self.processes > 1:
            dist.all_reduce(every)
        means: list[float] = (every / self.processes).tolist()
        return dict(zip(values, means, strict=True))

    def autocast(self, precision: Precision) -> torch.autocast:
        """Context in which networks compute in a precision."""
        enabled = precision != "fp32"
        dtype = _DTYPES[precision] if enabled else torch.bfloat16
        return torch.autocast(self.device.type, dtype, enabled=enabled)

    def check(self, precision: Precision) -> None:
        """Refuse a precision that the device does not compute in.

        Raises:
            ConfigError: fp16 on a processor, whose gradients nothing scales.
        """
        if precision == "fp16" and self.device.type != "cuda":
            raise ConfigError("fp16 needs a GPU: choose --precision bf16, or --device cuda.")


CPU: Final = Hardware(torch.device("cpu"))


@contextmanager
def hardware(device: str = "cpu") -> Iterator[Hardware]:
    """Take this process's place among those that ``torchrun`` has started, if it has.

    Args:
        device: ``cpu`` or ``cuda``.

    Raises:
        ConfigError: there is no such device.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("There is no GPU that torch can use: choose --device cpu.")
    processes, rank = (int(os.environ.get(n, d)) for n, d in (("WORLD_SIZE", "1"), ("RANK", "0")))
    place = torch.device(device)
    if device == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if processes == 1:
        yield Hardware(place)
        return
    dist.init_process_group("nccl" if device == "cuda" else "gloo")
    try:
        yield Hardware(place, rank, processes)
    finally:
        dist.destroy_process_group()
