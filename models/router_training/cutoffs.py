"""What expert choice and expert threshold share: each layer's cutoff, an average of the k-th largest logit of every batch.

It moves once per optimiser step, after the step's routing, by the rule of `models/experts/rules.py`, here with one expert a layer,
big. Where `pooled`, all layers have the cutoff of their logits together. The cutoffs as training leaves them are the router.

Axes: B batch, T token, N tokens of the batch, L layer, S step.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.experts.rules import default_beta, kth_largest, move_cutoffs
from duo_oracle.models.router_training.method import Method, Task, big_or_small, fixed_parameter, two_branch_margin
from duo_oracle.oracle.base.errors import InputError


class CutoffMethod(Method):
    """A method with one expert, big, over the other branch, which is always on; it follows the k-th largest logit."""

    calibration = "none"

    def __init__(self, task: Task, settings: Any, pooled: bool = False) -> None:
        if len(task.branches) != 2:
            raise InputError(f"an expert that is on or off chooses between two branches; got {len(task.branches)}")
        super().__init__(task, settings)
        self.everywhere = settings.gradient == "all"
        self.beta, self.pooled = settings.beta or default_beta(task.n_steps), pooled
        self.repair = "pooled" if pooled else "layer"
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
        self.note_passed(step, layer, int((logit_BT > self.cutoff_L[layer]).sum()), logit_BT.numel())
        return big_or_small(big_BT, torch.sigmoid(logit_BT), self.everywhere)

    @torch.no_grad()
    def finish(self, step: int) -> None:
        logit_LN = torch.stack(self._logits)
        kth_L = kth_largest(logit_LN, self.n_chosen(logit_LN.shape[1]))
        self.batch_cutoff_SL[step] = kth_L
        if self.pooled:
            n_pooled = max(1, round(self.task.rate * logit_LN.numel()))
            kth_L = kth_largest(logit_LN.flatten()[None], n_pooled).expand_as(kth_L)
        move_cutoffs(self.average_L, self.n_averaged, self.cutoff_L, kth_L, self.beta)

    def bounds(self, n_tokens: int) -> tuple[int, int] | None:
        """The fewest and most of a batch's tokens that are big in training; None where nothing is held."""
        return None

    @torch.no_grad()
    def note_passed(self, step: int, layer: int, n_passed: int, n_tokens: int) -> None:
        """Records how many tokens were over the cutoff, before warm-up or capacity changed it; nothing at first."""
        if step == 0:
            return
        self.passed_SL[step, layer] = n_passed / n_tokens
        bounds = self.bounds(n_tokens)
        if bounds is not None:
            self.held_SL[step, layer] = int(n_passed > bounds[1]) - int(n_passed < bounds[0])
