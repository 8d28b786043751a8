"""What depends on the device: sizes of blocks, and arrays of indices that stay there.

On a CPU a block of rows is to fit a core's cache, and an array is a tensor where it lies. On a GPU a block is to fill it, and an
array is sent once, however often it is used.
"""

from __future__ import annotations

import weakref

import numpy as np
import torch
from torch import Tensor

_sent: dict[tuple[int, torch.device], Tensor] = {}


def at_once(device: torch.device, on_cpu: int, on_gpu: int) -> int:
    """How many rows, or numbers, are worked on at once on the device.

    >>> at_once(torch.device("cpu"), 512, 8192), at_once(torch.device("cuda"), 512, 8192)
    (512, 8192)
    """
    return on_cpu if device.type == "cpu" else on_gpu


def resident(array: np.ndarray, device: torch.device) -> Tensor:
    """The array, which nobody changes, as a tensor on the device: sent there once, and kept for as long as the array lives."""
    if device.type == "cpu":
        return torch.from_numpy(array)
    key = (id(array), device)
    if key not in _sent:
        _sent[key] = torch.from_numpy(array).to(device, non_blocking=True)
        weakref.finalize(array, _sent.pop, key, None)
    return _sent[key]
