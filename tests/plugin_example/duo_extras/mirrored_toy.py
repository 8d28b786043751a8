"""The toy family with every sign turned: another model of the same tensors, told apart by its `model_type` alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.families import toy
from duo_oracle.oracle.model import OracleModel

MODEL_TYPE = "mirrored_toy"


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> OracleModel:
    turned = {name: -tensor if name == "sign" else tensor for name, tensor in tensors.items()}
    return toy.build({**config, "model_type": toy.MODEL_TYPE}, turned, dtype, device)


def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    config, tensors = toy.random_checkpoint(seed)
    return {**config, "model_type": MODEL_TYPE}, tensors
