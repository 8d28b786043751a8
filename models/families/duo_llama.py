"""The Duo-LLM trained here: Llama-2 layers with a big and a small FFN (over `models/duo_llm/`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.duo_llm.module import MODEL_TYPE, DuoLlama, DuoLlamaConfig
from duo_oracle.models.duo_llm.packed import PackedDuoLlama
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.model import OracleModel

__all__ = ["MODEL_TYPE", "build", "build_module", "random_checkpoint"]


def random_checkpoint(seed: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors of a small random model with grouped queries, for the tests that every family passes.

    Weights are large enough that every branch matters and logits differ by several nats.
    """
    config = DuoLlamaConfig(
        vocab_size=40,
        hidden_size=16,
        intermediate_size=24,
        small_intermediate_size=8,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=32,
        head_dim=4,
        tie_word_embeddings=bool(seed % 2),
    )
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: torch.randn(shape, generator=generator) for name, shape in config.tensor_shapes().items()}
    scaled = {
        name: tensor * tensor.shape[-1] ** -0.5 if tensor.dim() == 2 else 1 + 0.1 * tensor for name, tensor in tensors.items()
    }
    return config.to_dict(), scaled


def build(config: Mapping[str, Any], tensors: Mapping[str, Tensor], dtype: torch.dtype, device: torch.device) -> OracleModel:
    """The frozen model of a checkpoint. Raises InputError for a tensor that is missing, not of the config's shape, or left over."""
    return PackedDuoLlama(build_module(config, tensors).to(device=device, dtype=dtype))


def build_module(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> DuoLlama:
    """The float32 module of a checkpoint, in eval mode and without gradients. Raises InputError as `build`."""
    duo_config = DuoLlamaConfig.from_dict(config)
    for name, shape in duo_config.tensor_shapes().items():
        if name not in tensors:
            raise InputError(f"the checkpoint has no tensor {name}; {MODEL_TYPE} needs it with shape {list(shape)}")
        if tuple(tensors[name].shape) != shape:
            raise InputError(f"tensor {name} must have shape {list(shape)} by config.json; found {list(tensors[name].shape)}")
    _refuse_unused(duo_config, tensors)
    with torch.device("meta"):
        module = DuoLlama(duo_config)
    wanted = {name: tensors[name].to(torch.float32) for name in duo_config.tensor_shapes()}
    module.load_state_dict(wanted, assign=True)
    return module.eval().requires_grad_(False)


def _refuse_unused(config: DuoLlamaConfig, tensors: Mapping[str, Tensor]) -> None:
    """Raises InputError for a tensor that the model would not use, but a head that is the embedding, and rotary tables."""
    head, embedding = "lm_head.weight", tensors["model.embed_tokens.weight"]
    for name in sorted(set(tensors) - set(config.tensor_shapes())):
        if name == head and torch.equal(tensors[head], embedding):
            continue
        if name == head:
            raise InputError(
                f"config.json ties the head to the embedding, and {head} of the checkpoint is another than it: "
                "set tie_word_embeddings to false, or leave it out"
            )
        if not name.endswith("rotary_emb.inv_freq"):
            raise InputError(f"the checkpoint holds tensor {name}, which a {MODEL_TYPE} model of its config.json does not have")
