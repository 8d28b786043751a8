"""Duo-LLM's router (arXiv 2410.10846): a soft mixture of branches that grows hard, under one budget for all layers together.

P = softmax(sharpness x logits), sharpness = 1 / tau rising from 1; a layer's output is the sum over branches of P times the
branch's output; the loss adds alpha (mean over layers of P_big - budget / L)^2, the mean being over all tokens and layers. (The
paper prints the temperature outside the exponent, where it would cancel.)

Axes: B batch, T token, D hidden, K branches, L layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from duo_oracle.models.linear_router import read_linear
from duo_oracle.models.router_training.method import Method, Task
from duo_oracle.oracle.base.settings import OwnSettings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    alpha: float = setting(30.0, "weight of the budget", least=0, most=1e6)
    sharpness: float = setting(10.0, "1 / tau at the end", least=1, most=1e4)


class Budget(Method):
    Settings = Settings

    def __init__(self, task: Task, settings: Any) -> None:
        super().__init__(task, settings)
        with torch.no_grad():  # begin at the budget: the first steps learn where, not how much
            self.bias_LK[:, -1] = math.log(task.rate * (len(task.branches) - 1) / max(1e-6, 1 - task.rate))
        self._big: list[Tensor] = []

    def sharpness(self, step: int) -> float:
        """1 / tau at a step: linear from 1 to the setting."""
        return 1 + (self.settings.sharpness - 1) * step / max(1, self.task.n_steps - 1)

    def mix(self, layer: int, x_BTD: Tensor, step: int) -> Tensor:
        if layer == 0:
            self._big = []
        share_BTK = torch.softmax(self.logits(layer, x_BTD) * self.sharpness(step), dim=-1)
        self._big.append(share_BTK[..., -1].mean())
        self.note_usage(step, layer, share_BTK[..., -1])
        return share_BTK

    def penalty(self) -> Tensor:
        return self.settings.alpha * (torch.stack(self._big).mean() - self.task.rate) ** 2


METHOD = Budget


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)
