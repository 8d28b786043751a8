"""The oracle of an average budget: against every assignment of budgets to tokens."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from duo_oracle.results.statistics.average import average_oracle


def hull_of_all_assignments(loss_KN: np.ndarray, total: float) -> float:
    """The least mean loss of a mixture of two assignments of budgets to tokens that spend `total` B's."""
    n_budgets, n_tokens = loss_KN.shape
    least = np.full((n_budgets - 1) * n_tokens + 1, np.inf)
    for ks in product(range(n_budgets), repeat=n_tokens):
        least[sum(ks)] = min(least[sum(ks)], sum(loss_KN[k, n] for n, k in enumerate(ks)))
    found = np.inf
    for low, high in product(range(len(least)), repeat=2):
        if low <= total <= high:
            weight = 0.0 if low == high else (total - low) / (high - low)
            found = min(found, (1 - weight) * least[low] + weight * least[high])
    return found / n_tokens


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_assignments(seed: int) -> None:
    loss_KN = np.random.default_rng(seed).normal(size=(4, 3))
    if seed == 5:
        loss_KN = np.round(loss_KN)  # ties
    oracle = average_oracle(loss_KN)
    for total in np.arange(0, 9.01, 0.5):
        loss_N, k_N = oracle.at(total / 3)
        assert loss_N.mean() == pytest.approx(hull_of_all_assignments(loss_KN, total))
        assert k_N.sum() == int(total)
    budgets, losses = oracle.frontier
    assert losses == pytest.approx([hull_of_all_assignments(loss_KN, budget * 3) for budget in budgets])


def test_tokens_that_are_not_split_have_losses_of_their_own_patterns() -> None:
    loss_KN = np.random.default_rng(7).normal(size=(7, 200))
    loss_N, k_N = average_oracle(loss_KN).at(2.7)
    assert (loss_N == pytest.approx(loss_KN[k_N, np.arange(200)], abs=1e-9)) or (
        np.sum(~np.isclose(loss_N, loss_KN[k_N, np.arange(200)])) == 1
    )
    assert k_N.mean() == pytest.approx(2.7)


def test_it_is_never_worse_than_the_same_budget_for_each_token() -> None:
    loss_KN = np.random.default_rng(8).gamma(2.0, size=(13, 300))
    oracle = average_oracle(loss_KN)
    for k in range(13):
        assert oracle.at(k)[0].mean() <= loss_KN[k].mean() + 1e-12
    assert oracle.at(0)[0] == pytest.approx(loss_KN[0])
    assert oracle.at(12)[0] == pytest.approx(loss_KN[12])
    budgets, losses = oracle.frontier
    assert (np.diff(losses, 2) >= -1e-12).all()
    assert budgets[-1] == 12
