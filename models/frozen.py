"""A model frozen for scoring: attention of many candidate states of a position over one stored context, in blocks of rows.

Implements `oracle.model.OracleModel` over a plain module (`models/routable.py`), whose forward pass stays the reference. How
queries, keys and values are made, and how positions turn them, is a subclass's (`duo_llm/packed.py`).
Knows nothing of patterns, trees or strategies.

Axes: B batch, T token, G group (rows that share one context), S row of a group, R rows, C context token, K key/value head,
r query heads of one key/value head, d head dimension, D hidden, E all query heads' values.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.routable import RoutableModule
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

_BLOCK_ROWS = 512  # a block of states and its FFN's inner values stay near the core
_GPU_BLOCK_ROWS = 8192  # or fill a GPU


def block_rows(device: torch.device) -> int:
    """How many states a layer is run over at once."""
    return _BLOCK_ROWS if device.type == "cpu" else _GPU_BLOCK_ROWS


class FrozenModel(ABC):
    """Frozen view of a module. Scoring twice gives equal bytes."""

    def __init__(self, module: RoutableModule, n_kv_heads: int, n_repeat: int, n_head_dim: int) -> None:
        self.module = module.eval().requires_grad_(False)
        self.depth, self.routed_layers, self.n_letters = module.depth, module.routed_layers, module.n_letters
        self.small_layers = module.small_layers
        self.n_hidden, self.n_vocabulary, self.n_positions = module.n_hidden, module.n_vocabulary, module.n_positions
        self.n_kv_heads, self.n_repeat, self.n_head_dim = n_kv_heads, n_repeat, n_head_dim
        self.unembedding_VD = module.unembedding_VD.detach()
        self.dtype, self.device = self.unembedding_VD.dtype, self.unembedding_VD.device
        self.logit_bias_V: Tensor | None = None
        self.logit_softcap: float | None = None
        self.skip_readings, self.ffn_reads_input = tuple(SkipReading), False

    @abstractmethod
    def embed(self, token_id: Tensor, position: Tensor) -> Tensor: ...

    @abstractmethod
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor: ...

    @abstractmethod
    def final_norm(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def _qkv(self, layer: int, x_GSD: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries q_GSKrd (scaled), keys k_GSKd and values v_GSKd, none of them rotated."""

    @abstractmethod
    def _rotated(self, x: Tensor, position: Tensor, back: bool = False) -> Tensor:
        """x (..., d) turned to its position (or back from it); `position` broadcasts against x without its last axis."""

    @abstractmethod
    def _attention_out(self, layer: int, x_RD: Tensor, seen_RE: Tensor) -> Tensor:
        """x plus the output projection of what the heads have seen."""

    @torch.no_grad()
    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        return self.module(token_id_BT, mask_BTL, skip)

    @torch.no_grad()
    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        n_groups, n_rows, _ = x_GSD.shape
        n_context, n_kv, n_repeat, d = k_GKCd.shape[2], self.n_kv_heads, self.n_repeat, self.n_head_dim
        one_position = position_GS.shape[1] == 1
        if one_position:  # a rotation preserves products: turn the few keys back instead of every row's queries forward
            k_GKCd = self._rotated(k_GKCd, position_GS[:, :, None], back=True)
        # a last column stands for the row itself; its score is written over, its value added separately
        keys_GKdC = F.pad(k_GKCd, (0, 0, 0, 1)).transpose(2, 3).reshape(n_groups * n_kv, d, n_context + 1)
        values_GKCd = v_GKCd.reshape(n_groups * n_kv, n_context, d)
        out_GSD = torch.empty_like(x_GSD)
        for rows in chunks(n_rows, max(1, block_rows(self.device) // n_groups)):
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
            p_GKsrC = torch.softmax(scores_GKsrC, dim=-1, dtype=torch.promote_types(self.dtype, torch.float32)).to(self.dtype)
            seen_GKsrd = p_GKsrC.view(n_groups * n_kv, -1, n_context + 1)[:, :, :n_context] @ values_GKCd
            own_v_GKs1d = v_GsKd.transpose(1, 2)[:, :, :, None]
            seen_GKsrd = torch.addcmul(seen_GKsrd.view(n_groups, n_kv, -1, n_repeat, d), p_GKsrC[..., n_context:], own_v_GKs1d)
            seen_RE = seen_GKsrd.transpose(1, 2).reshape(-1, n_kv * n_repeat * d)
            out_GSD[:, rows] = self._attention_out(layer, x_GsD.reshape(-1, self.n_hidden), seen_RE).view(x_GsD.shape)
        return out_GSD

    @torch.no_grad()
    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        position_T11 = torch.arange(x_BTD.shape[1], device=self.device)[:, None, None]
        q_BTKrd, k_BTKd, v_BTKd = self._qkv(layer, x_BTD)
        q_BHTd = self._rotated(q_BTKrd, position_T11).flatten(2, 3).transpose(1, 2)
        k_BKTd = self._rotated(k_BTKd, position_T11[:, 0]).transpose(1, 2)
        seen_BHTd = F.scaled_dot_product_attention(
            q_BHTd, k_BKTd, v_BTKd.transpose(1, 2), is_causal=True, scale=1.0, enable_gqa=self.n_repeat > 1
        )
        seen_RE = seen_BHTd.transpose(1, 2).flatten(2).flatten(0, 1)
        return self._attention_out(layer, x_BTD.reshape(-1, self.n_hidden), seen_RE).view(x_BTD.shape)

    @torch.no_grad()
    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        _, k_GSKd, v_GSKd = self._qkv(layer, x_GSD)
        return self._rotated(k_GSKd, position_GS[:, :, None]).transpose(1, 2), v_GSKd.transpose(1, 2)
