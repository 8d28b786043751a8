"""Expert choice: each layer's big FFN takes the top-k tokens of the batch, k = budget / L of them: balanced by construction.

It looks at later tokens, so it is not causal. Its directory, read as it is, gives the causal router that thresholds at the average
of the k-th largest logits, the cutoffs that training ended with, as the released code of arXiv 2603.11535 evaluates it;
`DIRECTORY@batch` gives the router as it was trained, top-k of each batch; `DIRECTORY@calibrated` has cutoffs set on held-out text.

Axes: B batch, T token, D hidden, K branches, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.experts.rules import top_k
from duo_oracle.models.linear_router import LinearRouter, margins, read_linear
from duo_oracle.models.router import Choose, TokenBatch
from duo_oracle.models.router_training.cutoffs import CutoffMethod
from duo_oracle.oracle.base.settings import OwnSettings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    beta: float = setting(0.0, "decay of the cutoffs' average, 0 for 1 - 40 / steps", least=0, most=1)
    gradient: str = setting("chosen", "at every token (all), or at the chosen alone", choices=("all", "chosen"))


class ExpertChoice(CutoffMethod):
    Settings = Settings

    def choose(self, layer: int, logit_BT: Tensor, step: int) -> Tensor:
        return top_k(logit_BT.flatten(), self.n_chosen(logit_BT.numel())).view_as(logit_BT)


class BatchExpertChoice(LinearRouter):
    """Expert choice as it was trained. Needs all tokens of the batch at once."""

    causal = False

    def routing(self, tokens: TokenBatch, n_letters: int) -> Choose:
        assert self.budget is not None
        rate = self.budget / n_letters
        other, big = (int(branch) for branch in self.branches)

        def choose(layer: int, x_BTD: Tensor) -> Tensor:
            logit_BT = margins(self.logits(tokens, layer, x_BTD))
            k = max(1, min(logit_BT.numel(), round(rate * logit_BT.numel())))
            return torch.where(top_k(logit_BT.flatten(), k).view_as(logit_BT), big, other)

        return choose


METHOD = ExpertChoice


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> LinearRouter:
    if variant == "batch":
        return read_linear(spec, record, tensors, kind=BatchExpertChoice)
    return read_linear(spec, record, tensors, variant)
