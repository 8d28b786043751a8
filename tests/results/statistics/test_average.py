"""The oracle of an average budget: against every assignment of budgets to tokens."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from duo_oracle.results.statistics.average import average_oracle


def hull_of_all_assignments(loss_KN: np.ndarray, total: float, costs: tuple[int, ...] = ()) -> float:
    """The least mean loss of a mixture of two assignments of budgets to tokens that spend `total`."""
    n_budgets, n_tokens = loss_KN.shape
    costs = costs or tuple(range(n_budgets))
    least = np.full(costs[-1] * n_tokens + 1, np.inf)
    for places in product(range(n_budgets), repeat=n_tokens):
        spent = sum(costs[place] for place in places)
        least[spent] = min(least[spent], sum(loss_KN[place, n] for n, place in enumerate(places)))
    found = np.inf
    for low, high in product(range(len(least)), repeat=2):
        if low <= total <= high and np.isfinite(least[low]) and np.isfinite(least[high]):
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


@pytest.mark.parametrize("costs", [(1, 2, 4), (0, 3, 4, 8), (2,), (3, 5)])
def test_costs_of_which_some_are_no_patterns_have_the_best_of_all_assignments(costs: tuple[int, ...]) -> None:
    loss_KN = np.random.default_rng(len(costs)).normal(size=(len(costs), 3))
    oracle = average_oracle(loss_KN, np.array(costs))
    for total in np.arange(3 * costs[0], 3 * costs[-1] + 0.01, 0.5):
        loss_N, cost_N = oracle.at(total / 3)
        assert loss_N.mean() == pytest.approx(hull_of_all_assignments(loss_KN, total, costs))
        assert cost_N.sum() == int(total)
    budgets, losses = oracle.frontier
    assert losses == pytest.approx([hull_of_all_assignments(loss_KN, budget * 3, costs) for budget in budgets])
    assert (budgets[0], budgets[-1]) == (costs[0], costs[-1])


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
