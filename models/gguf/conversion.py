"""Imports a GGUF file of the llama architecture: writes the model directory of the same model as transformers calls it.

Weights are dequantised and take their names and their order of rows back: a GGUF's q and k have the two halves of each
head interleaved, the way its rotary positions are applied, and transformers' have them side by side.
Knows nothing of routing, and of the file format only what `models/gguf/file.py` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.checkpoint import WEIGHTS, write_checkpoint
from duo_oracle.models.gguf.file import GgufFile
from duo_oracle.models.gguf.tokenizer import tokenizer_of
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.progress import progress

ARCHITECTURES = ("llama",)
_LAYER = {  # GGUF's name in a layer: ours, its shape by the config's keys, and the key of its heads where rows are permuted
    "attn_norm": ("input_layernorm", ("hidden_size",), None),
    "attn_q": ("self_attn.q_proj", ("query", "hidden_size"), "num_attention_heads"),
    "attn_k": ("self_attn.k_proj", ("key", "hidden_size"), "num_key_value_heads"),
    "attn_v": ("self_attn.v_proj", ("key", "hidden_size"), None),
    "attn_output": ("self_attn.o_proj", ("hidden_size", "query"), None),
    "ffn_norm": ("post_attention_layernorm", ("hidden_size",), None),
    "ffn_gate": ("mlp.gate_proj", ("intermediate_size", "hidden_size"), None),
    "ffn_up": ("mlp.up_proj", ("intermediate_size", "hidden_size"), None),
    "ffn_down": ("mlp.down_proj", ("hidden_size", "intermediate_size"), None),
}


@dataclass(frozen=True)
class Imported:
    """What was written."""

    n_layers: int
    n_hidden: int
    n_vocabulary: int
    n_parameters: int


@dataclass(frozen=True)
class _Place:
    """Where a tensor of the file goes. `n_heads` is 0 where its rows are in order."""

    name: str
    shape: tuple[int, ...]
    n_heads: int = 0


def import_gguf(path: Path, out: Path, dtype: torch.dtype = torch.float32, overwrite: bool = False) -> Imported:
    """Writes the model directory `out`, tensors stored as `dtype`.

    Raises InputError, one line, for a file that is no whole GGUF of a plain Llama with a known tokenizer, for weights that
    `dtype` cannot hold, and for an `out` that holds something, unless it is to be overwritten.
    """
    check_out(out, overwrite)
    file = GgufFile(path)
    config = config_of(file)
    tokenizer = tokenizer_of(file)
    if tokenizer.get_vocab_size() > config["vocab_size"]:
        law = f"the tokenizer's tokens must fit the embedding's {config['vocab_size']} rows"
        raise InputError(f"{path}: {law}; it has {tokenizer.get_vocab_size()}")
    tensors = tensors_of(file, config, dtype)
    config["dtype"] = str(dtype).removeprefix("torch.")
    (out / WEIGHTS).unlink(missing_ok=True)  # the weights are written last: where they stand, the model is whole
    write_checkpoint(out, config, tensors, tokenizer.to_str(), dtype)
    n_parameters = sum(tensor.numel() for tensor in tensors.values())
    return Imported(config["num_hidden_layers"], config["hidden_size"], config["vocab_size"], n_parameters)


def check_out(out: Path, overwrite: bool = False) -> None:
    """Raises InputError where `out` is no place for a model: a file, or a directory that holds something to keep."""
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not overwrite)):
        raise InputError(f"`out` is a new or an empty directory, unless `overwrite` replaces the model in it; {out} is neither")


def config_of(file: GgufFile) -> dict[str, Any]:
    """The file's metadata under LlamaConfig's keys. Raises InputError for an architecture or a rotary scaling not supported."""
    architecture = file.text("general.architecture")
    if architecture not in ARCHITECTURES:
        raise InputError(f"{file.path}: unsupported architecture {architecture!r}; supported: {', '.join(ARCHITECTURES)}")
    if file.get("split.count", 1) != 1:
        raise InputError(f"{file.path}: a model in one file is imported; this is one of {file.get('split.count')} parts")
    scaling = file.get("llama.rope.scaling.type", "none")
    if scaling != "none":
        raise InputError(f"{file.path}: rotary positions must not be scaled; got {scaling!r}")
    n_hidden, n_heads = file.size("llama.embedding_length"), file.size("llama.attention.head_count")
    n_kv_heads = file.size("llama.attention.head_count_kv", n_heads)
    if n_heads % n_kv_heads:
        raise InputError(f"{file.path}: heads must be a multiple of key/value heads; got {n_heads} and {n_kv_heads}")
    head_dim = file.size("llama.attention.key_length", n_hidden // n_heads)
    if head_dim % 2:
        raise InputError(f"{file.path}: the size of a head must be even for rotary positions; got {head_dim}")
    for key in ("llama.rope.dimension_count", "llama.attention.value_length"):
        if file.size(key, head_dim) != head_dim:
            raise InputError(f"{file.path}: {key} must be the size of a head, {head_dim}; got {file.get(key)}")
    ids = {name: file.get(f"tokenizer.ggml.{key}_token_id") for name, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"))}
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "vocab_size": file.shape("token_embd.weight")[0],
        "hidden_size": n_hidden,
        "intermediate_size": file.size("llama.feed_forward_length"),
        "num_hidden_layers": file.size("llama.block_count"),
        "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads,
        "head_dim": head_dim,
        "max_position_embeddings": file.size("llama.context_length"),
        "hidden_act": "silu",
        "rms_norm_eps": file.number("llama.attention.layer_norm_rms_epsilon"),
        "rope_theta": file.number("llama.rope.freq_base", 10_000.0),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": "output.weight" not in file.names,
        **{f"{name}_token_id": value for name, value in ids.items()},
    }


def tensors_of(file: GgufFile, config: Mapping[str, Any], dtype: torch.dtype) -> dict[str, Tensor]:
    """Every tensor under transformers' name, in `dtype`.

    Raises InputError for a tensor that is missing, has another shape, or belongs to no plain Llama (a bias, an expert, factors
    of scaled rotary positions): without it the model would be another one.
    """
    places = _places(config)
    surplus = [name for name in file.names if name not in places]
    if surplus:
        law = "only a plain Llama's tensors are supported: no biases, experts or scaled rotary positions"
        raise InputError(f"{file.path}: {law}; got {surplus[0]}")
    for name, place in places.items():
        if file.shape(name) != place.shape:
            raise InputError(f"{file.path}: tensor {name} must have the shape {place.shape}; got {file.shape(name)}")
    tensors = {}
    for name, place in progress(places.items(), desc="import", unit="tensor"):
        weights = file.tensor(name)
        tensor = torch.from_numpy(side_by_side(weights, place.n_heads) if place.n_heads else weights).to(dtype)
        if not torch.isfinite(tensor).all():
            raise InputError(f"{file.path}: weights must be finite numbers in {dtype}; tensor {name} has an infinity or NaN")
        tensors[place.name] = tensor
    return tensors


def _places(config: Mapping[str, Any]) -> dict[str, _Place]:
    """Every tensor of the file by its GGUF name."""
    sizes = {
        **config,
        "query": config["num_attention_heads"] * config["head_dim"],
        "key": config["num_key_value_heads"] * config["head_dim"],
    }
    table = (config["vocab_size"], config["hidden_size"])
    places = {"token_embd.weight": _Place("model.embed_tokens.weight", table)}
    for layer in range(config["num_hidden_layers"]):
        for name, (ours, shape, heads) in _LAYER.items():
            place = _Place(f"model.layers.{layer}.{ours}.weight", tuple(sizes[key] for key in shape), sizes[heads] if heads else 0)
            places[f"blk.{layer}.{name}.weight"] = place
    places["output_norm.weight"] = _Place("model.norm.weight", (config["hidden_size"],))
    if not config["tie_word_embeddings"]:
        places["output.weight"] = _Place("lm_head.weight", table)
    return places


def side_by_side(weights: np.ndarray, n_heads: int) -> np.ndarray:
    """The rows of q or k with each head's two halves side by side; a GGUF has them interleaved, pair after pair."""
    n_rows, n_columns = weights.shape
    return weights.reshape(n_heads, n_rows // n_heads // 2, 2, n_columns).swapaxes(1, 2).reshape(n_rows, n_columns)
