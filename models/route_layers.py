"""A frozen model of which only some layers are routed: the others always run their big FFN.

A pattern of the model then has a letter for each routed layer alone. Knows no family.

Axes: as in `oracle/model.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.model import OracleModel
from duo_oracle.oracle.patterns import Branch


class SomeLayersRouted:
    """Implements `oracle.model.OracleModel` by another one, all of whose layers are routed."""

    def __init__(self, model: OracleModel, layers: tuple[int, ...]) -> None:
        self._model = model
        self.depth, self.routed_layers, self.n_letters = model.depth, layers, len(layers)
        self.small_layers = model.small_layers
        self.n_hidden, self.n_kv_heads, self.n_head_dim = model.n_hidden, model.n_kv_heads, model.n_head_dim
        self.n_vocabulary, self.n_positions = model.n_vocabulary, model.n_positions
        self.dtype, self.device, self.unembedding_VD = model.dtype, model.device, model.unembedding_VD
        self.logit_bias_V, self.logit_softcap = model.logit_bias_V, model.logit_softcap
        self.skip_readings, self.ffn_reads_input = model.skip_readings, model.ffn_reads_input

    def embed(self, token_id: Tensor, position: Tensor) -> Tensor:
        return self._model.embed(token_id, position)

    def attend(
        self, layer: int, x_GSD: Tensor, position_GS: Tensor, k_GKCd: Tensor, v_GKCd: Tensor, hidden_GSC: Tensor | None = None
    ) -> Tensor:
        return self._model.attend(layer, x_GSD, position_GS, k_GKCd, v_GKCd, hidden_GSC)

    def attend_causal(self, layer: int, x_BTD: Tensor) -> Tensor:
        return self._model.attend_causal(layer, x_BTD)

    def key_value(self, layer: int, x_GSD: Tensor, position_GS: Tensor) -> tuple[Tensor, Tensor]:
        return self._model.key_value(layer, x_GSD, position_GS)

    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        return self._model.ffn(layer, branch, x, before)

    def final_norm(self, x: Tensor) -> Tensor:
        return self._model.final_norm(x)

    def forward(self, token_id_BT: Tensor, mask_BTL: Tensor, skip: SkipReading) -> Tensor:
        whole_BTL = torch.full((*mask_BTL.shape[:2], self.depth), int(Branch.BIG), dtype=mask_BTL.dtype, device=mask_BTL.device)
        whole_BTL[:, :, list(self.routed_layers)] = mask_BTL
        return self._model.forward(token_id_BT, whole_BTL, skip)
