"""A Duo-LLM frozen for scoring: fused weights, rows in blocks that stay in the cache. Implements `oracle.model.RoutedModel`.

Equal to the plain module to rounding: the norms' weights and the attention's scale are folded into the matrices behind them.
Knows nothing of patterns, trees or strategies.

Axes: B batch, T token, G group (rows that share one context), S row of a group, C context token, K key/value head,
r query heads of one key/value head, d head dimension, D hidden, F FFN inner.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from models.families.duo_llama import DuoLayer, DuoLlama, rotary_tables, rotate
from oracle.contexts import SkipReading
from oracle.patterns import Branch
from oracle.trie import chunks

_BLOCK_ROWS = 512  # a block of states and its FFN's inner values stay near the core


@dataclass(frozen=True)
class _Layer:
    qkv_DE: Tensor  # E = (query heads + 2 K) d; attention norm and 1/sqrt(d) folded in
    out_ED: Tensor
    gate_up_DF: dict[Branch, Tensor]  # (D, 2 F): gate and up side by side; FFN norm folded in
    down_FD: dict[Branch, Tensor]


class PackedDuoLlama:
    """Frozen view of a `DuoLlama`. Holds its own copy of the weights; scoring twice gives equal bytes."""

    def __init__(self, module: DuoLlama) -> None:
        self._module = module.eval().requires_grad_(False)
        config = module.config
        self.n_layers = config.num_hidden_layers
        self.n_hidden = config.hidden_size
        self.n_kv_heads = config.num_key_value_heads
        self.n_head_dim = config.head_dim
        self.n_vocabulary = config.vocab_size
        self.n_positions = config.max_position_embeddings
        self._n_repeat = config.num_attention_heads // config.num_key_value_heads
        self._epsilon = config.rms_norm_eps
        body = module.model
        self._embedding_VD = body.embed_tokens.weight.detach()
        self.dtype, self.device = self._embedding_VD.dtype, self._embedding_VD.device
        self.unembedding_VD = module.unembedding_VD.detach()
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
    def embed(self, token_id: Tensor) -> Tensor:
        return self._embedding_VD[token_id]

    @torch.no_grad()
    def final_norm(self, x: Tensor) -> Tensor:
        return self._normed(x) * self._final_norm_D

    @torch.no_grad()
    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        return self._module(token_id_BT, mask_BTL, skip)

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor) -> Tensor:
        gate_up_DF, down_FD = self._layers[layer].gate_up_DF[branch], self._layers[layer].down_FD[branch]
        n_inner = len(down_FD)
        x_RD = x.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), _BLOCK_ROWS):
            inner_RF = self._normed(x_RD[rows]) @ gate_up_DF
            value_RF = F.silu(inner_RF[:, :n_inner]).mul_(inner_RF[:, n_inner:])
            torch.addmm(x_RD[rows], value_RF, down_FD, out=out_RD[rows])
        return out_RD.view(x.shape)

    @torch.no_grad()
    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        n_groups, n_rows, _ = x_GSD.shape
        n_context, n_kv, n_repeat, d = k_GKCd.shape[2], self.n_kv_heads, self._n_repeat, self.n_head_dim
        one_position = position_GS.shape[1] == 1
        if one_position:  # a rotation preserves products: turn the few keys back instead of every row's queries forward
            k_GKCd = self._rotated(k_GKCd, position_GS[:, :, None], back=True)
        # a last column stands for the row itself; its score is written over, its value added separately
        keys_GKdC = F.pad(k_GKCd, (0, 0, 0, 1)).transpose(2, 3).reshape(n_groups * n_kv, d, n_context + 1)
        values_GKCd = v_GKCd.reshape(n_groups * n_kv, n_context, d)
        out_GSD = torch.empty_like(x_GSD)
        for rows in chunks(n_rows, max(1, _BLOCK_ROWS // n_groups)):
            x_GsD = x_GSD[:, rows]
            q_GsKrd, k_GsKd, v_GsKd = self._qkv(layer, x_GsD)
            own_GKsr = torch.linalg.vecdot(q_GsKrd, k_GsKd[:, :, :, None]).transpose(1, 2)
            if not one_position:
                position_Gs11 = position_GS[:, rows, None, None]
                q_GsKrd = self._rotated(q_GsKrd, position_Gs11)
            q_GKsrd = q_GsKrd.transpose(1, 2).reshape(n_groups * n_kv, -1, d)
            scores_GKsrC = (q_GKsrd @ keys_GKdC).view(n_groups, n_kv, -1, n_repeat, n_context + 1)
            if hidden_GSC is not None:
                hidden_GsC = hidden_GSC if hidden_GSC.shape[1] == 1 else hidden_GSC[:, rows]
                scores_GKsrC[..., :n_context].masked_fill_(hidden_GsC[:, None, :, None], -torch.inf)
            scores_GKsrC[..., n_context] = own_GKsr
            p_GKsrC = torch.softmax(scores_GKsrC, dim=-1)
            seen_GKsrd = p_GKsrC.view(n_groups * n_kv, -1, n_context + 1)[:, :, :n_context] @ values_GKCd
            own_v_GKs1d = v_GsKd.transpose(1, 2)[:, :, :, None]
            seen_GKsrd = torch.addcmul(seen_GKsrd.view(n_groups, n_kv, -1, n_repeat, d), p_GKsrC[..., n_context:], own_v_GKs1d)
            seen_RE = seen_GKsrd.transpose(1, 2).reshape(-1, n_kv * n_repeat * d)
            out_RD = torch.addmm(x_GsD.reshape(-1, self.n_hidden), seen_RE, self._layers[layer].out_ED)
            out_GSD[:, rows] = out_RD.view(x_GsD.shape)
        return out_GSD

    @torch.no_grad()
    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        position_T11 = torch.arange(x_BTD.shape[1], device=self.device)[:, None, None]
        q_BTKrd, k_BTKd, v_BTKd = self._qkv(layer, x_BTD)
        q_BHTd = self._rotated(q_BTKrd, position_T11).flatten(2, 3).transpose(1, 2)
        k_BKTd = self._rotated(k_BTKd, position_T11[:, 0]).transpose(1, 2)
        seen_BHTd = F.scaled_dot_product_attention(
            q_BHTd, k_BKTd, v_BTKd.transpose(1, 2), is_causal=True, scale=1.0, enable_gqa=self._n_repeat > 1
        )
        return x_BTD + seen_BHTd.transpose(1, 2).flatten(2) @ self._layers[layer].out_ED

    @torch.no_grad()
    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        _, k_GSKd, v_GSKd = self._qkv(layer, x_GSD)
        return self._rotated(k_GSKd, position_GS[:, :, None]).transpose(1, 2), v_GSKd.transpose(1, 2)

    def _qkv(self, layer: int, x_GSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries q_GSKrd (scaled), keys k_GSKd and values v_GSKd, none of them rotated."""
        n_kv, d = self.n_kv_heads, self.n_head_dim
        n_query = n_kv * self._n_repeat
        qkv_RE = self._normed(x_GSD).reshape(-1, self.n_hidden) @ self._layers[layer].qkv_DE
        qkv_GSHd = qkv_RE.view(*x_GSD.shape[:2], n_query + 2 * n_kv, d)
        q_GSHd, k_GSKd, v_GSKd = qkv_GSHd.split([n_query, n_kv, n_kv], dim=2)
        return q_GSHd.unflatten(2, (n_kv, self._n_repeat)), k_GSKd, v_GSKd

    def _normed(self, x: Tensor) -> Tensor:
        """x / sqrt(mean of squares + epsilon)."""
        return F.rms_norm(x, (self.n_hidden,), eps=self._epsilon)

    def _rotated(self, x: Tensor, position: Tensor, back: bool = False) -> Tensor:
        """x (..., d) turned to its position (or back from it); `position` broadcasts against x without its last axis."""
        cos, sin = self._cos_Td[position], self._sin_Td[position]
        return rotate(x, cos, -sin if back else sin)
