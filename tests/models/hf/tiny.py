"""Tiny random models of transformers with the quirks of released ones: what the family over transformers is held to.

Each is a model_type and the keys of its config; weights are drawn so that every part matters and losses differ by tenths of a nat.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

N_VOCABULARY = 96
DEPTH = 4

_SIZES = {
    "vocab_size": N_VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_GPT2_SIZES = {
    "vocab_size": N_VOCABULARY,
    "n_embd": 32,
    "n_layer": DEPTH,
    "n_head": 4,
    "n_positions": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_PARTIAL = {
    "partial_rotary_factor": 0.5,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5},
}
_LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
    "rope_theta": 5e5,
}
_THREE_WINDOWS = {"sliding_window": 8, "layer_types": ["sliding_attention"] * 3 + ["full_attention"]}
_EVERY_OTHER = {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"] * 2}
_MLA = {
    "num_key_value_heads": 4,
    "kv_lora_rank": 16,
    "q_lora_rank": None,
    "qk_rope_head_dim": 8,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
}
_DEEPSEEK = {
    **_MLA,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "n_shared_experts": 1,
    "first_k_dense_replace": 1,
}
_LOCAL_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_MULTIPLIERS = {"embedding_multiplier": 12.0, "attention_multiplier": 0.1, "residual_multiplier": 0.6, "logits_scaling": 2.0}
_SSM = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1, "mamba_expand": 2, "mamba_chunk_size": 16}
_OPT = {
    "vocab_size": N_VOCABULARY,
    "hidden_size": 32,
    "ffn_dim": 48,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "word_embed_proj_dim": 32,
}
_FALCON = {
    "vocab_size": N_VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": DEPTH,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
}


def _(**changes: Any) -> dict[str, Any]:
    return {**_SIZES, **changes}


@dataclass(frozen=True)
class Tiny:
    """A configuration. `config` is what config.json holds beside the model_type."""

    model_type: str
    config: dict[str, Any]


TINY: dict[str, Tiny] = {
    name: Tiny(model_type, config)
    for name, model_type, config in [
        ("Llama 2", "llama", _(num_key_value_heads=4, tie_word_embeddings=False)),
        ("Llama 3.1 (scaled rotary)", "llama", _(tie_word_embeddings=False, rope_parameters=_LLAMA3)),
        ("Llama 3.2 (tied, wide heads)", "llama", _(tie_word_embeddings=True, head_dim=16, rope_parameters=_LLAMA3)),
        ("Llama with linear rotary scaling", "llama", _(rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4})),
        ("Llama with biases", "llama", _(attention_bias=True, mlp_bias=True)),
        (
            "Llama with YaRN",
            "llama",
            _(rope_parameters={"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 16}),
        ),
        ("Llama with dynamic rotary", "llama", _(rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4})),
        (
            "Llama, old config keys",
            "llama",
            _(rope_theta=5e5, rope_scaling={k: v for k, v in _LLAMA3.items() if k != "rope_theta"}),
        ),
        ("Mistral 0.1 (window)", "mistral", _(sliding_window=8)),
        ("Mistral 0.3", "mistral", _(sliding_window=None)),
        ("Mistral Nemo (narrow heads)", "mistral", _(sliding_window=None, head_dim=16)),
        ("Ministral (windows in turn)", "ministral", _(head_dim=16, **_EVERY_OTHER)),
        ("Ministral 3", "ministral3", _(head_dim=16)),
        ("Qwen2.5", "qwen2", _(tie_word_embeddings=True, use_sliding_window=False)),
        ("Qwen2 with windows", "qwen2", _(use_sliding_window=True, sliding_window=8, max_window_layers=2)),
        ("Qwen3", "qwen3", _(tie_word_embeddings=True, head_dim=16)),
        ("Gemma", "gemma", _(head_dim=16, num_key_value_heads=1)),
        (
            "Gemma 2 (softcaps, windows)",
            "gemma2",
            _(head_dim=16, sliding_window=8, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, query_pre_attn_scalar=24),
        ),
        ("Gemma 3", "gemma3_text", _(head_dim=16, query_pre_attn_scalar=24, **_EVERY_OTHER)),
        ("Phi", "phi", _(num_key_value_heads=4, hidden_act="gelu_new", **_PARTIAL)),
        ("Phi 3", "phi3", _(sliding_window=None)),
        ("Phi 3 with a window", "phi3", _(sliding_window=8)),
        (
            "Phi 4 mini (longrope)",
            "phi3",
            _(
                tie_word_embeddings=True,
                original_max_position_embeddings=32,
                rope_parameters={
                    "rope_type": "longrope",
                    "rope_theta": 1e4,
                    "partial_rotary_factor": 0.75,
                    "short_factor": [1.0] * 3,
                    "long_factor": [2.0] * 3,
                    "original_max_position_embeddings": 32,
                },
            ),
        ),
        ("GPT-2", "gpt2", {**_GPT2_SIZES}),
        ("GPT-2 (attention scaled by layer)", "gpt2", {**_GPT2_SIZES, "scale_attn_by_inverse_layer_idx": True}),
        ("GPT-2 (attention upcast)", "gpt2", {**_GPT2_SIZES, "reorder_and_upcast_attn": True}),
        ("GPT-BigCode", "gpt_bigcode", {**_GPT2_SIZES, "multi_query": True}),
        ("Pythia", "gpt_neox", _(hidden_size=64, rotary_pct=0.25, use_parallel_residual=True)),
        ("GPT-NeoX, serial", "gpt_neox", _(hidden_size=64, rotary_pct=0.25, use_parallel_residual=False)),
        ("GPT-J", "gptj", {**_GPT2_SIZES, "rotary_dim": 4, "tie_word_embeddings": False}),
        ("CodeGen", "codegen", {**_GPT2_SIZES, "n_embd": 64, "rotary_dim": 8, "tie_word_embeddings": False}),
        ("OPT", "opt", {**_OPT}),
        ("OPT-350m (norms behind)", "opt", {**_OPT, "word_embed_proj_dim": 16, "do_layer_norm_before": False}),
        ("Galactica (OPT without biases)", "opt", {**_OPT, "enable_bias": False, "activation_function": "gelu"}),
        ("StableLM 3B", "stablelm", _(hidden_size=64, num_key_value_heads=4, **_PARTIAL)),
        ("StableLM 2 12B", "stablelm", _(hidden_size=64, use_parallel_residual=True, qk_layernorm=True, **_PARTIAL)),
        ("OLMo", "olmo", _(clip_qkv=0.5)),
        ("OLMo 2", "olmo2", _()),
        ("OLMo 3", "olmo3", _(**_THREE_WINDOWS)),
        ("SmolLM3 (layers without positions)", "smollm3", _(no_rope_layers=[1, 1, 1, 0], tie_word_embeddings=True)),
        ("StarCoder2", "starcoder2", _(sliding_window=8, use_bias=True)),
        ("Granite", "granite", _(**_MULTIPLIERS)),
        ("Command R", "cohere", _(logit_scale=0.25, use_qk_norm=True, tie_word_embeddings=True)),
        ("Command R7B", "cohere2", _(logit_scale=0.25, head_dim=8, **_THREE_WINDOWS)),
        ("DeepSeek V2", "deepseek_v2", _(**_DEEPSEEK, topk_method="greedy", n_group=1, topk_group=1, norm_topk_prob=False)),
        ("DeepSeek V3", "deepseek_v3", _(**{**_DEEPSEEK, "q_lora_rank": 16}, n_group=2, topk_group=1)),
        ("MiniCPM 3", "minicpm3", _(**{**_MLA, "q_lora_rank": 16, "v_head_dim": 8}, dim_model_base=32, scale_emb=1)),
        ("GLM", "glm", _(head_dim=8)),
        ("GLM 4", "glm4", _(head_dim=8)),
        (
            "GLM 4.5",
            "glm4_moe",
            _(
                head_dim=8,
                n_routed_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=16,
                n_shared_experts=1,
                first_k_dense_replace=1,
                n_group=1,
                topk_group=1,
            ),
        ),
        ("EXAONE 4", "exaone4", _(sliding_window_pattern="LLLG", **_THREE_WINDOWS)),
        ("EXAONE MoE", "exaone_moe", _(**_EXPERTS)),
        ("Mixtral", "mixtral", _(sliding_window=None, **_LOCAL_EXPERTS)),
        ("OLMoE", "olmoe", _(num_experts=4, num_experts_per_tok=2)),
        ("FlexOlmo", "flex_olmo", _(num_experts=4, num_experts_per_tok=2)),
        ("Qwen2 MoE", "qwen2_moe", _(**_EXPERTS, shared_expert_intermediate_size=24, decoder_sparse_step=1, mlp_only_layers=[0])),
        ("Qwen3 MoE", "qwen3_moe", _(**_EXPERTS, head_dim=16)),
        ("Granite MoE", "granitemoe", _(**_LOCAL_EXPERTS, **_MULTIPLIERS)),
        ("Phi 3.5 MoE", "phimoe", _(**_LOCAL_EXPERTS)),
        ("gpt-oss (sinks)", "gpt_oss", _(**_LOCAL_EXPERTS, head_dim=16, **_EVERY_OTHER)),
        ("Llama 4 (chunks)", "llama4_text", _(head_dim=16, num_local_experts=2, intermediate_size_mlp=48, attention_chunk_size=8)),
        ("ERNIE 4.5", "ernie4_5", _(head_dim=8)),
        ("ERNIE 4.5 MoE", "ernie4_5_moe", _(moe_num_experts=4, moe_k=2, moe_intermediate_size=16, moe_num_shared_experts=1)),
        ("Hunyuan", "hunyuan_v1_dense", _(head_dim=8)),
        ("Hunyuan MoE", "hunyuan_v1_moe", _(head_dim=8, num_experts=4, moe_topk=2)),
        (
            "dots.llm1",
            "dots1",
            _(
                n_routed_experts=4,
                num_experts_per_tok=2,
                moe_intermediate_size=16,
                n_shared_experts=1,
                first_k_dense_replace=1,
                n_group=1,
                topk_group=1,
                **_EVERY_OTHER,
            ),
        ),
        ("Nemotron", "nemotron", _(**_PARTIAL)),
        ("Persimmon", "persimmon", _(num_key_value_heads=4, qk_layernorm=True, **_PARTIAL)),
        ("Arcee", "arcee", _()),
        ("Apertus", "apertus", _()),
        ("Seed-OSS", "seed_oss", _(head_dim=16)),
        ("Helium", "helium", _(head_dim=8)),
        ("BitNet", "bitnet", _()),
        ("DiffLlama", "diffllama", _()),
        ("BioGPT", "biogpt", _()),
        ("nanochat (softcap)", "nanochat", _()),
        ("HyperCLOVA X", "hyperclovax", _()),
        (
            "VaultGemma (softcaps)",
            "vaultgemma",
            _(head_dim=16, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, query_pre_attn_scalar=24, **_EVERY_OTHER),
        ),
        (
            "GPT-Neo (local attention)",
            "gpt_neo",
            {
                "vocab_size": N_VOCABULARY,
                "hidden_size": 32,
                "num_layers": DEPTH,
                "num_heads": 4,
                "max_position_embeddings": 64,
                "attention_types": [[["global", "local"], 2]],
                "window_size": 8,
            },
        ),
        ("BLOOM", "bloom", {"vocab_size": N_VOCABULARY, "hidden_size": 32, "n_layer": DEPTH, "n_head": 4}),
        ("Falcon 7B", "falcon", {**_FALCON, "multi_query": True, "parallel_attn": True, "bias": False}),
        ("Falcon 40B", "falcon", {**_FALCON, "num_kv_heads": 2, "new_decoder_architecture": True, "bias": False}),
        ("Falcon RW (ALiBi)", "falcon", {**_FALCON, "multi_query": False, "parallel_attn": False, "bias": True, "alibi": True}),
        ("MPT", "mpt", {"vocab_size": N_VOCABULARY, "d_model": 32, "n_layers": DEPTH, "n_heads": 4, "max_seq_len": 64}),
        (
            "XGLM",
            "xglm",
            {
                "vocab_size": N_VOCABULARY,
                "d_model": 32,
                "ffn_dim": 48,
                "num_layers": DEPTH,
                "attention_heads": 4,
                "max_position_embeddings": 64,
            },
        ),
        ("LFM2", "lfm2", _(layer_types=["conv", "full_attention"] * 2, block_auto_adjust_ff_dim=False)),
        ("Mamba", "mamba", {"vocab_size": N_VOCABULARY, "hidden_size": 32, "num_hidden_layers": DEPTH, "state_size": 8}),
        (
            "Mamba 2",
            "mamba2",
            {
                "vocab_size": N_VOCABULARY,
                "hidden_size": 32,
                "num_hidden_layers": DEPTH,
                "state_size": 8,
                "num_heads": 8,
                "head_dim": 8,
                "n_groups": 1,
                "expand": 2,
                "chunk_size": 16,
            },
        ),
        (
            "Jamba",
            "jamba",
            _(
                attn_layer_period=2,
                attn_layer_offset=1,
                num_experts=2,
                expert_layer_period=2,
                expert_layer_offset=1,
                use_mamba_kernels=False,
                mamba_d_state=8,
            ),
        ),
        ("Falcon H1", "falcon_h1", _(**{**_SSM, "mamba_n_heads": 4}, head_dim=8, mamba_d_ssm=32)),
        ("Bamba", "bamba", _(**_SSM, attn_layer_indices=[1, 3])),
        (
            "Granite 4 (hybrid)",
            "granitemoehybrid",
            _(**_SSM, **_LOCAL_EXPERTS, layer_types=["mamba", "attention"] * 2, shared_intermediate_size=24),
        ),
        (
            "Qwen3-Next",
            "qwen3_next",
            _(
                **_EXPERTS,
                head_dim=16,
                layer_types=["linear_attention", "full_attention"] * 2,
                shared_expert_intermediate_size=16,
                linear_num_key_heads=2,
                linear_num_value_heads=4,
                linear_key_head_dim=8,
                linear_value_head_dim=8,
                partial_rotary_factor=0.5,
            ),
        ),
        ("RecurrentGemma", "recurrent_gemma", _(lru_width=32, attention_window_size=16, num_key_value_heads=1, head_dim=8)),
        (
            "Gemma 3n",
            "gemma3n_text",
            _(
                head_dim=16,
                num_kv_shared_layers=1,
                hidden_size_per_layer_input=8,
                vocab_size_per_layer_input=N_VOCABULARY,
                laurel_rank=8,
                altup_num_inputs=2,
                **_EVERY_OTHER,
            ),
        ),
    ]
}


def tiny_model(name: str, seed: int = 0) -> Any:
    """The model of transformers, with random weights, by the attention that the library chooses for it."""
    tiny = TINY[name]
    config = transformers.CONFIG_MAPPING[tiny.model_type].from_dict(dict(tiny.config))
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for parameter_name, parameter in model.named_parameters():
        if any(part in parameter_name for part in ("A_log", "dt_bias", "conv", ".D", "rg_lru")):
            continue  # of state spaces: their own beginnings keep them stable
        drawn = torch.randn(parameter.shape, generator=generator)
        embeds = any(part in parameter_name for part in ("embed", "wte", "wpe"))
        parameter.copy_(
            parameter + 0.1 * drawn if parameter.dim() < 2 else drawn * (0.5 if embeds else parameter.shape[-1] ** -0.5)
        )
    return model


def save_tiny(name: str, directory: Path, seed: int = 0) -> Any:
    """Writes the model as users have it, with config.json as it was released; returns the model."""
    model = tiny_model(name, seed)
    model.save_pretrained(directory)
    tiny = TINY[name]
    (directory / "config.json").write_text(json.dumps({"model_type": tiny.model_type, **tiny.config}))
    return model
