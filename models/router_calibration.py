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

from models.data import Sequence
from models.families.duo_llama import DuoLlama
from models.linear_router import LinearMaps, LinearRouter, margins
from models.router import Router, TokenBatch
from models.routing import batches_of, big_per_token, route_with_logits
from oracle.contexts import SkipReading
from oracle.patterns import Branch

ROUNDS = 3


def with_maps(router: LinearRouter, maps: LinearMaps) -> LinearRouter:
    """The same router with other maps."""
    skip = router.skip or SkipReading.FFN
    return type(router)(
        router.name, maps, router.branches, router.fingerprint or "", skip, router.budget, router.spec, router.record
    )


def margins_of(
    router: LinearRouter, module: DuoLlama, sequences: list[Sequence], skip: SkipReading
) -> tuple[np.ndarray, np.ndarray]:
    """margin_NL, by how much big is ahead at every token and layer, and mask_NL, what was chosen, over all sequences."""
    routes = list(route_with_logits(router, module, sequences, skip, router.fingerprint or ""))
    logits = [torch.from_numpy(one.logits_TLK) for one in routes if one.logits_TLK is not None]
    return torch.cat([margins(logits_TLK) for logits_TLK in logits]).numpy(), np.concatenate([one.mask_TL for one in routes])


def calibrate(
    router: LinearRouter, module: DuoLlama, sequences: list[Sequence], skip: SkipReading, how: str, rounds: int = ROUNDS
) -> tuple[LinearRouter, dict[str, Any]]:
    """The router with cutoffs at which it meets its budget on the sequences, and what there is to say of it.

    `how`: pooled, all layers' cutoffs move together and each takes what it takes; layer, each layer takes budget / L of the
    tokens; none, as it is.
    """
    assert router.budget is not None
    target = router.budget
    share = target / len(router.maps.cutoff_L)
    margin_NL, mask_NL = margins_of(router, module, sequences, skip)
    facts: dict[str, Any] = {"how": how, "tokens": len(mask_NL), "budget_before": big_per_token(mask_NL)}
    for _ in range(rounds if how != "none" else 0):
        shift = np.quantile(margin_NL, 1 - share, axis=0 if how == "layer" else None)
        cutoff_L = router.maps.cutoff_L + torch.as_tensor(shift, dtype=torch.float32)
        router = with_maps(router, replace(router.maps, cutoff_L=cutoff_L))
        margin_NL, mask_NL = margins_of(router, module, sequences, skip)
        if abs(big_per_token(mask_NL) / target - 1) < 0.001 and how == "pooled":
            break
    return router, {**facts, "budget_after": big_per_token(mask_NL)}


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
    router: Router, module: DuoLlama, sequences: Iterable[Sequence], skip: SkipReading, max_tokens: int = 1 << 60
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
    router: Router, module: DuoLlama, token_id_BT: torch.Tensor, sequence_B: tuple[int, ...], skip: SkipReading
) -> tuple[torch.Tensor, np.ndarray]:
    """loss_BT (float64, T scored positions) and mask_BTL (uint8) of one forward pass in which the router chooses."""
    choose = router.routing(TokenBatch(token_id_BT[:, :-1], sequence_B), module.config.num_hidden_layers)
    mask_LBT: list[torch.Tensor] = []

    def recorded(layer: int, x_BTD: torch.Tensor) -> torch.Tensor:
        mask_LBT.append(choose(layer, x_BTD))
        return mask_LBT[-1]

    logits_BTV = module(token_id_BT[:, :-1], recorded, skip)
    loss_BT = F.cross_entropy(logits_BTV.double().transpose(1, 2), token_id_BT[:, 1:], reduction="none")
    return loss_BT, torch.stack(mask_LBT, dim=-1).to(torch.uint8).cpu().numpy()
