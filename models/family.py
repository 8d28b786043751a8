"""Model families: the contract of `models/families/*.py`, and how a checkpoint becomes a frozen model.

A family is one file whose name is its `model_type`; there is no registry to edit. Knows no family by name.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from torch import Tensor

from models.checkpoint import Checkpoint
from oracle.model import RoutedModel

DTYPES = {"float32": torch.float32, "float64": torch.float64, "bfloat16": torch.bfloat16}
_FAMILIES = Path(__file__).parent / "families"
_ALIGNMENT = 64  # bytes


class Family(Protocol):
    """What each file in `models/families/` offers."""

    MODEL_TYPE: str

    def build(
        self, config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device
    ) -> RoutedModel:
        """The frozen model of a checkpoint. Raises ValueError for a config or tensors that are not the family's."""

    def random_checkpoint(self, seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Config and tensors of a small random model, for the tests that every family passes."""


def family_names() -> list[str]:
    """The `model_type`s that can be loaded, by listing the folder."""
    return sorted(path.stem for path in _FAMILIES.glob("*.py") if not path.stem.startswith("_"))


def load_family(model_type: object) -> Family:
    """The family of a `model_type`. Raises ValueError, listing the families, for an unknown one."""
    if model_type not in family_names():
        raise ValueError(f"config.json: unknown model_type {model_type!r}; available: {', '.join(family_names())}")
    return cast(Family, importlib.import_module(f"models.families.{model_type}"))


def load_model(checkpoint: Checkpoint, dtype: str = "float32", device: str = "cpu") -> RoutedModel:
    """The frozen model of a checkpoint, in `dtype` on `device`.

    Raises ValueError for an unknown family, dtype or device, and for a config or tensors that are not the family's.
    """
    if dtype not in DTYPES:
        raise ValueError(f"unknown dtype {dtype!r}; available: {', '.join(DTYPES)}")
    family = load_family(checkpoint.config.get("model_type"))
    tensors = {name: _aligned(tensor) for name, tensor in checkpoint.tensors.items()}
    return family.build(checkpoint.config, tensors, DTYPES[dtype], resolve_device(device))


def _aligned(tensor: Tensor) -> Tensor:
    """The tensor at an address as torch itself would give it. Products round by the address of their factors, and one read from
    a file or a shared store begins anywhere: without this, a worker's last bits are not those of this process."""
    return tensor if tensor.data_ptr() % _ALIGNMENT == 0 else tensor.clone()


def resolve_device(name: str) -> torch.device:
    """The device of that name. Raises ValueError for one that torch does not know, or that this machine does not have."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"unknown device {name!r}; available: cpu, cuda, cuda:N") from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device {name!r} is not on this machine; it has {torch.cuda.device_count()} CUDA devices")
    if device.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"unknown device {name!r}; available: cpu, cuda, cuda:N")
    return device
