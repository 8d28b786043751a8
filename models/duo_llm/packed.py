"""A Duo-LLM frozen for scoring with fused weights: `models/frozen.py` with one product for queries, keys and values.

Equal to the plain module to rounding: the norms' weights and the attention's scale are folded into the matrices behind them.
Knows nothing of patterns, trees or strategies.

Axes: G group (rows that share one context), S row of a group, R rows, K key/value head, r query heads of one key/value head,
d head dimension, D hidden, E all heads' values, F FFN inner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.duo_llm.module import DuoLayer, DuoLlama, rotary_tables, rotate
from duo_oracle.models.frozen import BLOCK_ROWS, FrozenModel
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.patterns import Branch


@dataclass(frozen=True)
class _Layer:
    qkv_DE: Tensor  # E = (query heads + 2 K) d; attention norm and 1/sqrt(d) folded in
    out_ED: Tensor
    gate_up_DF: dict[Branch, Tensor]  # (D, 2 F): gate and up side by side; FFN norm folded in
    down_FD: dict[Branch, Tensor]


class PackedDuoLlama(FrozenModel):
    """Frozen view of a `DuoLlama`. Holds its own copy of the weights."""

    def __init__(self, module: DuoLlama) -> None:
        config = module.config
        n_repeat = config.num_attention_heads // config.num_key_value_heads
        super().__init__(module, config.num_key_value_heads, n_repeat, config.head_dim)
        self._epsilon = config.rms_norm_eps
        body = module.model
        self._embedding_VD = body.embed_tokens.weight.detach()
        self._final_norm_D = body.norm.weight.detach()
        tables = rotary_tables(self.n_positions, self.n_head_dim, config.rope_theta)
        self._cos_Td, self._sin_Td = (table.to(self._embedding_VD) for table in tables)
        self._layers = [self._pack(layer) for layer in body.layers if isinstance(layer, DuoLayer)]

    def _pack(self, layer: DuoLayer) -> _Layer:
        attention, scale = layer.self_attn, self.n_head_dim**-0.5
        attention_norm_D, ffn_norm_D = layer.input_layernorm.weight, layer.post_attention_layernorm.weight
        q_DE = attention.q_proj.weight.T * scale
        qkv_DE = torch.cat([q_DE, attention.k_proj.weight.T, attention.v_proj.weight.T], dim=1) * attention_norm_D[:, None]
        ffns = {Branch.SMALL: layer.small_mlp, Branch.BIG: layer.mlp}
        return _Layer(
            qkv_DE=qkv_DE.detach().contiguous(),
            out_ED=attention.o_proj.weight.detach().T.contiguous(),
            gate_up_DF={
                branch: (torch.cat([ffn.gate_proj.weight.T, ffn.up_proj.weight.T], dim=1) * ffn_norm_D[:, None])
                .detach()
                .contiguous()
                for branch, ffn in ffns.items()
            },
            down_FD={branch: ffn.down_proj.weight.detach().T.contiguous() for branch, ffn in ffns.items()},
        )

    @torch.no_grad()
    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self._embedding_VD[token_id]

    @torch.no_grad()
    def final_norm(self, x: Tensor) -> Tensor:
        return self._normed(x) * self._final_norm_D

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        gate_up_DF, down_FD = self._layers[layer].gate_up_DF[branch], self._layers[layer].down_FD[branch]
        n_inner = len(down_FD)
        x_RD = x.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), BLOCK_ROWS):
            inner_RF = self._normed(x_RD[rows]) @ gate_up_DF
            value_RF = F.silu(inner_RF[:, :n_inner]).mul_(inner_RF[:, n_inner:])
            torch.addmm(x_RD[rows], value_RF, down_FD, out=out_RD[rows])
        return out_RD.view(x.shape)

    def _qkv(self, layer: int, x_GSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_kv, d = self.n_kv_heads, self.n_head_dim
        n_query = n_kv * self.n_repeat
        qkv_RE = self._normed(x_GSD).reshape(-1, self.n_hidden) @ self._layers[layer].qkv_DE
        qkv_GSHd = qkv_RE.view(*x_GSD.shape[:2], n_query + 2 * n_kv, d)
        q_GSHd, k_GSKd, v_GSKd = qkv_GSHd.split([n_query, n_kv, n_kv], dim=2)
        return q_GSHd.unflatten(2, (n_kv, self.n_repeat)), k_GSKd, v_GSKd

    def _normed(self, x: Tensor) -> Tensor:
        """x / sqrt(mean of squares + epsilon)."""
        return F.rms_norm(x, (self.n_hidden,), eps=self._epsilon)

    def _rotated(self, x: Tensor, position: Tensor, back: bool = False) -> Tensor:
        cos, sin = self._cos_Td[position], self._sin_Td[position]
        return rotate(x, cos, -sin if back else sin)

    def _attention_out(self, layer: int, x_RD: Tensor, seen_RE: Tensor) -> Tensor:
        return torch.addmm(x_RD, seen_RE, self._layers[layer].out_ED)
