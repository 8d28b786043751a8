"""A mixture's own routing beside all patterns of numbers of experts, and beside other experts at equal cost: from two searches.

What a token gains under the best pattern, with the same on one label drawn from the mixture itself, in three ways: as many experts
as its own router takes, as many on average over the tokens, and one expert at every layer, of any rank. And two ways to spend as
much as the router does that look at no label: one pattern of numbers for all tokens, chosen on other documents, and the numbers of
another token of the document.

Axes: N tokens, P patterns, L routed layers, D documents, K costs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.branches import pattern_costs
from duo_oracle.oracle.patterns import RoutingPattern, to_array
from duo_oracle.results.answers.average import exact_gains
from duo_oracle.results.statistics.baselines import means_on_others
from duo_oracle.results.store.kept_losses import LossTable, read_losses
from duo_oracle.results.store.positions import numbers, read_paths, read_tokens
from duo_oracle.results.store.reader import StoredRun

ONE_EXPERT = "any"
"""The budget of a search over experts of any rank, one a layer: every pattern costs the same."""


@dataclass(frozen=True)
class Gain:
    """What tokens gain over the mixture's own routing, and what the same choice gains on a drawn label; nats."""

    real_N: np.ndarray
    null_N: np.ndarray

    @property
    def excess_N(self) -> np.ndarray:
        return self.real_N - self.null_N


@dataclass(frozen=True)
class BesidePatterns:
    """One mixture at some tokens of one source. Losses in nats, as differences from its own routing."""

    document_N: np.ndarray
    own_cost_N: np.ndarray
    """Routed experts that the mixture's own router spends, over all layers."""
    own_count: Gain
    average: Gain
    one_expert: Gain
    fixed_N: np.ndarray
    """What one pattern of numbers for all tokens loses more, at the mean of the own costs."""
    shuffled_N: np.ndarray
    """What the numbers of a token of the same document, each as likely, lose more."""


def read_beside(numbers_run: StoredRun, ranks_run: StoredRun) -> BesidePatterns:
    """From a search over every number of experts (under every exact budget, losses kept) and one over one expert of every rank.

    Raises InputError where the numbers do not hold all that the mixture's own router takes, or a run lacks its drawn label.
    """
    tokens = read_tokens(numbers_run)
    document_N = np.array(tokens["document"].to_pylist())
    gains = exact_gains(numbers_run)
    if gains.null_gain_KN is None:
        raise InputError(f"{numbers_run.place} was searched without one drawn label per position (`null_draws=1`)")
    own = next(iter(read_paths(numbers_run, tokens, numbers_run.budgets[:1], ("own_pattern", "own_cost")).values()))
    if own["own_pattern"].null_count:
        raise InputError(
            f"{numbers_run.place}: {numbers_run.table.spec} lacks numbers of experts that the model's own router takes"
        )
    names = own["own_pattern"].to_pylist()
    own_NL = to_array([RoutingPattern.parse(name, table=numbers_run.table) for name in names])
    own_cost_N = numbers(own["own_cost"]).astype(np.int64)
    place_N, every_N = np.searchsorted(gains.cost_K, own_cost_N), np.arange(len(own_cost_N))
    at_mean_N, null_at_mean_N = gains.at(float(own_cost_N.mean()))
    assert null_at_mean_N is not None
    table = read_losses(numbers_run)
    return BesidePatterns(
        document_N,
        own_cost_N,
        Gain(gains.full_N - gains.loss_KN[place_N, every_N], gains.null_gain_KN[place_N, every_N]),
        Gain(gains.full_N - at_mean_N, null_at_mean_N),
        _one_expert(ranks_run),
        _fixed(table, document_N, float(own_cost_N.mean())) - gains.full_N,
        _shuffled(table, document_N, own_NL) - gains.full_N,
    )


def _one_expert(run: StoredRun) -> Gain:
    rows = read_paths(run, read_tokens(run), [ONE_EXPERT], ("loss", "loss_full", "null_gain"))[ONE_EXPERT]
    if rows["null_gain"].null_count:
        raise InputError(f"{run.place} was searched without drawn labels (`null_draws=1`)")
    return Gain(numbers(rows["loss_full"]) - numbers(rows["loss"]), numbers(rows["null_gain"]))


def _fixed(table: LossTable, document_N: np.ndarray, mean_cost: float) -> np.ndarray:
    """Every token's loss under one pattern of a cost, or a mixture of two, that is best at `mean_cost` on the other documents."""
    cost_P = pattern_costs(table.branches_PL, table.table.branches)
    cost_K = np.unique(cost_P)
    of_N, mean_DP = means_on_others(table.loss_NP, document_N)
    found_N = np.empty(len(of_N))
    low_K, high_K = cost_K[cost_K <= mean_cost], cost_K[cost_K >= mean_cost]
    for document, mean_P in enumerate(mean_DP):
        best_of = {int(cost): int(np.where(cost_P == cost, mean_P, np.inf).argmin()) for cost in cost_K}
        choices = []
        for low in low_K.tolist():
            for high in high_K.tolist():
                share = 0.0 if low == high else (mean_cost - low) / (high - low)
                pair = best_of[low], best_of[high]
                choices.append(((1 - share) * mean_P[pair[0]] + share * mean_P[pair[1]], share, pair))
        _, share, (low, high) = min(choices)
        rows = of_N == document
        found_N[rows] = (1 - share) * table.loss_NP[rows, low] + share * table.loss_NP[rows, high]
    return found_N


def _shuffled(table: LossTable, document_N: np.ndarray, own_NL: np.ndarray) -> np.ndarray:
    """Every token's mean loss under the patterns that the tokens of its document take."""
    found_N = np.empty(len(document_N))
    for document in np.unique(document_N):
        rows = document_N == document
        taken_PL, count_P = np.unique(own_NL[rows], axis=0, return_counts=True)
        loss_NP = table.over(taken_PL).loss_NP[rows].astype(np.float64)
        found_N[rows] = loss_NP @ count_P / count_P.sum()
    return found_N
