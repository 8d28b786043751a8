"""The mixture of experts trained here: Llama-2 layers with routed experts and a shared one (over `models/moe_llm/`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.duo_llm.module import shapes_of
from duo_oracle.models.moe_llm.config import MODEL_TYPE, MoeLlamaConfig
from duo_oracle.models.moe_llm.experts import over_experts
from duo_oracle.models.moe_llm.module import MoeLlama
from duo_oracle.models.moe_llm.packed import PackedMoeLlama
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.model import OracleModel

__all__ = ["MODEL_TYPE", "build", "build_module", "over_experts", "random_checkpoint"]


def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a small random mixture in which every layer has experts, for the tests that every family passes."""
    config = MoeLlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        head_dim=4,
        router=("expert_threshold", "token_choice", "expert_choice")[seed % 3],
        expansion=2,
        dense_layers=0,
        tie_word_embeddings=bool(seed % 2),
    )
    return config.to_dict(), random_tensors(config, seed)


def random_tensors(config: MoeLlamaConfig, seed: int) -> dict[str, Tensor]:
    """Tensors large enough that every expert matters and logits differ by several nats; some experts are wanted more."""
    generator = torch.Generator().manual_seed(seed)
    drawn = {name: torch.randn(shape, generator=generator) for name, shape in _shapes(config).items()}
    return {
        name: each * each.shape[-1] ** -0.5 if each.dim() > 1 else 0.3 * each if ".gate." in name else 1 + 0.1 * each
        for name, each in drawn.items()
    }


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> OracleModel:
    """The frozen model of a checkpoint. Raises InputError for a tensor that is missing, not of the config's shape, or left over."""
    return PackedMoeLlama(build_module(config, tensors).to(device=device, dtype=dtype))


def build_module(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> MoeLlama:
    """The float32 module of a checkpoint, in eval mode and without gradients. Raises InputError as `build`."""
    moe_config = MoeLlamaConfig.from_dict(config)
    shapes = _shapes(moe_config)
    for name, shape in shapes.items():
        if name not in tensors:
            raise InputError(f"the checkpoint has no tensor {name}; {MODEL_TYPE} needs it with shape {list(shape)}")
        if tuple(tensors[name].shape) != shape:
            raise InputError(f"tensor {name} must have shape {list(shape)} by config.json; found {list(tensors[name].shape)}")
    for name in sorted(set(tensors) - set(shapes)):
        raise InputError(f"the checkpoint holds tensor {name}, which a {MODEL_TYPE} model of its config.json does not have")
    with torch.device("meta"):
        module = MoeLlama(moe_config)
    module.load_state_dict({name: tensors[name].to(torch.float32) for name in shapes}, assign=True)
    return module.eval().requires_grad_(False)


def _shapes(config: MoeLlamaConfig) -> dict[str, tuple[int, ...]]:
    """Every tensor's name and shape, in the module's order."""
    return shapes_of(lambda: MoeLlama(config))
