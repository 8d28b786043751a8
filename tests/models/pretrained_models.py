"""Small random checkpoints of transformers' families with small FFNs, which tests of search and tools run on."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from duo_oracle.models.hf.library import OUR_KEYS
from duo_oracle.models.hf.pretrained import PretrainedModule

_SIZES = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "small_intermediate_size": 8,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 32,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_OF_GPT2 = {"vocab_size": 40, "n_embd": 16, "n_inner": 24, "small_intermediate_size": 8, "n_layer": 3, "n_head": 4}
_OF_OPT = {"word_embed_proj_dim": 16, "ffn_dim": 24, "dropout": 0.0}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": _SIZES,
    "mistral": _SIZES,
    "qwen2": _SIZES,
    "qwen3": _SIZES,
    "phi3": {**_SIZES, "sliding_window": None},  # gate and up in one matrix
    "gemma2": {**_SIZES, "final_logit_softcapping": 5.0},  # norms behind, softcaps
    "gpt_neox": {**_SIZES, "rotary_pct": 0.5},  # attention and FFN side by side
    "phi": {**_SIZES, "num_key_value_heads": 4},  # side by side, and a bias of the head
    "gpt2": {**_OF_GPT2, "n_positions": 32, "eos_token_id": 2},
    "opt": {**_SIZES, **_OF_OPT},
}
FAMILIES = list(CONFIGS)
_SAMPLE = ("gemma2", "gpt2", "qwen3")
EACH_FAMILY = [family if family in _SAMPLE else pytest.param(family, marks=pytest.mark.families) for family in FAMILIES]
"""To parametrize by: `make test` runs three that have most of the kinds among them, `make families` the others."""


def random_checkpoint(model_type: str, seed: int, **changes: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Config and tensors, weights large enough that every branch matters and logits differ by several nats."""
    config = {"model_type": model_type, **CONFIGS[model_type], **changes}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in _shapes(json.dumps(config)).items():
        drawn = torch.randn(shape, generator=generator)
        tensors[name] = 1 + 0.1 * drawn if len(shape) == 1 else drawn * shape[-1] ** -0.5
    return config, tensors


@lru_cache
def _shapes(config_json: str) -> dict[str, tuple[int, ...]]:
    """Of every tensor that a checkpoint of this config holds; a tied head is stored as the embedding alone."""
    config = json.loads(config_json)
    theirs = {key: value for key, value in config.items() if key not in (*OUR_KEYS, "model_type")}
    parsed = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(theirs)
    model = transformers.AutoModelForCausalLM.from_config(parsed).eval().requires_grad_(False)
    module = PretrainedModule(model, config)
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    names = {id(each): name for name, each in model.named_modules()}
    left_out = f"{names[id(head)]}.weight" if head.weight is embedding.weight else ""
    return {name: tuple(tensor.shape) for name, tensor in module.model.state_dict().items() if name != left_out}
