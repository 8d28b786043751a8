"""What each branch is worth to each token: losses of a sample of patterns, real and expected, and the layers' effects in them.

Axes: N tokens of the run, P patterns of the sample, L routed layer, K branches, C columns (layer x branch but the first).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from duo_oracle.models.text.windows import Window
from duo_oracle.oracle.base.errors import InputError
from duo_oracle.oracle.budgets import ANY, Budget, BudgetKind
from duo_oracle.oracle.patterns import Branch, branch_counts
from duo_oracle.oracle.spaces import SearchSpace
from duo_oracle.search.job.problem import Problem
from duo_oracle.search.rerun.opened import OpenedRun
from duo_oracle.search.rerun.pattern_tables import pattern_losses


@dataclass(frozen=True)
class Worth:
    """Losses of patterns at a run's tokens in nats, and the effects of single branches in them, against the first of `branches`."""

    branches: tuple[Branch, ...]
    branches_PL: np.ndarray
    weight_P: np.ndarray  # of a pattern among all, so that a weighted mean stands for a pattern drawn from the whole space
    real_NP: np.ndarray
    expected_NP: np.ndarray | None  # under the run's reference; None where it has none

    def effects(self, loss_NP: np.ndarray) -> np.ndarray:
        """effect_NLK: what a branch adds to the loss at a layer, by least squares over the sample, whatever the others take.

        Raises InputError where the sample leaves an effect open.
        """
        n_letters, n_others = self.branches_PL.shape[1], len(self.branches) - 1
        taken_PC = (
            (self.branches_PL[:, :, None] == np.array(self.branches[1:])).reshape(len(self.branches_PL), -1).astype(np.float64)
        )
        taken_PC -= taken_PC.mean(axis=0)
        if np.linalg.matrix_rank(taken_PC) < taken_PC.shape[1]:
            raise InputError(f"{len(taken_PC)} patterns do not tell all branches' effects apart; take a larger `sample`")
        effect_NC = (loss_NP - loss_NP.mean(axis=1, keepdims=True)) @ np.linalg.pinv(taken_PC).T
        effect_NLK = np.zeros((len(loss_NP), n_letters, n_others + 1))
        effect_NLK[..., 1:] = effect_NC.reshape(-1, n_letters, n_others)
        return effect_NLK

    def random_loss(self, budget: Budget) -> np.ndarray | None:
        """The expected loss of a pattern drawn from a budget, float64 (N,), by those of the sample; None where it holds none."""
        n_letters = self.branches_PL.shape[1]
        mine = SearchSpace(n_letters, self.branches, budget).contains(self.branches_PL)
        return np.average(self.real_NP[:, mine], axis=1, weights=self.weight_P[mine]) if mine.any() else None


def sample_patterns(problem: Problem, sample: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """branches_PL and weight_P: at most `sample` patterns of every number of B's, drawn without replacement, each number weighted
    by how many patterns have it."""
    generator = np.random.default_rng((seed, 3))
    sizes_K = SearchSpace(problem.n_letters, problem.branches, ANY).sizes_by_cost
    found, weights = [], []
    for k, size in enumerate(sizes_K):
        if size:
            space = SearchSpace(problem.n_letters, problem.branches, Budget(BudgetKind.EXACT, k))
            drawn_PL = space.sample_distinct(sample, generator)
            found.append(drawn_PL)
            weights.append(np.full(len(drawn_PL), float(size / sum(sizes_K)) / len(drawn_PL)))
    return np.concatenate(found), np.concatenate(weights)


def worth_of_run(opened: OpenedRun, windows: Iterable[Window], sample: int, seed: int) -> Worth:
    """The losses of `sample` patterns for each number of B's, at every position of the run's `windows`, in the run's context."""
    problem = opened.problem
    branches_PL, weight_P = sample_patterns(problem, sample, seed)
    real, expected = [], []
    for window in windows:
        real_NP, expected_NP = pattern_losses(opened.model, problem, window, branches_PL)
        real.append(real_NP)
        if expected_NP is not None:
            expected.append(expected_NP)
    return Worth(problem.branches, branches_PL, weight_P, np.concatenate(real), np.concatenate(expected) if expected else None)


def n_big(branches_NL: np.ndarray) -> np.ndarray:
    """How many B's each pattern has: float64 (N,)."""
    return branch_counts(branches_NL, Branch.BIG).astype(np.float64)
