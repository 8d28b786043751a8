"""The patterns of least sum in a budget, where every layer's branch has a number of its own: what additive estimates propose.

A k-best dynamic program over layers and costs (k-best Viterbi, Seshadri and Sundberg 1994).

Axes: N tokens, L layers, b branches, K costs, M best so far, C candidates.
"""

from __future__ import annotations

import numpy as np

from duo_oracle.oracle.spaces import SearchSpace

_TOKENS = 256  # whose dynamic programs are held at once


def least_sums(space: SearchSpace, effect_NLb: np.ndarray, n_best: int = 1) -> np.ndarray:
    """The `n_best` patterns of the space (at most all of it) of least sum for every token, the least first: uint8 (N, n_best, L).

    `effect_NLb` has a number for each of the space's branches in their order. Equal sums stand in the order of the patterns.

    >>> from duo_oracle.oracle.budgets import Budget, BudgetKind
    >>> space = SearchSpace(3, budget=Budget(BudgetKind.EXACT, 1))  # one B among three layers of s and B
    >>> least_sums(space, np.array([[[0.0, 0.5], [0.0, -0.2], [0.0, 0.1]]]), n_best=2)
    array([[[1, 2, 1],
            [1, 1, 2]]], dtype=uint8)
    """
    parts = [_of_some(space, effect_NLb[start : start + _TOKENS], n_best) for start in range(0, len(effect_NLb), _TOKENS)]
    return np.concatenate(parts)


def _of_some(space: SearchSpace, effect_NLb: np.ndarray, n_best: int) -> np.ndarray:
    n, n_letters, _ = effect_NLb.shape
    allowed_K = np.array(space.sizes_by_cost) > 0
    most_cost = int(np.flatnonzero(allowed_K)[-1])
    sum_NKM = np.full((n, most_cost + 1, n_best), np.inf)
    sum_NKM[:, 0, 0] = 0.0
    chosen = []  # per layer: which of the branches, and which of the M before it, each kept sum came from
    for layer in range(n_letters):
        found = []
        for index, branch in enumerate(space.branches):
            before_NKM = sum_NKM
            if branch.cost:
                before_NKM = np.full_like(sum_NKM, np.inf)
                before_NKM[:, branch.cost :] = sum_NKM[:, : -branch.cost]
            found.append(before_NKM + effect_NLb[:, layer, index, None, None])
        candidate_NKC = np.concatenate(found, axis=2)
        kept_NKM = np.argsort(candidate_NKC, axis=2, kind="stable")[..., :n_best]
        sum_NKM = np.take_along_axis(candidate_NKC, kept_NKM, axis=2)
        chosen.append(kept_NKM.astype(np.int32))
    final_NC = np.where(allowed_K[: most_cost + 1, None], sum_NKM, np.inf).reshape(n, -1)
    best_NM = np.argsort(final_NC, axis=1, kind="stable")[:, :n_best]
    cost_NM, place_NM = np.divmod(best_NM, n_best)
    found_NML = np.empty((n, n_best, n_letters), dtype=np.uint8)
    token_N1, cost_b = np.arange(n)[:, None], np.array([branch.cost for branch in space.branches])
    for layer in reversed(range(n_letters)):
        index_NM, place_NM = np.divmod(chosen[layer][token_N1, cost_NM, place_NM], n_best)
        found_NML[:, :, layer] = np.array(space.branches, dtype=np.uint8)[index_NM]
        cost_NM = cost_NM - cost_b[index_NM]
    return found_NML
