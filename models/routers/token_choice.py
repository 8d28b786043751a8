"""Token choice: a token takes its top-1 branch at each layer; use is balanced by a loss, by a bias, or not at all.

`balance=loss_free`: a bias per branch, for the choice alone, moves by u sign(target - use) after each step; u is scaled to the
run, so that the bias can reach 10 logits in it. `balance=aux`: the loss
adds alpha sum_i f_i P_i / target_i (f_i the share of tokens that take branch i, P_i its mean probability), which for equal targets
is the usual alpha E sum f_i P_i. The targets are budget / L for big, the rest evenly.

Axes: B batch, T token, D hidden, K branches, L layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from duo_oracle.models.experts.rules import default_u, move_bias
from duo_oracle.models.linear_router import LinearMaps, read_linear
from duo_oracle.models.router_training.method import Method, Task, fixed_parameter, straight_through
from duo_oracle.oracle.base.settings import OwnSettings, setting


@dataclass(frozen=True)
class Settings(OwnSettings):
    balance: str = setting("loss_free", "how use is kept at its target", choices=("loss_free", "aux", "none"))
    u: float = setting(0.0, "step of the bias, 0 for 10 / steps", least=0, most=10)
    alpha: float = setting(0.1, "weight of the balance loss", least=0, most=1e6)
    gradient: str = setting("chosen", "of all branches (all), or of the chosen one alone", choices=("all", "chosen"))


class TokenChoice(Method):
    Settings = Settings
    calibration = "layer"

    def __init__(self, task: Task, settings: Any) -> None:
        super().__init__(task, settings)
        self.everywhere = settings.gradient == "all"
        n_branches = len(task.branches)
        self.balance_LK = fixed_parameter(torch.zeros(task.n_letters, n_branches))
        self.use_LK = fixed_parameter(torch.zeros(task.n_letters, n_branches))
        others = (1 - task.rate) / (n_branches - 1)
        self.target_K = torch.tensor([others] * (n_branches - 1) + [task.rate])
        self._losses: list[Tensor] = []

    def mix(self, layer: int, x_BTD: Tensor, step: int) -> Tensor:
        if layer == 0:
            self._losses = []
        logits_BTK = self.logits(layer, x_BTD)
        chosen_BT = (logits_BTK + self.balance_LK[layer]).argmax(dim=-1)
        hard_BTK = F.one_hot(chosen_BT, logits_BTK.shape[-1]).to(logits_BTK.dtype)
        probability_BTK = torch.softmax(logits_BTK, dim=-1)
        use_K = hard_BTK.mean(dim=(0, 1))
        with torch.no_grad():
            self.use_LK[layer] = use_K
        self._losses.append((use_K / self.target_K.clamp_min(1e-6) * probability_BTK.mean(dim=(0, 1))).sum())
        self.note_usage(step, layer, hard_BTK[..., -1])
        return straight_through(hard_BTK, probability_BTK if self.everywhere else probability_BTK * hard_BTK)

    def penalty(self) -> Tensor:
        return self.settings.alpha * torch.stack(self._losses).mean() if self.settings.balance == "aux" else torch.zeros(())

    @torch.no_grad()
    def finish(self, step: int) -> None:
        if self.settings.balance == "loss_free":
            move_bias(self.balance_LK, self.use_LK, self.target_K, self.settings.u or default_u(self.task.n_steps))

    def maps(self) -> LinearMaps:
        """The bias for the choice is part of what is chosen by."""
        bias_LK = (self.bias_LK + self.balance_LK).detach().clone()
        return LinearMaps(self.weight_LKD.detach().clone(), bias_LK, self.cutoff_L.detach().clone())


METHOD = TokenChoice


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)
