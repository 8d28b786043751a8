"""A mixture of experts frozen for scoring: a Llama's packed attention, and the module's own mixtures."""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.models.duo_llm.packed import PackedLlama
from duo_oracle.models.frozen import block_rows
from duo_oracle.models.moe_llm.module import MoeLayer, MoeLlama
from duo_oracle.oracle.base.chunks import chunks
from duo_oracle.oracle.patterns import Branch


class PackedMoeLlama(PackedLlama):
    """Frozen view of a `MoeLlama`."""

    def __init__(self, module: MoeLlama) -> None:
        body = module.model
        layers = [layer for layer in body.layers if isinstance(layer, MoeLayer)]
        super().__init__(module, module.config, body.embed_tokens.weight, body.norm, layers)
        self._mixtures = module

    @torch.no_grad()
    def ffn(self, layer: int, branch: Branch, x: Tensor, before: Tensor | None = None) -> Tensor:
        norm = self._mixtures.layer(layer).post_attention_layernorm
        x_RD = x.reshape(-1, self.n_hidden)
        out_RD = torch.empty_like(x_RD)
        for rows in chunks(len(x_RD), block_rows(x_RD.device)):
            out_RD[rows] = x_RD[rows] + self._mixtures.ffn(layer, branch, norm(x_RD[rows]))
        return out_RD.view(x.shape)
