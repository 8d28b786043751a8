"""Mean loss of a Duo-LLM on a source under one fixed branch for all tokens and layers. Knows nothing of search or training.

Axes: B batch, T token, L layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F

from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.patterns import Branch


@dataclass(frozen=True)
class Evaluation:
    """Mean losses in nats per token over the scored positions of whole sequences."""

    n_tokens: int
    loss_big: float
    loss_small: float

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


@torch.no_grad()
def evaluate(module: RoutableModule, sequences: Iterable[Window], max_tokens: int) -> Evaluation:
    """All-big and all-small on the first sequences, up to `max_tokens` scored positions (at least one sequence)."""
    totals = {Branch.BIG: 0.0, Branch.SMALL: 0.0}
    n_tokens = 0
    device = module.unembedding_VD.device
    for sequence in sequences:
        token_id_BT = torch.from_numpy(sequence.token_ids.astype("int64")).unsqueeze(0).to(device)
        for branch in totals:
            mask_BTL = torch.full((1, sequence.n_positions, module.n_layers), int(branch), device=device)
            logits_BTV = module(token_id_BT[:, :-1], mask_BTL)
            totals[branch] += F.cross_entropy(logits_BTV[0].double(), token_id_BT[0, 1:], reduction="sum").item()
        n_tokens += sequence.n_positions
        if n_tokens >= max_tokens:
            break
    losses = {branch: total / n_tokens for branch, total in totals.items()}
    assert all(math.isfinite(loss) for loss in losses.values())
    return Evaluation(n_tokens, losses[Branch.BIG], losses[Branch.SMALL])
