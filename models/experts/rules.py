"""The rules of expert routing, each written once: cutoffs and their average, capacity, balance. For any number of experts.

Expert choice: an expert takes the k tokens of a pool with the largest logits. Expert threshold (arXiv 2603.11535): it takes those
above a cutoff, the average of the k-th largest logits of the pools before; in training, no fewer and no more than its capacity.
Token choice: a token takes its best experts; a bias for the choice alone keeps their use level.

Axes: E expert, N tokens of a pool; shapes of averages and cutoffs are any, one number an expert.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SHORT_RUN, LONG_RUN = 40, 0.999
"""1 - beta of a short run is 40 / steps, and beta of a long one the paper's 0.999: runs of some hundred steps starve fewer experts
while their cutoffs settle than with 10 / steps."""


def kth_largest(logit_EN: Tensor, k: int) -> Tensor:
    """The k-th largest logit of every expert, kth_E.

    >>> kth_largest(torch.tensor([[3.0, 1.0, 2.0]]), 2)
    tensor([2.])
    """
    return logit_EN.topk(k, dim=-1).values[..., -1]


def top_k(logit_EN: Tensor, k: int) -> Tensor:
    """chosen_EN: true for exactly the k largest logits of every expert.

    >>> top_k(torch.tensor([[3.0, 1.0, 2.0]]), 2)
    tensor([[ True, False,  True]])
    """
    return torch.zeros_like(logit_EN, dtype=torch.bool).scatter_(-1, logit_EN.topk(k, dim=-1).indices, True)


def capacity_bounds(k: int, capacity: float, n_tokens: int) -> tuple[int, int]:
    """The fewest and the most tokens that an expert takes in training: (1 - C) k and (1 + C) k, cut to whole tokens of the pool.

    >>> capacity_bounds(5, 0.5, 100)
    (2, 7)
    """
    return max(0, math.floor((1 - capacity) * k)), min(n_tokens, math.floor((1 + capacity) * k))


def over_cutoffs(logit_EN: Tensor, cutoff_E: Tensor, bounds: tuple[int, int] | None = None) -> Tensor:
    """chosen_EN: the tokens above their expert's cutoff; where they are fewer or more than the bounds, so many of the largest."""
    chosen_EN = logit_EN > cutoff_E[:, None]
    if bounds is None:
        return chosen_EN
    n_E = chosen_EN.sum(dim=1)
    held_E = n_E.clamp(*bounds)
    for expert in (held_E != n_E).nonzero().flatten().tolist():
        chosen_EN[expert] = top_k(logit_EN[expert], int(held_E[expert]))
    return chosen_EN


def move_cutoffs(average: Tensor, n_averaged: Tensor, cutoff: Tensor, kth: Tensor, beta: float) -> None:
    """Moves the average by one pool's k-th largest logits, in place: m <- beta m + (1 - beta) kth, c = m / (1 - beta^n).

    The division undoes that the average began at nothing, so that the first cutoff is the first pool's own.
    """
    average.mul_(beta).add_((1 - beta) * kth)
    n_averaged.add_(1)
    cutoff.copy_(average / (1 - beta**n_averaged))


def default_beta(n_steps: int) -> float:
    """The decay of a run's average: 1 - 40 / steps, at least 0.5 and at most the paper's 0.999.

    >>> default_beta(400), default_beta(100_000)
    (0.9, 0.999)
    """
    return min(LONG_RUN, max(0.5, 1 - SHORT_RUN / n_steps))


def move_bias(bias: Tensor, use: Tensor, target: Tensor, u: float) -> None:
    """Loss-free balance, in place: b_i <- b_i + u sign(target_i - use_i)."""
    bias.add_(u * torch.sign(target - use))


def default_u(n_steps: int) -> float:
    """The step of the bias of loss-free balance: 10 / steps, so that over a run it reaches 10 logits; at most 0.5.

    The paper's 0.005 over its 19,000 steps reaches 95; over 62 it would reach a third of a logit, and balance nothing.

    >>> default_u(2000)
    0.005
    """
    return min(0.5, 10 / n_steps)
