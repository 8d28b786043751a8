"""What the oracle needs of a model, as a Protocol. Implemented in `models/`, which this file does not know.

A token's state runs through the layers one at a time; the caller chooses the branch. Keys and values of the tokens before
it are an argument, so that many candidate states of one position share them.

Axes: B batch, T token, G group (rows that share one context), S row of a group, C token of the context, K key/value head,
d head dimension, D hidden, V vocabulary, L layer.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from oracle.contexts import SkipReading
from oracle.patterns import Branch


@runtime_checkable
class RoutedModel(Protocol):
    """A frozen model whose FFN branch is chosen per token and layer. No method changes it, none records gradients."""

    n_layers: int
    n_hidden: int
    n_kv_heads: int
    n_head_dim: int
    n_vocabulary: int
    n_positions: int
    dtype: torch.dtype
    device: torch.device
    unembedding_VD: Tensor
    """Rows w_v of the vocabulary head: the logits of state x are `final_norm(x) @ unembedding_VD.T`."""

    def embed(self, token_id: Tensor) -> Tensor:
        """States before layer 0, shape (*token_id.shape, D)."""

    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        """x plus the layer's attention, where row s of group g sees the C context tokens of its group, and itself.

        `position_GS` (int64; each axis may be 1 and is then broadcast) is each row's place in its sequence.
        `hidden_GSC` (bool, broadcastable, or None) is true where a context token must not be seen.
        """

    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        """x plus the layer's attention, where token t of a sequence sees tokens 0..t of the same sequence."""

    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values that the rows write at this layer, from its input: k_GKSd (with position applied), v_GKSd."""

    def ffn(self, layer: int, branch: Branch, x: Tensor) -> Tensor:
        """x plus the layer's small or big FFN of x (never called with SKIP). Shape (..., D)."""

    def final_norm(self, x: Tensor) -> Tensor:
        """What the vocabulary head multiplies. Shape (..., D)."""

    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        """logits_BTV of one plain pass in which token t takes the branches mask_BTL[b, t]: the reference for all else."""
