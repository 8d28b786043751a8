"""Expert threshold (arXiv 2603.11535): big where the logit is above a cutoff that follows the k-th largest logit of the batches.

Expert choice over an infinitely large batch, and yet causal. The first steps route by expert choice while the average settles. In
training the number of tokens that take big is held within (1 - C) k and (1 + C) k; at evaluation the cutoffs are frozen and nothing
is held.

Axes: B batch, T token, D hidden, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from duo_oracle.models.linear_router import read_linear
from duo_oracle.models.router_training.cutoffs import CutoffMethod, top_k
from duo_oracle.models.router_training.method import Task
from duo_oracle.models.routers.expert_choice import default_beta


@dataclass(frozen=True)
class Settings:
    """cutoff: one per layer, or pooled over the layers; beta: decay of its average, 0 for 1 - 10 / steps; warmup: share of the
    steps that route by expert choice; capacity: C; gradient: at every token, or at the chosen alone."""

    cutoff: str = field(default="layer", metadata={"choices": ("layer", "pooled")})
    beta: float = field(default=0.0, metadata={"range": (0.0, 1.0)})
    warmup: float = field(default=0.2, metadata={"range": (0.0, 1.0)})
    capacity: float = field(default=0.5, metadata={"range": (0.0, 1e6)})
    gradient: str = field(default="chosen", metadata={"choices": ("all", "chosen")})


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
