"""Distilled from an oracle: learns what each branch is worth at each layer from the losses of patterns on training text.

Two steps, both least squares in closed form. First, per token: the losses of its patterns as a sum over layers, loss_p = a + sum_l
effect[l, branch of p at l], because nine tenths of their variance is of single layers (`duo-oracle landscape`). Ties and near ties
thus count for what they are worth, where a label "the best pattern" would count them like any other. The losses are those of the
real labels, or soft ones: what the runs' reference expects. Then, per layer: the effects as a linear function of the hidden state,
by ridge regression, each token weighted by how well its patterns determine the effect. A
branch's logit is minus its predicted effect; the least total loss at an average budget is then to make big, over all layers
together, what is ahead by the most: one shift, which calibration finds.

Axes: T token, N some of the tokens, R patterns, L layer, D hidden, E = D + 1, K branches, C columns (layer x branch).
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from duo_oracle.models.linear_router import LinearMaps, LinearRouter, margins, read_linear
from duo_oracle.models.routable import RoutableModule
from duo_oracle.models.router import Router, TokenBatch
from duo_oracle.models.router_training.labels import PatternLabels, Teacher
from duo_oracle.models.router_training.method import Method, Task
from duo_oracle.models.routers.budget import Budget
from duo_oracle.models.routers.budget import Settings as BudgetSettings
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.base.settings import OwnSettings, setting
from duo_oracle.oracle.contexts import SkipReading

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Ridges tried, as multiples of the mean of the features' squares; the best on every fifth sequence is taken."""
_ROWS_AT_ONCE = 1 << 16


@dataclass(frozen=True)
class Settings(OwnSettings):
    rounds: int = setting(
        2,
        "how often the hidden states are taken anew, from the second time on under the router's choices so far",
        least=1,
        most=100,
    )
    tune: str = setting(
        "no",
        "whether the maps are then trained on as the budget router is, which counts what a branch does for later tokens too",
        choices=("no", "yes"),
    )
    target: str = setting(
        "label",
        "whose losses teach: those of the real labels, or those that the runs' reference expects",
        choices=("label", "reference"),
    )
    on_policy: str = setting(
        "no",
        "whether each round's losses are found anew, with the earlier tokens routed by the router so far",
        choices=("no", "yes"),
    )
    sample: int = setting(16, "patterns a token whose losses are found, with target=reference or on_policy=yes", least=2)

    @property
    def asks(self) -> bool:
        """Whether it needs more than the losses that the runs kept."""
        return self.target != "label" or self.on_policy == "yes"


def lessons(labels: Iterable[PatternLabels], settings: Settings, seed: int, router: Router | None = None) -> list[PatternLabels]:
    """The losses that teach: those given, or found for these settings, with the earlier tokens routed by `router`.

    Raises InputError where losses must be found and there is nobody to ask.
    """
    if not settings.asks:
        return list(labels)
    if not isinstance(labels, Teacher):
        raise InputError("`target='reference'` and `on_policy='yes'` find losses anew; name search runs with `run`")
    return list(labels.found(settings.target, settings.sample, seed, router))


