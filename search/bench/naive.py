"""The obvious way to score a pattern: a plain decoder step with a key-value cache, as one writes it in an afternoon.

What the benchmark compares the engine with, and a third way to the same losses for its tests. Nothing is shared between
patterns, and the whole vocabulary head is computed.

Axes: P patterns, R rows, T token, C context token, D hidden, H query heads, K key/value heads, d head dimension,
V vocabulary, L layer.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.duo_llm.module import DuoLayer, DuoLlama, rotary_tables, rotate
from duo_oracle.oracle.patterns import Branch


class PlainDecoder:
    """A plain decoder step as users write it: keys and values of the tokens before, all of them routed big."""

    @torch.no_grad()
    def __init__(self, module: DuoLlama, token_id_T: Tensor) -> None:
        self._module = module
        config = module.config
        self._cos_Td, self._sin_Td = rotary_tables(config.max_position_embeddings, config.head_dim, config.rope_theta)
        self._position = len(token_id_T)
        self._n_repeat = config.num_attention_heads // config.num_key_value_heads
        x_TD = module.model.embed_tokens(token_id_T)
        self._kv: list[tuple[Tensor, Tensor]] = []
        big_T = np.full(len(token_id_T), Branch.BIG, dtype=np.uint8)
        for layer in self._layers():
            q, k, v = self._projected(layer, x_TD, torch.arange(len(token_id_T)))
            self._kv.append((k, v))
            seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
            x_TD = self._after(layer, x_TD, seen, big_T)

    @torch.no_grad()
    def step(self, token_id: Tensor, branches_PL: np.ndarray) -> Tensor:
        """logits_PV of the next token under each pattern."""
        n_patterns = len(branches_PL)
        x_PD = self._module.model.embed_tokens(token_id).expand(n_patterns, -1)
        for index, layer in enumerate(self._layers()):
            q_HPd, k_KPd, v_KPd = self._projected(layer, x_PD, torch.tensor([self._position]))
            k_HCd, v_HCd, k_HPd, v_HPd = (kv.repeat_interleave(self._n_repeat, dim=0) for kv in (*self._kv[index], k_KPd, v_KPd))
            own_HP1 = torch.linalg.vecdot(q_HPd, k_HPd)[..., None]
            scores_HPC = torch.cat([q_HPd @ k_HCd.transpose(1, 2), own_HP1], dim=2) * q_HPd.shape[2] ** -0.5
            p_HPC = torch.softmax(scores_HPC, dim=2)
            seen_HPd = p_HPC[..., :-1] @ v_HCd + p_HPC[..., -1:] * v_HPd
            x_PD = self._after(layer, x_PD, seen_HPd, branches_PL[:, index])
        return F.linear(self._module.model.norm(x_PD), self._module.unembedding_VD)

    def _layers(self) -> Iterator[DuoLayer]:
        for layer in self._module.model.layers:
            assert isinstance(layer, DuoLayer)
            yield layer

    def _projected(self, layer: DuoLayer, x_RD: Tensor, position_R: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Rotated queries and keys, and values, heads first."""
        config, attention = self._module.config, layer.self_attn
        normed_RD = layer.input_layernorm(x_RD)
        q_HRd = attention.q_proj(normed_RD).view(len(x_RD), config.num_attention_heads, -1).transpose(0, 1)
        k_KRd = attention.k_proj(normed_RD).view(len(x_RD), config.num_key_value_heads, -1).transpose(0, 1)
        v_KRd = attention.v_proj(normed_RD).view(len(x_RD), config.num_key_value_heads, -1).transpose(0, 1)
        cos, sin = self._cos_Td[position_R], self._sin_Td[position_R]
        return rotate(q_HRd, cos, sin), rotate(k_KRd, cos, sin), v_KRd

    def _after(self, layer: DuoLayer, x_RD: Tensor, seen_HRd: Tensor, branch_R: np.ndarray) -> Tensor:
        x_RD = x_RD + layer.self_attn.o_proj(seen_HRd.transpose(0, 1).reshape(len(x_RD), -1))
        normed_RD = layer.post_attention_layernorm(x_RD)
        x_RD = x_RD.clone()
        for branch, ffn in ((Branch.SMALL, layer.small_mlp), (Branch.BIG, layer.mlp)):
            rows = torch.from_numpy(np.flatnonzero(branch_R == branch))
            if len(rows):
                x_RD[rows] += ffn(normed_RD[rows])
        return x_RD
