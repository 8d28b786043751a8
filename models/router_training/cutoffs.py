"""What expert choice and expert threshold share: each layer's cutoff, an average of the k-th largest logit of every batch.

The average is exponential with its bias corrected, c = m / (1 - beta^n) with m <- beta m + (1 - beta) kth, and moves once per
optimiser step, after the step's routing (arXiv 2603.11535). Where `pooled`, all layers have the cutoff of their logits together.

Axes: B batch, T token, N tokens of the batch, L layer.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.router_training.method import Method, Task, big_or_small, fixed_parameter, two_branch_margin
from duo_oracle.oracle.base.errors import InputError


class CutoffMethod(Method):
    """A method with one expert, big, over the other branch, which is always on; it follows the k-th largest logit."""

    def __init__(self, task: Task, settings: Any, beta: float, pooled: bool = False) -> None:
        if len(task.branches) != 2:
            raise InputError(f"an expert that is on or off chooses between two branches; got {len(task.branches)}")
        super().__init__(task, settings)
        self.everywhere = settings.gradient == "all"
        self.beta, self.pooled = beta, pooled
        self.calibration = "pooled" if pooled else "layer"
        self.average_L = fixed_parameter(torch.zeros(task.n_letters))
        self.n_averaged = fixed_parameter(torch.zeros(()))
        self._logits: list[Tensor] = []

    def n_chosen(self, n_tokens: int) -> int:
        """k: how many of `n_tokens` tokens an expert takes."""
        return max(1, min(n_tokens, round(self.task.rate * n_tokens)))

    @abstractmethod
    def choose(self, layer: int, logit_BT: Tensor, step: int) -> Tensor:
        """big_BT: which tokens take big in a training step."""

    def mix(self, layer: int, x_BTD: Tensor, step: int) -> Tensor:
        if layer == 0:
            self._logits = []
        logit_BT = two_branch_margin(self.logits(layer, x_BTD))
        self._logits.append(logit_BT.detach().flatten())
        big_BT = self.choose(layer, logit_BT.detach(), step)
        self.note_usage(step, layer, big_BT)
        return big_or_small(big_BT, torch.sigmoid(logit_BT), self.everywhere)

    @torch.no_grad()
    def finish(self, step: int) -> None:
        logit_LN = torch.stack(self._logits)
        kth_L = kth_largest(logit_LN, self.n_chosen(logit_LN.shape[1]))
        self.batch_cutoff_SL[step] = kth_L
        if self.pooled:
            n_pooled = max(1, round(self.task.rate * logit_LN.numel()))
            kth_L = kth_largest(logit_LN.flatten()[None], n_pooled).expand_as(kth_L)
        self.average_L.mul_(self.beta).add_((1 - self.beta) * kth_L)
        self.n_averaged.add_(1)
        self.cutoff_L.copy_(self.average_L / (1 - self.beta**self.n_averaged))


def kth_largest(logit_LN: Tensor, k: int) -> Tensor:
    """The k-th largest value of every row."""
    return logit_LN.topk(k, dim=1).values[:, -1]


def top_k(logit_BT: Tensor, k: int) -> Tensor:
    """big_BT: true for exactly the k largest of all tokens."""
    chosen_N = torch.zeros(logit_BT.numel(), dtype=torch.bool, device=logit_BT.device)
    chosen_N[logit_BT.flatten().topk(k).indices] = True
    return chosen_N.view_as(logit_BT)
