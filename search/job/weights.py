"""A checkpoint on its way to the workers: arrays, which an object store shares between processes without a copy."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass, replace

import numpy as np
import torch

from duo_oracle.models.checkpoint import Checkpoint, read_checkpoint
from duo_oracle.oracle.base.errors import InputError


@dataclass(frozen=True)
class Weights:
    """A checkpoint as arrays. `restore` gives it back, over the same memory."""

    checkpoint: Checkpoint  # without its tensors
    arrays: dict[str, np.ndarray]
    dtypes: dict[str, torch.dtype]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Weights:
        tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
        # numpy has no bfloat16: every tensor travels as its bytes
        arrays = {name: tensor.view(torch.uint8).numpy() if tensor.ndim else tensor.numpy() for name, tensor in tensors.items()}
        return cls(replace(checkpoint, tensors={}), arrays, {name: tensor.dtype for name, tensor in tensors.items()})

    def restore(self) -> Checkpoint:
        with warnings.catch_warnings():  # the arrays are read-only, and nothing here writes
            warnings.simplefilter("ignore", UserWarning)
            tensors = {name: torch.from_numpy(array).view(self.dtypes[name]) for name, array in self.arrays.items()}
        return replace(self.checkpoint, tensors=tensors)


def checkpoint_in(directory: str | None, fingerprint: str) -> Checkpoint | None:
    """The model of that fingerprint in the directory; None where it is not seen, cannot be read, or is another."""
    if directory is None or not os.path.isdir(directory):
        return None
    try:
        found = read_checkpoint(directory)
    except (InputError, OSError):
        return None
    return found if found.fingerprint == fingerprint else None
