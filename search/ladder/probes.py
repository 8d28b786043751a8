"""Probes: what of the branches' worth is linear in a state that the model has, cross-fitted over documents.

On the last state: all layers' effects at once, from the state that the full model's head multiplies, which is known only after a
full pass. On the states at the layers: each layer's effects from the state behind its attention, as a router has it; choices are
made layer by layer, each from the state that the earlier choices left, and the regressions are taught such states too.

Axes: N tokens of the run, L routed layer, K branches, D hidden, M units of the random layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.engine.labels import NullLabels
from duo_oracle.oracle.engine.scorer import FixedScorer
from duo_oracle.oracle.engine.walk import Choose
from duo_oracle.oracle.model import token_ids_on
from duo_oracle.oracle.patterns import Branch
from duo_oracle.results.statistics.ridge import Linear, fit
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.job.unit import scorer_of
from duo_oracle.search.rerun.opened import OpenedRun

UNITS_PER_HIDDEN, MOST_UNITS = 4, 512
"""Units of a two-layer probe's first layer, which is random: only the second is taught."""


@dataclass(frozen=True)
class States:
    """What the full model has at every position, each scaled to a mean square of 1: the last states, and those at the layers."""

    last_ND: np.ndarray
    layer_LND: np.ndarray  # float32, behind the layer's attention

    def wider(self, seed: int) -> np.ndarray:
        """The last states with a layer of random rectified units beside them: (N, D + M)."""
        generator = np.random.default_rng((seed, 5))
        n_hidden = self.last_ND.shape[1]
        n_units = min(UNITS_PER_HIDDEN * n_hidden, MOST_UNITS)
        weight_DM = generator.standard_normal((n_hidden, n_units)) / np.sqrt(n_hidden)
        units_NM = np.maximum(self.last_ND @ weight_DM + generator.standard_normal(n_units), 0)
        return np.concatenate([self.last_ND, units_NM], axis=1)


class Router:
    """Routes a run's windows by a choice at each layer, and notes the states that it was made from."""

    def __init__(self, opened: OpenedRun, windows: Sequence[Window]) -> None:
        self._opened, self._problem, self.windows = opened, opened.problem, windows
        starts = np.cumsum([0, *(window.n_positions for window in windows)])
        self.rows = [slice(start, stop) for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True)]

    def states_of_full(self) -> States:
        """Those under the full pattern."""
        last, layers = [], []
        for number in range(len(self.windows)):
            _, h_ND, x_LND = self.run(number, lambda _, x_ND: np.full(len(x_ND), Branch.BIG, dtype=np.uint8))
            last.append(h_ND)
            layers.append(x_LND)
        return States(np.concatenate(last).astype(np.float64), np.concatenate(layers, axis=1))

    def run(self, number: int, choose_scaled: Choose) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """branches_NL, the last states h_ND and x_LND of one window; `choose_scaled` gets its states scaled, as numpy arrays do."""
        window, seen = self.windows[number], []

        def choose(letter: int, attended_ND: Tensor) -> np.ndarray:
            x_ND = _scaled(attended_ND)
            seen.append(x_ND.cpu().numpy())
            return choose_scaled(letter, x_ND)

        branches_NL, h_ND = _scorer(self._opened, self._problem, window).route(choose)
        return branches_NL, _scaled(h_ND).cpu().numpy(), np.stack(seen)


def _scorer(opened: OpenedRun, problem: Problem, window: Window) -> FixedScorer:
    token_id_T = token_ids_on(opened.model.device, window.token_ids)
    scorer = scorer_of(opened.model, window, token_id_T, problem, NullLabels())
    assert isinstance(scorer, FixedScorer)
    return scorer


def _scaled(x_ND: Tensor) -> Tensor:
    x_ND = x_ND.float()
    return x_ND / x_ND.square().mean(dim=-1, keepdim=True).sqrt().clamp(min=1e-12)


@dataclass(frozen=True)
class LayerProbe:
    """A regression for each layer, and how far B must be ahead to be chosen: where it is None, the branch of least effect is."""

    linear_L: tuple[Linear, ...]
    branches: tuple[Branch, ...]
    ahead: float | None

    def choose(self, letter: int, x_ND: Tensor) -> np.ndarray:
        """branch_N of the states at a layer."""
        effect_NK = _with_first(self.linear_L[letter](x_ND.cpu().double().numpy()))
        return _chosen(effect_NK, self.branches, self.ahead)


def layer_choices(
    router: Router,
    states: States,
    effect_NLK: np.ndarray,
    fold_N: np.ndarray,
    branches: tuple[Branch, ...],
    n_big: int | None,
    rounds: int,
) -> np.ndarray:
    """branches_NL (uint8) by probes on the states at the layers: every document's by what the other folds taught.

    The first round is taught the full pattern's states, each later one those that the round before it leaves. With `n_big`, B is
    chosen where it is ahead by so much that the taught tokens have so many on average. Raises InputError where the branches have
    no B to count.
    """
    if n_big is not None and (branches[-1] is not Branch.BIG or len(branches) < 2):
        raise InputError("a number of B's is chosen among B and other branches")
    found_NL = np.empty(effect_NLK.shape[:2], dtype=np.uint8)
    for fold in np.unique(fold_N):
        taught_N = fold_N != fold
        x_LND = states.layer_LND
        for number in range(rounds):
            probe = _taught(x_LND[:, taught_N], effect_NLK[taught_N], fold_N[taught_N], branches, n_big)
            if number == rounds - 1:
                break
            x_LND = x_LND.copy()
            for window, rows in enumerate(router.rows):
                if taught_N[rows.start]:
                    x_LND[:, rows] = router.run(window, probe.choose)[2]
        for window, rows in enumerate(router.rows):
            if not taught_N[rows.start]:
                found_NL[rows] = router.run(window, probe.choose)[0]
    return found_NL


def _taught(
    x_LND: np.ndarray, effect_NLK: np.ndarray, fold_N: np.ndarray, branches: tuple[Branch, ...], n_big: int | None
) -> LayerProbe:
    linear = tuple(fit(x_ND, effect_NLK[:, letter, 1:], fold_N) for letter, x_ND in enumerate(x_LND))
    ahead = None
    if n_big is not None:
        predicted = [_with_first(one(x_ND)) for one, x_ND in zip(linear, x_LND, strict=True)]
        ahead = float(np.quantile(np.stack([_ahead(effect_NK) for effect_NK in predicted]), 1 - n_big / len(linear)))
    return LayerProbe(linear, branches, ahead)


def _with_first(effect_NC: np.ndarray) -> np.ndarray:
    """effect_NK, with the first branch's, from which the others are counted."""
    return np.concatenate([np.zeros((len(effect_NC), 1)), effect_NC], axis=1)


def _ahead(effect_NK: np.ndarray) -> np.ndarray:
    """By how much the last branch, B, is better than the best of the others."""
    return effect_NK[:, :-1].min(axis=1) - effect_NK[:, -1]


def _chosen(effect_NK: np.ndarray, branches: tuple[Branch, ...], ahead: float | None) -> np.ndarray:
    index_N = effect_NK.argmin(axis=1)
    if ahead is not None:
        index_N = np.where(_ahead(effect_NK) > ahead, len(branches) - 1, effect_NK[:, :-1].argmin(axis=1))
    return np.array(branches, dtype=np.uint8)[index_N]
