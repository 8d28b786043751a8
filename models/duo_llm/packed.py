"""A Llama trained here frozen for scoring with fused weights: `models/frozen.py` with one product for queries, keys and values; and
a Duo-LLM, whose FFNs are fused too.

Equal to the plain module to rounding: the norms' weights and the attention's scale are folded into the matrices behind them.
Knows nothing of patterns, trees or strategies.

Axes: G group (rows that share one context), S row of a group, R rows, K key/value head, r query heads of one key/value head,
d head dimension, D hidden, E all heads' values, F FFN inner.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.duo_llm.module import Attention, DuoLayer, DuoLlama, LlamaSizes, RMSNorm, rotary_tables, rotate
from duo_oracle.models.frozen import FrozenModel, block_rows
from duo_oracle.models.routable import RoutableModule
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.patterns import Branch


@dataclass(frozen=True)
class _Attention:
    qkv_DE: Tensor  # E = (query heads + 2 K) d; attention norm and 1/sqrt(d) folded in
    out_ED: Tensor


@dataclass(frozen=True)
class _FFNs:
    gate_up_DF: dict[Branch, Tensor]  # (D, 2 F): gate and up side by side; FFN norm folded in
    down_FD: dict[Branch, Tensor]


class LlamaLayer(Protocol):
    """The parts of a layer that attention reads."""

    input_layernorm: RMSNorm
    self_attn: Attention


class PackedLlama(FrozenModel):
    """Frozen view of a module with a Llama's attention. Holds its own copy of the weights. FFNs are a subclass's."""

    def __init__(
        self, module: RoutableModule, config: LlamaSizes, embedding_VD: Tensor, norm: RMSNorm, layers: Sequence[LlamaLayer]
    ) -> None:
        n_repeat = config.num_attention_heads // config.num_key_value_heads
        super().__init__(module, config.num_key_value_heads, n_repeat, config.head_dim)
        self._epsilon = config.rms_norm_eps
        self._embedding_VD = embedding_VD.detach()
        self._final_norm_D = norm.weight.detach()
        tables = rotary_tables(self.n_positions, self.n_head_dim, config.rope_theta)
        self._cos_Td, self._sin_Td = (table.to(self._embedding_VD) for table in tables)
        self._attention = [self._packed_attention(layer) for layer in layers]

    def _packed_attention(self, layer: LlamaLayer) -> _Attention:
        attention, scale = layer.self_attn, self.n_head_dim**-0.5
        q_DE = attention.q_proj.weight.T * scale
        qkv_DE = torch.cat([q_DE, attention.k_proj.weight.T, attention.v_proj.weight.T], dim=1)
        qkv_DE = qkv_DE * layer.input_layernorm.weight[:, None]
        return _Attention(qkv_DE.detach().contiguous(), attention.o_proj.weight.detach().T.contiguous())

    @torch.no_grad()
    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self._embedding_VD[token_id]

    @torch.no_grad()
    def final_norm(self, x: Tensor) -> Tensor:
        return self._normed(x) * self._final_norm_D

    def _qkv(self, layer: int, x_GSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        n_kv, d = self.n_kv_heads, self.n_head_dim
        n_query = n_kv * self.n_repeat
        qkv_RE = self._normed(x_GSD).reshape(-1, self.n_hidden) @ self._attention[layer].qkv_DE
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
        return torch.addmm(x_RD, seen_RE, self._attention[layer].out_ED)


class PackedDuoLlama(PackedLlama):
    """Frozen view of a `DuoLlama`."""

    def __init__(self, module: DuoLlama) -> None:
        body = module.model
        layers = [layer for layer in body.layers if isinstance(layer, DuoLayer)]
        super().__init__(module, module.config, body.embed_tokens.weight, body.norm, layers)
        self._layers = [self._packed_ffns(layer) for layer in layers]

    def _packed_ffns(self, layer: DuoLayer) -> _FFNs:
        ffn_norm_D, ffns = layer.post_attention_layernorm.weight, {Branch.SMALL: layer.small_mlp, Branch.BIG: layer.mlp}
        return _FFNs(
            gate_up_DF={
                branch: (torch.cat([ffn.gate_proj.weight.T, ffn.up_proj.weight.T], dim=1) * ffn_norm_D[:, None])
                .detach()
                .contiguous()
                for branch, ffn in ffns.items()
            },
            down_FD={branch: ffn.down_proj.weight.detach().T.contiguous() for branch, ffn in ffns.items()},
        )

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        gate_up_DF, down_FD = self._layers[layer].gate_up_DF[branch], self._layers[layer].down_FD[branch]
        n_inner = len(down_FD)
        x_RD = x.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), block_rows(x_RD.device)):
            inner_RF = self._normed(x_RD[rows]) @ gate_up_DF
            value_RF = F.silu(inner_RF[:, :n_inner]).mul_(inner_RF[:, n_inner:])
            torch.addmm(x_RD[rows], value_RF, down_FD, out=out_RD[rows])
        return out_RD.view(x.shape)
