"""Expert threshold (arXiv 2603.11535): big where the logit is above a cutoff that follows the k-th largest logit of the batches.

Expert choice over an infinitely large batch, and yet causal. The first steps route by expert choice while the average settles. In
training the number of tokens that take big is held within (1 - C) k and (1 + C) k. The cutoffs that training ends with are the
router: at evaluation they are frozen, nothing is held, and the share of tokens that take big is what it is on that text.
`DIRECTORY@calibrated` has cutoffs set anew on held-out text.

Axes: B batch, T token, D hidden, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from duo_oracle.models.experts.rules import capacity_bounds, over_cutoffs, top_k
from duo_oracle.models.linear_router import read_linear
from duo_oracle.models.router_training.cutoffs import CutoffMethod
from duo_oracle.models.router_training.method import Task
from duo_oracle.oracle.base.settings import OwnSettings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    cutoff: str = setting("layer", "one per layer, or pooled over the layers", choices=("layer", "pooled"))
    beta: float = setting(0.0, "decay of the cutoff's average, 0 for 1 - 40 / steps", least=0, most=1)
    warmup: float = setting(0.4, "share of the steps that route by expert choice", least=0, most=1)
    capacity: float = setting(0.5, "C, within which share of k the number of big tokens is held", least=0, most=1e6)
    gradient: str = setting("chosen", "at every token (all), or at the chosen alone", choices=("all", "chosen"))


class ExpertThreshold(CutoffMethod):
    Settings = Settings

    def __init__(self, task: Task, settings: Any) -> None:
        super().__init__(task, settings, settings.cutoff == "pooled")
        self.n_warmup = max(1, round(settings.warmup * task.n_steps))

    def bounds(self, n_tokens: int) -> tuple[int, int] | None:
        if self.pooled:  # a layer may well take far from the mean: that is what pooling is for
            return None
        return capacity_bounds(self.n_chosen(n_tokens), self.settings.capacity, n_tokens)

    def choose(self, layer: int, logit_BT: Tensor, step: int) -> Tensor:
        logit_1N, n_tokens = logit_BT.reshape(1, -1), logit_BT.numel()
        if step < self.n_warmup:
            return top_k(logit_1N, self.n_chosen(n_tokens)).view_as(logit_BT)
        return over_cutoffs(logit_1N, self.cutoff_L[layer, None], self.bounds(n_tokens)).view_as(logit_BT)


METHOD = ExpertThreshold


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)