def fit(
    task: Task, settings: Settings, module: RoutableModule, labels: Iterable[PatternLabels], skip: SkipReading, seed: int
) -> tuple[LinearMaps, str, dict[str, Any]]:
    """The maps, how to calibrate them, and what there is to say of the fit.

    Raises InputError where the labels hold no position, or patterns that do not tell the branches apart.
    """
    taught, effects = _effects_of(lessons(labels, settings, seed), task)
    maps: LinearMaps | None = None
    report: dict[str, Any] = {}
    for number in range(settings.rounds):
        router = None
        if maps is not None:
            states = [states_of(one, module, task, skip, None) for one in taught[:: max(1, len(taught) // 64)]]
            layers = None if module.n_letters == module.depth else module.routed_layers
            router = LinearRouter("distilled", at_budget(maps, torch.cat(states), task), task.branches, "", skip, layers=layers)
            if settings.on_policy == "yes":  # whose routing is then the labels' own
                taught, effects = _effects_of(lessons(labels, settings, seed + number, router), task)
        learnt, held = Moments(task), Moments(task)
        for place, (one, effect) in enumerate(zip(taught, effects, strict=True)):
            (held if place % 5 == 4 else learnt).add(states_of(one, module, task, skip, router), effect)
        maps, report = _regress(learnt, held)
    assert maps is not None
    n_tokens = sum(len(effect.effect_TLK) for effect in effects)
    return maps, "pooled", {"labelled_tokens": n_tokens, "patterns": sum(len(one.loss_R) for one in taught), **report}


def _effects_of(labels: list[PatternLabels], task: Task) -> tuple[list[PatternLabels], list[Effects]]:
    """The labels that say something, and the effects in them."""
    labels = [one for one in labels if len(one.loss_R)]
    if not labels:
        raise InputError("an oracle's losses are needed to learn from; the runs hold none")
    effects = [token_effects(one, task) for one in labels]
    if not (sum(effect.weight_TLK.sum(axis=0) for effect in effects)[:, 1:] > 0).all():
        raise InputError("the runs' patterns must differ at every layer, or they say nothing of its branches")
    return labels, effects


@dataclass(frozen=True)
class Effects:
    """Of one sequence's tokens: each branch's effect on the loss against the first branch, in nats, and how well the token's
    patterns determine it: the diagonal of the resolution, from 0 (not at all) to 1."""

    effect_TLK: np.ndarray
    weight_TLK: np.ndarray


def token_effects(labels: PatternLabels, task: Task) -> Effects:
    """By least squares over each token's patterns; of least norm where they leave effects open."""
    n_tokens, n_others = len(labels.token_ids) - 1, len(task.branches) - 1
    effect_TLK, weight_TLK = np.zeros((2, n_tokens, task.n_letters, n_others + 1))
    allowed_R = np.isin(labels.branches_RL, task.branches).all(axis=1)
    position_R, loss_R = labels.position_R[allowed_R], labels.loss_R[allowed_R]
    order_R = np.argsort(position_R, kind="stable")
    taken_RC = (labels.branches_RL[allowed_R][:, :, None] == np.array(task.branches[1:])).reshape(len(order_R), -1)
    count_T = np.bincount(position_R, minlength=n_tokens)
    start_T = np.cumsum(count_T) - count_T
    for n_patterns in np.unique(count_T[count_T > 1]).tolist():
        of_size = np.flatnonzero(count_T == n_patterns)
        for tokens in np.array_split(of_size, -(-len(of_size) * n_patterns // _ROWS_AT_ONCE)):
            rows_NR = order_R[start_T[tokens][:, None] + np.arange(n_patterns)]
            design_NRC = taken_RC[rows_NR].astype(np.float64)
            design_NRC -= design_NRC.mean(axis=1, keepdims=True)
            solve_NCR = np.linalg.pinv(design_NRC, rcond=1e-6)
            loss_NR = loss_R[rows_NR] - loss_R[rows_NR].mean(axis=1, keepdims=True)
            shape = len(tokens), task.n_letters, n_others
            effect_TLK[tokens, :, 1:] = np.einsum("ncr,nr->nc", solve_NCR, loss_NR).reshape(shape)
            weight_TLK[tokens, :, 1:] = np.einsum("ncr,nrc->nc", solve_NCR, design_NRC).clip(0, 1).reshape(shape)
    return Effects(effect_TLK, weight_TLK)


@torch.no_grad()
def states_of(one: PatternLabels, module: RoutableModule, task: Task, skip: SkipReading, router: LinearRouter | None) -> Tensor:
    """x_TLD, the normed FFN inputs of one sequence's scored tokens: under the routing of its labels, or the router's."""
    token_id_BT = torch.from_numpy(one.token_ids[:-1].astype(np.int64))[None].to(module.unembedding_VD.device)
    choose = None if router is None else router.routing(TokenBatch(token_id_BT, (0,)), task.n_letters)
    context_TL = torch.from_numpy(one.context_TL.astype(np.int64)).to(token_id_BT.device)
    x_LTD: list[Tensor] = []

    def recorded(layer: int, x_BTD: Tensor) -> Tensor:
        x_LTD.append(x_BTD[0])
        if choose is None:
            return context_TL[None, :, layer]
        branch_BT = choose(layer, x_BTD)
        return (
            branch_BT if not one.n_warm else torch.cat([context_TL[None, : one.n_warm, layer], branch_BT[:, one.n_warm :]], dim=1)
        )

    module(token_id_BT, recorded, skip)
    return torch.stack(x_LTD, dim=1)


def at_budget(maps: LinearMaps, x_NLD: Tensor, task: Task) -> LinearMaps:
    """The maps with the shift at which they make `budget` layers big of the given states."""
    logits_NLK = torch.einsum("nld,lkd->nlk", x_NLD.cpu(), maps.weight_LKD) + maps.bias_LK
    return maps.shifted(float(np.quantile(margins(logits_NLK).double().numpy(), 1 - task.rate)))


class Moments:
    """Weighted sums of products of states (with a last column of ones) and effects: all that a ridge regression needs of them."""

    def __init__(self, task: Task) -> None:
        shape, n_features = (task.n_letters, len(task.branches)), task.n_hidden + 1
        self.xx_LKEE = torch.zeros(*shape, n_features, n_features, dtype=torch.float64)
        self.xy_LKE = torch.zeros(*shape, n_features, dtype=torch.float64)
        self.yy_LK = torch.zeros(*shape, dtype=torch.float64)

    def add(self, x_TLD: Tensor, effects: Effects) -> None:
        x_TLE = torch.cat((x_TLD.cpu(), torch.ones_like(x_TLD[..., :1]).cpu()), dim=-1).double()
        effect_TLK, weight_TLK = torch.from_numpy(effects.effect_TLK), torch.from_numpy(effects.weight_TLK)
        for branch in range(1, weight_TLK.shape[-1]):
            weighted_LTE = (x_TLE * weight_TLK[..., branch : branch + 1]).transpose(0, 1)
            self.xx_LKEE[:, branch] += weighted_LTE.transpose(1, 2) @ x_TLE.transpose(0, 1)
            self.xy_LKE[:, branch] += (weighted_LTE.transpose(1, 2) @ effect_TLK[..., branch].T[..., None])[..., 0]
            self.yy_LK[:, branch] += (weight_TLK * effect_TLK**2)[..., branch].sum(dim=0)

    def __add__(self, other: Moments) -> Moments:
        total = copy(self)
        total.xx_LKEE, total.xy_LKE = self.xx_LKEE + other.xx_LKEE, self.xy_LKE + other.xy_LKE
        total.yy_LK = self.yy_LK + other.yy_LK
        return total

    def solve(self, ridge: float) -> Tensor:
        """beta_LKE of the ridge regression; the intercept is not shrunk. `ridge` is a multiple of the states' mean variance."""
        beta_LKE = torch.zeros_like(self.xy_LKE)
        for layer, branch in np.ndindex(beta_LKE.shape[0], beta_LKE.shape[1]):
            xx_EE, xy_E = self.xx_LKEE[layer, branch], self.xy_LKE[layer, branch]
            total = xx_EE[-1, -1]
            if total > 0:
                mean_D, mean = xx_EE[:-1, -1] / total, xy_E[-1] / total
                gram_DD = xx_EE[:-1, :-1] - total * torch.outer(mean_D, mean_D)
                gram_DD = gram_DD + torch.eye(len(mean_D), dtype=gram_DD.dtype) * ridge * gram_DD.diagonal().mean()
                slope_D = torch.linalg.solve(gram_DD, xy_E[:-1] - total * mean * mean_D)
                beta_LKE[layer, branch] = torch.cat((slope_D, (mean - mean_D @ slope_D)[None]))
        return beta_LKE

    def error(self, beta_LKE: Tensor) -> float:
        """Sum of the weighted squared errors of the predictions."""
        explained = 2 * (beta_LKE * self.xy_LKE).sum() - torch.einsum("lke,lkef,lkf->", beta_LKE, self.xx_LKEE, beta_LKE)
        return float(self.yy_LK.sum() - explained)


def _regress(learnt: Moments, held: Moments) -> tuple[LinearMaps, dict[str, Any]]:
    """The maps, minus the predicted effects, with the ridge that is best on the held-out sequences, and how good it is there."""
    constant = held.error(learnt.solve(1e9))
    error_of = {ridge: held.error(learnt.solve(ridge)) for ridge in RIDGES}
    best = min(error_of, key=lambda ridge: error_of[ridge])
    beta_LKE = (learnt + held).solve(best).float()
    r2 = 1 - error_of[best] / constant if constant > 0 else 0.0  # with few sequences none is held out
    maps = LinearMaps(-beta_LKE[..., :-1].contiguous(), -beta_LKE[..., -1].contiguous(), torch.zeros(len(beta_LKE)))
    return maps, {"ridge": best, "held_out_r2": round(r2, 5)}


def tuned(
    task: Task, settings: Settings, maps: LinearMaps, module: RoutableModule, labels: Iterable[PatternLabels], skip: SkipReading
) -> Method:
    """The budget router's training, begun at the maps: their logits spread by one, and big where they have it at the budget."""
    taught = lessons(labels, settings, 0)
    states = torch.cat([states_of(one, module, task, skip, None) for one in taught[:: max(1, len(taught) // 64)]])
    at = at_budget(maps, states, task)
    ahead = margins(torch.einsum("nld,lkd->nlk", states.cpu(), maps.weight_LKD) + maps.bias_LK)
    scale = 1 / float(ahead.std())
    method = Budget(task, BudgetSettings())
    with torch.no_grad():
        method.weight_LKD.copy_(maps.weight_LKD * scale)
        method.bias_LK.copy_(maps.bias_LK * scale)
        method.bias_LK[:, -1] -= at.cutoff_L * scale
    return method


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)
