"""A Duo-LLM's all-big twice as wide, computing the same: where a wider model may begin to learn.

Every width is doubled: each unit of the residual stream, of the heads and of the FFN stands twice, and what reads it adds the two
copies up. The copies share what they hand on unevenly, by a drawn share each, so that they learn apart (Net2Net,
arXiv:1511.05641).

Axes: D hidden.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from duo_oracle.models.duo_llm.module import DuoLlama

SPREAD = 0.5
"""A copy's share of what the two hand on is between (1 - SPREAD) / 2 and (1 + SPREAD) / 2."""


def widened(module: DuoLlama, seed: int = 0) -> DuoLlama:
    """A dense model of twice the width whose logits are those of `module` at all-big, to rounding. Its small FFNs are zero."""
    old = module.config
    config = replace(
        old,
        hidden_size=2 * old.hidden_size,
        intermediate_size=2 * old.intermediate_size,
        small_intermediate_size=1,
        num_attention_heads=2 * old.num_attention_heads,
        num_key_value_heads=2 * old.num_key_value_heads,
    )
    wide, generator = DuoLlama(config), torch.Generator().manual_seed(seed)
    weights = module.state_dict()
    with torch.no_grad():
        for name, tensor in wide.state_dict().items():
            tensor.copy_(
                torch.zeros_like(tensor)
                if ".small_mlp." in name
                else _doubled(name, weights[name], config.tie_word_embeddings, generator)
            )
    return wide


def _doubled(name: str, weight: Tensor, tied: bool, generator: torch.Generator) -> Tensor:
    layer = name.split(".")[-2]
    if layer == "norm" and tied:
        return weight.repeat(2) / 2  # the head is the embedding, whose columns all stand twice
    if weight.dim() == 1:
        return weight.repeat(2)
    if layer == "embed_tokens":
        return weight.repeat(1, 2)
    rows = weight if layer == "lm_head" else weight.repeat(2, 1)
    return _shared_out(rows, generator)


def _shared_out(weight: Tensor, generator: torch.Generator) -> Tensor:
    """What reads x, to read x and its copy: two halves of the columns that add up to it."""
    share = 0.5 + SPREAD * (torch.rand(weight.shape, generator=generator) - 0.5)
    return torch.cat((weight * share, weight * (1 - share)), dim=1)
