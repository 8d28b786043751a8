"""How a mixture's tokens and experts find each other in training, and what its gates keep of it.

Token choice chooses as at evaluation. By expert choice an expert takes its k best tokens of a pool, the batch or every sequence
by itself: so it looks at later tokens. Expert threshold does so in its warm-up, and then compares with cutoffs, held within the
capacity. What moves after a step, cutoffs or the bias of loss-free balance, is here too. The rules themselves are
`models/experts/rules.py`.

Axes: B batch, T token, N tokens of a pool, E expert.
"""

from __future__ import annotations

import torch
from torch import Tensor

from duo_oracle.models.experts.rules import capacity_bounds, kth_largest, move_bias, move_cutoffs, over_cutoffs, top_k
from duo_oracle.models.moe_llm.module import Gate, Mixture


def training_choice(mixture: Mixture, logit_BTE: Tensor, warming: bool = False) -> Tensor:
    """chosen_BTE by the rule that the mixture is trained with; `warming` where expert threshold still goes by expert choice."""
    config, logit_BTE = mixture.config, logit_BTE.detach()
    if config.router == "token_choice":
        return mixture.own_choice(logit_BTE)
    if config.router == "expert_choice" and config.routing_pool == "sequence":
        return top_k(logit_BTE.transpose(1, 2), config.k_of(logit_BTE.shape[1])).transpose(1, 2)
    logit_EN = logit_BTE.flatten(0, 1).T
    n_tokens = logit_EN.shape[1]
    k = config.k_of(n_tokens)
    if config.router == "expert_choice" or warming:
        chosen_EN = top_k(logit_EN, k)
    else:
        chosen_EN = over_cutoffs(logit_EN, mixture.gate.cutoff, capacity_bounds(k, config.capacity, n_tokens))
    return chosen_EN.T.reshape(logit_BTE.shape)


@torch.no_grad()
def move_gate(mixture: Mixture, logit_BTE: Tensor, chosen_BTE: Tensor, beta: float, u: float) -> None:
    """Moves what a gate keeps, once a step, after the step's routing: cutoffs towards the pool's k-th largest logits (of
    sequences, the mean of theirs), or the bias of loss-free balance by u."""
    config, gate = mixture.config, mixture.gate
    if config.router == "token_choice":
        if config.balance == "loss_free":
            use_E = chosen_BTE.float().mean(dim=(0, 1))
            move_bias(gate.bias, use_E, torch.full_like(use_E, config.rate), u)
        return
    if config.router == "expert_choice" and config.routing_pool == "sequence":
        kth_E = kth_largest(logit_BTE.transpose(1, 2), config.k_of(logit_BTE.shape[1])).mean(dim=0)
    else:
        logit_EN = logit_BTE.flatten(0, 1).T
        kth_E = kth_largest(logit_EN, config.k_of(logit_EN.shape[1]))
    move_cutoffs(gate.cutoff_average, gate.n_averaged, gate.cutoff, kth_E, beta)


def balance_loss(logit_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
    """E sum_i f_i P_i of a layer: f_i the share of all choices that are expert i, P_i its gate's mean share among a token's gates.

    It is 1 where both are even.
    """
    gate_BTE = torch.sigmoid(logit_BTE)
    probability_E = (gate_BTE / gate_BTE.sum(dim=-1, keepdim=True)).mean(dim=(0, 1))
    chosen_E = chosen_BTE.float().mean(dim=(0, 1))
    return logit_BTE.shape[-1] * (chosen_E / chosen_E.sum() * probability_E).sum()


def kept_names(prefix: str, gate: Gate) -> list[str]:
    """The names of what a gate keeps: stored in full precision, whatever the weights are stored in."""
    return [f"{prefix}.{name}" for name, _ in gate.named_parameters()]
