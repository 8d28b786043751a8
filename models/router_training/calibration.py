"""Sets a router's cutoffs so that its hard choices meet the budget on given text, and evaluates a router on text.

Which tokens a layer makes big changes what later layers see, so the cutoffs are set by a few rounds of routing the text and taking
quantiles of how far big is ahead.

Axes: B batch, T token, N tokens of all sequences, L layer, K branches.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.linear_router import LinearMaps, margins
from duo_oracle.models.plain_losses import plain_losses
from duo_oracle.models.routable import RoutableModule, run_trunk
from duo_oracle.models.router import Router, TokenBatch
from duo_oracle.models.routing import batches_of, big_per_token
from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

ROUNDS = 3
"""Passes in which a pooled calibration moves its cutoffs."""


@dataclass(frozen=True)
class Calibration:
    """Maps with their cutoffs set, the hard budget on the text that they were set on, before and after, and each layer's share."""

    maps: LinearMaps
    how: str
    tokens: int
    budget_before: float
    budget_after: float
    usage_L: list[float]

    def to_dict(self) -> dict[str, Any]:
        return {key: getattr(self, key) for key in ("how", "tokens", "budget_before", "budget_after", "usage_L")}


def calibrate(
    maps: LinearMaps,
    branches: tuple[Branch, ...],
    budget: float,
    module: RoutableModule,
    sequences: list[Window],
    skip: SkipReading,
    how: str,
) -> Calibration:
    """The maps with cutoffs at which a linear router meets its budget on the sequences, which are of one length.

    `how`: pooled, all layers' cutoffs move together and each layer takes what it takes, in a few passes; layer, each layer takes
    budget / L of the tokens, in one pass, layer after layer; none, as it is.
    """
    share = budget / len(maps.cutoff_L)
    token_id_BT = torch.from_numpy(np.stack([sequence.token_ids for sequence in sequences]).astype(np.int64))
    margin_LN, _ = _pass(maps, branches, module, token_id_BT, skip, None)
    before = _budget(margin_LN)
    if how == "layer":
        margin_LN, maps = _pass(maps, branches, module, token_id_BT, skip, share)
    for _ in range(ROUNDS if how == "pooled" else 0):
        maps = maps.shifted(float(np.quantile(margin_LN, 1 - share)))
        margin_LN, _ = _pass(maps, branches, module, token_id_BT, skip, None)
    usage_L = (margin_LN > 0).mean(axis=1).round(5).tolist()
    return Calibration(maps, how, margin_LN.shape[1], before, _budget(margin_LN), usage_L)


def _budget(margin_LN: np.ndarray) -> float:
    return float((margin_LN > 0).sum(axis=0).mean())


@torch.no_grad()
def _pass(
    maps: LinearMaps,
    branches: tuple[Branch, ...],
    module: RoutableModule,
    token_id_BT: Tensor,
    skip: SkipReading,
    share: float | None,
) -> tuple[np.ndarray, LinearMaps]:
    """margin_LN, by how much big was ahead after the cutoff at every layer and token, and the maps. With `share`, each layer's
    cutoff is set, before the layer chooses, so that it makes this share of the tokens big. Without the vocabulary head."""
    cutoff_L = maps.cutoff_L.clone()
    branch_K = torch.tensor([int(branch) for branch in branches])
    margin_LN: list[Tensor] = []

    def choose(layer: int, x_BTD: Tensor) -> Tensor:
        logits_BTK = F.linear(x_BTD.float().cpu(), maps.weight_LKD[layer].cpu(), maps.bias_LK[layer].cpu())
        if share is not None:
            cutoff_L[layer] = float(np.quantile(margins(logits_BTK).numpy(), 1 - share))
        logits_BTK[..., -1] -= cutoff_L[layer]
        margin_LN.append(margins(logits_BTK).flatten())
        return branch_K[logits_BTK.argmax(dim=-1)].to(x_BTD.device)

    run_trunk(module, token_id_BT.to(module.unembedding_VD.device), choose, skip)
    return torch.stack(margin_LN).numpy(), replace(maps, cutoff_L=cutoff_L)


@dataclass(frozen=True)
class RouterEvaluation:
    """What a router did on a source: mean loss in nats over the scored positions, and B's per token and per layer among them."""

    tokens: int
    loss: float
    budget: float
    skips: float
    usage_L: list[float]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@torch.no_grad()
def evaluate_router(
    router: Router, module: RoutableModule, sequences: Iterable[Window], skip: SkipReading, max_tokens: int = 1 << 60
) -> RouterEvaluation:
    """The router on whole sequences, its own choices being the routing of the forward pass that scores it."""
    total, n_tokens = 0.0, 0
    mask_NL: list[np.ndarray] = []
    for batch in batches_of(sequences):
        token_id_BT = torch.from_numpy(np.stack([sequence.token_ids for sequence in batch]).astype(np.int64))
        token_id_BT = token_id_BT.to(module.unembedding_VD.device)
        loss_BT, mask_BTL = routed_losses(router, module, token_id_BT, tuple(one.index for one in batch), skip)
        total += loss_BT.sum().item()
        n_tokens += loss_BT.numel()
        mask_NL.append(mask_BTL.reshape(-1, mask_BTL.shape[-1]))
        if n_tokens >= max_tokens:
            break
    chosen_NL = np.concatenate(mask_NL)
    usage_L = (chosen_NL == Branch.BIG).mean(axis=0).round(5).tolist()
    n_skips = float((chosen_NL == Branch.SKIP).sum(axis=1).mean())
    return RouterEvaluation(n_tokens, total / n_tokens, big_per_token(chosen_NL), n_skips, usage_L)


@torch.no_grad()
def routed_losses(
    router: Router, module: RoutableModule, token_id_BT: Tensor, sequence_B: tuple[int, ...], skip: SkipReading
) -> tuple[Tensor, np.ndarray]:
    """loss_BT (float64, T scored positions) and mask_BTL (uint8) of one forward pass in which the router chooses."""
    choose = router.routing(TokenBatch(token_id_BT[:, :-1], sequence_B), module.n_letters)
    mask_LBT: list[Tensor] = []

    def recorded(layer: int, x_BTD: Tensor) -> Tensor:
        mask_LBT.append(choose(layer, x_BTD))
        return mask_LBT[-1]

    loss_BT = plain_losses(module, token_id_BT, recorded, skip)
    return loss_BT, torch.stack(mask_LBT, dim=-1).to(torch.uint8).cpu().numpy()
