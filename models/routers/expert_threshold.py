"""Expert threshold (arXiv 2603.11535): big where the logit is above a cutoff that follows the k-th largest logit of the batches.

Expert choice over an infinitely large batch, and yet causal. The first steps route by expert choice while the average settles. In
training the number of tokens that take big is held within (1 - C) k and (1 + C) k; at evaluation the cutoffs are frozen and nothing
is held.

Axes: B batch, T token, D hidden, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from duo_oracle.models.linear_router import read_linear
from duo_oracle.models.router_training.cutoffs import CutoffMethod, top_k
from duo_oracle.models.router_training.method import Task
from duo_oracle.models.routers.expert_choice import default_beta
from duo_oracle.oracle.base.settings import OwnSettings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    cutoff: str = setting("layer", "one per layer, or pooled over the layers", choices=("layer", "pooled"))
    beta: float = setting(0.0, "decay of the cutoff's average, 0 for 1 - 10 / steps", least=0, most=1)
    warmup: float = setting(0.2, "share of the steps that route by expert choice", least=0, most=1)
    capacity: float = setting(0.5, "C, within which share of k the number of big tokens is held", least=0, most=1e6)
    gradient: str = setting("chosen", "at every token (all), or at the chosen alone", choices=("all", "chosen"))


class ExpertThreshold(CutoffMethod):
    Settings = Settings

    def __init__(self, task: Task, settings: Any) -> None:
        super().__init__(task, settings, settings.beta or default_beta(task.n_steps), settings.cutoff == "pooled")
        self.n_warmup = max(1, round(settings.warmup * task.n_steps))

    def choose(self, layer: int, logit_BT: Tensor, step: int) -> Tensor:
        k = self.n_chosen(logit_BT.numel())
        if step < self.n_warmup:
            return top_k(logit_BT, k)
        big_BT = logit_BT > self.cutoff_L[layer]
        if self.pooled:  # a layer may well take far from the mean: that is what pooling is for
            return big_BT
        n_big = int(big_BT.sum())
        least, most = (round((1 + sign * self.settings.capacity) * k) for sign in (-1, 1))
        held = min(max(n_big, max(0, least)), min(most, logit_BT.numel()))
        return big_BT if held == n_big else top_k(logit_BT, held)


METHOD = ExpertThreshold


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)
