"""Exports a mixture trained here as a model that transformers loads, where one of its architectures computes the same.

Dense is a `llama`. Token choice without a bias is a `glm4_moe`: grouped queries, first layers dense, sigmoid gates that are not
normalised, a shared expert. Its bias for the choice, as DeepSeek-V3's, is added to the sigmoid, and ours, as in arXiv 2603.11535,
to the logit, which orders experts differently. No architecture of transformers compares gates with cutoffs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.checkpoint import Checkpoint, write_checkpoint
from duo_oracle.models.moe_llm.config import MODEL_TYPE, MoeLlamaConfig
from duo_oracle.oracle.base.errors import InputError

_OURS = (".gate.cutoff", ".gate.cutoff_average", ".gate.n_averaged")
_BIAS = ".gate.bias"


def export(checkpoint: Checkpoint, out: Path) -> str:
    """Writes the directory that transformers loads; gives its model_type. Raises InputError, saying why, where there is none."""
    config, tensors = exported(checkpoint.config, checkpoint.tensors)
    write_checkpoint(out, config, tensors, checkpoint.tokenizer_json, torch.float32)
    return str(config["model_type"])


def exported(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The config and tensors of the same model as transformers has it. Raises InputError where it has none."""
    if config.get("model_type") != MODEL_TYPE:
        raise InputError(f"a {MODEL_TYPE} model can be exported; model_type is {config.get('model_type')!r}")
    ours = MoeLlamaConfig.from_dict(config)
    why = _not_in_transformers(ours, tensors)
    if why:
        raise InputError(f"transformers has no architecture that computes this model: {why}")
    theirs: dict[str, Any] = {
        "vocab_size": ours.vocab_size,
        "hidden_size": ours.hidden_size,
        "intermediate_size": ours.intermediate_size,
        "num_hidden_layers": ours.num_hidden_layers,
        "num_attention_heads": ours.num_attention_heads,
        "num_key_value_heads": ours.num_key_value_heads,
        "head_dim": ours.head_dim,
        "max_position_embeddings": ours.max_position_embeddings,
        "rms_norm_eps": ours.rms_norm_eps,
        "tie_word_embeddings": ours.tie_word_embeddings,
        "hidden_act": "silu",
        "attention_bias": False,
        "dtype": "float32",
    }
    if ours.router == "dense":
        theirs |= {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_theta": ours.rope_theta}
    else:
        theirs |= {
            "model_type": "glm4_moe",
            "architectures": ["Glm4MoeForCausalLM"],
            "rope_parameters": {"rope_type": "default", "rope_theta": ours.rope_theta, "partial_rotary_factor": 1.0},
            "use_qk_norm": False,
            "moe_intermediate_size": ours.expert_size,
            "n_routed_experts": ours.n_experts,
            "num_experts_per_tok": ours.n_active,
            "n_shared_experts": 1,
            "first_k_dense_replace": ours.dense_layers,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.0,
            "n_group": 1,
            "topk_group": 1,
        }
    return theirs, dict(_renamed(tensors))


def _not_in_transformers(config: MoeLlamaConfig, tensors: Mapping[str, Tensor]) -> str:
    """Why it cannot be exported; empty where it can."""
    if config.router in ("expert_choice", "expert_threshold"):
        return "none compares an expert's logit with a cutoff, so that a token takes as many experts as it will"
    if config.router == "token_choice":
        if any(name.endswith(_BIAS) and bool(tensor.any()) for name, tensor in tensors.items()):
            return "the bias for the choice is added to the logit here (balance loss_free), and to its sigmoid there"
        if not config.shared_expert:
            return "its sigmoid gates stand beside a shared expert, and this model has none"
    return ""


def _renamed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors under the library's names: on disk each expert's matrices are its own."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(_OURS):
            continue
        place, _, last = name.rpartition(".")
        if name.endswith(_BIAS):
            named[f"{place}.e_score_correction_bias"] = tensor
        elif last == "gate_up_proj":
            for expert, both in enumerate(tensor):
                gate, up = both.chunk(2)
                named |= {f"{place}.{expert}.gate_proj.weight": gate, f"{place}.{expert}.up_proj.weight": up}
        elif last == "down_proj":
            named |= {f"{place}.{expert}.down_proj.weight": one for expert, one in enumerate(tensor)}
        else:
            named[name] = tensor
    return named
