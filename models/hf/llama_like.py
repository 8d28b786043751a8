"""Llama and the families of its plan: norms before attention and FFN, rotary positions, grouped queries, a gated FFN.

Axes: as in `models/hf/pretrained.py`.
"""

from __future__ import annotations

from copy import copy
from typing import Any

import torch
from torch import Tensor, nn

from duo_oracle.models.hf.pretrained import PretrainedModule
from duo_oracle.oracle.base.errors import InputError

_ROPE_TYPES = ("default", "linear", "llama3")  # those that turn by position alone, and scale nothing


class LlamaLike(PretrainedModule):
    """Llama, Mistral, Qwen2, Qwen3: their modules have the same names."""

    prefix = "model."

    def __init__(self, model: nn.Module, config: Any) -> None:
        super().__init__(model, config)
        self.n_kv_heads = config.num_key_value_heads
        self.head_dim = getattr(config, "head_dim", None) or self.head_dim
        rope_type = (config.rope_parameters or {}).get("rope_type", "default")
        if rope_type not in _ROPE_TYPES:
            raise InputError(f"config.json: rope_type must be one of {', '.join(_ROPE_TYPES)}; got {rope_type!r}")
        sliding = getattr(config, "sliding_window", None)
        if sliding and "sliding_attention" in (getattr(config, "layer_types", None) or ["sliding_attention"]):
            self.n_positions = min(self.n_positions, sliding)  # within one window nothing slides
        self._tables: tuple[Tensor, Tensor] | None = None

    @property
    def layers(self) -> Any:
        return self.model.model.layers

    def embed_at(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self.model.model.embed_tokens(token_id)

    def attention(self, layer: int, x_BTD: Tensor) -> Tensor:
        part = self.layers[layer]
        position_1T = torch.arange(x_BTD.shape[1], device=x_BTD.device)[None]
        tables = self.model.model.rotary_emb(x_BTD, position_1T)
        return part.self_attn(part.input_layernorm(x_BTD), position_embeddings=tables, attention_mask=None)[0]

    def projected(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        part = self.layers[layer]
        heads, normed = part.self_attn, part.input_layernorm(x)
        q, k, v = (project(normed).unflatten(-1, (-1, self.head_dim)) for project in (heads.q_proj, heads.k_proj, heads.v_proj))
        if hasattr(heads, "q_norm"):
            q, k = heads.q_norm(q), heads.k_norm(k)
        return q * heads.scaling, k, v

    def turned(self, x: Tensor, position: Tensor, back: bool) -> Tensor:
        cos_Td, sin_Td = self._cos_sin(int(position.max()) + 1, x)
        cos, sin = cos_Td[position], sin_Td[position]
        left, right = x.chunk(2, dim=-1)
        turned = torch.cat((right, -left) if back else (-right, left), dim=-1)
        return torch.addcmul(x * cos, turned, sin)

    def _cos_sin(self, n_positions: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Tables of at least so many positions, computed when they are first needed: a model may have 100,000 positions."""
        if self._tables is None or len(self._tables[0]) < n_positions:
            n = max(256, 1 << (n_positions - 1).bit_length())
            position_1T = torch.arange(n, device=like.device)[None]
            cos_1Td, sin_1Td = self.model.model.rotary_emb(like, position_1T)
            self._tables = cos_1Td[0], sin_1Td[0]
        return self._tables

    def out_projection(self, layer: int) -> nn.Module:
        return self.layers[layer].self_attn.o_proj

    def ffn_input(self, layer: int, x: Tensor) -> Tensor:
        return self.layers[layer].post_attention_layernorm(x)

    def big_ffn(self, layer: int) -> nn.Module:
        return self.layers[layer].mlp

    def new_small_ffn(self, n_inner: int) -> nn.Module:
        config = copy(self.config)
        config.intermediate_size = n_inner
        return type(self.big_ffn(0))(config)

    def final_norm(self, x: Tensor) -> Tensor:
        return self.model.model.norm(x)


TINY = {
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
}
"""The sizes of the small random models."""
