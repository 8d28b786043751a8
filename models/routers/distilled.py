"""Distilled from an oracle: learns what each branch is worth at each layer from the losses of patterns on training text.

Two steps, both least squares in closed form. First, per token: the losses of its patterns as a sum over layers, loss_p = a + sum_l
effect[l, branch of p at l], because nine tenths of their variance is of single layers (`duo-oracle landscape`). Ties and near ties
thus count for what they are worth, where a label "the best pattern" would count them like any other. Then, per layer: the effects
as a linear function of the hidden state, by ridge regression, each token weighted by how well its patterns determine the effect. A
branch's logit is minus its predicted effect; the least total loss at an average budget is then to make big, over all layers
together, what is ahead by the most: one shift, which calibration finds.

Axes: T token, N tokens of all sequences, R patterns of one token, L layer, D hidden, K branches, C columns (layer x branch).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.families.duo_llama import DuoLlama
from models.linear_router import LinearMaps, LinearRouter, read_linear
from models.router import TokenBatch
from models.router_labels import PatternLabels
from models.router_method import Task
from oracle.contexts import SkipReading
from oracle.patterns import Branch

RIDGES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""Ridges tried, as multiples of the mean of the features' squares; the best on every fifth sequence is taken."""


@dataclass(frozen=True)
class Settings:
    """rounds: how often the hidden states are taken anew, from the second time on under the choices of the router so far."""

    rounds: int = field(default=2, metadata={"range": (1, 100)})


def fit(
    task: Task, settings: Settings, module: DuoLlama, labels: list[PatternLabels], skip: SkipReading, seed: int
) -> tuple[LinearMaps, str, dict[str, Any]]:
    """The maps, how to calibrate them, and what there is to say of the fit.

    Raises ValueError where the labels hold no position, or patterns that do not tell the branches apart.
    """
    labels = [one for one in labels if len(one.loss_R)]
    if not labels:
        raise ValueError("an oracle's losses are needed to learn from; the runs hold none")
    found = [token_effects(one, task) for one in labels]
    effect_NLK, weight_NLK = (np.concatenate([pair[place] for pair in found]) for place in (0, 1))
    if not (weight_NLK[..., -1].sum(axis=0) > 0).all():
        raise ValueError("the runs' patterns must differ at every layer, or they say nothing of its branches")
    maps: LinearMaps | None = None
    report: dict[str, Any] = {}
    for _ in range(settings.rounds):
        x_NLD = hidden_states(labels, module, task, skip, maps)
        fold_N = np.repeat(np.arange(len(labels)) % 5 == 4, [len(one.token_ids) - 1 for one in labels])
        maps, report = _regress(x_NLD, effect_NLK, weight_NLK, fold_N, task)
    assert maps is not None
    return maps, "pooled", {"labelled_tokens": len(effect_NLK), "patterns": sum(len(one.loss_R) for one in labels), **report}


def token_effects(labels: PatternLabels, task: Task) -> tuple[np.ndarray, np.ndarray]:
    """effect_TLK, each branch's effect on a token's loss against the first branch, by least squares over its patterns, and
    weight_TLK, how well they determine it: the diagonal of the resolution, from 0 (not at all) to 1.
    """
    n_tokens, n_layers, n_branches = len(labels.token_ids) - 1, task.n_layers, len(task.branches)
    effect_TLK, weight_TLK = np.zeros((2, n_tokens, n_layers, n_branches))
    order_R = np.argsort(labels.position_R, kind="stable")
    starts = np.searchsorted(labels.position_R[order_R], np.arange(n_tokens + 1))
    for token in range(n_tokens):
        rows = order_R[starts[token] : starts[token + 1]]
        rows = rows[np.isin(labels.branches_RL[rows], task.branches).all(axis=1)]
        if len(rows) < 2:
            continue
        taken_RLK = labels.branches_RL[rows][:, :, None] == np.array(task.branches[1:])
        design_RC = taken_RLK.reshape(len(rows), -1).astype(np.float64)
        design_RC -= design_RC.mean(axis=0)
        solve_CR = np.linalg.pinv(design_RC, rcond=1e-6)
        loss_R = labels.loss_R[rows]
        effect_TLK[token, :, 1:] = (solve_CR @ (loss_R - loss_R.mean())).reshape(n_layers, -1)
        weight_TLK[token, :, 1:] = np.einsum("cr,rc->c", solve_CR, design_RC).clip(0, 1).reshape(n_layers, -1)
    return effect_TLK, weight_TLK


@torch.no_grad()
def hidden_states(labels: list[PatternLabels], module: DuoLlama, task: Task, skip: SkipReading, maps: LinearMaps | None) -> Tensor:
    """x_NLD, the normed FFN inputs of every scored token: under the routing that the losses were found in, or the router's."""
    rows: list[Tensor] = []
    router = None
    if maps is not None:
        router = LinearRouter("distilled", at_budget(maps, rows_of(labels, module, task, skip), task), task.branches, "", skip)
    for one in labels:
        rows.append(states_of(one, module, task, skip, router))
    return torch.cat(rows)


