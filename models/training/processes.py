"""Training by several processes, as `torchrun` starts them: each takes its rows of every batch, and all make the same steps.

Without torchrun there is one, and nothing here does anything. Files are written by the first process alone; all read them, so that
the directory of a training is one that every process sees. Knows no model and no text.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from duo_oracle.oracle.base.errors import InputError


@dataclass(frozen=True)
class Processes:
    """Which of the processes this one is, of how many, and its device."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"

    @property
    def writes(self) -> bool:
        """Whether this process writes files and says something."""
        return self.rank == 0

    def check(self, n_batch: int, accumulate: int = 1) -> None:
        """Raises InputError for a batch of windows that is not shared evenly."""
        if n_batch % (self.count * accumulate):
            pieces = f"{self.count} processes" + (f" and {accumulate} pieces each" if accumulate > 1 else "")
            raise InputError(f"a `batch` is shared evenly; got {n_batch} windows for {pieces}")

    def rows(self, n_batch: int) -> slice:
        """The rows of a batch that are this process's."""
        share = n_batch // self.count
        return slice(self.rank * share, (self.rank + 1) * share)

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The block is run by the first process, and then by the others, which find what it has made."""
        if self.count > 1 and not self.writes:
            dist.barrier()
        yield
        if self.count > 1 and self.writes:
            dist.barrier()

    def wrapped(self, module: nn.Module) -> nn.Module:
        """The module whose gradients, of the parameters that learn now, are means over the processes."""
        if self.count == 1:
            return module
        devices = [torch.device(self.device)] if self.device.startswith("cuda") else None
        return nn.parallel.DistributedDataParallel(module, device_ids=devices, find_unused_parameters=True)

    def mean(self, value: Tensor) -> Tensor:
        """The mean of every process's value."""
        if self.count == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.count

    def average_gradients(self, module: nn.Module) -> None:
        """Of a module that is not called as a whole, and so cannot be wrapped: its gradients become means over the processes."""
        learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
        if self.count == 1 or not learning:
            return
        given = [torch.zeros_like(p) if p.grad is None else p.grad for p in learning]
        mean = self.mean(torch.cat([gradient.flatten() for gradient in given]))
        for parameter, part in zip(learning, mean.split([p.numel() for p in learning]), strict=True):
            parameter.grad = part.view_as(parameter)

    def gathered(self, x: Tensor) -> Tensor:
        """Every process's rows of the batch, in order; gradients find their way back to the process whose rows they are of."""
        return x if self.count == 1 else _Gathered.apply(x, self)


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, processes: Processes) -> Tensor:
        context.processes, context.n_rows = processes, len(x)
        parts = [torch.empty_like(x) for _ in range(processes.count)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Any:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        start = context.processes.rank * context.n_rows
        return total[start : start + context.n_rows], None


def check_alone(what: str) -> None:
    """Raises InputError under torchrun with several processes, for a training that one alone can make."""
    count = os.environ.get("WORLD_SIZE", "1")
    if count != "1":
        raise InputError(f"{what} is trained by one process; torchrun started {count}")


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that torchrun started, or this one alone. On `cuda` each has the GPU of its number on its machine.

    Raises InputError for a GPU that is named where there are several processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1 or "RANK" not in os.environ:
        yield Processes(device=device)
        return
    if device.startswith("cuda:"):
        raise InputError(f"with several processes each has a GPU of its own: `device` is cpu or cuda; got {device}")
    if device == "cuda":
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), device)
    finally:
        dist.destroy_process_group()
