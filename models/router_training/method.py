"""The contract of a way to train a router: what share of each branch a token takes in a training step, and what is learned.

A method holds the linear maps (`models/linear_router.py`), whatever else its update rule keeps, and a record of every step. All of
it are parameters, so that a checkpoint of the parameters is all that a resumed run needs. Each trained router's file has one.

Axes: B batch, T token, N tokens of the batch (B x T), L layer, D hidden, K branches, S step.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from duo_oracle.models.linear_router import LinearMaps, margins
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router_training.labels import PatternLabels
from duo_oracle.oracle.base.settings import OwnSettings
from duo_oracle.oracle.contexts import SkipReading
from duo_oracle.oracle.patterns import Branch

RECORDED = ("usage", "cutoff", "batch_cutoff", "passed", "held")
"""What a router's directory keeps of every training step and layer."""
SNAPSHOTS = (0.25, 0.5)
"""Shares of the training after which the router is kept as it was, so that its routes can be compared with the final ones."""


@dataclass(frozen=True)
class Task:
    """What a router is trained for: the model's sizes, the router's branches, average B's per token, and the run's length."""

    n_letters: int
    n_hidden: int
    branches: tuple[Branch, ...]
    budget: float
    n_steps: int

    @property
    def rate(self) -> float:
        """The target share of B at a layer."""
        return self.budget / self.n_letters


@runtime_checkable
class LabelLearner(Protocol):
    """A router's module that learns from an oracle's losses, in one go, instead of from text by steps."""

    def fit(
        self, task: Task, settings: Any, module: RoutableModule, labels: Iterable[PatternLabels], skip: SkipReading, seed: int
    ) -> tuple[LinearMaps, str, dict[str, Any]]:
        """The maps, how to calibrate them, and what there is to say of the fit. Raises InputError for labels that teach nothing."""

    def tuned(
        self,
        task: Task,
        settings: Any,
        maps: LinearMaps,
        module: RoutableModule,
        labels: Iterable[PatternLabels],
        skip: SkipReading,
    ) -> Method:
        """The training that goes on from the maps, where the settings ask for it."""


class Method(nn.Module, ABC):
    """One router in training. `Settings` are its own options."""

    Settings: ClassVar[type[OwnSettings]]
    calibration: str = "pooled"
    """How cutoffs are set after training: pooled, one shift for all layers; layer, so that each layer takes its target; or none,
    where the cutoffs that training followed are part of what it learned."""
    repair: str = "pooled"
    """How they would be set where `calibration` is none, for the variant `@calibrated`."""
    everywhere: bool = True
    """Whether all branches are computed for all tokens, because the gradient compares them; else those taken alone."""

    def __init__(self, task: Task, settings: Any) -> None:
        super().__init__()
        self.task, self.settings = task, settings
        n_branches = len(task.branches)
        self.weight_LKD = nn.Parameter(torch.zeros(task.n_letters, n_branches, task.n_hidden))
        self.bias_LK = nn.Parameter(torch.zeros(task.n_letters, n_branches))
        self.cutoff_L = fixed_parameter(torch.zeros(task.n_letters))
        self.usage_SL = fixed_parameter(torch.zeros(task.n_steps, task.n_letters))
        self.cutoff_SL = fixed_parameter(torch.zeros(task.n_steps, task.n_letters))
        self.snapshot_step_C = tuple(round(share * task.n_steps) for share in SNAPSHOTS)
        self.snapshot_CLD = fixed_parameter(torch.zeros(len(SNAPSHOTS), task.n_letters, n_branches * (task.n_hidden + 1) + 1))
        self.batch_cutoff_SL, self.passed_SL, self.held_SL = (
            fixed_parameter(torch.full((task.n_steps, task.n_letters), torch.nan)) for _ in range(3)
        )

    def logits(self, layer: int, x_BTD: Tensor) -> Tensor:
        """logits_BTK, without the cutoff."""
        return F.linear(x_BTD, self.weight_LKD[layer], self.bias_LK[layer])

    @abstractmethod
    def mix(self, layer: int, x_BTD: Tensor, step: int) -> Tensor:
        """share_BTK: what each branch's output is multiplied by at this layer. Sums to one."""

    def penalty(self) -> Tensor:
        """What the step adds to the cross-entropy, after all layers have been mixed."""
        return torch.zeros(())

    def finish(self, step: int) -> None:
        """Hears that the optimiser has made the step: the place for rules that are no gradient."""

    def record(self) -> dict[str, Tensor]:
        """What is kept of every step, by name: as `models/router_training/record.py` reads it."""
        return {name: getattr(self, f"{name}_SL") for name in RECORDED}

    def maps(self) -> LinearMaps:
        """What the router would choose by, as it stands."""
        return LinearMaps(*(tensor.detach().clone() for tensor in (self.weight_LKD, self.bias_LK, self.cutoff_L)))

    def _flat(self) -> Tensor:
        maps = self.maps()
        return torch.cat((maps.weight_LKD.flatten(1), maps.bias_LK, maps.cutoff_L[:, None]), dim=1)

    def take_snapshot(self, n_done: int) -> None:
        """Keeps the maps where so many steps are one of the early checkpoints."""
        if n_done in self.snapshot_step_C:
            self.snapshot_CLD[self.snapshot_step_C.index(n_done)] = self._flat()

    def snapshots(self) -> dict[int, LinearMaps]:
        """The maps at the early checkpoints, by step."""
        n_weights = self.weight_LKD[0].numel()
        return {
            step: LinearMaps(
                flat_LD[:, :n_weights].view_as(self.weight_LKD).clone(), flat_LD[:, n_weights:-1].clone(), flat_LD[:, -1].clone()
            )
            for step, flat_LD in zip(self.snapshot_step_C, self.snapshot_CLD.detach(), strict=True)
        }

    def note_usage(self, step: int, layer: int, big: Tensor) -> None:
        """Records the layer's share of B in the step, and the cutoff that it was chosen with."""
        with torch.no_grad():
            self.usage_SL[step, layer] = big.float().mean()
            self.cutoff_SL[step, layer] = self.cutoff_L[layer]


def fixed_parameter(value: Tensor) -> nn.Parameter:
    """State of an update rule that no gradient reaches."""
    return nn.Parameter(value, requires_grad=False)


def straight_through(hard_BTK: Tensor, soft_BTK: Tensor) -> Tensor:
    """`hard` going forward, to the last bit, with the gradient of `soft`: the frozen FFNs expect scale 1."""
    return hard_BTK + (soft_BTK - soft_BTK.detach())


def big_or_small(big_BT: Tensor, gate_BT: Tensor, everywhere: bool) -> Tensor:
    """share_BTK of two branches where `big` replaces the other, with the gate's gradient at every token or at B's alone.

    small + gate x (big - small), where the gate counts as one: an expert over an expert that is always on.
    """
    gate_BT = gate_BT if everywhere else gate_BT * big_BT
    share_BT = straight_through(big_BT.float(), gate_BT)
    return torch.stack((1 - share_BT, share_BT), dim=-1)


def two_branch_margin(logits_BTK: Tensor) -> Tensor:
    """logit_BT of one expert, big, against the always-on other."""
    assert logits_BTK.shape[-1] == 2
    return margins(logits_BTK)
