"""`--tolerance`: tokens that need no tree, because no loss is below 0.

Where a pattern of loss at most the tolerance is found, the best of the space is at most so far below it, and the token is done:
its path is certified within that loss. Beam search looks for it, among tokens that all-big or the cheapest pattern brings near
enough; every other token goes to the exact oracle, under the budgets that are still open there. A token's drawn labels and its
reference are searched as its real label is, or its gains could not be told from selection bias: it is done only where all are.

Axes: N places, Y targets, Q budgets, R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import ANY
from duo_oracle.oracle.engine.scorer import PlaceScorer, Scorer
from duo_oracle.oracle.patterns import Branch
from duo_oracle.oracle.records import OraclePaths, rows_of
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.asking.loop import Best, best_of, run_strategy
from duo_oracle.search.job.asked import paths_of, uniform_losses
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.strategy import Trials, build_strategy

_ROUNDING = 1e-5  # nats: more than float32 is off in a loss near 0
_BEAM = {"width": "4"}
_NEAR = 8.0  # all-big and the cheapest are further off than so many tolerances: beam search hardly ever comes below one


class Quick:
    """What is found without a tree at the places of a scorer: `done_NQ`, and the rows of those places under those budgets."""

    def __init__(
        self, scorer: PlaceScorer, problem: Problem, position_N: np.ndarray, cheapest: Branch, budget_Q: Sequence[int]
    ) -> None:
        self.done_NQ = np.zeros((scorer.n_places, len(budget_Q)), dtype=bool)
        self.rows: list[OraclePaths] = []
        big_NY, small_NY = (uniform_losses(scorer, branch, problem.n_letters) for branch in (Branch.BIG, cheapest))
        place_M = np.flatnonzero(np.minimum(big_NY, small_NY).max(axis=1) <= _NEAR * problem.tolerance)
        if not len(place_M):
            return
        picked = _Picked(scorer, place_M)
        rounds = _beam(picked, problem)
        entropy_M = scorer.entropies(place_M)
        for number, budget in enumerate(budget_Q):
            space = problem.spaces()[budget]
            best = _best_in(space, rounds, len(place_M) * scorer.n_targets)
            if best is None:
                continue
            paths = paths_of(best, picked, space, position_N[place_M], budget, small_NY[place_M], big_NY[place_M])
            covered_MY = (best.chosen_from_N == space.size).reshape(len(place_M), -1)
            within_MY = best.loss_N.reshape(len(place_M), -1) + _ROUNDING <= problem.tolerance
            done_M = (covered_MY | within_MY).all(axis=1)
            within_R = np.where(paths.certified_R, 0.0, paths.loss_R + _ROUNDING)
            self.rows.append(rows_of(replace(paths, within_R=within_R, entropy_full_R=entropy_M), np.flatnonzero(done_M)))
            self.done_NQ[place_M, number] = done_M

    def still_open(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Places that are not done, and the numbers of the budgets that are open there; places of the same ones together."""
        open_NQ = ~self.done_NQ
        sets, which_N = np.unique(open_NQ, axis=0, return_inverse=True)
        found = [(np.flatnonzero(which_N.ravel() == number), np.flatnonzero(open_Q)) for number, open_Q in enumerate(sets)]
        return [(places, budgets) for places, budgets in found if len(budgets)]


class _Picked:
    """Some places of a scorer, as a scorer."""

    def __init__(self, scorer: Scorer, place_M: np.ndarray) -> None:
        self._scorer, self._place_M = scorer, place_M
        self.n_places, self.n_labels, self.n_targets = len(place_M), scorer.n_labels, scorer.n_targets

    def score(self, place_R: np.ndarray, branches_RL: np.ndarray, label_R: np.ndarray | None = None) -> np.ndarray:
        return self._scorer.score(self._place_M[place_R], branches_RL, label_R)


def _beam(scorer: Scorer, problem: Problem) -> list[Trials]:
    """The trials of one beam search for every target of every place. On its way up to all-big it passes every budget."""
    rounds: list[Trials] = []
    space = SearchSpace(problem.n_letters, problem.branches, ANY)
    strategy = build_strategy("beam", _BEAM, space, scorer.n_places * scorer.n_targets, np.random.default_rng(0))
    run_strategy(strategy, scorer, rounds.append)
    return rounds


def _best_in(space: SearchSpace, rounds: list[Trials], n_tokens: int) -> Best | None:
    try:
        return best_of(rounds, n_tokens, space)
    except InputError:  # a token without a pattern of finite loss in this budget: the exact oracle says so, or has one
        return None