def states_of(one: PatternLabels, module: DuoLlama, task: Task, skip: SkipReading, router: LinearRouter | None) -> Tensor:
    """x_TLD of one sequence."""
    token_id_BT = torch.from_numpy(one.token_ids[:-1].astype(np.int64))[None].to(module.unembedding_VD.device)
    choose = None if router is None else router.routing(TokenBatch(token_id_BT, (0,)), task.n_layers)
    context_TL = torch.from_numpy(one.context_TL.astype(np.int64)).to(token_id_BT.device)
    x_LTD: list[Tensor] = []

    def recorded(layer: int, x_BTD: Tensor) -> Tensor:
        x_LTD.append(x_BTD[0])
        return context_TL[None, :, layer] if choose is None else choose(layer, x_BTD)

    module(token_id_BT, recorded, skip)
    return torch.stack(x_LTD, dim=1)


def rows_of(labels: list[PatternLabels], module: DuoLlama, task: Task, skip: SkipReading) -> Tensor:
    """x_NLD of some of the sequences under the labels' own routing: enough to find a cutoff on."""
    return torch.cat([states_of(one, module, task, skip, None) for one in labels[:: max(1, len(labels) // 64)]])


def at_budget(maps: LinearMaps, x_NLD: Tensor, task: Task) -> LinearMaps:
    """The maps with the shift at which they make `budget` layers big of the given states."""
    logits_NLK = torch.einsum("nld,lkd->nlk", x_NLD, maps.weight_LKD) + maps.bias_LK
    ahead = (logits_NLK[..., -1] - logits_NLK[..., :-1].amax(dim=-1)).flatten().double().cpu().numpy()
    return maps.shifted(float(np.quantile(ahead, 1 - task.rate)))


def _regress(
    x_NLD: Tensor, effect_NLK: np.ndarray, weight_NLK: np.ndarray, fold_N: np.ndarray, task: Task
) -> tuple[LinearMaps, dict[str, Any]]:
    """Ridge regression of every layer's and branch's effect on its states, one ridge for all: the best on the held-out fold."""
    x_NLD = x_NLD.double().cpu()
    effect, weight, held = torch.from_numpy(effect_NLK), torch.from_numpy(weight_NLK), torch.from_numpy(fold_N)
    error_of: dict[float, float] = {}
    baseline = _error(_ridge(x_NLD[~held], effect[~held], weight[~held], 1e9), x_NLD[held], effect[held], weight[held])
    for ridge in RIDGES:
        maps = _ridge(x_NLD[~held], effect[~held], weight[~held], ridge)
        error_of[ridge] = _error(maps, x_NLD[held], effect[held], weight[held])
    best = min(error_of, key=lambda ridge: error_of[ridge])
    report = {"ridge": best, "held_out_r2": round(1 - error_of[best] / baseline, 5)}
    return _ridge(x_NLD, effect, weight, best), report


def _ridge(x_NLD: Tensor, effect_NLK: Tensor, weight_NLK: Tensor, ridge: float) -> LinearMaps:
    """logits = minus the predicted effects. The intercept is not shrunk."""
    _, n_layers, n_hidden = x_NLD.shape
    n_branches = effect_NLK.shape[2]
    weight_LKD, bias_LK = torch.zeros(n_layers, n_branches, n_hidden), torch.zeros(n_layers, n_branches)
    for layer in range(n_layers):
        for branch in range(1, n_branches):
            weight_N = weight_NLK[:, layer, branch]
            total = weight_N.sum()
            mean_D = weight_N @ x_NLD[:, layer] / total
            mean = weight_N @ effect_NLK[:, layer, branch] / total
            x_ND = (x_NLD[:, layer] - mean_D) * weight_N.sqrt()[:, None]
            y_N = (effect_NLK[:, layer, branch] - mean) * weight_N.sqrt()
            gram_DD = x_ND.T @ x_ND
            gram_DD += torch.eye(n_hidden, dtype=gram_DD.dtype) * ridge * gram_DD.diagonal().mean()
            slope_D = torch.linalg.solve(gram_DD, x_ND.T @ y_N)
            weight_LKD[layer, branch] = -slope_D
            bias_LK[layer, branch] = -(mean - mean_D @ slope_D)
    return LinearMaps(weight_LKD, bias_LK, torch.zeros(n_layers))


def _error(maps: LinearMaps, x_NLD: Tensor, effect_NLK: Tensor, weight_NLK: Tensor) -> float:
    """Weighted squared error of the predicted effects."""
    predicted_NLK = -(torch.einsum("nld,lkd->nlk", x_NLD, maps.weight_LKD.double()) + maps.bias_LK.double())
    return float((weight_NLK * (predicted_NLK - effect_NLK) ** 2).sum() / weight_NLK.sum())


def read(spec: str, record: dict[str, Any], tensors: dict[str, Tensor], variant: str = "") -> Any:
    return read_linear(spec, record, tensors, variant)


assert min(Branch) is Branch.SKIP  # effects are against the cheapest branch, which stands first
